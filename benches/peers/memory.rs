//! What one more of each costs in memory.

use signal_mod::hook_from_fn;
use swansong::Swansong;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use winddown::StopSource;

use crate::allocator::kept;
use crate::rounds::Effort;
use crate::table::Figure::{self, Bytes};
use crate::table::Must::Nothing;
use crate::table::Table;
use crate::work::coordinator;

/// A power of two, so that the lists in which they are kept are full, and not half empty by chance.
const COUNT: usize = 1 << 14;

pub(crate) fn rows(table: &mut Table, _: Effort) {
    let ours = coordinator();
    let handle = ours.handle();
    let hook = each(|n| handle.hook("hook", move || assert!(n < COUNT)));
    let bare = each(|n| Box::new(move || assert!(n < COUNT)) as Box<dyn FnOnce() + Send>);
    let mut builder = Some(signal_mod::Coordinator::builder());
    let theirs = each(|n| {
        let hook = hook_from_fn("hook", 0, move |_| assert!(n < COUNT));
        builder = builder.take().map(|builder| builder.hook(hook));
    });
    let bare = ("`Vec` of boxed closures", bare, Nothing);
    table.row(
        "memory of a hook",
        hook,
        &[bare, ("signal-mod", theirs, Nothing)],
    );

    let hold = each(|_| ours.hold("work").unwrap());
    let tracker = TaskTracker::new();
    let tracker = each(|_| tracker.token());
    let (plain, reporting) = (Swansong::new(), Swansong::with_guard_report());
    let (plain, reporting) = (each(|_| plain.guard()), each(|_| reporting.guard()));
    let peers = [
        ("`TaskTracker`: a count", tracker, Nothing),
        ("swansong: a count", plain, Nothing),
        ("swansong: place and age", reporting, Nothing),
    ];
    table.row("memory of a hold", hold, &peers);

    let (source, tokio) = (StopSource::new(), CancellationToken::new());
    let theirs = signal_mod::Coordinator::builder().build();
    let child = each(|_| source.token().child());
    let tokio = each(|_| tokio.child_token());
    let theirs = each(|_| theirs.token().child());
    let peers = [
        ("tokio-util", tokio, Nothing),
        ("signal-mod", theirs, Nothing),
    ];
    table.row("memory of a child token", child, &peers);
}

/// One of many, with the place that its handle takes in a list of them.
fn each<R>(mut f: impl FnMut(usize) -> R) -> Figure {
    let (all, bytes) = kept(|| {
        let mut all = Vec::with_capacity(COUNT);
        all.extend((0..COUNT).map(&mut f));
        all
    });
    drop(all);
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    Bytes(bytes as f64 / COUNT as f64)
}
