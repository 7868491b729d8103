//! What a delivered signal does, as a plain function of the state, the signal and the time.
//!
//! Everything here is lock-free and allocates nothing (P12): the handler calls it, and so may any
//! thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::exit_policy::{Death, ExitPolicy, Facts};
use crate::process::Process;
use crate::reason::{Origin, Signal};
use crate::signal::bell::{Bell, Ears};
use crate::signal::emergency_line::EmergencyLine;
use crate::signal::exit;
use crate::signal::handler;
use crate::signal::owner::OwnerWord;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::token::{By, Life, Node, Word};

/// What a further signal does, once the first has asked for the stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Escalation {
    /// The second signal ends the process, whatever it is doing (P8). Deliveries within the
    /// debounce window count as one.
    #[default]
    SecondSignal,
    /// Further signals are noted in the report and do nothing else, but for the one that ends a
    /// [linger](crate::ShutdownBuilder::linger): also after the end, for as long as the coordinator
    /// lives. The grace period still holds.
    Never,
}

/// All emergency hooks together may take this long on the forced path.
pub(crate) const EMERGENCY_BUDGET: Duration = Duration::from_millis(250);

/// A key press that arrives twice must not cut the emergency hooks short that it has started
/// itself.
const FORCED_TWICE: Duration = Duration::from_millis(50);

/// What a delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It made the program stop: wake everybody.
    Stop,
    /// It announced the stop, which comes when the linger is over: wake whoever sees to that.
    Linger,
    /// It belongs to a request that was made already, or changes nothing.
    Noted,
    /// It is the one that ends the process.
    Force,
    /// The process is being ended already: no more waiting.
    AtOnce,
    /// The shutdown is over: the signal does what it would do without it.
    AsBefore,
}

/// How signals are answered; fixed at the installation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignalSettings {
    pub(crate) debounce: Duration,
    /// How long readiness is withdrawn before the stop; zero for not at all.
    pub(crate) linger: Duration,
    pub(crate) escalation: Escalation,
    pub(crate) exit_policy: ExitPolicy,
    /// The watchdog ends the process when the grace period is over.
    pub(crate) exit_on_timeout: bool,
}

impl SignalSettings {
    /// Who presses a key is there, and wants it to end: only what service managers send announces
    /// the stop first.
    fn lingers_at(&self, signal: Signal) -> bool {
        !self.linger.is_zero() && !matches!(signal, Signal::INT | Signal::QUIT)
    }
}

/// What the handler, the listener and the runner share.
pub(crate) struct SignalState {
    pub(crate) node: Arc<Node>,
    pub(crate) settings: SignalSettings,
    /// The process it belongs to: a forked child has a copy that is none of its business (P10).
    process: Process,
    /// The signals this coordinator answers to, a bit each.
    pub(crate) answered: AtomicU64,
    /// Wakes the threads of the coordinator.
    pub(crate) bell: Bell,
    pub(crate) emergency: EmergencyLine,
    pub(crate) owner: OwnerWord,
    /// The handlers stand.
    pub(crate) installed: AtomicBool,
    /// The report has been told, and is there for whoever asks.
    pub(crate) reported: AtomicBool,
    /// The coordinator is gone: the listener may go too.
    pub(crate) released: AtomicBool,
    forced_at: AtomicU64,
    /// The polite signal that has stopped nothing, and its record; see [`Unheard`].
    unheard: AtomicUsize,
}

/// A signal that came after the stop, as the one that may be polite. If the report was made
/// already, nobody knows of it: while the last readers are being told, it must not cut them off.
struct Unheard;

impl Unheard {
    const NONE: usize = 0;

    fn of(signal: Signal, record: usize) -> usize {
        record << 8 | (signal.number().unsigned_abs() & 0xff) as usize
    }

    fn read(bits: usize) -> Option<(Signal, usize)> {
        let number = i32::try_from(bits & 0xff).ok()?;
        (bits != Self::NONE).then(|| (Signal::from_raw(number), bits >> 8))
    }
}

