//! The report: made once, told to whoever wanted to hear it, and shared (P18).

use std::borrow::Cow;
use std::task::Waker;
use std::time::Duration;

use crate::clock::Tick;
use crate::event::Event;
use crate::inside;
use crate::panic::contained;
use crate::phase::Phase;
use crate::report::{DrainOutcome, DrainReport, Holder, Inner, ShutdownReport};
use crate::shutdown::aside::discard;
use crate::shutdown::teller::Teller;
use crate::shutdown::{Aside, Core, LastWords, aside, stages};
use crate::signal::Ears;
use crate::slab::Taken;
use crate::sync::Ordering;
use crate::token::{self, Life, SLICE, after};

/// With time to spare they get no more than this: the program wants to end.
const LAST_WORDS_AT_MOST: Duration = Duration::from_secs(1);

impl Core {
    /// The owner has come back: waits for the report, and makes it itself where the runner cannot
    /// (P15).
    ///
    /// Inside user code of this coordinator, and in a forked child, it returns what has happened so
    /// far (P17).
    pub(crate) fn finish(&self) -> ShutdownReport {
        if !self.comes_back() {
            return self.so_far();
        }
        self.work.own.holders.poke();
        let mut progress = self.progress.lock();
        loop {
            if let Some(report) = &progress.report {
                return report.clone();
            }
            if self.node.stop_tick().is_none() {
                self.changed.wait(&mut progress);
                continue;
            }
            let (_, deadline) = self.span();
            let left = (deadline + after::PATIENCE).since(self.node.now());
            if left.is_zero() && !progress.concluding {
                break;
            }
            self.changed
                .wait_for(&mut progress, left.clamp(Duration::from_millis(1), SLICE));
        }
        drop(progress);
        self.conclude_without_the_runner()
    }

    /// False: this is not the owner, but user code of this coordinator, or a forked child (P17).
    pub(crate) fn comes_back(&self) -> bool {
        if inside::is_inside(self.id) || !self.signals.is_ours() {
            return false;
        }
        if !self.signals.owner.come_back() {
            park_for_ever();
        }
        true
    }

    fn conclude_without_the_runner(&self) -> ShutdownReport {
        let left = self.hooks.close_now();
        if !left.is_empty() {
            // As the runner does: before the closures that are on the stack's remains are dropped.
            self.signals.run_emergency_hooks(after::EMERGENCY);
        }
        discard(self.id, left);
        self.skip_last_steps();
        stages::stop_without_a_turn(self);
        self.conclude(true, None)
    }

    /// For an owner that awaits it: makes the report where the time is over and nobody makes it
    /// (P15). `None`: it is not overdue.
    pub(super) fn conclude_overdue(&self) -> Option<ShutdownReport> {
        let (_, deadline) = self.span();
        if self.node.now() < deadline + after::PATIENCE || self.progress.lock().concluding {
            return None;
        }
        Some(self.conclude_without_the_runner())
    }

    /// Makes the report final, and tells it. If somebody else does so already, waits for theirs.
    ///
    /// `timed_out`: the owner did not come back for the drain, or hooks were left without time.
    pub(crate) fn conclude(&self, timed_out: bool, teller: Option<Teller>) -> ShutdownReport {
        let words = {
            let mut progress = self.progress.lock();
            while progress.concluding {
                if let Some(report) = &progress.report {
                    return report.clone();
                }
                self.changed.wait(&mut progress);
            }
            progress.concluding = true;
            std::mem::take(&mut progress.last_words)
        };
        let report = self.make(Some(timed_out));
        // P8: ended and forced are one decision. What has been forced is told to nobody.
        if !self.node.advance(Life::Stopped, Life::Ended) {
            park_for_ever();
        }
        // P17: for those who are told, and ask.
        self.progress.lock().made = Some(report.clone());
        // One limit for everybody who is told (P15).
        let until = Tick::now() + self.time_for_last_words();
        self.systemd.ended(self, &report);
        let aloud = self.speak(words, &report);
        self.bus.emit(|| Event::PhaseChanged(Phase::Ended));
        self.bus.close(Event::Reported(report.clone()));
        let is_runner = teller.is_some();
        if let Some(teller) = teller {
            teller.finish(until);
        }
        if let Ok(Some(aloud)) = &aloud {
            aloud.wait(until.since(Tick::now()));
        }
        self.wait_until_shown(until.since(Tick::now()));
        self.signals.reported.store(true, Ordering::Release);
        let mut progress = self.progress.lock();
        progress.report = Some(report.clone());
        // Whoever came while the others were being told.
        let words = std::mem::take(&mut progress.last_words);
        let wakers = progress.wakers.take_any();
        drop(progress);
        self.changed.notify_all();
        if let Some(wakers) = wakers {
            self.wake(wakers, is_runner);
        }
        // The watchdog looks whether its work is done.
        self.signals.bell.ring(Ears::LISTENER);
        let late = self.speak(words, &report);
        if let Ok(Some(late)) = &late {
            late.wait(until.since(Tick::now()));
        }
        // Where no thread could be had, the runner says it itself, now that nobody waits for it any
        // more. (An owner that had to make the report itself does not: it could be kept for ever.)
        for tell in [aloud.err(), late.err()].into_iter().flatten() {
            if is_runner {
                self.away(tell);
            } else {
                std::mem::forget(tell);
            }
        }
        report
    }

