//! Tells systemd how far the program is.
//!
//! The rules of the other side, which everything here follows:
//!
//! 1. `STOPPING=1` starts the stop timer of a unit that systemd did not stop itself, and from v259
//!    it cannot be taken back (`sd_notify(3)`). So it is sent at the stop and not before, in one
//!    datagram with the first extension.
//! 2. `EXTEND_TIMEOUT_USEC=N` moves the deadline to the later of what it is and now + N
//!    (`service_extend_event_source_timeout` in `src/core/service.c`). It can never be moved back,
//!    so nothing is asked for that is not wanted: a little, again and again, while something moves.
//! 3. `WATCHDOG=1` starts the watchdog anew in every state, also while stopping
//!    (`service_reset_watchdog`, same file). Half of the time is the advice of
//!    `sd_watchdog_enabled(3)`.
//! 4. A datagram of more than 4096 bytes is dropped (`NOTIFY_BUFFER_MAX`). A line is an assignment,
//!    so no name of the program's may bring its own line break.
//! 5. The queue can be full, and a blocking send would then wait for ever.
//!
//! Everything is sent by the runner, `READY=1` by who asks for it. Each send opens a socket of its
//! own, as `sd_notify` does: there is no descriptor that a daemon's clean-up could close, and a
//! manager that made its socket anew is found. The lock is held over such a send, and never while
//! user code runs (P17).

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Tick;
use crate::event::Event;
use crate::phase::Phase;
use crate::report::{Holder, ShutdownReport};
use crate::shutdown::Core;
use crate::signal::Ears;
use crate::snapshot::{Said, Snapshot, StillHere};
use crate::sync::Mutex;
use crate::text::{clean, time};
use crate::token::SLICE;

/// Between two looks at what moves, and between two attempts to say `READY=1` to a full queue.
const EVERY: Duration = Duration::from_secs(1);

/// What the last words and the exit may take after the grace period, and what clocks differ by.
const MARGIN: Duration = Duration::from_secs(1);

/// A watchdog that wants to hear more often than this is not kept.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);

/// Names in a status.
const NAMED: usize = 8;

/// Bytes of a status: with all else that stands in the datagram far below rule 4's limit.
const STATUS: usize = 2048;

/// See the module. Empty where systemd has not asked: then it costs nothing.
pub(crate) struct Systemd(Option<Line>);

struct Line {
    to: SocketAddr,
    /// Between two signs of life.
    beat: Option<Duration>,
    state: Mutex<State>,
}

struct State {
    ready: Ready,
    beat_at: Tick,
    /// `STOPPING=1` has been sent, or cannot be.
    stopping: bool,
    /// The last look, or the stop; since the stop or the signal that announced it.
    looked: Duration,
    /// What was there when the last extension was asked for.
    seen: Option<Sight>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Unasked,
    /// The queue was full; to be tried again then.
    Due(Tick),
    Over,
}

/// What moves when it changes. Ages and threads are not in it: they change by themselves.
#[derive(PartialEq, Eq)]
struct Sight {
    phase: Phase,
    here: usize,
    waited_for: Vec<Waited>,
}

type Waited = (
    Holder,
    Cow<'static, str>,
    Option<Cow<'static, str>>,
    usize,
    Option<Said>,
);

impl Systemd {
    /// Reads the environment, where `wanted`, and leaves it as it is.
    pub(crate) fn new(wanted: bool) -> Self {
        let name = wanted.then(|| std::env::var_os("NOTIFY_SOCKET")).flatten();
        let line = name.and_then(|name| address(&name)).map(|to| {
            let beat = sd_notify::watchdog_enabled()
                .filter(|most| !most.is_zero())
                .map(|most| (most / 2).max(SHORTEST_BEAT));
            let state = State {
                ready: Ready::Unasked,
                beat_at: beat.map_or(Tick::NEVER, |beat| Tick::now() + beat),
                stopping: false,
                looked: Duration::ZERO,
                seen: None,
            };
            Line {
                to,
                beat,
                state: Mutex::new(state),
            }
        });
        Self(line)
    }

