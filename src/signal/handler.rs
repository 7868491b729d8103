//! The handler, and everything else that talks to the system directly: the only `unsafe` code of the crate.
//!
//! 1. `CURRENT` points to the state of the one coordinator with signals, or is null. Only `install` and `release` write it.
//! 2. A handler adds one to `INSIDE` before it reads `CURRENT` and takes it off when it has done. A state that has been taken
//!    out of `CURRENT` is dropped only after `INSIDE` has been seen at zero, so no handler ever looks at a dropped one.
//! 3. A handler that was installed stays for the life of the process; without a coordinator it does what the signal did
//!    before (P10). Taking it out again would swallow signals: the registry below cannot.
//! 4. Where the signal had its default action, our own handler goes in with one `sigaction`, and only then the registry's goes
//!    before it. The registry alone would swallow a signal that arrives between its own two steps; this way either the default
//!    action or ours answers it, at every instant.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;

#[cfg(any(target_os = "illumos", target_os = "solaris"))]
use libc::___errno as errno_location;
#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as errno_location;
#[cfg(any(
    target_os = "linux",
    target_os = "dragonfly",
    target_os = "redox",
    target_os = "hurd"
))]
use libc::__errno_location as errno_location;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as errno_location;
use libc::{c_int, c_void, siginfo_t};

use crate::error::InstallError;
use crate::exit_policy::signal_code;
use crate::reason::{MAX_SIGNAL, Origin, Signal};
use crate::signal::state::{SignalState, bit};
use crate::sync::{AtomicU8, AtomicUsize, Mutex, Ordering};
use crate::token::By;

/// Invariant 1.
static CURRENT: AtomicPtr<SignalState> = AtomicPtr::new(ptr::null_mut());
/// Invariant 2.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// States that were taken out while a handler was inside.
static RETIRED: Mutex<Vec<Arc<SignalState>>> = Mutex::new(Vec::new());
/// One installation at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

const SIGNALS: usize = MAX_SIGNAL as usize + 1;

/// What a signal did before its handler was installed here: `Prior` as a number.
static PRIOR: [AtomicU8; SIGNALS] = [const { AtomicU8::new(Prior::NotOurs as u8) }; SIGNALS];
/// The address of the handler that stood right after the installation (P11).
static STOOD: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Prior {
    /// Nothing was installed for it here.
    NotOurs = 0,
    Default = 1,
    Ignored = 2,
    /// Another handler, which the registry goes on calling.
    Handler = 3,
}

/// Installs the handlers of `signals` for `state`. On an error everything is as it was.
pub(crate) fn install(
    state: &Arc<SignalState>,
    signals: &[Signal],
    override_ignored: bool,
) -> Result<(), InstallError> {
    let _one = INSTALLING.lock();
    if !CURRENT.load(Ordering::SeqCst).is_null() {
        return Err(InstallError::AlreadyInstalled);
    }
    // Everything that can be refused is refused before anything is changed.
    let mut new = Vec::new();
    let mut mask = 0;
    for &signal in signals {
        if mask & bit(signal) != 0 {
            continue;
        }
        let action =
            action_of(signal).map_err(|source| InstallError::Handler { signal, source })?;
        let prior = match PRIOR[index(signal)].load(Ordering::Acquire) {
            // P9: asked only the first time; afterwards it is our own handler that stands there.
            prior if prior == Prior::NotOurs as u8 => {
                let prior = prior_of(&action);
                new.push((signal, action, prior));
                prior
            }
            _ if action.sa_sigaction != STOOD[index(signal)].load(Ordering::Acquire) => {
                return Err(InstallError::Replaced(signal));
            }
            prior if prior == Prior::Ignored as u8 => Prior::Ignored,
            _ => Prior::Default,
        };
        if prior == Prior::Ignored && !override_ignored {
            new.retain(|(of, ..)| *of != signal);
        } else {
            mask |= bit(signal);
        }
    }
    state.signals.store(mask, Ordering::Release);
    // First the state, then the handlers: a signal that arrives in between is answered, not swallowed.
    CURRENT.store(
        Arc::into_raw(Arc::clone(state)).cast_mut(),
        Ordering::SeqCst,
    );
    for (signal, action, prior) in new {
        if let Err(source) = register(signal, &action, prior) {
            release(state);
            // What was taken in meanwhile would have ended the process.
            let word = state.node.word();
            if word.by() == By::Signal && word.is_stopped() {
                as_before(word.signal());
            }
            return Err(InstallError::Handler { signal, source });
        }
    }
    Ok(())
}