    /// Wakes the futures. A waker is user code, which nobody who is needed waits for; but a future
    /// that is not woken never comes.
    fn wake(&self, wakers: Taken<Waker>, is_runner: bool) {
        let wake = move || token::wake(wakers);
        if let Err(wake) = aside::start("winddown-wake", wake) {
            if is_runner {
                self.away(wake);
            } else {
                wake();
            }
        }
    }

    /// How long those who are told the report may take.
    pub(crate) fn time_for_last_words(&self) -> Duration {
        let (_, deadline) = self.span();
        deadline
            .since(self.node.now())
            .clamp(after::LAST_WORDS, LAST_WORDS_AT_MOST)
    }

    /// Tells the report, on a thread of its own. Where none can be had, what is to be called comes
    /// back.
    fn speak(
        &self,
        words: Vec<LastWords>,
        report: &ShutdownReport,
    ) -> Result<Option<Aside>, impl FnOnce() + Send + 'static> {
        let (id, report, nothing) = (self.id, report.clone(), words.is_empty());
        let tell = move || {
            let _inside = inside::enter(id);
            for word in words {
                contained(|| word(&report));
            }
        };
        if nothing {
            return Ok(None);
        }
        Aside::start("winddown-report", tell).map(Some)
    }

    /// `f` is told the report when it is made; at once, on this thread, if it has been.
    pub(crate) fn on_report(&self, f: LastWords) {
        let report = {
            let mut progress = self.progress.lock();
            match &progress.report {
                None => {
                    progress.last_words.push(f);
                    return;
                }
                Some(report) => report.clone(),
            }
        };
        let _inside = inside::enter(self.id);
        contained(|| f(&report));
    }

    /// The owner goes. True: the report has been made; otherwise the runner lets go of the work.
    pub(crate) fn owner_goes(&self) -> bool {
        let mut progress = self.progress.lock();
        progress.owner_gone = progress.report.is_none();
        !progress.owner_gone
    }

    /// The owner has gone, from inside, before there was a report.
    pub(crate) fn has_owner_gone(&self) -> bool {
        self.progress.lock().owner_gone
    }

    /// What has happened so far; the final report, where there is one.
    pub(super) fn so_far(&self) -> ShutdownReport {
        let made = self.progress.lock().made.clone();
        made.unwrap_or_else(|| self.make(None))
    }

    /// With `timed_out` it is final.
    fn make(&self, timed_out: Option<bool>) -> ShutdownReport {
        let is_final = timed_out.is_some();
        let word = self.node.word();
        let later = self
            .node
            .ending()
            .map(|ending| ending.deliveries.later(word))
            .unwrap_or_default();
        let hooks = self.hooks.reports(is_final);
        let (stop, _) = self.span();
        let mut drained = self.work.reports(is_final);
        // After all rows, so that none ends later than the whole.
        let took = self.node.now().since(stop);
        let mut left = |name: Cow<'static, str>, holder| {
            drained.push(DrainReport {
                name,
                holder,
                outcome: DrainOutcome::Abandoned,
                started: Duration::ZERO,
                took,
                location: self.location,
                stage: None,
            });
        };
        if is_final {
            if !self.signals.owner.is_here() {
                left(self.owner.clone(), Holder::Owner);
            }
            if self.is_calling_on_stop() {
                left(Cow::Borrowed("on_stop closures"), Holder::OnStop);
            }
        }
        ShutdownReport::new(Inner {
            reason: self.node.known_reason(),
            later,
            is_final,
            cut_short: !is_final && self.signals.is_ours(),
            timed_out: timed_out.unwrap_or(false),
            hooks,
            drained,
            handed_back: self.work.handed_back(),
            took,
            policy: self.settings.signals.exit_policy,
            exit_within: self
                .settings
                .signals
                .exit_on_timeout
                .then(|| (self.settings.grace.saturating_sub(took)).max(LAST_WORDS_AT_MOST)),
        })
    }
}

/// The process is being ended by somebody else, and this thread has nothing to say any more.
fn park_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}
