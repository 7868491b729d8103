//! Settings, and their defaults.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "console")]
use crate::console::Console;
use crate::coordinator::ShutdownCoordinator;
use crate::error::InstallError;
use crate::exit_policy::ExitPolicy;
use crate::reason::Signal;
use crate::shutdown::{Core, Settings};
use crate::signal::{self, Escalation, SignalSettings};

const GRACE: Duration = Duration::from_secs(25);
const CLEANUP_RESERVE: Duration = Duration::from_secs(5);
const HOOK_TIMEOUT: Duration = Duration::from_secs(5);
const DEBOUNCE: Duration = Duration::from_millis(300);

/// How a program is shut down. Made by [`ShutdownCoordinator::builder`]; ends in
/// [`install`](Self::install) or [`run`](Self::run).
///
/// ```no_run
/// use std::time::Duration;
/// use winddown::{Signal, ShutdownCoordinator};
///
/// let shutdown = ShutdownCoordinator::builder()
///     .signals([Signal::INT, Signal::TERM, Signal::HUP])
///     .grace_period(Duration::from_secs(8)) // Docker gives 10
///     .install()?;
/// # Ok::<(), winddown::InstallError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing before install or run"]
pub struct ShutdownBuilder {
    signals: Vec<Signal>,
    grace: Duration,
    cleanup_reserve: Option<Duration>,
    hook_timeout: Duration,
    debounce: Duration,
    linger: Duration,
    escalation: Option<Escalation>,
    override_ignored: bool,
    exit_policy: ExitPolicy,
    exit_on_timeout: Option<bool>,
    systemd: bool,
    #[cfg(feature = "console")]
    console: Option<Console>,
}

impl ShutdownCoordinator {
    /// Installs with the defaults: SIGINT and SIGTERM, a grace period of 25 s.
    ///
    /// # Errors
    ///
    /// As [`ShutdownBuilder::install`].
    #[track_caller]
    pub fn install() -> Result<Self, InstallError> {
        Self::builder().install()
    }

    /// The settings, at their defaults.
    pub fn builder() -> ShutdownBuilder {
        ShutdownBuilder::new()
    }
}

impl ShutdownBuilder {
    fn new() -> Self {
        Self {
            signals: vec![Signal::INT, Signal::TERM],
            grace: GRACE,
            cleanup_reserve: None,
            hook_timeout: HOOK_TIMEOUT,
            debounce: DEBOUNCE,
            linger: Duration::ZERO,
            escalation: None,
            override_ignored: false,
            exit_policy: ExitPolicy::default(),
            exit_on_timeout: None,
            systemd: false,
            #[cfg(feature = "console")]
            console: None,
        }
    }

