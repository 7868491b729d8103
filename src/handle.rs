//! What everybody but the owner may do.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::error::{IntakeClosed, SpawnError};
use crate::event::Event;
use crate::hook::{self, Body, Entry, Guard, Hook, HookOptions, HookOutput, Registered};
use crate::phase::{Phase, Readiness};
use crate::reason::{Origin, Signal, StopReason};
use crate::report::{Holder, ShutdownReport};
use crate::shutdown::Core;
use crate::snapshot::Snapshot;
use crate::token::StopToken;
use crate::work::{EndOfStream, Hold, InFlightBuilder, Stage, Task, TaskOutput};

/// Stops the program, listens for the stop, and registers what the shutdown waits for and what it
/// cleans up.
///
/// Cheap to clone, and safe to give to anybody. It keeps nothing alive: when the coordinator has
/// gone, a handle still answers, the intake is closed, and a hook runs at once (P19).
#[derive(Clone)]
pub struct ShutdownHandle {
    core: Arc<Core>,
}

impl ShutdownHandle {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What listens for the stop.
    pub fn token(&self) -> StopToken {
        StopToken::of(&self.core.node)
    }

    /// Asks for the stop. True: this call was the first; otherwise its reason is kept for the
    /// report (P3). During a [linger](crate::ShutdownBuilder::linger) the signal was the first:
    /// this call then gives false, and ends the linger.
    ///
    /// Returns at once; [`shutdown`](crate::ShutdownCoordinator::shutdown) waits for the end. Not
    /// for a signal handler: that is what [`feed`](Self::feed) is for.
    pub fn stop(&self, reason: impl Into<StopReason>) -> bool {
        self.core.stop(reason.into())
    }

    /// Registers a hook: a named closure that is called once, at the shutdown, newest first (P13).
    ///
    /// It is called when everything that was registered has gone and the owner has come back, or
    /// when the time for that is over; on a thread of the coordinator, the hooks one after the
    /// other. It may run for the coordinator's
    /// [`hook_timeout`](crate::ShutdownBuilder::hook_timeout); it gets at least 250 ms, or its
    /// share (P16). It may return `()` or a `Result`; an `Err` or a panic is reported and does not
    /// stop the next (P14). Not called on a forced exit, `SIGKILL`, `abort`.
    ///
    /// Never refused (P19): registered while cleaning it is the next to be called, registered after
    /// the end it is called at once, on this thread (and what it returns is in no report).
    ///
    /// ```
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// shutdown.hook("say goodbye", || eprintln!("goodbye"));
    /// shutdown.hook("remove the file", || std::fs::remove_file("/no/such/file"));
    /// let report = shutdown.shutdown();
    /// assert_eq!(report.hooks()[0].name(), "remove the file");
    /// assert_eq!(report.exit_code(), 1);
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    #[track_caller]
    pub fn hook<F, R>(&self, name: impl Into<Cow<'static, str>>, f: F) -> Hook
    where
        F: FnOnce() -> R + Send + 'static,
        R: HookOutput,
    {
        self.register(HookOptions::new(name), f, Location::caller())
    }

    /// Registers a hook with times of its own, or one that runs on the forced path too.
    #[track_caller]
    pub fn hook_with<F, R>(&self, options: HookOptions, f: F) -> Hook
    where
        F: FnOnce() -> R + Send + 'static,
        R: HookOutput,
    {
        self.register(options, f, Location::caller())
    }

    fn register<F, R>(
        &self,
        options: HookOptions,
        f: F,
        location: &'static Location<'static>,
    ) -> Hook
    where
        F: FnOnce() -> R + Send + 'static,
        R: HookOutput,
    {
        let core = &self.core;
        let body: Body = if options.emergency {
            // Called through a borrow: a boxed `FnOnce` would free its box.
            let mut f = Some(f);
            let body = move || f.take().map(|f| f().into_result());
            core.emergency.register(Box::new(body))
        } else {
            Box::new(move |_| Some(f().into_result().into()))
        };
        self.register_body(options, body, location)
    }

    pub(crate) fn register_body(
        &self,
        options: HookOptions,
        body: Body,
        location: &'static Location<'static>,
    ) -> Hook {
        let core = &self.core;
        let entry = hook::entry(options, core.settings.hook_timeout, location, body);
        match core.hooks.register(entry) {
            Registered::OnStack(key) => Hook::new(Some((Arc::clone(&core.hooks), key))),
            Registered::RunNow(entry) => {
                core.hooks.run_late(entry);
                Hook::new(None)
            }
        }
    }

    /// Gives `value` a clean-up that runs once: when the guard is dropped, or at the shutdown,
    /// whichever comes first.
    ///
    /// At the shutdown it has the times of a [hook](Self::hook). A guard that is a local of `run`'s
    /// closure is cleaned up when that returns, before the tasks have been waited for: what they
    /// use, give to them as `Arc<Guard<T>>`.
    ///
    /// ```
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let pool = shutdown.guard("pool", vec![1, 2, 3], |pool| println!("closing {} connections", pool.len()));
    /// assert_eq!(pool.len(), 3);
    /// # drop(pool);
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    #[track_caller]
    pub fn guard<T, F, R>(
        &self,
        name: impl Into<Cow<'static, str>>,
        value: T,
        cleanup: F,
    ) -> Guard<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce(&T) -> R + Send + 'static,
        R: HookOutput,
    {
        let value = Arc::new(value);
        let cleaned = Arc::clone(&value);
        let body: Body = Box::new(move |_| Some(cleanup(&cleaned).into_result().into()));
        let entry = Entry {
            holder: Holder::Guard,
            ..hook::entry(
                HookOptions::new(name),
                self.core.settings.hook_timeout,
                Location::caller(),
                body,
            )
        };
        Guard::new(&self.core.hooks, value, entry)
    }

    /// Takes a signal in as if it had arrived, with linger, debounce and escalation: for hosts that
    /// own the handlers.
    ///
    /// Async-signal-safe: no lock, no allocation. With `signals([])` further signals do nothing
    /// unless [`escalation`](crate::ShutdownBuilder::escalation) says otherwise; where it does, the
    /// second does not return.
    pub fn feed(&self, signal: Signal) {
        // After the end it is the host's again.
        let _ = self.core.signals.take(signal, Origin::Unknown);
    }

    /// Keeps the drain open until it is dropped: "wait for me" (P21).
    ///
    /// # Errors
    ///
    /// [`IntakeClosed`], once the program has stopped (P22).
    #[track_caller]
    pub fn hold(&self, name: impl Into<Cow<'static, str>>) -> Result<Hold, IntakeClosed> {
        self.core.work.own.hold(name.into(), Location::caller())
    }

    /// Starts a thread that the shutdown waits for. Its panic, and an `Err` that is not
    /// [`Stopped`](crate::Stopped), stop the program.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], once the program has stopped (P22), or when the system has no thread.
    ///
    /// ```
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// # fn one_round() -> Result<(), std::fmt::Error> { Ok(()) }
    /// let task = shutdown.spawn("rounds", |token| {
    ///     while !token.is_stopped() {
    ///         one_round()?;
    ///     }
    ///     Ok::<_, std::fmt::Error>(())
    /// })?;
    /// # drop(task);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, R>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        self.spawn_task(name.into(), false, f, Location::caller())
    }

