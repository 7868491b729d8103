//! What keeps the drain open: holds and items.

use swansong::Swansong;
use tokio_util::task::TaskTracker;
use winddown::{InFlight, ShutdownCoordinator};

use crate::rounds::{Effort, each, each_on_two, in_turns, one_of};
use crate::table::Figure::Time;
use crate::table::Must::{Be, Nothing, Times};
use crate::table::Table;

pub(crate) fn rows(table: &mut Table, effort: Effort) {
    holds(table, effort);
    holds_on_two_threads(table, effort);
    items(table, effort);
}

pub(crate) fn coordinator() -> ShutdownCoordinator {
    ShutdownCoordinator::builder()
        .signals([])
        .install()
        .unwrap()
}

fn holds(table: &mut Table, effort: Effort) {
    let times = effort.times(20_000);
    let (ours, tracker) = (coordinator(), TaskTracker::new());
    let (plain, reporting) = (Swansong::new(), Swansong::with_guard_report());
    let theirs = signal_mod::Coordinator::builder().build();
    let theirs = theirs.token();
    let took = in_turns(
        effort.many_rounds(),
        [
            each(times, || drop(ours.hold("work").unwrap())),
            each(times, || drop(tracker.token())),
            each(times, || drop(plain.guard())),
            each(times, || drop(reporting.guard())),
            each(times, || drop(theirs.subsystem_guard())),
        ],
    );
    let [ours, tracker, plain, reporting, theirs] = took.map(|[all]| Time(one_of(times, all)));
    let peers = [
        ("`TaskTracker`: a count", tracker, Times(2.0)),
        ("swansong: a count", plain, Nothing),
        ("swansong: place and age", reporting, Nothing),
        ("signal-mod: a count", theirs, Nothing),
    ];
    table.row("hold: take and drop (name, place, age)", ours, &peers);
}

fn holds_on_two_threads(table: &mut Table, effort: Effort) {
    let times = effort.times(20_000);
    let (ours, tracker) = (coordinator(), TaskTracker::new());
    let (plain, reporting) = (Swansong::new(), Swansong::with_guard_report());
    let took = in_turns(
        effort.many_rounds(),
        [
            each_on_two(times, || drop(ours.hold("work").unwrap())),
            each_on_two(times, || drop(tracker.token())),
            each_on_two(times, || drop(plain.guard())),
            each_on_two(times, || drop(reporting.guard())),
        ],
    );
    let [ours, tracker, plain, reporting] = took.map(|[all]| Time(one_of(times, all)));
    let peers = [
        ("`TaskTracker`: a count", tracker, Times(2.0)),
        ("swansong: a count", plain, Nothing),
        ("swansong: place and age", reporting, Nothing),
    ];
    table.row("hold, two threads at once", ours, &peers);
}

fn items(table: &mut Table, effort: Effort) {
    let times = effort.times(5_000);
    let coordinator = coordinator();
    let jobs: InFlight<u64> = coordinator.in_flight("jobs").on_interrupted(|_| ());
    let one = || {
        let item = jobs.reserve().unwrap().fill(1).unwrap();
        item.complete(|job| Ok::<_, ()>(*job)).unwrap()
    };
    let sides = [each(times, one), each_on_two(times, one)];
    let [alone, on_two] =
        in_turns(effort.many_rounds(), sides).map(|[all]| Time(one_of(times, all)));
    table.alone("item: reserve, fill, complete", alone, Be(Time(200.0)));
    table.alone("item, two threads at once", on_two, Nothing);
}
