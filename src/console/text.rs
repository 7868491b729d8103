//! What the console says, as plain functions: a snapshot, what the next Ctrl-C does, a width; text.
//!
//! 1. A live line is one line: never wider than the terminal, with nothing in it that moves the
//!    cursor.
//! 2. What it says of Ctrl-C is true, or it says nothing.
//! 3. The holders of the snapshots are those that are waited for, and only they.

use std::time::Duration;

use crate::phase::Phase;
use crate::reason::Signal;
use crate::report::{DrainOutcome, Holder, Outcome, ShutdownReport};
use crate::snapshot::{Snapshot, StillHere};
use crate::text::{clean, columns, fit, pad, time};

/// Names in a line of a log; of more, the number is given.
const NAMED: usize = 8;

/// What went wrong, in a last line; of more, the number is given.
const WRONG: usize = 4;

/// Where there is no room for all, another one comes first after this time.
const TURN: Duration = Duration::from_secs(3);

/// Between what is waited for and what Ctrl-C does.
const GAP: usize = 2;

/// From here on a grace period is as good as none.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the next SIGINT from the terminal would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextInterrupt {
    /// Nothing, or nothing that is known: then nothing is said of it.
    Unknown,
    /// It ends the process (P8).
    Forces {
        /// There has been one before.
        again: bool,
    },
}

impl NextInterrupt {
    fn of(self, (first, again): (&'static str, &'static str)) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Forces { again: false } => first,
            Self::Forces { again: true } => again,
        }
    }
}

/// In the log and on wide terminals: before Ctrl-C has been pressed, and after.
const HINT: (&str, &str) = (
    "press Ctrl-C to force quit now",
    "press Ctrl-C again to force quit now",
);

/// What a line of some width has room for: who is waited for needs it most.
struct Layout {
    /// Columns of the bar, without its ends; 0 for none.
    bar: usize,
    left: &'static str,
    waiting: &'static str,
    /// What Ctrl-C does, as in `HINT`.
    hint: (&'static str, &'static str),
}

impl Layout {
    fn of(width: usize) -> Self {
        let short = ("Ctrl-C to force quit", "Ctrl-C again to force quit");
        let shorter = ("Ctrl-C forces", "Ctrl-C forces");
        let (bar, left, waiting, hint) = match width {
            132.. => (20, " left, ", "waiting for ", HINT),
            100.. => (10, ", ", "", HINT),
            72.. => (10, ", ", "", short),
            36.. => (0, ", ", "", shorter),
            _ => (0, ", ", "", ("", "")),
        };
        Self {
            bar,
            left,
            waiting,
            hint,
        }
    }
}

/// The line on a terminal that is `width` columns wide.
///
/// ```text
/// [████████  ] 18 s, importer (12 s): rows 300 of 900 (33 %); 2 more
/// ```
///
/// and at its right end what Ctrl-C does.
pub(crate) fn live(snapshot: &Snapshot, next: NextInterrupt, width: usize, utf8: bool) -> String {
    if width == 0 {
        return String::new();
    }
    let layout = Layout::of(width);
    let mut line = String::new();
    if let Some((share, left)) = time_left(snapshot) {
        bar(share, layout.bar, utf8, &mut line);
        line.push_str(&span(left));
        line.push_str(layout.left);
    }
    let hint = next.of(layout.hint);
    let kept = if hint.is_empty() { 0 } else { hint.len() + GAP };
    let room = width.saturating_sub(kept);
    let names = room.saturating_sub(columns(&line));
    // Most often the owner waits for the others itself, and that is no news.
    let mut late: Vec<&StillHere> = snapshot.holders.iter().collect();
    if late.len() > 1 {
        late.retain(|here| here.holder != Holder::Owner || here.said.is_some());
    }
    line.push_str(&waited_for(snapshot, &late, layout.waiting, names, utf8));
    let line = fit(&line, room, utf8);
    if hint.is_empty() {
        return line;
    }
    // At the right end it does not move when the names change.
    pad(&line, width - hint.len()) + hint
}

/// The line of a log.
pub(crate) fn plain(snapshot: &Snapshot, next: NextInterrupt, utf8: bool) -> String {
    let mut line = "shutdown: ".to_owned();
    if let Some((_, left)) = time_left(snapshot) {
        line.push_str(&span(left));
        line.push_str(" left, ");
    }
    let late: Vec<&StillHere> = snapshot.holders.iter().collect();
    let late = waited_for(snapshot, &late, "waiting for ", usize::MAX, utf8);
    line.push_str(&late);
    if let Some(reason) = &snapshot.reason {
        line = format!("{line} ({})", clean(&reason.to_string(), utf8));
    }
    let hint = next.of(HINT);
    if !hint.is_empty() {
        line = format!("{line}; {hint}");
    }
    line
}