    /// Starts a thread without which the program makes no sense: any return of it stops the
    /// program.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_vital<F, R>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        self.spawn_task(name.into(), true, f, Location::caller())
    }

    /// Builds a stage: a group of work whose token stops only when the stage above it is empty.
    /// Built last, stopped first; see [`Stage`].
    ///
    /// Built after the stop, it is born stopped.
    #[track_caller]
    pub fn stage(&self, name: impl Into<Cow<'static, str>>) -> Stage {
        let state = self.core.work.build(name.into(), Location::caller());
        Stage::new(state, Arc::new(self.stopping()))
    }

    /// Begins a set of work in flight: each item that it admits ends completed or handed back
    /// (P20).
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let queue = Arc::new(Mutex::new(vec!["one", "two"]));
    /// let back = Arc::clone(&queue);
    /// let jobs = shutdown
    ///     .in_flight("jobs")
    ///     .on_interrupted(move |item| back.lock().unwrap().push(item.into_item()));
    /// while let Some(slot) = jobs.reserve() {
    ///     let Some(job) = queue.lock().unwrap().pop() else { break };
    ///     let Some(item) = slot.fill(job) else { break }; // the stop came meanwhile: handed back
    ///     let done = item.complete(|job| Ok::<_, std::io::Error>(job.len()));
    ///     assert_eq!(done.unwrap(), 3);
    /// }
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    #[track_caller]
    pub fn in_flight<T: Send + Sync + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
    ) -> InFlightBuilder<T> {
        let home = self.core.work.own.clone();
        InFlightBuilder::new(home, name.into(), Location::caller())
    }

    /// Begins a stream that stops the program in band: when every partition has ended and nothing
    /// of them is in flight.
    ///
    /// ```
    /// use winddown::{End, StopReason};
    ///
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let stream = shutdown.end_of_stream(["a.log", "b.log"]);
    /// stream.finish(&"a.log", End::OfData)?;
    /// let line = stream.arrive(&"b.log")?; // read, and on its way
    /// stream.finish(&"b.log", End::OfData)?;
    /// assert!(!shutdown.token().is_stopped());
    /// drop(line); // counted, written
    /// assert_eq!(shutdown.token().reason(), Some(StopReason::EndOfStream));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn end_of_stream<P: Eq + Hash + Clone + Send + 'static>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> EndOfStream<P> {
        let core = Arc::clone(&self.core);
        let stop = move || {
            // Once stopping, partitions end all the time; that is not news.
            core.stop_unless_stopped(StopReason::EndOfStream);
        };
        EndOfStream::new(Arc::clone(&self.core.node), stop, partitions)
    }

    fn spawn_task<F, R>(
        &self,
        name: Cow<'static, str>,
        vital: bool,
        f: F,
        location: &'static Location<'static>,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        let home = &self.core.work.own;
        home.spawn(name, vital, self.stopping(), f, location)
    }

    /// What asks for the program's stop at the end of a task.
    pub(crate) fn stopping(&self) -> impl Fn(StopReason) + Send + Sync + 'static {
        let core = Arc::clone(&self.core);
        move |reason| core.stop_by_task(reason)
    }

    /// Who is still here: phase, reason, time left, and everything that the shutdown would wait for
    /// or call, with what it [said](crate::say) last.
    ///
    /// At any time, from any thread, without stopping anything. Once the program is stopping, it
    /// shows on Linux also where the threads are; that costs some 50 µs for each of the first 32.
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot()
    }

    /// Subscribes to what happens: each call a subscription of its own, for all events from now on.
    ///
    /// It has room for 256 events and never holds up the ending: a full one misses the newest, and
    /// is told how many. It disconnects after the [report](Event::Reported), so a `for` loop over
    /// it ends. To be taken once at the start: one that was dropped is forgotten only with the next
    /// event.
    ///
    /// Read it on a thread of your own, not in a task or under a hold: the drain would wait for
    /// that, and it for the report. And nobody waits for that thread: what it has not written when
    /// the process ends is lost. Last words are for [`on_report`](Self::on_report), which is waited
    /// for.
    ///
    /// ```
    /// use winddown::{Event, Phase};
    ///
    /// let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let events = shutdown.events();
    /// shutdown.hook("goodbye", || ());
    /// let report = shutdown.shutdown();
    /// let told: Vec<String> = events.iter().map(|event| event.to_string()).collect();
    /// assert_eq!(told[0], "stopping: completed");
    /// assert_eq!(told[4], "hook goodbye completed");
    /// # assert_eq!(told.len(), 7, "{told:?}");
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    pub fn events(&self) -> Receiver<Event> {
        self.core.bus.subscribe()
    }

    /// Tells systemd that the program has started: `READY=1`, for units with `Type=notify`. Once,
    /// and before the stop only; otherwise, and without
    /// [`systemd`](crate::ShutdownBuilder::systemd), it does nothing. Never blocks; where systemd's
    /// queue is full it is tried again every second.
    ///
    /// A program that ends without it has failed in systemd's eyes, whatever its status.
    #[cfg(feature = "systemd")]
    pub fn notify_ready(&self) {
        self.core.systemd.ready(&self.core);
    }

    /// Where the program stands.
    pub fn phase(&self) -> Phase {
        self.core.phase()
    }

    /// Whether new work should be sent here: what a readiness probe asks. No lock, no clock.
    ///
    /// It says no before the handler of the first signal returns, with a
    /// [linger](crate::ShutdownBuilder::linger) or without; no thread has to be scheduled for it.
    pub fn readiness(&self) -> Readiness {
        self.phase().into()
    }

    /// Whether the program goes about its business: what a liveness probe asks. True until the
    /// report is made, so also while it drains: who is restarted then loses what it still has in
    /// hand.
    pub fn is_live(&self) -> bool {
        self.phase() != Phase::Ended
    }

    /// Tells `f` the report, once, when it is made: last words, also when the process is then ended
    /// because its owner never came back.
    ///
    /// All of them are called one after the other, on one thread, and have a second at most
    /// together, or what is left of the grace period; 30 ms when nothing is. One that hangs keeps
    /// those behind it from being called in time. Registered after the end it is called at once.
    /// Not called on a forced exit.
    pub fn on_report(&self, f: impl FnOnce(&ShutdownReport) + Send + 'static) {
        self.core.on_report(Box::new(f));
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle")
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

// No user code ever runs under the locks inside, so a panic cannot leave them half changed.
impl UnwindSafe for ShutdownHandle {}
impl RefUnwindSafe for ShutdownHandle {}