impl SignalState {
    /// # Errors
    ///
    /// What the system says where it has nothing to wake a thread with.
    pub(crate) fn new(node: Arc<Node>, settings: SignalSettings) -> io::Result<Self> {
        Ok(Self {
            node,
            settings,
            process: Process::this(),
            answered: AtomicU64::new(0),
            bell: Bell::new()?,
            emergency: EmergencyLine::new(),
            owner: OwnerWord::default(),
            installed: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            released: AtomicBool::new(false),
            forced_at: AtomicU64::new(0),
            unheard: AtomicUsize::new(Unheard::NONE),
        })
    }

    /// This is the process that installed it, not a forked child.
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_this()
    }

    pub(crate) fn answers_to(&self, signal: Signal) -> bool {
        self.answered.load(Ordering::Acquire) & bit(signal) != 0
    }

    /// Takes a delivery in, does what it asks for, and does not come back when that is the end.
    /// False: it is not for us any more.
    ///
    /// Async-signal-safe; this is the whole handler, and the whole of `feed`.
    pub(crate) fn take(&self, signal: Signal, origin: Origin) -> bool {
        match self.judge(signal, origin, Tick::now()) {
            Answer::Stop | Answer::Linger => self.ring(),
            Answer::Noted => {}
            // This very thread is in an emergency hook, which cannot go on before the handler has
            // returned: so that the terminal is put back, the listener waits for it instead.
            Answer::Force if self.emergency.is_busy_here() => {
                self.emergency.pass_on(signal);
                self.bell.ring(Ears::LISTENER);
            }
            Answer::Force => self.end_by_force(signal),
            Answer::AtOnce => self.die(signal),
            Answer::AsBefore => return false,
        }
        true
    }

    /// Decides what a delivery is. Two deliveries never both stop, and never both force.
    pub(crate) fn judge(&self, signal: Signal, origin: Origin, now: Tick) -> Answer {
        let Some(ending) = self.node.ending() else {
            return Answer::Noted;
        };
        let record = ending.deliveries.record(signal, origin, now);
        let polite = ending.deliveries.be_polite(now);
        self.answer(signal, now, record, polite)
    }

    fn is_over(&self) -> bool {
        self.node.word().life() == Life::Ended && self.reported.load(Ordering::Acquire)
    }

    /// The second step of `judge`; another handler may have run since the first. `polite` says that
    /// this is the first signal, or when that was.
    fn answer(&self, signal: Signal, now: Tick, record: usize, polite: Result<(), Tick>) -> Answer {
        let Some(ending) = self.node.ending() else {
            return Answer::Noted;
        };
        // P10: nobody is there any more, though `feed` may still come here.
        if self.released.load(Ordering::Acquire) && self.is_over() {
            return Answer::AsBefore;
        }
        let lingers = self.settings.lingers_at(signal);
        let (life, answer) = if lingers {
            (Life::Lingering, Answer::Linger)
        } else {
            (Life::Stopped, Answer::Stop)
        };
        // P6 holds for nested handlers too: the one inside may find the polite one claimed and the
        // token not yet stopped by the one it interrupted, which cannot go on before this one
        // returns. So whoever comes first stops it.
        if self.node.stop_by_signal(life, signal, record, now) {
            return answer;
        }
        let first = match polite {
            // The one that came in between lingers, which this one would not have.
            Ok(()) if !lingers && self.end_the_linger() => return Answer::Stop,
            // Escalation counts signals, not stops: after a programmatic stop the first signal is
            // still the polite one (P8). After the end there is nothing left to be polite about,
            // but not before those who are told of it have been told: its old effect would cut
            // them off.
            Ok(()) if self.is_over() => return Answer::AsBefore,
            Ok(()) => {
                let bits = Unheard::of(signal, record);
                self.unheard.store(bits, Ordering::Release);
                // With the fence in `take_unheard`: either this sees that all have been told, or
                // whoever takes the coordinator away sees the signal, or both do.
                fence(Ordering::SeqCst);
                if self.is_over() && self.take_unheard().is_some() {
                    return Answer::AsBefore;
                }
                return Answer::Noted;
            }
            Err(first) => first,
        };
        if self.node.word().life() == Life::Lingering {
            // P7: the same request, which has said how long to linger.
            if now.since(first) < self.settings.debounce {
                return Answer::Noted;
            }
            // From here on it is this one that debounce and escalation count from: so before the
            // stop, or a handler in between would take the one after it for a second request.
            let insists = ending.deliveries.insist(now);
            if self.end_the_linger() {
                return Answer::Stop;
            }
            // Stopped meanwhile, by whoever it was.
            if insists {
                return Answer::Noted;
            }
        }
        let first = ending.deliveries.insisted().unwrap_or(first);
        if self.node.word().life() < Life::Forced {
            // P7.
            if now.since(first) < self.settings.debounce
                || self.settings.escalation == Escalation::Never
            {
                return Answer::Noted;
            }
            let nanos = now.nanos().max(1);
            let _ = self
                .forced_at
                .compare_exchange(0, nanos, Ordering::AcqRel, Ordering::Acquire);
            if self.node.advance(Life::Stopped, Life::Forced) {
                return Answer::Force;
            }
        }
        let forced = Tick::from_nanos(self.forced_at.load(Ordering::Acquire));
        if now.since(forced) < FORCED_TWICE.min(self.settings.debounce) {
            Answer::Noted
        } else {
            Answer::AtOnce
        }
    }

    /// The signal that no report tells of, once: when all have been told, it has the effect that it
    /// would have had then (P10). Async-signal-safe.
    pub(crate) fn take_unheard(&self) -> Option<Signal> {
        fence(Ordering::SeqCst);
        let bits = self.unheard.swap(Unheard::NONE, Ordering::AcqRel);
        let (signal, record) = Unheard::read(bits)?;
        let told = self.node.ending()?.deliveries.is_told(record);
        (!told).then_some(signal)
    }

    /// True: this call did it, and so stopped the token. Async-signal-safe.
    pub(crate) fn end_the_linger(&self) -> bool {
        self.node.advance(Life::Lingering, Life::Stopped)
    }

    /// The time is over: the process is ended where it stands still at `word`. True: this call has
    /// decided it. An owner that has the report already is not taken along.
    pub(crate) fn give_up_on(&self, word: Word) -> bool {
        (word.life() != Life::Ended || self.owner.give_up()) && self.node.force(word)
    }

    /// Whether a signal that is delivered at `now` would be the one that forces the shutdown to
    /// end, without delivering it.
    #[cfg(feature = "console")]
    pub(crate) fn would_force(&self, now: Tick) -> bool {
        // After a programmatic stop there is none yet, and the next is still the polite one.
        let first = self
            .node
            .ending()
            .and_then(|ending| ending.deliveries.first());
        self.settings.escalation == Escalation::SecondSignal
            && self.node.word().life() == Life::Stopped
            && first.is_some_and(|first| now.since(first) >= self.settings.debounce)
    }

    /// Wakes the two threads that wait for a stop. Async-signal-safe.
    pub(crate) fn ring(&self) {
        self.bell.ring(Ears::OF_A_STOP);
    }

    /// Lets the emergency hooks run, on their own thread, for as long as `budget` allows.
    /// Async-signal-safe.
    pub(crate) fn run_emergency_hooks(&self, budget: Duration) {
        if !self.emergency.is_armed() {
            return;
        }
        let deadline = Tick::now() + budget;
        self.emergency.call(deadline);
        self.bell.ring(Ears::EMERGENCY);
        while !self.emergency.is_done() && Tick::now() < deadline {
            handler::pause_a_millisecond();
        }
    }

    fn end_by_force(&self, signal: Signal) -> ! {
        self.run_emergency_hooks(EMERGENCY_BUDGET);
        self.die(signal)
    }

    /// The listener's part of a second signal.
    pub(crate) fn end_what_was_passed_on(&self) {
        if let Some(signal) = self.emergency.passed_on() {
            self.end_by_force(signal);
        }
    }

    /// The second signal's way out.
    fn die(&self, signal: Signal) -> ! {
        exit::now(self.settings.exit_policy.forced_by(signal))
    }

    /// The watchdog's way out: everything that decides it is in one word.
    pub(crate) fn death_by_timeout(&self) -> Death {
        let word = self.node.word();
        self.settings.exit_policy.decide(Facts {
            signal: (word.by() == By::Signal).then(|| word.signal()),
            timed_out: true,
            panicked: false,
            failed: false,
        })
    }
}

/// The place of a signal in a set of them.
pub(crate) fn bit(signal: Signal) -> u64 {
    1 << (signal.number() - 1).clamp(0, 63)
}

#[cfg(test)]
mod tests;