/// The last line: what happened, in how long.
pub(crate) fn last(report: &ShutdownReport, utf8: bool) -> String {
    let mut line = format!(
        "shutdown: {} in {} ({})",
        report.outcome(),
        time(report.took()),
        report.reason()
    );
    match report.handed_back() {
        0 => {}
        1 => line.push_str(", 1 item handed back"),
        many => line = format!("{line}, {many} items handed back"),
    }
    if report.outcome() != Outcome::Clean {
        let wrong = wrong(report);
        let more = wrong.len().saturating_sub(WRONG);
        let mut shown: Vec<String> = wrong.into_iter().take(WRONG).collect();
        if more > 0 {
            shown.push(format!("{more} more"));
        }
        if !shown.is_empty() {
            line.push_str(": ");
            line.push_str(&shown.join("; "));
        }
    }
    clean(&line, utf8)
}

/// The last line of a process that is being ended.
pub(crate) fn forced(by: Option<Signal>) -> String {
    by.map_or_else(
        || "shutdown: forced to end, out of time".to_owned(),
        |signal| format!("shutdown: forced to end by {signal}"),
    )
}

/// What did not end as it should.
fn wrong(report: &ShutdownReport) -> Vec<String> {
    let drained = report.drained().iter();
    let drained = drained
        .filter(|drained| *drained.outcome() != DrainOutcome::Ended)
        .map(|drained| {
            format!(
                "{} {} {}",
                drained.holder(),
                drained.name(),
                drained.outcome()
            )
        });
    let hooks = report.hooks().iter();
    let hooks = hooks
        .filter(|hook| !hook.outcome().is_completed())
        .map(|hook| format!("{} {} {}", hook.holder(), hook.name(), hook.outcome()));
    drained.chain(hooks).collect()
}

/// How much is left of the whole, and that; `None`: for ever.
fn time_left(snapshot: &Snapshot) -> Option<(f64, Duration)> {
    let left = snapshot.time_left.filter(|left| *left < FOR_EVER)?;
    let whole = snapshot.since_stop.unwrap_or_default() + left;
    let share = if whole.is_zero() {
        0.0
    } else {
        left.as_secs_f64() / whole.as_secs_f64()
    };
    // A second that has begun counts.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Some((share, Duration::from_secs(seconds)))
}

fn bar(share: f64, width: usize, utf8: bool, line: &mut String) {
    if width == 0 {
        return;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "from 0 to the width"
    )]
    let full = ((share * width as f64).ceil() as usize).min(width);
    let cell = if utf8 { "█" } else { "#" };
    line.push('[');
    line.push_str(&cell.repeat(full));
    line.push_str(&" ".repeat(width - full));
    line.push_str("] ");
}

/// As many as there is room for, each with its age and its words. Where that is not all, they take
/// turns.
fn waited_for(
    snapshot: &Snapshot,
    late: &[&StillHere],
    waiting: &str,
    room: usize,
    utf8: bool,
) -> String {
    if late.is_empty() {
        return match snapshot.phase {
            Phase::Cleaning => "cleaning up".to_owned(),
            phase => phase.to_string(),
        };
    }
    let some = |from: usize, count: usize| {
        let shown = late.iter().cycle().skip(from).take(count);
        let shown: Vec<String> = shown.map(|here| one(here, utf8)).collect();
        let more = match late.len() - count {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        (format!("{waiting}{}", shown.join("; ")), more)
    };
    let turns = snapshot.since_stop.unwrap_or_default().as_secs() / TURN.as_secs();
    let turn = usize::try_from(turns).unwrap_or(0) % late.len();
    for count in (1..=late.len().min(NAMED)).rev() {
        let (shown, more) = some(if count == late.len() { 0 } else { turn }, count);
        if columns(&shown) + more.len() <= room {
            return shown + &more;
        }
    }
    let (shown, more) = some(turn, 1);
    fit(&shown, room.saturating_sub(more.len()), utf8) + &more
}

fn one(here: &StillHere, utf8: bool) -> String {
    let age = span(here.age.unwrap_or_default());
    let mut one = format!("{} ({age})", who(here.holder, &here.full_name()));
    if let Some(said) = &here.said {
        one = format!("{one}: {said}");
    }
    clean(&one, utf8)
}

/// As somebody who does not know the crate would call it.
fn who(holder: Holder, name: &str) -> String {
    match holder {
        Holder::Owner => format!("thread {name}"),
        Holder::Hook | Holder::Guard | Holder::Stage => format!("{holder} {name}"),
        Holder::Hold | Holder::Task | Holder::Item | Holder::OnStop | Holder::LastStep => {
            name.to_owned()
        }
    }
}

/// In whole numbers, so that a line changes once a second at most.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
