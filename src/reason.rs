//! Why a program stops: plain data, no locks.

#[cfg(feature = "serde")]
pub(crate) mod serialize;

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::error::UnknownSignal;

use crate::sender::SenderName;

/// A signal's number, with its name.
///
/// ```
/// use winddown::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::try_from(2)?, Signal::INT);
/// assert!(Signal::try_from(4711).is_err());
/// # Ok::<(), winddown::UnknownSignal>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

impl Signal {
    /// The terminal or the connection went away; many daemons read their configuration again.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Ctrl-\\.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// An abort. Cannot be handled.
    pub const ABRT: Self = Self(libc::SIGABRT);
    /// The end that cannot be handled.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// Free for the program's own use.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// Free for the program's own use.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// An invalid memory access. Cannot be handled here.
    pub const SEGV: Self = Self(libc::SIGSEGV);
    /// A write to a pipe that nobody reads.
    pub const PIPE: Self = Self(libc::SIGPIPE);
    /// The timer of `alarm(2)`.
    pub const ALRM: Self = Self(libc::SIGALRM);
    /// The polite request to end, as service managers send it.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// A child has ended or stopped.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// A stopped process goes on.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// The stop that cannot be handled.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Ctrl-Z.
    pub const TSTP: Self = Self(libc::SIGTSTP);
    /// The processor-time limit is reached.
    pub const XCPU: Self = Self(libc::SIGXCPU);

    /// The number that the system knows it by.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// For numbers that come back from the system or from a table of ours.
    pub(crate) const fn from_raw(number: i32) -> Self {
        Self(number)
    }
}

/// The largest signal number there is: Linux has 64 of them.
pub(crate) const MAX_SIGNAL: i32 = 64;

impl TryFrom<i32> for Signal {
    type Error = UnknownSignal;

    /// # Errors
    ///
    /// [`UnknownSignal`] when no signal can have that number (they are 1 to 64).
    fn try_from(number: i32) -> Result<Self, UnknownSignal> {
        if (1..=MAX_SIGNAL).contains(&number) {
            Ok(Self(number))
        } else {
            Err(UnknownSignal(number))
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_hook::low_level::signal_name(self.0) {
            Some(name) => f.pad(name),
            None => f.pad(&format!("signal {}", self.0)),
        }
    }
}

/// Who sent a signal, as far as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A process, by `kill(2)` or the like.
    #[non_exhaustive]
    Process {
        /// Its process id; 0 when it lives outside this process's pid namespace.
        pid: u32,
        /// The user it runs as.
        uid: u32,
    },
    /// The terminal: somebody pressed a key, or hung up.
    Terminal,
    /// The system did not say, or the signal was [fed](crate::ShutdownHandle::feed) by the program.
    Unknown,
}

/// A signal that arrived, and from where.
///
/// ```text
/// SIGTERM from pid 4242 (docker-init), uid 0
/// SIGINT from the terminal
/// ```
///
/// Two of them are equal when the signal and its origin are: whether the sender's name is known
/// does not count.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SignalReceived {
    /// Which one.
    pub signal: Signal,
    /// Who sent it.
    pub origin: Origin,
    sender: Option<SenderName>,
}

impl SignalReceived {
    pub(crate) fn new(signal: Signal, origin: Origin) -> Self {
        Self {
            signal,
            origin,
            sender: None,
        }
    }

    pub(crate) fn named(self, sender: Option<SenderName>) -> Self {
        Self { sender, ..self }
    }

    /// What the process that sent it calls itself: 15 bytes at most, with `?` for what is not fit
    /// to be shown, and square brackets for parentheses.
    ///
    /// `None` where the system does not say: for a sender that was gone already (a `kill` command
    /// mostly is; a shell or a service manager is not) or that this process may not look at, and on
    /// other systems than Linux. The coordinator asks as soon as its thread runs, and keeps the
    /// answer; of a signal that came later, when it is first told. A name is no proof: it is
    /// chosen by its owner, and the sender may have ended meanwhile and its pid been given to
    /// another.
    pub fn sender_name(&self) -> Option<&str> {
        self.sender.as_ref().map(SenderName::as_str)
    }
}

// P3: a reason never changes. Who has seen it before its sender's name was known, and who has seen
// it later, have seen the same.
impl PartialEq for SignalReceived {
    fn eq(&self, other: &Self) -> bool {
        self.signal == other.signal && self.origin == other.origin
    }
}

impl Eq for SignalReceived {}

impl Hash for SignalReceived {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signal.hash(state);
        self.origin.hash(state);
    }
}

impl fmt::Display for SignalReceived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = self.signal;
        match (self.origin, self.sender_name()) {
            (Origin::Process { pid: 0, uid }, _) => {
                write!(f, "{signal} from outside the pid namespace, uid {uid}")
            }
            (Origin::Process { pid, uid }, Some(name)) => {
                write!(f, "{signal} from pid {pid} ({name}), uid {uid}")
            }
            (Origin::Process { pid, uid }, None) => {
                write!(f, "{signal} from pid {pid}, uid {uid}")
            }
            (Origin::Terminal, _) => write!(f, "{signal} from the terminal"),
            (Origin::Unknown, _) => signal.fmt(f),
        }
    }
}