/// Takes `state` out: from now on its signals do what they did before it (P10).
pub(crate) fn release(state: &Arc<SignalState>) {
    let mine = Arc::as_ptr(state).cast_mut();
    if CURRENT
        .compare_exchange(mine, ptr::null_mut(), Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        return;
    }
    // SAFETY: the pointer came from `Arc::into_raw` in `install`; it has just been taken out of `CURRENT`, by this call alone,
    // so this is the one time that its count is taken back.
    let owned = unsafe { Arc::from_raw(mine.cast_const()) };
    let mut retired = RETIRED.lock();
    retired.push(owned);
    // Invariant 2. SeqCst on both sides: a handler that is not yet counted here will read null.
    if INSIDE.load(Ordering::SeqCst) == 0 {
        let gone = std::mem::take(&mut *retired);
        drop(retired);
        drop(gone);
    }
}

/// The handlers of `state` still stand where they were put (P11).
pub(crate) fn is_installed(state: &SignalState) -> bool {
    if CURRENT.load(Ordering::SeqCst).cast_const() != ptr::from_ref(state) {
        return false;
    }
    (1..=MAX_SIGNAL)
        .map(Signal::from_raw)
        .filter(|signal| state.answers_to(*signal))
        .all(|signal| {
            action_of(signal).is_ok_and(|action| {
                action.sa_sigaction == STOOD[index(signal)].load(Ordering::Acquire)
            })
        })
}

fn register(signal: Signal, before: &libc::sigaction, prior: Prior) -> io::Result<()> {
    let number = signal.number();
    PRIOR[index(signal)].store(prior as u8, Ordering::Release);
    let result = if prior == Prior::Handler {
        let blocked = Blocked::new(bit(signal));
        // SAFETY: `on_signal` only does what is async-signal-safe, and never panics: it is made of atomics, clock_gettime,
        // getpid, futex, poll, and the ways of dying.
        let result = unsafe {
            signal_hook_registry::register_sigaction(number, move |info| {
                on_signal(Signal::from_raw(number), info);
            })
        };
        drop(blocked);
        result.map(drop)
    } else {
        // Invariant 4. The registry then chains to ours; its own action for us has nothing left to do.
        // SAFETY: an all-zero `sigaction` is a valid one; `direct` has the signature that SA_SIGINFO asks for.
        let placed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = direct as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(number, &raw const action, ptr::null_mut())
        };
        if placed == 0 {
            // SAFETY: the action does nothing.
            unsafe { signal_hook_registry::register_sigaction(number, |_| {}) }
                .map(drop)
                .inspect_err(|_| put_back(signal, before))
        } else {
            Err(io::Error::last_os_error())
        }
    };
    if result.is_err() {
        PRIOR[index(signal)].store(Prior::NotOurs as u8, Ordering::Release);
        return result;
    }
    STOOD[index(signal)].store(action_of(signal)?.sa_sigaction, Ordering::Release);
    Ok(())
}

fn put_back(signal: Signal, before: &libc::sigaction) {
    // SAFETY: `before` is what `sigaction` itself has reported.
    unsafe { libc::sigaction(signal.number(), before, ptr::null_mut()) };
}

/// Called by the system, or by the registry as the handler that stood before its own.
extern "C" fn direct(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: errno belongs to the interrupted code on this thread; the location is valid for the thread's life.
    let errno = unsafe { *errno_location() };
    // SAFETY: with SA_SIGINFO the system hands over a valid `siginfo_t`; a null is checked for all the same.
    if let Some(info) = unsafe { info.as_ref() } {
        on_signal(Signal::from_raw(signal), info);
    }
    // SAFETY: as above.
    unsafe { *errno_location() = errno };
}

/// The handler.
fn on_signal(signal: Signal, info: &siginfo_t) {
    INSIDE.fetch_add(1, Ordering::SeqCst);
    // SAFETY: invariant 2: this handler is counted, so what `CURRENT` held is alive until it is no longer.
    let state = unsafe { CURRENT.load(Ordering::SeqCst).as_ref() };
    match state {
        // P10: a forked child has inherited the handler, but it is not the one that was asked to stop.
        Some(state) if state.is_ours() && state.answers_to(signal) => {
            state.take(signal, origin_of(signal, info));
        }
        _ => as_before(signal),
    }
    INSIDE.fetch_sub(1, Ordering::SeqCst);
}

/// What the signal did before its handler was installed here. Async-signal-safe.
fn as_before(signal: Signal) {
    if PRIOR[index(signal)].load(Ordering::Acquire) != Prior::Default as u8 {
        return;
    }
    match signal.number() {
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => {}
        // SAFETY: `raise` is async-signal-safe.
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => unsafe {
            libc::raise(libc::SIGSTOP);
        },
        // A namespace's init is not touched by a signal at its default action.
        _ if std::process::id() == 1 => {}
        _ => die_by(signal),
    }
}

/// Dies by `signal`, as the default action would; with 128 + its number where the system does not let it (PID 1).
/// Async-signal-safe.
pub(crate) fn die_by(signal: Signal) -> ! {
    let number = signal.number();
    // SAFETY: `sigaction`, `sigemptyset`, `sigaddset`, `pthread_sigmask` and `raise` are async-signal-safe, and all pointers are
    // to locals. Not `abort`: its own way out is dropped for PID 1 too, and then it faults.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(number, &raw const action, ptr::null_mut());
        let_in(bit(signal));
        libc::raise(number);
    }
    exit_now(i32::from(signal_code(signal)))
}

