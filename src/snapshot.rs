//! Who is still here: plain data, no locks.

#[cfg(feature = "serde")]
mod serialize;

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::phase::Phase;
use crate::reason::StopReason;
use crate::report::Holder;
use crate::text::{Name, clean, locale_is_utf8, time};

/// Lines of a [`Snapshot`] that are shown; of more, the number is.
const SHOWN: usize = 40;

/// Columns that names are aligned to; a longer one is shown whole.
const NAME: usize = 40;

/// Who is still here at one moment: everything that the shutdown would wait for or call.
///
/// Taken with [`ShutdownHandle::snapshot`](crate::ShutdownHandle::snapshot), at any time, from any
/// thread, without stopping anything. `Display` is one line for the whole and one or two for each
/// holder:
///
/// ```text
/// draining, 3.2 s gone, 21.8 s left: SIGTERM from pid 4242, uid 0
///   task   reader of source  12.0 s  rows 300 of 900 (33 %)
///          src/main.rs:17:9, thread reader blocked in recvfrom on fd 4, a socket
///   hook   close the database
///          src/main.rs:31:14
/// ```
///
/// The parts are looked at one after the other, so they need not belong to exactly the same moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) phase: Phase,
    pub(crate) reason: Option<StopReason>,
    pub(crate) since_stop: Option<Duration>,
    pub(crate) time_left: Option<Duration>,
    pub(crate) holders: Vec<StillHere>,
    pub(crate) more: usize,
}

/// Somebody who is still here.
#[derive(Clone, Debug)]
pub struct StillHere {
    pub(crate) holder: Holder,
    pub(crate) name: Cow<'static, str>,
    pub(crate) stage: Option<Cow<'static, str>>,
    pub(crate) location: &'static Location<'static>,
    pub(crate) age: Option<Duration>,
    pub(crate) count: usize,
    pub(crate) said: Option<Said>,
    pub(crate) thread: Option<ThreadSnapshot>,
}

/// What somebody [said](crate::say) last, with how much is done of how much.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    what: Cow<'static, str>,
    progress: Option<(u64, u64)>,
}

/// A thread of the process, as the system shows it: on Linux; elsewhere there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ThreadSnapshot {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) state: Option<String>,
}

impl Snapshot {
    /// Where the program stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it stops, or is about to: while it lingers, the signal that announced the stop. `None`
    /// while it runs.
    pub fn reason(&self) -> Option<&StopReason> {
        self.reason.as_ref()
    }

    /// How long ago the stop was, or, after a [linger](crate::ShutdownBuilder::linger), the signal
    /// that announced it; `None` until the stop.
    pub fn since_stop(&self) -> Option<Duration> {
        self.since_stop
    }

    /// How much of the grace period is left; `None` while it runs. It counts from the signal that
    /// announced the stop, where one did.
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// Everybody: holds, tasks and sets of items, those of the stages below their stage, the one
    /// that stops first first; the owner, where it is waited for; then hooks and guards, the one
    /// that is called next first. At most 1,000 stages, 1,000 holds and tasks, 1,000 sets of items,
    /// and 1,000 hooks and guards.
    pub fn holders(&self) -> &[StillHere] {
        &self.holders
    }

    /// How many more there are than [`holders`](Self::holders) lists.
    pub fn more(&self) -> usize {
        self.more
    }

    /// Those that are waited for in this phase, and only they: hooks while they run, everything
    /// else while draining.
    pub(crate) fn waited_for(mut self) -> Self {
        let cleaning = self.phase >= Phase::Cleaning;
        self.holders.retain(|here| {
            // A stage is what is in it.
            here.holder != Holder::Stage
                && here.age.is_some()
                && here.holder.is_called() == cleaning
        });
        self.more = 0;
        self
    }

    /// The first `most` of them in one line, each with its age.
    pub(crate) fn line(&self, most: usize) -> String {
        let mut names: Vec<String> = self
            .holders
            .iter()
            .take(most)
            .map(StillHere::short)
            .collect();
        let more = self.holders.len().saturating_sub(most) + self.more;
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(locale_is_utf8(), f)
    }
}

impl Snapshot {
    fn show(&self, unicode: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = |text: &dyn fmt::Display| clean(&text.to_string(), unicode);
        write!(f, "{}", self.phase)?;
        // Of the grace period, not of the phase: that may have begun just now. At the end nobody
        // asks.
        let times = self.phase < Phase::Ended;
        if let Some(since) = self.since_stop.filter(|_| times) {
            write!(f, ", {} gone", time(since))?;
        }
        if let Some(left) = self.time_left.filter(|_| times) {
            write!(f, ", {} left", time(left))?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {}", clean(reason))?;
        }
        let shown = self.holders.iter().take(SHOWN);
        let names: Vec<String> = shown.clone().map(|here| clean(&here.full_name())).collect();
        let columns = names.iter().map(|name| name.chars().count());
        let width = columns.max().unwrap_or(0).min(NAME);
        for (here, name) in shown.zip(names) {
            let age = here.age.map(time).unwrap_or_default();
            let said = here
                .said
                .as_ref()
                .map(|said| clean(said))
                .unwrap_or_default();
            let line = format!("  {:<7} {name:<width$}  {age:>7}  {said}", here.holder);
            write!(f, "\n{}\n          {}", line.trim_end(), here.location)?;
            if let Some(thread) = &here.thread {
                write!(f, ", {}", clean(thread))?;
            }
        }
        let more = self.holders.len().saturating_sub(SHOWN) + self.more;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}

impl StillHere {
    /// One of them, of whom nothing more is known.
    pub(crate) fn one(holder: Holder, name: Name, location: &'static Location<'static>) -> Self {
        Self {
            holder,
            name,
            stage: None,
            location,
            age: None,
            count: 1,
            said: None,
            thread: None,
        }
    }