    /// The program is ready.
    pub(crate) fn ready(&self, core: &Core) {
        let Some(line) = &self.0 else {
            return;
        };
        // P10: a forked child is not who systemd started, and its locks may be held by nobody.
        if !core.signals.is_ours() {
            return;
        }
        let mut state = line.state.lock();
        // Under the lock, so that it is before `STOPPING=1` or not at all.
        if state.ready != Ready::Unasked || core.phase() != Phase::Running {
            return;
        }
        line.say_ready(&mut state);
        let due = state.ready != Ready::Over;
        drop(state);
        if due {
            core.signals.bell.ring(Ears::RUNNER);
        }
    }

    /// Signs of life, and a `READY=1` that has not got through. For the runner while it waits for
    /// the stop: in how long it has to be called again (P23: mostly never).
    pub(crate) fn beat(&self) -> Option<Duration> {
        let line = self.0.as_ref()?;
        let mut state = line.state.lock();
        let now = Tick::now();
        if matches!(state.ready, Ready::Due(at) if now >= at) {
            line.say_ready(&mut state);
        }
        line.sign_of_life(&mut state);
        let next = match state.ready {
            Ready::Due(at) => at.min(state.beat_at),
            _ => state.beat_at,
        };
        (next != Tick::NEVER).then(|| next.since(now))
    }

    /// A signal has announced the stop. Where it was systemd's, its stop timer runs already; where
    /// not, there is no reason to start it yet.
    pub(crate) fn lingering(&self, core: &Core, event: &Event) {
        if let Some(line) = &self.0 {
            let status = one_line(&event.to_string());
            let mut said = vec![NotifyState::Status(&status)];
            said.extend(extension(
                core,
                core.settings.signals.linger.saturating_add(MARGIN),
            ));
            let _ = line.send(&said);
        }
    }

    /// The program stops.
    pub(crate) fn stopping(&self, core: &Core) {
        if let Some(line) = &self.0 {
            let reason = core.node.known_reason();
            let status = Event::Stopping(reason).to_string();
            let mut state = line.state.lock();
            // What has not got through by now is no longer true.
            state.ready = Ready::Over;
            state.looked = core.node.since_stop();
            line.tell(core, &mut state, &status, true);
        }
    }

    /// While it stops, at least every 100 ms: signs of life, and once a second who is waited for.
    pub(crate) fn look(&self, core: &Core) {
        let Some(line) = &self.0 else {
            return;
        };
        // Zero while lingering: then there are only signs of life.
        let since = core.node.since_stop();
        let (due, first) = {
            let mut state = line.state.lock();
            line.sign_of_life(&mut state);
            // Rule 1: systemd has to hear of it as soon as there is room.
            let every = if state.stopping { EVERY } else { SLICE };
            let last = since.saturating_sub(state.looked);
            let due = last >= every;
            if due {
                state.looked = since;
            }
            // The stop itself is no movement: what has not gone by now has to, for an extension.
            (due, state.seen.is_none() && last >= SLICE)
        };
        if due || first {
            let snapshot = core.snapshot();
            let here = snapshot.holders().iter().map(StillHere::count).sum();
            let more = snapshot.more();
            let waited_for = snapshot.waited_for();
            let sight = Sight::of(&waited_for, here, more);
            let mut state = line.state.lock();
            let moved = state.seen.as_ref().is_some_and(|seen| *seen != sight) || !state.stopping;
            if !due || line.tell(core, &mut state, &status(&waited_for), moved) {
                state.seen = Some(sight);
            }
        }
    }

    /// The report is made.
    pub(crate) fn ended(&self, core: &Core, report: &ShutdownReport) {
        if let Some(line) = &self.0 {
            let (outcome, took, reason) = (report.outcome(), report.took(), report.reason());
            let status = format!("shutdown: {outcome} in {} ({reason})", time(took));
            let mut state = line.state.lock();
            line.tell(core, &mut state, &status, true);
            // What is left of the program's end is not the runner's to watch.
            state.beat_at = state.beat_at.min(Tick::now());
            line.sign_of_life(&mut state);
        }
    }
}

impl Line {
    fn say_ready(&self, state: &mut State) {
        state.ready = if is_full(&self.send(&[NotifyState::Ready])) {
            Ready::Due(Tick::now() + EVERY)
        } else {
            Ready::Over
        };
    }

    fn sign_of_life(&self, state: &mut State) {
        let now = Tick::now();
        if let Some(beat) = self.beat.filter(|_| now >= state.beat_at) {
            state.beat_at = now + beat;
            let _ = self.send(&[NotifyState::Watchdog]);
        }
    }

