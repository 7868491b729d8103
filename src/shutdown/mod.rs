//! The sequence, from the stop to the report. This room alone knows the order.

mod aside;
mod blocked;
mod conclusion;
mod console;
mod exit;
mod hand_back;
mod last_step;
mod linger;
#[cfg(all(test, winddown_loom))]
mod models;
mod report_future;
mod sequence;
mod shares;
mod snapshot;
mod stages;
#[cfg_attr(not(feature = "systemd"), path = "no_systemd.rs")]
mod systemd;
mod teller;

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Duration;

use crate::bus::Bus;
use crate::clock::Tick;
#[cfg(feature = "console")]
use crate::console::Console;
use crate::hook::{Emergency, Hooks};
use crate::phase::Phase;
use crate::reason::StopReason;
use crate::report::ShutdownReport;
use crate::said::{self, Thread};
use crate::shutdown::systemd::Systemd;
use crate::signal::{SignalSettings, SignalState};
use crate::slab::Slab;
use crate::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, OnceLock, Ordering};
use crate::token::{Deliveries, Ending, GraceClock, Life, Node};
use crate::work::Work;

pub(crate) use aside::{Aside, bounded_by, discard};
pub(crate) use exit::watch_for_exit;
#[cfg_attr(
    not(feature = "ledger"),
    expect(unused_imports, reason = "for features")
)]
pub(crate) use last_step::LastStep;
pub use report_future::ReportFuture;
pub(crate) use sequence::run;

/// What a program is told with its last breath.
pub(crate) type LastWords = Box<dyn FnOnce(&ShutdownReport) + Send>;

/// How long the shutdown may take, and how it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) grace: Duration,
    /// What the drain may not touch.
    pub(crate) cleanup_reserve: Duration,
    /// The cap of a hook that has none of its own.
    pub(crate) hook_timeout: Duration,
    pub(crate) signals: SignalSettings,
    /// Tell systemd, if it started the program.
    pub(crate) systemd: bool,
    #[cfg(feature = "console")]
    pub(crate) console: Option<Console>,
}

/// Everything that a coordinator and its handles share. Each part locks for itself, and none while
/// user code runs (P17).
pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) settings: Settings,
    pub(crate) node: Arc<Node>,
    pub(crate) signals: Arc<SignalState>,
    pub(crate) work: Work,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) emergency: Arc<Emergency>,
    pub(crate) systemd: Systemd,
    last_steps: last_step::LastSteps,
    /// Where the coordinator was installed, and by which thread.
    location: &'static Location<'static>,
    owner: Cow<'static, str>,
    owner_thread: Thread,
    installed: Tick,
    /// Hooks and guards are being run.
    cleaning: AtomicBool,
    /// Announcements whose wakers and `on_stop` closures are being called.
    calling: AtomicUsize,
    /// The thread that shows the report: the console's, where there is one.
    shown: OnceLock<Aside>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// Where the thread is that runs the shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Runner {
    /// Not started, or gone.
    #[default]
    Elsewhere,
    AtWork,
    /// In user code, as no other thread could be had for that.
    Away,
}

/// What is decided about the report.
#[derive(Default)]
struct Progress {
    runner: Runner,
    report: Option<ShutdownReport>,
    /// The same, and there already while it is being told.
    made: Option<ShutdownReport>,
    /// Somebody is making it.
    concluding: bool,
    /// The owner did not wait for it.
    owner_gone: bool,
    last_words: Vec<LastWords>,
    /// Of the futures that wait for it.
    wakers: Slab<Waker>,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        location: &'static Location<'static>,
    ) -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let node = Node::with_ending(Ending {
            deliveries: Deliveries::new(),
            clock: GraceClock::new(settings.grace),
        });
        let signals = Arc::new(SignalState::new(Arc::clone(&node), settings.signals)?);
        let bus = Arc::new(Bus::default());
        let owner = std::thread::current()
            .name()
            .map_or(Cow::Borrowed("owner"), |name| Cow::Owned(name.to_owned()));
        Ok(Self {
            id,
            settings,
            work: Work::new(id, Arc::clone(&node), Arc::clone(&bus)),
            hooks: Arc::new(Hooks::new(id, Arc::clone(&node), Arc::clone(&bus))),
            bus,
            emergency: Arc::new(Emergency::new(id, Arc::clone(&signals))),
            systemd: Systemd::new(settings.systemd),
            node,
            signals,
            last_steps: last_step::LastSteps::new(),
            location,
            owner,
            owner_thread: said::this_thread(),
            installed: Tick::now(),
            cleaning: AtomicBool::new(false),
            calling: AtomicUsize::new(0),
            shown: OnceLock::new(),
            progress: Mutex::new(Progress::default()),
            changed: Condvar::new(),
        })
    }

    /// Asks for the stop; a reason that came too late is kept for the report (P3). True: this call
    /// was the first. During a linger the signal was, and this ends it.
    pub(crate) fn stop(&self, reason: StopReason) -> bool {
        let decided = self.node.decide(reason);
        self.signals.ring();
        let Err(late) = decided else { return true };
        if let Some(ending) = self.node.ending() {
            ending.deliveries.too_late(late);
        }
        false
    }

    /// Asks for the stop if nobody has; otherwise the reason is not worth keeping.
    pub(crate) fn stop_unless_stopped(&self, reason: StopReason) {
        if !self.node.is_stopped() {
            let _ = self.node.decide(reason);
        }
        self.signals.ring();
    }

    /// Asks for the stop on behalf of a task.
    pub(crate) fn stop_by_task(&self, reason: StopReason) {
        // At the stop every vital task ends; that is not news.
        if matches!(reason, StopReason::TaskEnded { .. }) {
            self.stop_unless_stopped(reason);
        } else {
            self.stop(reason);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.node.word().life() {
            Life::Running => Phase::Running,
            Life::Lingering => Phase::Lingering,
            Life::Ended => Phase::Ended,
            Life::Stopped | Life::Forced if self.cleaning.load(Ordering::Acquire) => {
                Phase::Cleaning
            }
            Life::Stopped | Life::Forced => Phase::Draining,
        }
    }

    pub(crate) fn is_calling_on_stop(&self) -> bool {
        self.calling.load(Ordering::Acquire) > 0
    }
}
