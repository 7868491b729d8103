//! With which status a program ends: plain data, decided by a pure function.

use crate::reason::Signal;

/// One way to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitBy {
    /// With this exit code.
    Code(u8),
    /// With 128 + the number of the signal that asked for the stop. Where there was none, as if
    /// clean or failed.
    SignalCode,
    /// By dying of the signal that asked for the stop, so that a shell sees it: a `for` loop ends
    /// with its program. As PID 1, where the system does not let a process die by a signal, with
    /// 128 + its number.
    Signal,
}

/// With which status the program ends; the first row that applies.
///
/// | row | default |
/// |---|---|
/// | forced by a second signal | 128 + its number; of SIGINT it dies |
/// | stopped by SIGINT | dies by SIGINT |
/// | stopped by another signal | none: the rows below |
/// | timed out | 124, as `timeout(1)` |
/// | a panic of the program or a task | 101 |
/// | an error, a failed hook, task or hand-back, an undecided item, something aborted or abandoned | 1 |
/// | clean | 0 |
///
/// ```
/// use winddown::{ExitBy, ExitPolicy};
///
/// // A run that was cut short is not a complete one.
/// let policy = ExitPolicy::default().signalled(ExitBy::Code(75));
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitPolicy {
    forced: ExitBy,
    interrupted: Option<ExitBy>,
    signalled: Option<ExitBy>,
    timed_out: ExitBy,
    panicked: ExitBy,
    failed: ExitBy,
    clean: ExitBy,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Code(u8),
    Signal(Signal),
}

impl Death {
    /// What a parent that only looks at codes sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal_code(signal),
        }
    }
}

/// What is known at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The signal that asked for the stop.
    pub(crate) signal: Option<Signal>,
    pub(crate) timed_out: bool,
    pub(crate) panicked: bool,
    pub(crate) failed: bool,
}

impl Default for ExitPolicy {
    fn default() -> Self {
        Self {
            forced: ExitBy::SignalCode,
            interrupted: Some(ExitBy::Signal),
            signalled: None,
            timed_out: ExitBy::Code(124),
            panicked: ExitBy::Code(101),
            failed: ExitBy::Code(1),
            clean: ExitBy::Code(0),
        }
    }
}

impl ExitPolicy {
    /// Every stop by a signal ends with 128 + its number; the rest is the default.
    pub fn signal_code() -> Self {
        Self {
            interrupted: Some(ExitBy::SignalCode),
            signalled: Some(ExitBy::SignalCode),
            ..Self::default()
        }
    }

    /// Every stop by a signal dies by that signal, also when forced; the rest is the default.
    pub fn reraise() -> Self {
        Self {
            forced: ExitBy::Signal,
            interrupted: Some(ExitBy::Signal),
            signalled: Some(ExitBy::Signal),
            ..Self::default()
        }
    }

    /// A stop by a signal is no special ending, SIGINT neither: 0 when clean. For services.
    pub fn zero() -> Self {
        Self {
            interrupted: None,
            ..Self::default()
        }
    }

    /// Forced by a second signal. A code of 0 would be a lie and is taken as [`ExitBy::SignalCode`]
    /// (P8).
    pub fn forced(mut self, by: ExitBy) -> Self {
        self.forced = if by == ExitBy::Code(0) {
            ExitBy::SignalCode
        } else {
            by
        };
        self
    }

    /// Stopped by SIGINT.
    pub fn interrupted(mut self, by: ExitBy) -> Self {
        self.interrupted = Some(by);
        self
    }

    /// Stopped by a signal other than SIGINT.
    pub fn signalled(mut self, by: ExitBy) -> Self {
        self.signalled = Some(by);
        self
    }

    /// The owner did not come back, or hooks were left without time. (A hold or task that was
    /// abandoned while the rest ended in time is a [failure](Self::failed).)
    pub fn timed_out(mut self, by: ExitBy) -> Self {
        self.timed_out = by;
        self
    }

    /// The program or a task panicked.
    pub fn panicked(mut self, by: ExitBy) -> Self {
        self.panicked = by;
        self
    }

    /// An error, a failed hook, task or hand-back, an undecided item, something aborted or
    /// abandoned.
    pub fn failed(mut self, by: ExitBy) -> Self {
        self.failed = by;
        self
    }