/// Why the program stops. The first reason wins (P3); the later ones are in the report.
///
/// ```
/// use winddown::StopReason;
///
/// let reason = StopReason::from("the disk is full");
/// assert_eq!(reason.to_string(), "requested: the disk is full");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// A signal arrived.
    Signal(SignalReceived),
    /// The program asked, in its own words.
    Requested(Cow<'static, str>),
    /// The work is done.
    Completed,
    /// All partitions of a [stream](crate::EndOfStream) have ended, and nothing of them was in
    /// flight.
    EndOfStream,
    /// The program's main function returned an error.
    #[non_exhaustive]
    Failed {
        /// The error, as text.
        error: String,
    },
    /// The program's main function panicked.
    #[non_exhaustive]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The coordinator was dropped: an early return, a `?`.
    Dropped,
    /// A task returned an error.
    #[non_exhaustive]
    TaskFailed {
        /// The task's name.
        task: String,
        /// The error, as text.
        error: String,
    },
    /// A task panicked.
    #[non_exhaustive]
    TaskPanicked {
        /// The task's name.
        task: String,
        /// What the panic said.
        message: String,
    },
    /// A vital task ended.
    #[non_exhaustive]
    TaskEnded {
        /// The task's name.
        task: String,
    },
    /// A member of a ledger could not renew its heartbeat, or was taken for dead: others may do its
    /// work now.
    #[non_exhaustive]
    Fenced {
        /// The member's name.
        member: String,
    },
}

impl StopReason {
    /// The signal, where it was one.
    pub fn signal(&self) -> Option<Signal> {
        match self {
            Self::Signal(received) => Some(received.signal),
            _ => None,
        }
    }

    /// Something went wrong: an error or a panic, of the program or of a task, or a member that
    /// counts as dead.
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. } | Self::TaskFailed { .. } | Self::Fenced { .. }
        ) || self.is_panic()
    }

    /// A task failed or panicked.
    pub(crate) fn is_of_a_failed_task(&self) -> bool {
        matches!(self, Self::TaskFailed { .. } | Self::TaskPanicked { .. })
    }

    /// A panic, of the program or of a task.
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked { .. } | Self::TaskPanicked { .. })
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(received) => received.fmt(f),
            Self::Requested(what) => write!(f, "requested: {what}"),
            Self::Completed => f.write_str("completed"),
            Self::EndOfStream => f.write_str("end of stream"),
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::Dropped => f.write_str("the coordinator was dropped"),
            Self::TaskFailed { task, error } => write!(f, "task {task} failed: {error}"),
            Self::TaskPanicked { task, message } => write!(f, "task {task} panicked: {message}"),
            Self::TaskEnded { task } => write!(f, "task {task} ended"),
            Self::Fenced { member } => write!(f, "member {member} counts as dead"),
        }
    }
}

impl From<&'static str> for StopReason {
    fn from(what: &'static str) -> Self {
        Self::Requested(Cow::Borrowed(what))
    }
}

impl From<String> for StopReason {
    fn from(what: String) -> Self {
        Self::Requested(Cow::Owned(what))
    }
}

/// Why an item is handed back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interruption {
    /// The time for draining was over before the work was done. It may still be running.
    OutOfTime,
    /// The program had stopped before the work began.
    Stopping,
    /// The work [failed](crate::Item::fail), with this error.
    Failed(String),
    /// The commit returned an error.
    CommitFailed,
    /// The work or the commit panicked.
    Panicked,
    /// The item was dropped without a verdict.
    Dropped,
}

impl Interruption {
    /// The work itself went wrong: it failed, its commit did, or it panicked. What is merely out of
    /// time, or came too late, has nothing to be blamed for, and counts best apart; a drop may be
    /// either, and does not count here.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::CommitFailed | Self::Panicked)
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfTime => f.write_str("out of time"),
            Self::Stopping => f.write_str("the program is stopping"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::CommitFailed => f.write_str("the commit failed"),
            Self::Panicked => f.write_str("panicked"),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

/// The reasons that came after the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Later {
    /// The first of them, in order.
    pub(crate) kept: Vec<StopReason>,
    /// When each of these came, counted from the stop.
    pub(crate) at: Vec<Duration>,
    pub(crate) more: usize,
    /// Whether any of them, kept or not, was a failure, or a panic: the exit status depends on it.
    pub(crate) failed: bool,
    pub(crate) panicked: bool,
}

impl Later {
    /// Each with its time.
    pub(crate) fn timed(&self) -> impl Iterator<Item = (Duration, &StopReason)> {
        let at = |index| self.at.get(index).copied().unwrap_or_default();
        self.kept
            .iter()
            .enumerate()
            .map(move |(index, reason)| (at(index), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_name_does_not_make_another_reason_of_it() {
        let origin = Origin::Process { pid: 7, uid: 0 };
        let before = SignalReceived::new(Signal::TERM, origin);
        let after = before.named(SenderName::cleaned(b"docker-init"));
        assert_eq!(before.to_string(), "SIGTERM from pid 7, uid 0");
        assert_eq!(after.to_string(), "SIGTERM from pid 7 (docker-init), uid 0");
        assert_eq!(before, after);
        assert_eq!(HashSet::from([before, after]).len(), 1);
        assert_ne!(before, SignalReceived::new(Signal::INT, origin));
        assert_ne!(before, SignalReceived::new(Signal::TERM, Origin::Unknown));
    }
}
