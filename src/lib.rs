//! Graceful shutdown that really ends: one ordered, bounded, reported ending for every way a
//! program stops.
//!
//! ```no_run
//! use std::{io, process::ExitCode, time::Duration};
//! use winddown::ShutdownCoordinator;
//!
//! fn main() -> ExitCode {
//!     ShutdownCoordinator::builder().run(|shutdown| {
//!         shutdown.hook("lights", || println!("lights out"));
//!         let token = shutdown.token();
//!         while !token.is_stopped() {
//!             println!("one piece of work");
//!             let _ = token.sleep(Duration::from_secs(1)); // ends early at the stop
//!         }
//!         Ok::<_, io::Error>(())
//!     })
//! }
//! ```
//!
//! Ctrl-C, `SIGTERM`, an early `?`, a panic, the end of the work: all go through the same shutdown,
//! and a worker that hangs does not hold it up.
//!
//! ```text
//! Running ──stop──▶ Draining ──empty or out of time──▶ Cleaning ──▶ Ended
//!                      holds, tasks, items end,           hooks and guards,
//!                      stage by stage; the owner          last in first out
//!                      comes back; what is left
//!                      is handed back
//! any phase ── second signal, or grace period over ──▶ forced exit
//! ```
//!
//! With a [`linger`](ShutdownBuilder::linger) a phase comes in between, for servers to which work
//! is still sent for a while:
//!
//! ```text
//! Running ──SIGTERM──▶ Lingering ──its time, a second signal, a stop──▶ Draining
//!                         not ready any more,
//!                         work is accepted
//! ```
//!
//! # The parts
//!
//! * [`ShutdownCoordinator`] owns the ending; [`ShutdownBuilder`] has the settings, and
//!   [`run`](ShutdownBuilder::run), which is the whole ending in one call. Everybody else gets a
//!   [`ShutdownHandle`].
//! * [`StopToken`] listens, [`StopSource`] asks; [`UntilStopped`] ends a `for` loop,
//!   [`FutureExt`] a future.
//! * [`hook`](ShutdownHandle::hook) and [`guard`](ShutdownHandle::guard) clean up; [`HookOptions`]
//!   gives a hook times of its own, a guard has the defaults.
//! * [`readiness`](ShutdownHandle::readiness) and [`is_live`](ShutdownHandle::is_live) answer the
//!   probes of a load balancer and of a supervisor.
//! * [`hold`](ShutdownHandle::hold) and [`spawn`](ShutdownHandle::spawn) say what is waited for;
//!   [`in_flight`](ShutdownHandle::in_flight) hands back what is not done in time.
//! * [`stage`](ShutdownHandle::stage) groups them, and stops the groups one after the other, the
//!   one built last first.
//! * [`end_of_stream`](ShutdownHandle::end_of_stream) stops the program when all partitions of a
//!   stream have ended; [`split_at_end`] and [`drain`] lose nothing around it.
//! * [`snapshot`](ShutdownHandle::snapshot) says who is still here, and where; [`say`] what they
//!   are doing; [`events`](ShutdownHandle::events) tells each step.
//! * From the stop on, or the signal that announces it, each [`Event`] also goes to `tracing`, with
//!   the target `winddown` and in a span `shutdown`: `error` for a report that is not clean; `warn`
//!   for what is late, has failed or was left behind; `info` for the linger, the stop and a clean
//!   report; `debug` and `trace` for the rest. A thread of its own tells it, where a global
//!   subscriber is set; one that hangs holds up nobody (P15).
//! * [`on_report`](ShutdownHandle::on_report) is told the report, as the last thing.
//! * Embedded in somebody else's program, [`signals([])`](ShutdownBuilder::signals) installs none,
//!   and [`feed`](ShutdownHandle::feed) passes on what the host receives.
//! * [`wait_async`](ShutdownCoordinator::wait_async) and
//!   [`shutdown_async`](ShutdownCoordinator::shutdown_async) give the report to a future, on any
//!   executor.
//! * With the feature `tokio`, `ShutdownBuilder::run_async`, `ShutdownHandle::hook_async`,
//!   `spawn_async` (also of a [`Stage`]) and `InFlightBuilder::on_interrupted_async` do for futures
//!   what their namesakes do for threads; `StreamExt` ends a stream; `CancellationToken`s are
//!   bridged both ways.
//! * With the feature `checkpoint`, `Checkpoint` keeps the progress of a job that takes longer than
//!   one run, whatever ends it.
//! * `ShutdownBuilder::systemd`, with the feature `systemd`, tells the service manager.
//! * With the feature `console`, `Console` shows the shutdown on a terminal, or in a log, while it
//!   goes on.
//! * With the feature `ledger`, `Ledger` knows who works on what: a process that was killed is
//!   noticed, and its work is neither lost nor done for ever.
//! * [`ShutdownReport`] says what happened; [`ExitPolicy`] what becomes of the exit status. With
//!   the feature `serde`, reports, reasons, snapshots and events are `serde::Serialize`.
//!
//! No feature is on by default.
//!
//! # Promises
//!
//! They are numbered, and cited by number in the documentation of each part, in the code and in the
//! tests.
//!
//! **Token**
//! * **P1** `is_stopped` is an atomic load (a child token: two). No lock, no clock, no write.
//! * **P2** Whoever sees the stop can read the reason.
//! * **P3** The first reason wins; the later ones are kept, in order, in the report (16 of them,
//!   and how many more there were).
//! * **P4** No wake-up is lost: of a thread, a future, a channel in `select!`, an `on_stop`
//!   closure; registered before, during or after the stop.
//! * **P5** What was written before `stop()` is visible to whoever sees the stop.
//!
//! **Signals**
//! * **P6** The coordinator's token and its children read stopped before the signal handler
//!   returns. (Those of stages are stopped in their turn, by a thread.) With a
//!   [`linger`](ShutdownBuilder::linger) it is the [`readiness`](ShutdownHandle::readiness) that
//!   has gone by then; the token follows by a thread when the time is over, or by the handler of
//!   the signal that ends it early.
//! * **P7** Deliveries within the [debounce](ShutdownBuilder::debounce) window (300 ms) of the
//!   first are the same request.
//! * **P8** A later second signal ends the process within 50 ms (and 250 ms for [emergency
//!   hooks](HookOptions::emergency), if there are any), whatever else goes on: a hung hook, a
//!   spinning main thread, a full stderr, a thread inside `exit`, locks held, running as PID 1. Its
//!   parent sees 128 + n or death by that signal, unless [`ExitPolicy::forced`] names another code.
//!   After a programmatic stop the first signal is still the polite one; after the end it does what
//!   it did before the coordinator. One that ends a linger is the first anew.
//! * **P9** A signal that was ignored when the program started stays ignored, unless [asked
//!   otherwise](ShutdownBuilder::override_ignored).
//! * **P10** When the coordinator is gone, its signals have the effect they had before it. One
//!   coordinator with signals at a time, any number without. A forked child never wakes its parent
//!   and dies by its own signals; spawned children have default dispositions and mask.
//! * **P11** Handlers installed before still run; one that replaced ours is noticed
//!   ([`is_installed`](ShutdownCoordinator::is_installed)).
//! * **P12** Only async-signal-safe work in the handler; no user code, log, lock or allocation on
//!   the thread that watches the time.
//!
//! **Ending**
//! * **P13** Hooks and guards run last in first out, each at most once, on every path but a forced
//!   exit, `SIGKILL` and `abort`.
//! * **P14** Each ends as exactly one [`HookOutcome`], and none of these stops the next.
//! * **P15** From the stop to the report, or, where nobody comes to fetch it, to the exit: at most
//!   the grace period and 100 ms, even when every part of the program hangs. (That exit is
//!   [`exit_on_timeout`](ShutdownBuilder::exit_on_timeout), off without signals; what hangs in
//!   [`exit`](ShutdownReport::exit) itself is given a second more.) With a linger, from the signal
//!   that announced the stop.
//! * **P16** Each hook gets at least its [reserve](HookOptions::reserve), whatever ran before it;
//!   where the reserves do not fit into what is left, its share of it.
//! * **P17** No lock is held while user code runs. A hook may call every method of the handle;
//!   waiting for the shutdown from inside a hook, task, commit, hand-back, `on_stop` or `on_report`
//!   returns at once, with what has happened so far.
//! * **P18** `shutdown` is idempotent and shared: every caller, on every thread, gets the same
//!   report.
//! * **P19** Nothing registered is lost silently: a hook registered while cleaning runs next, one
//!   registered after the end at once (a guard: when it is dropped).
//!
//! **Work**
//! * **P20** An admitted item gets exactly one verdict, completed or handed back: never both. A
//!   commit that fails or panics, `fail`, a drop and a panic of the work hand it back, with the
//!   reason. What the end of time leaves without a verdict is *undecided*, and in the report; a
//!   forced exit leaves no report. One verdict is promised, not one effect: what handed-back work
//!   had done outside its commit is done again.
//! * **P21** The drain is never over while a hold, task or item lives, or the owner is not back,
//!   and there is time; it is over at once when the last goes. (A stage with a
//!   [`timeout`](Stage::timeout) has no more time than that.)
//! * **P22** The intake closes at the stop, a stage's when its turn comes: nothing new is admitted,
//!   and an item that was fetched meanwhile is handed back, not lost.
//!
//! **Cost**
//! * **P23** Idle: no wake-ups, two parked threads (three with emergency hooks), no growth per
//!   future, `on_stop`, child, hold or guard that has come and gone. (Where systemd
//!   asks for signs of life, one of the two wakes up for each. A member of a ledger has two threads
//!   more, one of which wakes up for each heartbeat.)
//!
//! # Limits
//!
//! * Nothing runs on `SIGKILL`, `abort`, a power loss; hooks do not run on a forced exit, except
//!   emergency hooks.
//! * A thread cannot be interrupted: one that never looks at its token is left behind when its time
//!   is over, and the process ends without it.
//! * A thread that nobody registered is not waited for.
//! * A future can be dropped at its next await, and not before: one that blocks its worker is left
//!   behind as a thread is.
//! * While emergency hooks run on the forced path, the program's other threads go on: one that
//!   calls `exit` then decides the status.
//! * When the coordinator is dropped, a handler of another library that was registered after ours,
//!   for a signal whose action was the default before, no longer keeps that signal from ending the
//!   process.
//! * After a `fork` without `exec` the child has no threads: there, the coordinator does nothing,
//!   nor do guards and items that are dropped.
//! * Where the system has no thread left at the stop, hooks run on the only one there is, and one
//!   that hangs then keeps the others from running. A [`ReportFuture`] is then ready only when it
//!   is polled after the end of the grace period (unless the process is ended there).
//! * Unix only. Times are of the monotonic clock, without the time in which the process was
//!   suspended.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]
#![cfg_attr(winddown_loom, allow(dead_code, reason = "not everything has a model"))]

