//! The shutdown, shown while it goes on: to somebody who watches a terminal, or reads a log.
//!
//! 1. It is one more subscriber, on a thread of its own that starts at the stop (P23). It asks for
//!    a snapshot when it wants to draw; nobody who is needed for the ending waits for it, except
//!    for its last line, and that within the time of those who are told the report (P15).
//! 2. It writes nothing to a stderr that does not take it: a pipe that is full, a terminal that is
//!    held, make no thread wait.
//! 3. One line, drawn so that what others write stands on lines of its own, and is never erased.

mod screen;
mod text;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::event::Event;
use crate::phase::Phase;
use crate::report::{Outcome, ShutdownReport};
use crate::snapshot::Snapshot;
use crate::text::locale_is_utf8;

use screen::Screen;
pub(crate) use text::NextInterrupt;

/// A shutdown that is over by then says nothing but its last line.
const QUIET: Duration = Duration::from_millis(300);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A reader that is merely slow still gets the last line.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

/// Shows a shutdown while it goes on, on stderr. For
/// [`ShutdownBuilder::console`](crate::ShutdownBuilder::console).
///
/// On a terminal it is one line that changes in place: the rest of the grace period, who is waited
/// for and for how long they have been there, what they [said](crate::say) last, and what the next
/// Ctrl-C does.
///
/// ```text
/// [████████  ] 19 s, copy 2 (6 s): disk.img 300 of 900 (33 %)  press Ctrl-C again to force quit now
/// ```
///
/// Elsewhere (a pipe, a file, `TERM=dumb`, in the background) it is a plain line every 5 s. In the
/// end one line says what happened, and in how long; of a shutdown that takes less than 300 ms it
/// is the only one. Under [`run`](crate::ShutdownBuilder::run), a report that is not clean takes
/// the place of that line.
///
/// ```no_run
/// use std::process::ExitCode;
/// use winddown::{Console, ShutdownCoordinator};
///
/// # fn work(_: &winddown::StopToken) -> Result<(), std::io::Error> { Ok(()) }
/// fn main() -> ExitCode {
///     ShutdownCoordinator::builder()
///         .console(Console::stderr())
///         .run(|shutdown| work(&shutdown.token()))
/// }
/// ```
///
/// # What it guarantees
///
/// * It costs nothing before the stop, and no shutdown waits for it: what stderr does not take at
///   once is not shown (the last line is given 20 ms) (P15).
/// * "Ctrl-C to force quit" stands there only while it is true: the stop and the debounce are over,
///   a SIGINT would end the process (P8), and this terminal's Ctrl-C sends one to this process.
/// * What others write meanwhile, hooks for instance, is not erased and stands on lines of its own;
///   so does the terminal's `^C`. The cursor is never hidden, and no colours are used, so there is
///   nothing for `NO_COLOR` to switch off. On a forced exit the line may stay, whole, and what is
///   written next begins below it.
///
/// # Limits
///
/// Progress that the program draws itself on that terminal has to be taken away at the stop, or the
/// two draw over each other. Half a line that was written without its end is lost. Not for a
/// program that draws the whole screen.
#[derive(Clone, Copy, Debug)]
#[must_use = "it shows nothing before it is given to `ShutdownBuilder::console`"]
pub struct Console {
    /// A report that is not clean is shown whole.
    pub(crate) whole_report: bool,
}

impl Console {
    /// On stderr, so that stdout is the program's own.
    pub fn stderr() -> Self {
        Self {
            whole_report: false,
        }
    }

    /// For who would show a report that is not clean otherwise.
    pub(crate) fn with_whole_report(mut self) -> Self {
        self.whole_report = true;
        self
    }
}

/// What there is to be shown.
pub(crate) struct View {
    /// With those that are waited for.
    pub(crate) snapshot: Snapshot,
    pub(crate) next: NextInterrupt,
}

/// The console's life: from the stop to the report.
pub(crate) fn show(console: Console, events: &Receiver<Event>, look: impl Fn() -> View) {
    let mut screen = Screen::stderr(locale_is_utf8());
    let mut next = Instant::now() + QUIET;
    loop {
        match events.recv_deadline(next) {
            Ok(Event::Reported(report)) => return tell(console, &report, &mut screen),
            Ok(Event::Escalating { by }) => return screen.last(&text::forced(by)),
            Err(RecvTimeoutError::Disconnected) => return screen.clear(),
            // A thread that was kept from running finds the report behind all that came before it.
            Ok(_) if !events.is_empty() || Instant::now() < next => {}
            Ok(_) | Err(RecvTimeoutError::Timeout) => {
                let view = look();
                if view.snapshot.phase < Phase::Ended {
                    screen.show(&view);
                }
                next = Instant::now() + LOOK;
            }
        }
    }
}

fn tell(console: Console, report: &ShutdownReport, screen: &mut Screen) {
    if console.whole_report && report.outcome() != Outcome::Clean {
        screen.last_whole(&report.to_string());
    } else {
        screen.last(&text::last(report, screen.is_utf8()));
    }
}