    /// The signals that ask for the stop. Default: SIGINT and SIGTERM. None of them: for embedding;
    /// any number of such coordinators may live in one process.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.signals = signals.into_iter().collect();
        self
    }

    /// How long everything may take, from the stop to the end (P15). Default: 25 s, under the 30
    /// that Kubernetes gives; Docker gives 10.
    pub fn grace_period(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The part of the grace period that the drain may not touch, so that there is time to clean
    /// up. Its first half is the hand-back slice, for items that are still in flight then; what
    /// that leaves is the hooks' (and, with a ledger, that of the member that leaves: a quarter of
    /// the reserve, 1 s at most). Default: a third of the grace period, 5 s at most. More than the
    /// grace period is as much as the grace period; with nothing left for the drain, whoever is not
    /// back at the stop is late.
    pub fn cleanup_reserve(mut self, reserve: Duration) -> Self {
        self.cleanup_reserve = Some(reserve);
        self
    }

    /// How long one hook may run, unless it says otherwise. Default: 5 s. Zero is no time: each is
    /// called, and left behind at once.
    pub fn hook_timeout(mut self, timeout: Duration) -> Self {
        self.hook_timeout = timeout;
        self
    }

    /// Deliveries within this time of the first are the same request (P7): a key press that arrives
    /// from the terminal and from the parent too is one. Default: 300 ms. As long as the grace
    /// period, it leaves no second request to be made.
    pub fn debounce(mut self, window: Duration) -> Self {
        self.debounce = window;
        self
    }

    /// How long to go on working after the signal, while
    /// [`readiness`](crate::ShutdownHandle::readiness) says no: for servers whose load balancer is
    /// told late, as Kubernetes does. Default: not at all.
    ///
    /// The handler withdraws the readiness, and when this time is over the token stops; until then
    /// work is accepted as ever (P6, P22). The grace period counts from the signal, so this is a
    /// part of it: no more than what the [cleanup reserve](Self::cleanup_reserve) leaves, and what
    /// it takes is missing from the drain.
    ///
    /// Every signal lingers but SIGINT and SIGQUIT, as somebody is there who waits. What ends it
    /// early: a second signal of any kind, after the debounce window (it does not end the process;
    /// from then on it counts as the first), and every stop of the program's own: `stop`,
    /// `shutdown`, the end of `run`, the drop of the coordinator, a failed or a vital task. The
    /// reason stays the signal's. Not so [`wait`](ShutdownCoordinator::wait), which does not ask.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let shutdown = winddown::ShutdownCoordinator::builder()
    ///     .linger(Duration::from_secs(5))
    ///     .install()?;
    /// let handle = shutdown.handle();
    /// let readyz = move || if handle.readiness().is_ready() { 200 } else { 503 };
    /// # let _ = readyz;
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// What a further signal does. Default: the second ends the process; without
    /// [`signals`](Self::signals), nothing.
    pub fn escalation(mut self, escalation: Escalation) -> Self {
        self.escalation = Some(escalation);
        self
    }

    /// Handle also what was ignored when the program started. Default: no, so that `nohup` and a
    /// shell's background jobs work (P9).
    pub fn override_ignored(mut self, yes: bool) -> Self {
        self.override_ignored = yes;
        self
    }

    /// With which status the program ends.
    pub fn exit_policy(mut self, policy: ExitPolicy) -> Self {
        self.exit_policy = policy;
        self
    }

    /// End the process when the time is over and the owner has not come back. Default: yes where
    /// signals are installed. Without it, a program that never looks at its token is cleaned up
    /// under its feet, and lives on.
    pub fn exit_on_timeout(mut self, yes: bool) -> Self {
        self.exit_on_timeout = Some(yes);
        self
    }

    /// Tells systemd how far the program is, where it runs as a service: `READY=1` by
    /// [`notify_ready`](crate::ShutdownHandle::notify_ready), what it is doing while it stops, and
    /// signs of life. For the one coordinator of the program. Needs the feature `systemd`.
    ///
    /// * At the stop, in one datagram: `STOPPING=1`, the first `EXTEND_TIMEOUT_USEC=` and a
    ///   `STATUS=`. From v259 on systemd takes `STOPPING=1` as final (`sd_notify(3)`), and before
    ///   the stop it would start the stop timer: it is never sent earlier.
    /// * Before that, where a [linger](Self::linger) begins: a `STATUS=`, and
    ///   `EXTEND_TIMEOUT_USEC=` for it, as the stop timer runs where the signal is systemd's.
    /// * While it stops, once a second: `STATUS=` with who is waited for, in the words of
    ///   [`Event::Waiting`](crate::Event::Waiting), and the time left. At the end, how it went.
    /// * `EXTEND_TIMEOUT_USEC=` while something moves: a holder has gone, a hook has ended, or
    ///   somebody [said](crate::say) something new. Each is for a fifth of the grace period (2 s at
    ///   least, 10 s at most), and none reaches further than a second beyond the grace period's
    ///   end. So a unit whose `TimeoutStopSec=` is shorter than the grace period does not have a
    ///   shutdown killed that goes on, and one that hangs still is. (systemd moves its deadline to
    ///   the later of what it is and now + N.)
    /// * `WATCHDOG=1` at half of `WATCHDOG_USEC`, from the installation to the report. It says
    ///   that the thread that runs the shutdown is alive, and nothing about the program's other
    ///   threads. What the program does after the report has what is left of that time. Less than
    ///   half a second is too short while it stops.
    ///
    /// `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read at the installation. Without
    /// the first, nothing is sent, no socket is made, and nothing wakes up. They are not unset, as
    /// that is unsafe once there are threads. Children inherit them; systemd ignores what they send
    /// unless the unit says `NotifyAccess=all`, and then a child that should be silent is started
    /// with [`env_remove`](std::process::Command::env_remove).
    ///
    /// A send never blocks and never fails the program: what systemd has no room for is lost,
    /// except `READY=1` and `STOPPING=1`, which are tried again. Nothing is sent on a forced exit.
    #[cfg(feature = "systemd")]
    pub fn systemd(mut self) -> Self {
        self.systemd = true;
        self
    }

    /// Shows the shutdown while it goes on. Default: nothing is shown.
    #[cfg(feature = "console")]
    #[cfg_attr(docsrs, doc(cfg(feature = "console")))]
    pub fn console(mut self, console: Console) -> Self {
        self.console = Some(console);
        self
    }

    /// Installs the handlers and starts the two threads that wait for the stop.
    ///
    /// Do it early, before other threads are started: what arrives before it has its default
    /// effect. Where a signal has a handler already, that goes on running (P11).
    ///
    /// # Errors
    ///
    /// [`InstallError`], which names what was refused; nothing stays half installed.
    #[track_caller]
    pub fn install(self) -> Result<ShutdownCoordinator, InstallError> {
        self.install_at(Location::caller())
    }

    /// Where the console is all that shows a report.
    #[cfg(feature = "console")]
    pub(crate) fn console_with_whole_report(mut self) -> Self {
        self.console = self.console.map(Console::with_whole_report);
        self
    }

    /// With the defaults that depend on others.
    pub(crate) fn settings(&self) -> Settings {
        let with_signals = !self.signals.is_empty();
        let reserve = self
            .cleanup_reserve
            .unwrap_or_else(|| CLEANUP_RESERVE.min(self.grace / 3))
            .min(self.grace);
        Settings {
            grace: self.grace,
            cleanup_reserve: reserve,
            hook_timeout: self.hook_timeout,
            systemd: self.systemd,
            signals: SignalSettings {
                debounce: self.debounce,
                linger: self.linger.min(self.grace.saturating_sub(reserve)),
                escalation: self.escalation.unwrap_or(if with_signals {
                    Escalation::SecondSignal
                } else {
                    Escalation::Never
                }),
                exit_policy: self.exit_policy,
                exit_on_timeout: self.exit_on_timeout.unwrap_or(with_signals),
            },
            #[cfg(feature = "console")]
            console: self.console,
        }
    }

    pub(crate) fn install_at(
        self,
        location: &'static Location<'static>,
    ) -> Result<ShutdownCoordinator, InstallError> {
        if let Some(signal) = self.signals.iter().find(|signal| !can_be_handled(**signal)) {
            return Err(InstallError::CannotHandle(*signal));
        }
        let core = Core::new(self.settings(), location).map_err(InstallError::Wakeup)?;
        let coordinator = ShutdownCoordinator::start(&Arc::new(core))?;
        if !self.signals.is_empty() {
            signal::install::install(
                &coordinator.core().signals,
                &self.signals,
                self.override_ignored,
            )
            .inspect_err(|_| coordinator.refuse())?;
        }
        Ok(coordinator)
    }
}

/// Not those that the system keeps for itself, and not those that report a fault of the program:
/// their handler would return into the fault.
fn can_be_handled(signal: Signal) -> bool {
    let number = signal.number();
    // The first two after the named ones belong to the C library.
    let reserved =
        cfg!(any(target_os = "linux", target_os = "android")) && (32..=33).contains(&number);
    !reserved
        && !matches!(
            number,
            libc::SIGKILL
                | libc::SIGSTOP
                | libc::SIGSEGV
                | libc::SIGILL
                | libc::SIGFPE
                | libc::SIGBUS
                | libc::SIGABRT
                | libc::SIGTRAP
                | libc::SIGSYS
        )
}
