//! Clean-up: hooks and guards on one stack, newest first.

mod budget;
mod cleaning;
mod emergency;
mod guard;
#[cfg(all(test, winddown_loom))]
mod models;
mod run;
mod stack;
mod worker;

use std::borrow::Cow;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::report::{Holder, HookOutcome};
use crate::slab::Key;
use crate::text::Name;

pub(crate) use cleaning::Turn;
pub(crate) use emergency::Emergency;
pub use guard::Guard;
pub use run::HookOutput;
pub(crate) use run::{Body, Ended, Never, caught};
pub(crate) use stack::{Entry, Hooks, Registered};

/// How much time a hook gets unless it says otherwise.
pub(crate) const RESERVE: Duration = Duration::from_millis(250);

/// How a hook is run: its name, its times, and whether it runs on the forced path.
///
/// ```
/// use std::time::Duration;
/// use winddown::HookOptions;
///
/// let options = HookOptions::new("close the database")
///     .timeout(Duration::from_secs(10))
///     .reserve(Duration::from_secs(1));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing before hook_with"]
pub struct HookOptions {
    pub(crate) name: Name,
    pub(crate) timeout: Option<Duration>,
    pub(crate) reserve: Duration,
    pub(crate) emergency: bool,
}

impl HookOptions {
    /// A hook of this name, with the coordinator's
    /// [`hook_timeout`](crate::ShutdownBuilder::hook_timeout) and a reserve of 250 ms.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            timeout: None,
            reserve: RESERVE,
            emergency: false,
        }
    }

    /// It may run for this long at most; then it is left behind on its thread and reported as timed
    /// out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// It gets at least this long, whatever ran before it (P16). Where the reserves of all hooks do
    /// not fit into what is left of the grace period, they shrink in proportion. More than the
    /// timeout is as much as the timeout.
    pub fn reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// It runs on the forced path too: to put a terminal back, not to save data.
    ///
    /// After a second signal all emergency hooks together have 250 ms; where the grace period is
    /// over before their turn has come, 10 to 25 ms (the report then has them as skipped, although
    /// they were called). There the thread that the signal interrupted never goes on, and all
    /// others do: **take no lock that the program may hold** (the allocator's and stdout's among
    /// them), write to the descriptor itself. One that hangs there leaves the older ones no time.
    /// On every other path it runs once, in its place, as any hook. The first one starts a thread,
    /// which stays parked (P23); where the system has none for it, it is a hook like any other.
    ///
    /// ```no_run
    /// # fn put_the_terminal_back() {}
    /// # let shutdown = winddown::ShutdownCoordinator::install()?;
    /// let options = winddown::HookOptions::new("terminal").emergency();
    /// shutdown.hook_with(options, put_the_terminal_back); // tcsetattr(3), and nothing else
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    pub fn emergency(mut self) -> Self {
        self.emergency = true;
        self
    }
}

/// A registered hook: to [remove](Self::remove) it, or to [run it early](Self::run_now); it is
/// called once at most (P13). Dropping this changes nothing: the hook stays.
///
/// Not for: tying a clean-up to a scope; that is a [`Guard`](crate::Guard).
pub struct Hook {
    /// `None` when it has been run already.
    registered: Option<(Arc<Hooks>, Key)>,
}

impl Hook {
    pub(crate) fn new(registered: Option<(Arc<Hooks>, Key)>) -> Self {
        Self { registered }
    }

    /// Takes it off the stack without running it. False: it has been run, is being run, or was
    /// skipped at the end.
    pub fn remove(self) -> bool {
        let Some((hooks, key)) = self.registered else {
            return false;
        };
        let Some(entry) = hooks.remove(key) else {
            return false;
        };
        // Drop code of the closure is user code: no lock is held here, and a panic of it is not
        // ours.
        drop(entry);
        true
    }

    /// Runs it now, on this thread. `None`: it has been run, is being run, or was skipped at the
    /// end; a hook that was registered after the end has been run.
    ///
    /// On this thread nothing can cut it short. A shutdown that comes meanwhile waits for it within
    /// its timeout.
    pub fn run_now(self) -> Option<HookOutcome> {
        let (hooks, key) = self.registered?;
        hooks.run_here(key)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

impl UnwindSafe for Hook {}
impl RefUnwindSafe for Hook {}

/// Makes the entry of a hook.
pub(crate) fn entry(
    options: HookOptions,
    cap: Duration,
    location: &'static Location<'static>,
    body: Body,
) -> Entry {
    let timeout = options.timeout.unwrap_or(cap);
    Entry {
        name: options.name,
        holder: Holder::Hook,
        location,
        timeout: timeout.into(),
        reserve: options.reserve.min(timeout).into(),
        body,
    }
}
