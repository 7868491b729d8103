//! The runner: parked since the installation, and from the stop on the one that does everything in
//! its order.
//!
//! It runs no user code itself, so nothing that hangs can hang it. Only where the system has no
//! more threads it does, as then the choice is between that and not running it at all; the watchdog
//! and whoever waits for the report do not depend on the runner.

use std::sync::Arc;

use crate::clock::Tick;
use crate::hook::{Entry, Turn};
use crate::phase::Phase;
use crate::shutdown::aside::{self, discard};
use crate::shutdown::exit::flush_bounded;
use crate::shutdown::hand_back::hand_back;
use crate::shutdown::shares::slice_end;
use crate::shutdown::teller::Teller;
use crate::shutdown::{Core, Runner, linger, stages};
use crate::signal::exit;
use crate::sync::{AtomicBool, Ordering};
use crate::token::{Announcement, after};

/// The runner's life.
pub(crate) fn run(core: &Arc<Core>) {
    let _leaving = Leaving(core);
    let mut teller = Teller::silent();
    if !linger::until_stop(core, &mut teller) {
        return;
    }
    // P4: threads and channels before anything else.
    let announcement = Announcement::of(&core.node);
    core.wake_waiters();
    // While whoever sent the signal is most likely still there to be named.
    let _ = core.node.reason();
    // P22.
    core.work.own.close();
    core.start_console();
    teller.stopping(core);
    Teller::phase(core, Phase::Draining);
    announce(core, announcement);
    let in_time = drain(core, &mut teller);
    core.cleaning.store(true, Ordering::Release);
    Teller::phase(core, Phase::Cleaning);
    let (cleaned, left) = clean(core, &mut teller);
    let timed_out = !in_time || !cleaned;
    core.do_last_steps(timed_out);
    if !left.is_empty() {
        // They had no time as hooks, and their closures are on the stack's remains: a terminal is
        // put back all the same.
        core.signals.run_emergency_hooks(after::EMERGENCY);
    }
    let report = core.conclude(timed_out, Some(teller));
    let owner = &core.signals.owner;
    // One that awaits it has been woken, and has the time until the watchdog looks.
    if core.settings.signals.exit_on_timeout && !owner.awaits_report() && owner.give_up() {
        // Nobody comes to fetch the report: the process ends without its owner.
        flush_bounded();
        exit::now(report.death());
    }
    discard(core.id, left);
    if core.has_owner_gone() {
        discard(core.id, core.work.hand_over());
    }
}

/// The runner leaves, whatever becomes of it: a drop of the coordinator waits for that.
struct Leaving<'a>(&'a Core);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.runner_is(Runner::Elsewhere);
    }
}

/// Wakes the futures and calls the `on_stop` closures, beside the drain, which waits for them. The
/// flag says that they have returned.
pub(super) fn announce(core: &Arc<Core>, announcement: Announcement) -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(announcement.is_empty()));
    if !announcement.is_empty() {
        core.calling.fetch_add(1, Ordering::AcqRel);
        let (core_too, done) = (Arc::clone(core), Arc::clone(&told));
        let finish = move || {
            announcement.finish_inside(core_too.id);
            done.store(true, Ordering::Release);
            core_too.calling.fetch_sub(1, Ordering::AcqRel);
            core_too.work.own.holders.poke();
        };
        if let Err(finish) = aside::start("winddown-on-stop", finish) {
            core.away(finish);
        }
    }
    told
}

/// Stops the stages in their turn, and waits for holds, tasks, items, callbacks and the owner; what
/// is still in flight then is handed back. True: the owner came back in time.
fn drain(core: &Arc<Core>, teller: &mut Teller) -> bool {
    let until = core.span().0 + core.settings.drain_share();
    stages::stop(core, until, teller);
    let others = || core.signals.owner.is_here() && !core.is_calling_on_stop();
    core.work.drain(until, others, || teller.look(core));
    abort(core, until, teller);
    if !core.work.has_no_items() {
        let until = slice_end(core.node.now(), until, core.settings.hand_back_slice());
        hand_back(core, core.work.interrupt(), until, teller);
    }
    // What ends from here on ends beside the hooks, or because of them.
    core.work.leave_behind();
    core.signals.owner.is_here()
}

/// Ends the tasks that can be ended from outside, and waits until they have: what a dropped future
/// held, items among it, is then handed back by nobody else (P20). Those that commit go on into the
/// hand-back slice.
fn abort(core: &Core, until: Tick, teller: &mut Teller) {
    if core.work.abort() {
        let until = slice_end(core.node.now(), until, core.settings.abort_slice());
        // The owner too: one that awaits them comes back a moment after the last of them.
        let owner = || core.signals.owner.is_here();
        core.work
            .wait_for_aborted(until, owner, || teller.look(core));
    }
}

/// Unwinds the stack of hooks and guards. True: all of it, in time; otherwise what is left over.
fn clean(core: &Core, teller: &mut Teller) -> (bool, Vec<Entry>) {
    let (stop, _) = core.span();
    let hooks = core.settings.grace.saturating_sub(core.last_slice());
    core.hooks.begin(stop + hooks);
    loop {
        match core.hooks.oversee(|| teller.look(core)) {
            Turn::Start(generation) if core.hooks.start_worker(generation) => {}
            Turn::Start(generation) => core.away(|| core.hooks.run_one(generation)),
            Turn::Over { in_time, left } => return (in_time, left),
        }
    }
}

impl Core {
    /// When the shutdown began, and when it must be over.
    pub(crate) fn span(&self) -> (Tick, Tick) {
        let stop = self.node.stop_tick().unwrap_or_else(Tick::now);
        (stop, stop + self.settings.grace)
    }

    /// Runs user code on the runner, as there is no other thread.
    pub(crate) fn away(&self, f: impl FnOnce()) {
        self.runner_is(Runner::Away);
        f();
        self.runner_is(Runner::AtWork);
    }

    pub(crate) fn runner_is(&self, runner: Runner) {
        self.progress.lock().runner = runner;
        self.changed.notify_all();
    }

    /// Waits until the runner has left. False: it is in user code, and may never come back.
    pub(crate) fn wait_for_the_runner(&self) -> bool {
        let mut progress = self.progress.lock();
        while progress.runner == Runner::AtWork {
            self.changed.wait(&mut progress);
        }
        progress.runner == Runner::Elsewhere
    }

    fn wake_waiters(&self) {
        // P4: after the lock.
        drop(self.progress.lock());
        self.changed.notify_all();
    }
}