#[cfg(not(unix))]
compile_error!("winddown is for Unix: it stands on POSIX signals, which this target does not have");

mod builder;
mod bus;
#[cfg(feature = "checkpoint")]
mod checkpoint;
mod clock;
#[cfg(feature = "console")]
mod console;
mod coordinator;
mod error;
mod event;
mod exit_policy;
mod handle;
mod hook;
mod inside;
#[cfg(feature = "ledger")]
mod ledger;
#[cfg(any(feature = "checkpoint", feature = "ledger"))]
mod lock;
mod panic;
mod phase;
mod process;
#[cfg(test)]
mod property;
mod reason;
mod report;
mod run;
#[cfg(feature = "tokio")]
mod runtime;
mod said;
mod sender;
mod shutdown;
mod signal;
mod slab;
mod snapshot;
mod stopped_probe;
mod sync;
mod text;
mod token;
mod work;

pub use builder::ShutdownBuilder;
#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, CheckpointBuilder, CheckpointError, Damage, Restored, Ticked};
#[cfg(feature = "console")]
pub use console::Console;
pub use coordinator::ShutdownCoordinator;
pub use error::{
    InstallError, IntakeClosed, PartitionError, SpawnError, Stopped, TaskPanicked, UnknownSignal,
};
pub use event::Event;
pub use exit_policy::{ExitBy, ExitPolicy};
pub use handle::ShutdownHandle;
pub use hook::{Guard, Hook, HookOptions, HookOutput};
#[cfg(feature = "ledger")]
pub use ledger::{
    Claim, ClaimError, CompleteError, FailedClaim, GivenUp, Ledger, LedgerError, Member,
    MemberInfo, Membership, PreviousRun, StoreError, WriteError, Written,
};
pub use phase::{Phase, Readiness};
pub use reason::{Interruption, Origin, Signal, SignalReceived, StopReason};
pub use report::{
    Abandoned, DrainOutcome, DrainReport, Holder, HookOutcome, HookReport, Outcome, ShutdownReport,
};
#[cfg(feature = "tokio")]
pub use runtime::{AsyncTask, Link, TaskLost};
pub use said::{say, say_progress};
pub use shutdown::ReportFuture;
pub use signal::Escalation;
pub use snapshot::{Said, Snapshot, StillHere, ThreadSnapshot};
pub use token::{
    FutureExt, OnStop, StopFuture, StopSource, StopToken, UntilStopped, UntilStoppedFuture,
    UntilStoppedIter,
};
#[cfg(feature = "tokio")]
pub use token::{StreamExt, UntilStoppedStream};
pub use work::{
    Advice, Arrival, Assignment, DrainOutput, Drained, End, EndOfStream, EndPolicy, HandBack, Hold,
    InFlight, InFlightBuilder, Interrupted, Item, NotCompleted, Slot, Split, Stage, Task,
    TaskOutput, drain, split_at_end,
};

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