    /// None of the other rows.
    pub fn clean(mut self, by: ExitBy) -> Self {
        self.clean = by;
        self
    }

    /// Async-signal-safe.
    pub(crate) fn forced_by(&self, signal: Signal) -> Death {
        match self.forced {
            // A shell's loop must end with the program that was interrupted, twice over: 130 would
            // let it go on.
            ExitBy::SignalCode
                if signal == Signal::INT && self.interrupted == Some(ExitBy::Signal) =>
            {
                Death::Signal(signal)
            }
            by => by.death(Some(signal)).unwrap_or(Death::Code(1)),
        }
    }

    pub(crate) fn decide(&self, facts: Facts) -> Death {
        let by_signal = facts.signal.and_then(|signal| {
            let row = if signal == Signal::INT {
                self.interrupted
            } else {
                self.signalled
            };
            row?.death(Some(signal))
        });
        let row = |applies: bool, by: ExitBy| applies.then(|| by.death(facts.signal)).flatten();
        by_signal
            .or_else(|| row(facts.timed_out, self.timed_out))
            .or_else(|| row(facts.panicked, self.panicked))
            .or_else(|| row(facts.failed, self.failed))
            .or_else(|| {
                row(
                    !(facts.timed_out || facts.panicked || facts.failed),
                    self.clean,
                )
            })
            // A row that wanted a signal where there was none.
            .unwrap_or(Death::Code(u8::from(
                facts.timed_out || facts.panicked || facts.failed,
            )))
    }
}

impl ExitBy {
    fn death(self, signal: Option<Signal>) -> Option<Death> {
        match (self, signal) {
            (Self::Code(code), _) => Some(Death::Code(code)),
            (Self::SignalCode, Some(signal)) => Some(Death::Code(signal_code(signal))),
            (Self::Signal, Some(signal)) => Some(Death::Signal(signal)),
            _ => None,
        }
    }
}

/// What a shell reports for a death by `signal`.
pub(crate) fn signal_code(signal: Signal) -> u8 {
    // Signals are 1 to 64: at most 192.
    u8::try_from(128 + signal.number()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Facts = Facts {
        signal: None,
        timed_out: false,
        panicked: false,
        failed: false,
    };

    #[test]
    fn the_first_row_that_applies() {
        let policy = ExitPolicy::default();
        assert_eq!(policy.decide(CLEAN), Death::Code(0));
        let term = Facts {
            signal: Some(Signal::TERM),
            ..CLEAN
        };
        assert_eq!(policy.decide(term), Death::Code(0));
        assert_eq!(
            policy.decide(Facts {
                failed: true,
                ..term
            }),
            Death::Code(1)
        );
        let all = Facts {
            signal: Some(Signal::INT),
            timed_out: true,
            panicked: true,
            failed: true,
        };
        assert_eq!(policy.decide(all), Death::Signal(Signal::INT));
        assert_eq!(ExitPolicy::zero().decide(all), Death::Code(124));
        let panicked = Facts {
            panicked: true,
            ..CLEAN
        };
        assert_eq!(policy.decide(panicked), Death::Code(101));
        assert_eq!(ExitPolicy::signal_code().decide(term), Death::Code(143));
        assert_eq!(
            ExitPolicy::reraise().decide(term),
            Death::Signal(Signal::TERM)
        );
    }

    #[test]
    fn forced_is_never_zero() {
        let policy = ExitPolicy::default().forced(ExitBy::Code(0));
        assert_eq!(policy.forced_by(Signal::TERM), Death::Code(143));
        assert_eq!(
            ExitPolicy::default().forced_by(Signal::INT),
            Death::Signal(Signal::INT)
        );
        assert_eq!(
            ExitPolicy::signal_code().forced_by(Signal::INT),
            Death::Code(130)
        );
    }

    #[test]
    fn a_row_without_its_signal_falls_back() {
        let policy = ExitPolicy::default()
            .failed(ExitBy::SignalCode)
            .clean(ExitBy::Signal);
        assert_eq!(policy.decide(CLEAN), Death::Code(0));
        assert_eq!(
            policy.decide(Facts {
                failed: true,
                ..CLEAN
            }),
            Death::Code(1)
        );
    }
}
