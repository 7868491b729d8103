//! A report with everything in it, for the tests of what it is turned into.

use std::borrow::Cow;
use std::panic::Location;
use std::time::Duration;

use super::{DrainOutcome, DrainReport, Holder, HookOutcome, HookReport, HookReports, Inner};
use crate::exit_policy::ExitPolicy;
use crate::reason::{Later, Origin, Signal, SignalReceived, StopReason};

const MS: Duration = Duration::from_millis(1);

/// The same for all, so that the golden texts change with this line alone.
fn here() -> &'static Location<'static> {
    Location::caller()
}

pub(super) fn drained(
    holder: Holder,
    name: &'static str,
    outcome: DrainOutcome,
    from_to: (u32, u32),
    stage: Option<&'static str>,
) -> DrainReport {
    DrainReport {
        name: name.into(),
        holder,
        outcome,
        started: MS * from_to.0,
        took: MS * from_to.1,
        location: here(),
        stage: stage.map(Cow::Borrowed),
    }
}

pub(crate) fn hook(name: &'static str, outcome: HookOutcome, from_to: (u32, u32)) -> HookReport {
    HookReport {
        name: name.into(),
        holder: Holder::Hook,
        outcome,
        why: None,
        started: (MS * from_to.0).into(),
        took: (MS * (from_to.1 - from_to.0)).into(),
        location: here(),
    }
}

pub(super) fn inner(drained: Vec<DrainReport>, hooks: Vec<HookReport>, took: u32) -> Inner {
    let origin = Origin::Process {
        pid: 4242,
        uid: 1000,
    };
    Inner {
        reason: StopReason::Signal(SignalReceived::new(Signal::TERM, origin)),
        later: Later::default(),
        is_final: true,
        cut_short: false,
        timed_out: false,
        hooks: HookReports {
            list: hooks,
            ..HookReports::default()
        },
        drained,
        handed_back: 0,
        took: MS * took,
        policy: ExitPolicy::default(),
        exit_within: None,
    }
}

/// Three stages, each outcome of everything, later reasons, and what is only counted.
pub(crate) fn everything() -> Inner {
    use DrainOutcome::{Abandoned, Ended, Failed, Panicked, Undecided};
    let gone = vec![
        drained(Holder::Hold, "http connections", Ended, (0, 120), None),
        drained(Holder::Owner, "main", Ended, (0, 30), None),
        drained(Holder::Stage, "source", Ended, (0, 160), None),
        drained(Holder::Task, "read a", Ended, (0, 40), Some("source")),
        drained(Holder::Task, "read b", Ended, (0, 160), Some("source")),
        drained(Holder::Stage, "parse", Abandoned, (160, 2600), None),
        drained(Holder::Task, "index", Abandoned, (160, 2600), Some("parse")),
        drained(
            Holder::Task,
            "parse",
            Panicked("index out of bounds: the length is 3".into()),
            (160, 340),
            Some("parse"),
        ),
        drained(Holder::Stage, "sink", Abandoned, (1100, 2600), None),
        drained(
            Holder::Task,
            "write",
            Failed("no space left on device".into()),
            (1100, 1200),
            Some("sink"),
        ),
        drained(Holder::Item, "rows", Undecided, (1100, 2600), Some("sink")),
        drained(Holder::Item, "rows", Undecided, (1100, 2600), Some("sink")),
    ];
    let hooks = vec![
        hook("flush metrics", HookOutcome::TimedOut, (2000, 2250)),
        hook(
            "database",
            HookOutcome::Failed("disk full".into()),
            (2250, 2400),
        ),
        hook("cache", HookOutcome::Panicked("no".into()), (2400, 2400)),
        hook("pid file", HookOutcome::Completed, (2400, 2401)),
        hook("goodbye", HookOutcome::Skipped, (2600, 2600)),
    ];
    let mut report = inner(gone, hooks, 2600);
    report.later = Later {
        kept: vec![
            StopReason::from("the disk is full"),
            StopReason::TaskFailed {
                task: "write".into(),
                error: "no space left on device".into(),
            },
        ],
        at: vec![MS * 200, MS * 1200],
        more: 3,
        failed: true,
        panicked: false,
    };
    report.hooks.more = 7;
    report.handed_back = 5;
    report
}