    /// What it is.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// The name it was registered under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stage that it belongs to.
    pub fn stage(&self) -> Option<&str> {
        self.stage.as_deref()
    }

    /// Where it was registered.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// How long it has been here: a hook or guard since it was called (`None`: it has not been), a
    /// set of items since its oldest item was admitted, to a few milliseconds.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// How many items are in flight in a set, reserved ones included; how many clones of a hold
    /// there are; 1 for everything else.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What it said last: by [`say`](crate::say) on its thread, or [`Hold::say`](crate::Hold::say).
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }

    /// The thread that runs it, once the program is stopping: that of a task or a hook; that which
    /// took the hold, or spoke for it last ([`Hold::say`](crate::Hold::say)); that which took the
    /// oldest item of a set. On Linux; the first 32 of a snapshot.
    pub fn thread(&self) -> Option<&ThreadSnapshot> {
        self.thread.as_ref()
    }

    pub(crate) fn full_name(&self) -> String {
        let mut name = if self.holder == Holder::Item {
            format!("{} of {}", self.count, self.name)
        } else {
            self.name.to_string()
        };
        if let Some(stage) = &self.stage {
            name = format!("{name} of {stage}");
        }
        name
    }

    fn short(&self) -> String {
        let age = self.age.unwrap_or_default().as_secs();
        format!("{} {} ({age} s)", self.holder, self.full_name())
    }
}

impl Said {
    pub(crate) fn new(what: Cow<'static, str>, progress: Option<(u64, u64)>) -> Self {
        Self { what, progress }
    }

    /// In its own words.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How much is done, of how much, where it said so.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.progress
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some((done, of)) = self.progress {
            write!(f, " {done} of {of}")?;
            if let Some(percent) = (u128::from(done) * 100).checked_div(u128::from(of)) {
                write!(f, " ({percent} %)")?;
            }
        }
        Ok(())
    }
}

impl ThreadSnapshot {
    /// The system's number for it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The name that the system knows it by: on Linux the first 15 bytes of the thread's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does, in words: "running", "blocked in recvfrom on fd 4, a socket". `None` where the
    /// system does not say.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for ThreadSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.name)?;
        if let Some(state) = &self.state {
            write!(f, " {state}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct In<'a>(&'a Snapshot, bool);

    impl fmt::Display for In<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.show(self.1, f)
        }
    }

    fn here(holder: Holder, name: &'static str, age: Option<u64>) -> StillHere {
        StillHere {
            holder,
            name: name.into(),
            stage: None,
            location: Location::caller(),
            age: age.map(Duration::from_millis),
            count: 1,
            said: None,
            thread: None,
        }
    }

    #[test]
    fn the_text_names_who_is_here_and_where() {
        let reader = StillHere {
            stage: Some("source".into()),
            said: Some(Said::new("rows".into(), Some((300, 900)))),
            thread: Some(ThreadSnapshot {
                id: 7,
                name: "reader".to_owned(),
                state: Some("blocked in recvfrom on fd 4, a socket".to_owned()),
            }),
            ..here(Holder::Task, "reader", Some(12_000))
        };
        let jobs = StillHere {
            count: 3,
            ..here(Holder::Item, "jobs\u{1b}[2J", Some(42))
        };
        let snapshot = Snapshot {
            phase: Phase::Draining,
            reason: Some("enough".into()),
            since_stop: Some(Duration::from_millis(3_210)),
            time_left: Some(Duration::from_millis(21_790)),
            holders: vec![reader, jobs, here(Holder::Hook, "größe", None)],
            more: 2,
        };
        let place = |n: usize| snapshot.holders[n].location;
        let (first, second, third) = (place(0), place(1), place(2));
        assert_eq!(
            In(&snapshot, true).to_string(),
            format!(
                "draining, 3.2 s gone, 21.8 s left: requested: enough
  task    reader of source     12.0 s  rows 300 of 900 (33 %)
          {first}, thread reader blocked in recvfrom on fd 4, a socket
  item    3 of jobs\\u{{1b}}[2J    42 ms
          {second}
  hook    größe
          {third}
  and 2 more"
            )
        );
        let ended = Snapshot {
            phase: Phase::Ended,
            holders: Vec::new(),
            more: 0,
            ..snapshot.clone()
        };
        assert_eq!(In(&ended, true).to_string(), "ended: requested: enough");
        let ascii = In(&snapshot, false).to_string();
        assert!(
            ascii.is_ascii() && ascii.contains("gr\\u{f6}\\u{df}e"),
            "{ascii}"
        );
        assert_eq!(
            snapshot.clone().waited_for().line(1),
            "task reader of source (12 s), 1 more"
        );
    }
}