    /// Tells what is going on; where `moved` says so, with more time. True: it got through.
    fn tell(&self, core: &Core, state: &mut State, status: &str, moved: bool) -> bool {
        let mut said = Vec::with_capacity(3);
        if !state.stopping {
            said.push(NotifyState::Stopping);
        }
        if moved {
            said.extend(extension(core, window(core.settings.grace)));
        }
        let status = one_line(status);
        said.push(NotifyState::Status(&status));
        let sent = self.send(&said);
        state.stopping |= !is_full(&sent);
        sent.is_ok()
    }

    /// Sends one datagram, or nothing: it never waits (rule 5), and whoever does not listen costs
    /// nothing.
    fn send(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let mut text = String::new();
        for state in states {
            // Into a string it cannot fail.
            let _ = writeln!(text, "{state}");
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(text.as_bytes(), &self.to).map(drop)
    }
}

impl Sight {
    fn of(waited_for: &Snapshot, here: usize, more: usize) -> Self {
        let waited = waited_for.holders().iter().map(|here| {
            let (name, stage) = (here.name.clone(), here.stage.clone());
            (here.holder, name, stage, here.count, here.said.clone())
        });
        Self {
            phase: waited_for.phase(),
            here: here + more,
            waited_for: waited.collect(),
        }
    }
}

/// There will be room again. What else a send may fail with does not mend itself.
fn is_full(sent: &io::Result<()>) -> bool {
    matches!(sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A path, or a name in Linux's abstract namespace. Others (`vsock:`) are for machines, not for
/// services in them.
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes().split_first()? {
        (b'/', _) => SocketAddr::from_pathname(name).ok(),
        #[cfg(target_os = "linux")]
        (b'@', name) => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name).ok()
        }
        _ => None,
    }
}

/// This much time from now, but not beyond the end of the grace period and the margin.
fn extension(core: &Core, wanted: Duration) -> Option<NotifyState<'static>> {
    let left = core.node.time_left()?.saturating_add(MARGIN);
    let more = u32::try_from(wanted.min(left).as_micros()).unwrap_or(u32::MAX);
    (more > 0).then_some(NotifyState::ExtendTimeoutUsec(more))
}

/// For how long one extension lasts: several looks, and a part of the grace period only, so that
/// what hangs is not carried to its end.
fn window(grace: Duration) -> Duration {
    (grace / 5).clamp(2 * EVERY, 10 * EVERY)
}

fn status(waited_for: &Snapshot) -> String {
    let mut text = waited_for.phase().to_string();
    if !waited_for.holders().is_empty() {
        let _ = write!(text, ": waiting for {}", waited_for.line(NAMED));
    }
    if let Some(left) = waited_for.time_left() {
        let _ = write!(text, "; {} left", time(left));
    }
    text
}

/// Without line breaks (rule 4), and not too long.
fn one_line(text: &str) -> String {
    let mut line = clean(text, true);
    if line.len() > STATUS {
        let end = (0..=STATUS - '…'.len_utf8())
            .rev()
            .find(|end| line.is_char_boundary(*end));
        line.truncate(end.unwrap_or_default());
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_and_abstract_names() {
        let address = |name: &str| address(OsStr::new(name));
        let path = address("/run/systemd/notify").unwrap();
        assert_eq!(path.as_pathname(), Some("/run/systemd/notify".as_ref()));
        assert!(address("@name").is_some_and(|name| name.as_pathname().is_none()));
        let long = format!("/{}", "a".repeat(200));
        for other in ["", "vsock:2:1234", "relative", "/with\0zero", &long] {
            assert!(address(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_status_is_one_line_and_not_too_long() {
        assert_eq!(one_line("a\nREADY=1\r"), "a\\nREADY=1\\r");
        let long = one_line(&"ä\n".repeat(9_000));
        assert!(
            long.len() <= STATUS && long.len() > STATUS - 8,
            "{}",
            long.len()
        );
        assert!(long.ends_with('…'));
    }

    #[test]
    fn an_extension_is_a_part_of_the_grace_period() {
        assert_eq!(window(Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(window(Duration::from_secs(25)), Duration::from_secs(5));
        assert_eq!(window(Duration::MAX), Duration::from_secs(10));
    }
}
