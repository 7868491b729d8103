//! The whole ending in one call.

use std::fmt::Display;
use std::io::Write;
use std::mem::needs_drop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::process::{ExitCode, Termination};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::builder::ShutdownBuilder;
#[cfg(feature = "console")]
use crate::console;
use crate::coordinator::ShutdownCoordinator;
use crate::panic;
use crate::reason::StopReason;
use crate::report::Outcome;
use crate::shutdown::{Aside, bounded_by, watch_for_exit};
use crate::signal::mask::Blocked;
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
    /// word; where it says to die by the signal, `run` does not return. What `f` comes to after it
    /// has fetched the report itself counts too.
    ///
    /// The code is for a program that ends with it: return it from `main`. What then hangs in
    /// `exit` is ended as in [`ShutdownReport::exit`](crate::ShutdownReport::exit); a program that
    /// goes on is left alone. A value of `f` that has drop code is dropped after the stop, within the
    /// time for draining.
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
        if coordinator.core().settings.signals.exit_on_timeout {
            watch_for_exit();
        }
        let error_shown = Arc::new(OnceLock::new());
        tell_the_report_first(&coordinator, &error_shown);
        // The value of an Ok and the drop code of an Err are the program's too.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            f(&coordinator)
                .map(|value| {
                    if needs_drop::<R>() {
                        // P15: it may hang as it is dropped, and is to have an end.
                        coordinator
                            .core()
                            .stop_unless_stopped(StopReason::Completed);
                    }
                    drop(value);
                })
                .map_err(|error| panic::show_and_drop(error, stopped_probe::show))
        }));
        let (mut failed, mut panicked) = (false, false);
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(shown)) if !shown.is_failure(coordinator.core().node.is_stopped()) => {}
            Ok(Err(Shown { text: error, .. })) => {
                failed = true;
                coordinator.core().comes_back();
                let text = said(&error);
                coordinator.core().stop(StopReason::Failed { error });
                match show_aside(text) {
                    Ok(aside) => drop(error_shown.set(aside)),
                    Err(show) => show(),
                }
            }
            Err(payload) => {
                panicked = true;
                coordinator.core().comes_back();
                let message = panic::message(payload);
                coordinator.core().stop(StopReason::Panicked { message });
            }
        }
        #[cfg(feature = "console")]
        if coordinator.core().settings.console.is_some() {
            // Its last line comes after that.
            wait(&error_shown, console::PATIENCE);
        }
        let report = coordinator.shutdown();
        wait(&error_shown, coordinator.core().time_for_last_words());
        // The program ends in any case, and as the report says.
        let _ = coordinator.core().signals.take_unheard();
        drop(coordinator);
        // `f` may have fetched the report and failed only then.
        report.of_a_program(failed, panicked).report()
    }
}

/// Shows a report that is not clean: the error comes first, and the program's own last words are
/// the last.
fn tell_the_report_first(coordinator: &ShutdownCoordinator, error_shown: &Arc<OnceLock<Aside>>) {
    let error_shown = Arc::clone(error_shown);
    let core = Arc::downgrade(coordinator.core());
    coordinator.on_report(move |report| {
        let Some(core) = core.upgrade() else { return };
        // Not for long: a stderr that nobody reads must not keep the last words from being called.
        let part = BEFORE_LAST_WORDS.min(core.time_for_last_words() / 4);
        wait(&error_shown, part);
        if !core.is_shown() && report.outcome() != Outcome::Clean {
            match show_aside(report.to_string()) {
                Ok(aside) => core.shows_the_report(aside),
                Err(show) => show(),
            }
        }
        core.wait_until_shown(part);
    });
}

/// Writes to stderr, on a thread of its own: where that is a full pipe, it must not hold up the
/// shutdown (P15). Where no thread can be had, the writing is the caller's.
fn show_aside(text: String) -> Result<Aside, impl FnOnce()> {
    Aside::start("winddown-stderr", move || show(&text))
}

fn wait(shown: &OnceLock<Aside>, limit: Duration) {
    if let Some(aside) = shown.get() {
        aside.wait(limit);
    }
}

fn said(error: &impl Display) -> String {
    format!("Error: {error}")
}

fn show(text: &str) {
    // In the background of a terminal that stops whoever writes there, the line is written all the
    // same: nobody would wake the program.
    let _blocked = Blocked::all();
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}
