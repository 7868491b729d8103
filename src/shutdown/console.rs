//! The place in the sequence of whoever shows it: the console, on a thread that is started at the
//! stop, not before (P23), or else whoever shows the report alone. The end waits for it as for
//! everybody who is told the report, no longer (P15).

use std::time::Duration;

use crate::shutdown::{Aside, Core};
#[cfg(feature = "console")]
use {
    crate::clock::Tick,
    crate::console::{self, NextInterrupt, View},
    crate::reason::Signal,
    crate::signal::install,
    crate::signal::mask::Blocked,
    std::sync::Arc,
};

#[cfg(feature = "console")]
impl Core {
    /// Shows the shutdown from here on, where that is wanted and there is a thread for it.
    pub(super) fn start_console(self: &Arc<Self>) {
        let Some(settings) = self.settings.console else {
            return;
        };
        // Bounded: a console that is stuck gathers nothing, and the last event has room all the
        // same.
        let events = self.bus.subscribe();
        let core = Arc::clone(self);
        let show = move || {
            // In the background of a terminal that stops whoever writes there, this is not to stop.
            let _blocked = Blocked::all();
            console::show(settings, &events, || core.view());
        };
        if let Ok(console) = Aside::start("winddown-console", show) {
            let _ = self.shown.set(console);
        }
    }

    fn view(&self) -> View {
        View {
            // Where its threads are blocked is nobody's concern here.
            snapshot: self.snapshot_with(0).waited_for(),
            next: self.next_interrupt(),
        }
    }

    /// Nothing is said of a signal that is not ours, or whose handler has been replaced (P11).
    fn next_interrupt(&self) -> NextInterrupt {
        let forces = self.signals.would_force(Tick::now())
            && self.signals.answers_to(Signal::INT)
            && install::is_installed(&self.signals);
        let has_seen_one = || {
            let ending = self.node.ending();
            ending.is_some_and(|ending| ending.deliveries.has_seen(Signal::INT))
        };
        if forces {
            NextInterrupt::Forces {
                again: has_seen_one(),
            }
        } else {
            NextInterrupt::Unknown
        }
    }
}

#[cfg(not(feature = "console"))]
impl Core {
    #[expect(clippy::unused_self, reason = "the same with the feature")]
    pub(super) fn start_console(&self) {}
}

impl Core {
    /// The report is shown somewhere, or will be: nobody else need do it.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown.get().is_some()
    }

    /// `aside` shows the report, as there is no console: it is to be waited for as that is.
    pub(crate) fn shows_the_report(&self, aside: Aside) {
        let _ = self.shown.set(aside);
    }

    /// Waits until the report has been shown, but no longer than `limit`.
    pub(crate) fn wait_until_shown(&self, limit: Duration) {
        if let Some(shown) = self.shown.get() {
            shown.wait(limit);
        }
    }
}
