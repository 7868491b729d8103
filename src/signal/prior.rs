//! What a signal did before its handler was installed here, kept where a handler can read it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::reason::{MAX_SIGNAL, Signal};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Prior {
    /// Nothing was installed for it here.
    NotOurs = 0,
    Default = 1,
    Ignored = 2,
    /// Another handler, which goes on being called first (P11).
    Handler = 3,
}

pub(super) const SIGNALS: usize = MAX_SIGNAL as usize + 1;

/// The place of a signal in a table of all of them.
pub(super) fn index(signal: Signal) -> usize {
    signal.number().clamp(0, MAX_SIGNAL).unsigned_abs() as usize
}

/// As a number.
static PRIOR: [AtomicU8; SIGNALS] = [const { AtomicU8::new(Prior::NotOurs as u8) }; SIGNALS];
/// The handler that stood before ours, 0 for none, and whether it takes a `siginfo_t`.
static NEXT: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
static NEXT_TAKES_INFO: [AtomicBool; SIGNALS] = [const { AtomicBool::new(false) }; SIGNALS];

impl Prior {
    pub(crate) fn of(action: &libc::sigaction) -> Self {
        match action.sa_sigaction {
            libc::SIG_DFL => Self::Default,
            libc::SIG_IGN => Self::Ignored,
            _ => Self::Handler,
        }
    }
}

pub(crate) fn prior(signal: Signal) -> Prior {
    match PRIOR[index(signal)].load(Ordering::Acquire) {
        1 => Prior::Default,
        2 => Prior::Ignored,
        3 => Prior::Handler,
        _ => Prior::NotOurs,
    }
}

pub(crate) fn set_prior(signal: Signal, prior: Prior) {
    PRIOR[index(signal)].store(prior as u8, Ordering::Release);
}

/// P11: what goes before a handler runs on the stack and with the mask that this has asked for.
pub(super) fn keep_stack_and_mask(action: &mut libc::sigaction, before: &libc::sigaction) {
    action.sa_flags |= before.sa_flags & libc::SA_ONSTACK;
    action.sa_mask = before.sa_mask;
}

/// Its default action is to do nothing. Async-signal-safe.
pub(super) fn is_nothing_by_default(signal: Signal) -> bool {
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    let more = matches!(signal.number(), libc::SIGIO | libc::SIGINFO);
    #[cfg(not(any(target_vendor = "apple", target_os = "freebsd")))]
    let more = false;
    more || matches!(
        signal.number(),
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH
    )
}

/// The address of the handler that ours calls first, and whether it takes a `siginfo_t`.
pub(super) fn next(signal: Signal) -> Option<(usize, bool)> {
    match NEXT[index(signal)].load(Ordering::SeqCst) {
        0 => None,
        next => Some((next, NEXT_TAKES_INFO[index(signal)].load(Ordering::SeqCst))),
    }
}

/// 0 for none.
pub(super) fn set_next(signal: Signal, next: usize, takes_info: bool) {
    NEXT_TAKES_INFO[index(signal)].store(takes_info, Ordering::SeqCst);
    NEXT[index(signal)].store(next, Ordering::SeqCst);
}
