//! The whole ending in one call.

use std::fmt::Display;
use std::io::Write;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::process::{ExitCode, Termination};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::builder::ShutdownBuilder;
#[cfg(feature = "console")]
use crate::console;
use crate::coordinator::ShutdownCoordinator;
use crate::panic;
use crate::reason::StopReason;
use crate::report::Outcome;
use crate::shutdown::{Aside, Core, bounded_by};
use crate::stopped_probe::{self, Shown};

/// A stderr that nobody reads may hold up a failed installation for so long.
const SHOW: Duration = Duration::from_secs(1);

/// The program's own last words wait so long for each of those that `run` has shown before them.
const BEFORE_LAST_WORDS: Duration = Duration::from_millis(250);

impl ShutdownBuilder {
    /// Runs a whole program: installs, calls `f`, and whatever way `f` ends, goes through the whole
    /// shutdown and gives the exit code.
    ///
    /// `Ok` is a stop with [`StopReason::Completed`]. An `Err` is shown on stderr with `{:#}` and
    /// is status 1, unless it is or shows [`Stopped`](crate::Stopped). A report that is not
    /// [clean](Outcome::Clean) is shown on stderr too; an error alone does not make it unclean. A
    /// panic is 101, a failed installation 1. The [`ExitPolicy`](crate::ExitPolicy) has the last
    /// word; where it says to die by the signal, `run` does not return.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    /// use std::time::Duration;
    ///
    /// fn main() -> ExitCode {
    ///     winddown::ShutdownCoordinator::builder().run(|shutdown| {
    ///         let token = shutdown.token();
    ///         loop {
    ///             token.sleep(Duration::from_secs(1))?;
    ///             println!("one more");
    ///         }
    ///         # #[allow(unreachable_code)]
    ///         Ok::<_, winddown::Stopped>(())
    ///     })
    /// }
    /// ```
    #[track_caller]
    pub fn run<R, E: Display>(
        self,
        f: impl FnOnce(&ShutdownCoordinator) -> Result<R, E>,
    ) -> ExitCode {
        #[cfg(feature = "console")]
        let this = self.console_with_whole_report();
        #[cfg(not(feature = "console"))]
        let this = self;
        let coordinator = match this.install_at(Location::caller()) {
            Ok(coordinator) => coordinator,
            Err(error) => {
                bounded_by("winddown-stderr", SHOW, move || show(&said(&error)));
                return ExitCode::FAILURE;
            }
        };
        let shown = Arc::new(OnStderr::default());
        tell_the_report_first(&coordinator, &shown);
        // The value of an Ok and the drop code of an Err are the program's too.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            f(&coordinator)
                .map(drop)
                .map_err(|error| panic::show_and_drop(error, stopped_probe::show))
        }));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(shown)) if !shown.is_failure(coordinator.core().node.is_stopped()) => {}
            Ok(Err(Shown { text: error, .. })) => {
                let text = said(&error);
                coordinator.core().stop(StopReason::Failed { error });
                OnStderr::start(&shown.error, text);
            }
            Err(payload) => {
                let message = panic::message(payload);
                coordinator.core().stop(StopReason::Panicked { message });
            }
        }
        #[cfg(feature = "console")]
        if coordinator.core().settings.console.is_some() {
            // Its last line comes after that.
            OnStderr::wait(&shown.error, console::PATIENCE);
        }
        let report = coordinator.shutdown();
        shown.wait_for_all(coordinator.core().time_for_last_words());
        // The program ends in any case, and as the report says.
        let _ = coordinator.core().signals.take_unheard();
        drop(coordinator);
        report.report()
    }
}

/// Shows a report that is not clean: the error comes first, and the program's own last words are
/// the last.
fn tell_the_report_first(coordinator: &ShutdownCoordinator, shown: &Arc<OnStderr>) {
    let (core, shown) = (Arc::downgrade(coordinator.core()), Arc::clone(shown));
    coordinator.on_report(move |report| {
        let core = core.upgrade();
        // Not for long: a stderr that nobody reads must not keep the last words from being called.
        let time = core
            .as_deref()
            .map_or(Duration::ZERO, Core::time_for_last_words);
        let part = BEFORE_LAST_WORDS.min(time / 4);
        OnStderr::wait(&shown.error, part);
        if let Some(core) = core.filter(|core| core.has_console()) {
            core.wait_for_console(part);
        } else if report.outcome() != Outcome::Clean {
            let text = report.to_string();
            if OnStderr::start(&shown.report, text.clone()) {
                OnStderr::wait(&shown.report, part);
            } else {
                show(&text);
            }
        }
    });
}

/// What is being written to stderr, each on a thread of its own: where that is a full pipe, it must
/// not hold up the shutdown (P15).
#[derive(Default)]
struct OnStderr {
    error: OnceLock<Aside>,
    report: OnceLock<Aside>,
}

impl OnStderr {
    /// False: there is no thread for it.
    fn start(place: &OnceLock<Aside>, text: String) -> bool {
        let aside = Aside::start("winddown-stderr", move || show(&text));
        aside.is_ok_and(|aside| place.set(aside).is_ok())
    }

    fn wait(place: &OnceLock<Aside>, limit: Duration) {
        if let Some(aside) = place.get() {
            aside.wait(limit);
        }
    }

    fn wait_for_all(&self, limit: Duration) {
        let began = Instant::now();
        for place in [&self.error, &self.report] {
            Self::wait(place, limit.saturating_sub(began.elapsed()));
        }
    }
}

fn said(error: &impl Display) -> String {
    format!("Error: {error}")
}

fn show(text: &str) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}