/// Ends the process with `code`, at once. Async-signal-safe.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: `_exit` is async-signal-safe and has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A number for the calling thread, never 0. Async-signal-safe.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a thread's number is as wide as a pointer"
)]
pub(crate) fn this_thread() -> usize {
    // SAFETY: has no preconditions, and is async-signal-safe.
    unsafe { libc::pthread_self() as usize }
}

/// Waits, in a handler. Async-signal-safe, as `nanosleep` need not be.
pub(crate) fn pause_a_millisecond() {
    // SAFETY: no descriptors are given.
    unsafe { libc::poll(ptr::null_mut(), 0, 1) };
}

/// The monotonic clock. Async-signal-safe.
pub(crate) fn monotonic_nanos() -> u64 {
    // The clock that stands still while the machine is suspended, as `Instant` does.
    #[cfg(target_vendor = "apple")]
    const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
    #[cfg(not(target_vendor = "apple"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    read_clock(CLOCK)
}

/// The same clock, a few milliseconds behind, where reading it so is cheaper.
pub(crate) fn coarse_nanos() -> u64 {
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
    return read_clock(libc::CLOCK_MONOTONIC_COARSE);
    #[cfg(not(all(any(target_os = "linux", target_os = "android"), not(miri))))]
    monotonic_nanos()
}

#[inline]
fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writing; the clock exists on every system this crate builds for.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec
        .unsigned_abs()
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec.unsigned_abs())
}

fn action_of(signal: Signal) -> io::Result<libc::sigaction> {
    // SAFETY: an all-zero `sigaction` is a valid one, and with no new action given the call only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal.number(), ptr::null(), &raw mut action) == 0 {
            Ok(action)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn prior_of(action: &libc::sigaction) -> Prior {
    match action.sa_sigaction {
        libc::SIG_DFL => Prior::Default,
        libc::SIG_IGN => Prior::Ignored,
        _ => Prior::Handler,
    }
}

fn index(signal: Signal) -> usize {
    signal.number().clamp(0, MAX_SIGNAL).unsigned_abs() as usize
}

fn origin_of(signal: Signal, info: &siginfo_t) -> Origin {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let (sent, kernel) = (
        matches!(
            info.si_code,
            libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL
        ),
        info.si_code == libc::SI_KERNEL,
    );
    // Elsewhere the code says less: a sender is known by its pid, and the terminal by the lack of one.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    // SAFETY: for a signal without a sender the field is zero, not uninitialised.
    let (sent, kernel) = unsafe { (info.si_pid() != 0, info.si_pid() == 0) };
    if sent {
        // SAFETY: for these codes the system fills in who sent the signal.
        let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
        Origin::Process {
            pid: pid.unsigned_abs(),
            uid,
        }
    } else if kernel
        && matches!(
            signal,
            Signal::INT | Signal::QUIT | Signal::TSTP | Signal::HUP
        )
    {
        Origin::Terminal
    } else {
        Origin::Unknown
    }
}

/// Sleeps while `word` holds `value`, but no longer than `timeout`; may wake early. Spurious ends are the caller's to see.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
pub(crate) fn futex_wait(
    word: &std::sync::atomic::AtomicU32,
    value: u32,
    timeout: Option<std::time::Duration>,
) {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // Below 10^9, whatever the width of the field.
        tv_nsec: i32::try_from(timeout.subsec_nanos()).unwrap_or(0).into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            timeout,
        );
    }
}

/// Wakes the thread that sleeps on `word`. Async-signal-safe.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
pub(crate) fn futex_wake(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: the word lives through the call; the system only uses its address.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
}

/// Signals held back on this thread; what came meanwhile is delivered when this is dropped.
pub(crate) struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    /// Those of `signals`, a bit each.
    pub(crate) fn new(signals: u64) -> Self {
        Self {
            before: change_mask(libc::SIG_BLOCK, &set_of(signals)),
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        change_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Lets `signals`, a bit each, in on this thread, whatever mask it was started with.
pub(crate) fn let_in(signals: u64) {
    change_mask(libc::SIG_UNBLOCK, &set_of(signals));
}

fn set_of(signals: u64) -> libc::sigset_t {
    // SAFETY: the pointers are to a local, for which all zeros is a valid value.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in (1..=MAX_SIGNAL).filter(|n| signals & bit(Signal::from_raw(*n)) != 0) {
            libc::sigaddset(&raw mut set, number);
        }
        set
    }
}

fn change_mask(how: c_int, set: &libc::sigset_t) -> libc::sigset_t {
    // SAFETY: the pointers are to a valid set and to a local, for which all zeros is a valid value.
    unsafe {
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(how, set, &raw mut before);
        before
    }
}
