//! The handler, and everything else that talks to the system directly: the only `unsafe` code of
//! the crate.
//!
//! 1. `Seat::current` points to the state of the one coordinator with signals, or is null. Only
//!    `put` and `release` write it.
//! 2. A handler adds one to `inside` before it reads `current` and takes it off when it has done. A
//!    state that has been taken out of `current` is dropped only after `inside` has been seen at
//!    zero, so no handler ever looks at a dropped one.
//! 3. A handler that was installed stays for the life of the process; without a coordinator it does
//!    what the signal did before (P10). Taking it out again would swallow signals: the registry
//!    below cannot.
//! 4. Where the signal had its default action, our own handler goes in with one `sigaction`, and
//!    only then the registry's goes before it. The registry alone would swallow a signal that
//!    arrives between its own two steps; this way either the default action or ours answers it, at
//!    every instant.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

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

use crate::exit_policy::signal_code;
use crate::reason::{MAX_SIGNAL, Origin, Signal};
use crate::signal::mask;
use crate::signal::prior::{self, Prior};
use crate::signal::state::{SignalState, bit};
use crate::sync::{self, Mutex, Ordering, fence};

sync::global! {
    static SEAT: Seat<SignalState> = Seat {
        current: sync::AtomicPtr::new(ptr::null_mut()),
        inside: sync::AtomicUsize::new(0),
        retired: Mutex::new(Vec::new()),
    };
}
/// The process that has installed: a child of `fork` or `vfork` keeps its hands off the rest.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Where a handler finds the state that it works on.
#[cfg_attr(winddown_loom, derive(Default))]
pub(super) struct Seat<T> {
    /// Invariant 1.
    current: sync::AtomicPtr<T>,
    /// Invariant 2.
    inside: sync::AtomicUsize,
    /// States that were taken out while a handler was inside.
    retired: Mutex<Vec<Arc<T>>>,
}

impl<T> Seat<T> {
    /// Shows `look` the state, for no longer than that. Async-signal-safe, if `look` is.
    pub(super) fn look<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        self.inside.fetch_add(1, Ordering::Relaxed);
        // Invariant 2, with the fence in `release`: either this reads null, or that sees the count.
        fence(Ordering::SeqCst);
        // SAFETY: invariant 2: this is counted, so what `current` held is alive until it is no
        // longer.
        let result = look(unsafe { self.current.load(Ordering::Acquire).as_ref() });
        // Release: what was looked at is dropped after it.
        self.inside.fetch_sub(1, Ordering::Release);
        result
    }

    /// What stood there before is leaked: a forked child has inherited it.
    pub(super) fn put(&self, state: &Arc<T>) {
        let state = Arc::into_raw(Arc::clone(state)).cast_mut();
        self.current.store(state, Ordering::Release);
    }

    fn holds(&self, state: &T) -> bool {
        self.current.load(Ordering::Acquire).cast_const() == ptr::from_ref(state)
    }

    /// Takes `state` out, and drops what no handler looks at any more.
    pub(super) fn release(&self, state: &Arc<T>) {
        let mine = Arc::as_ptr(state).cast_mut();
        if self
            .current
            .compare_exchange(mine, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        // SAFETY: the pointer came from `Arc::into_raw` in `put`; it has just been taken out of
        // `current`, by this call alone, so this is the one time that its count is taken back.
        let owned = unsafe { Arc::from_raw(mine.cast_const()) };
        let mut retired = self.retired.lock();
        retired.push(owned);
        fence(Ordering::SeqCst);
        if self.inside.load(Ordering::Acquire) == 0 {
            let gone = std::mem::take(&mut *retired);
            drop(retired);
            drop(gone);
        }
    }
}

/// A coordinator of this process holds the signals. (One of the parent's, inherited through a fork,
/// does not.)
pub(crate) fn is_taken() -> bool {
    SEAT.look(|state| state.is_some_and(SignalState::is_ours))
}

pub(crate) fn is_current(state: &SignalState) -> bool {
    SEAT.holds(state)
}

/// Makes `state` the one that handlers look at.
pub(crate) fn put(state: &Arc<SignalState>) {
    OWNER.store(std::process::id(), Ordering::SeqCst);
    SEAT.put(state);
}

/// Takes `state` out: from now on its signals do what they did before it (P10).
pub(crate) fn release(state: &Arc<SignalState>) {
    SEAT.release(state);
}

/// Notes the handler that ours calls first.
pub(crate) fn chain_to(signal: Signal, before: &libc::sigaction) {
    let handler = match before.sa_sigaction {
        // Never to itself.
        handler
            if Prior::of(before) == Prior::Handler && handler != direct as *const () as usize =>
        {
            handler
        }
        _ => 0,
    };
    prior::set_next(signal, handler, before.sa_flags & libc::SA_SIGINFO != 0);
}

/// Puts `direct` in, in one step, and gives what stood there.
pub(crate) fn place(signal: Signal, before: &libc::sigaction) -> io::Result<libc::sigaction> {
    // SAFETY: an all-zero `sigaction` is a valid one; `direct` has the signature that SA_SIGINFO
    // asks for, and only does what is async-signal-safe: atomics, clock_gettime, getpid, futex,
    // poll, and the ways of dying. The mask and the stack are those that the handler before ours
    // has asked for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = direct as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        prior::keep_stack_and_mask(&mut action, before);
        let mut stood: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal.number(), &raw const action, &raw mut stood) == 0 {
            Ok(stood)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Puts the registry's handler before ours, which it then calls, so that whoever uses it later does
/// not; its own action for us has nothing left to do.
pub(crate) fn front_with_registry(signal: Signal) -> io::Result<()> {
    // SAFETY: the action does nothing.
    unsafe { signal_hook_registry::register_sigaction(signal.number(), |_| {}) }.map(drop)
}

pub(crate) fn put_back(signal: Signal, before: &libc::sigaction) {
    // SAFETY: `before` is what `sigaction` itself has reported, but perhaps for stack and mask.
    unsafe { libc::sigaction(signal.number(), before, ptr::null_mut()) };
}

/// Called by the system, or by the registry as the handler that stood before its own.
extern "C" fn direct(number: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: errno belongs to the interrupted code on this thread; the location is valid for the
    // thread's life.
    let errno = unsafe { *errno_location() };
    let signal = Signal::from_raw(number);
    if let Some((next, takes_info)) = prior::next(signal) {
        let next = ptr::without_provenance::<()>(next);
        // SAFETY: `sigaction` has reported this address as the handler for this signal, and which
        // of the two signatures it has.
        unsafe {
            if takes_info {
                let next: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(next);
                next(number, info, context);
            } else {
                let next: extern "C" fn(c_int) = std::mem::transmute(next);
                next(number);
            }
        }
    }
    // SAFETY: with SA_SIGINFO the system hands over a valid `siginfo_t`; a null is checked for all
    // the same.
    if let Some(info) = unsafe { info.as_ref() } {
        on_signal(signal, info);
    }
    // SAFETY: as above.
    unsafe { *errno_location() = errno };
}

/// The handler.
fn on_signal(signal: Signal, info: &siginfo_t) {
    // P10: a child has inherited the handler, but it is not the one that was asked to stop. One of
    // `vfork` shares our memory, and must not touch the count: it may die in here.
    if OWNER.load(Ordering::SeqCst) != std::process::id() {
        as_before(signal);
        return;
    }
    let taken = SEAT.look(|state| {
        state.is_some_and(|state| {
            state.answers_to(signal) && state.take(signal, origin_of(signal, info))
        })
    });
    if !taken {
        as_before(signal);
    }
}

/// What the signal did before its handler was installed here. Async-signal-safe.
pub(crate) fn as_before(signal: Signal) {
    if prior::prior(signal) != Prior::Default {
        return;
    }
    match signal.number() {
        _ if prior::is_nothing_by_default(signal) => {}
        // SAFETY: `raise` is async-signal-safe.
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => unsafe {
            libc::raise(libc::SIGSTOP);
        },
        // A namespace's init is not touched by a signal at its default action.
        _ if std::process::id() == 1 => {}
        _ => die_by(signal),
    }
}

/// Dies by `signal`, as the default action would; with 128 + its number where the system does not
/// let it (PID 1). Async-signal-safe.
pub(crate) fn die_by(signal: Signal) -> ! {
    let number = signal.number();
    // SAFETY: `sigaction`, `sigemptyset`, `sigaddset`, `pthread_sigmask` and `raise` are
    // async-signal-safe, and all pointers are to locals. Not `abort`: its own way out is dropped
    // for PID 1 too, and then it faults.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(number, &raw const action, ptr::null_mut());
        mask::let_in(bit(signal));
        // These would only stop it, until somebody lets it go on.
        if !matches!(number, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
            libc::raise(number);
        }
    }
    exit_now(i32::from(signal_code(signal)))
}

/// Ends the process with `code`, at once. Async-signal-safe.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: `_exit` is async-signal-safe and has no preconditions.
    unsafe { libc::_exit(code) }
}

pub(crate) fn at_exit(f: extern "C" fn()) {
    // SAFETY: whoever gives a safe function lets it be called at any time, on any thread.
    unsafe { libc::atexit(f) };
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
    // SAFETY: an all-zero `timespec` is a valid one, whatever its fields' widths and what pads them;
    // it is valid for writing, and the clock exists on every system this crate builds for.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(clock, &raw mut now);
        now
    };
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

pub(crate) fn action_of(signal: Signal) -> io::Result<libc::sigaction> {
    // SAFETY: an all-zero `sigaction` is a valid one, and with no new action given the call only
    // reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal.number(), ptr::null(), &raw mut action) == 0 {
            Ok(action)
        } else {
            Err(io::Error::last_os_error())
        }
    }
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
    // Elsewhere the code says less: a sender is known by its pid, and the terminal by the lack of
    // one.
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

/// A word of bits that threads can sleep on, each for some of them.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
pub(crate) struct Futex(AtomicU32);

#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
impl Futex {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets `bits`, and gives those that were set before.
    pub(super) fn set(&self, bits: u32) -> u32 {
        self.0.fetch_or(bits, Ordering::AcqRel)
    }

    /// Clears `bits`, and gives those that were set before.
    pub(super) fn clear(&self, bits: u32) -> u32 {
        self.0.fetch_and(!bits, Ordering::AcqRel)
    }

    /// If it holds `value`, sleeps until one of `bits` is woken, but no longer than `timeout`; may
    /// wake early. Spurious ends are the caller's to see.
    pub(super) fn wait(&self, value: u32, bits: u32, timeout: Option<std::time::Duration>) {
        // Of the call that takes bits, the timeout is a moment: of this clock.
        let until = timeout.map(|timeout| {
            let until = std::time::Duration::from_nanos(monotonic_nanos()).saturating_add(timeout);
            let seconds = until.as_secs().try_into().unwrap_or(i64::MAX);
            [seconds, until.subsec_nanos().into()]
        });
        self.call(libc::FUTEX_WAIT_BITSET, value, until, bits);
    }

    /// Wakes those who sleep for one of `bits`. Async-signal-safe.
    pub(super) fn wake(&self, bits: u32) {
        let all = c_int::MAX.unsigned_abs();
        self.call(libc::FUTEX_WAKE_BITSET, all, None, bits);
    }

    /// The moment is in seconds and nanoseconds.
    fn call(&self, call: c_int, value: u32, until: Option<[i64; 2]>, bits: u32) {
        /// Where this is the older of two calls, its fields are as wide as a register; what the C
        /// library calls a `timespec` may be wider.
        const NARROW: bool = cfg!(all(
            target_pointer_width = "32",
            any(
                target_arch = "x86",
                target_arch = "arm",
                target_arch = "mips",
                target_arch = "mips32r6",
                target_arch = "powerpc",
                target_arch = "sparc"
            )
        ));
        let (word, call) = (self.0.as_ptr(), call | libc::FUTEX_PRIVATE_FLAG);
        let narrow = until.map(|moment| moment.map(|of| i32::try_from(of).unwrap_or(i32::MAX)));
        // Whatever the width, it is what the call is declared with.
        let until: *const libc::timespec = match (&until, &narrow) {
            (Some(_), Some(narrow)) if NARROW => ptr::from_ref(narrow).cast(),
            (Some(wide), _) => ptr::from_ref(wide).cast(),
            (None, _) => ptr::null(),
        };
        let none = ptr::null::<u32>();
        // SAFETY: the word and the moment live through the call.
        unsafe { libc::syscall(libc::SYS_futex, word, call, value, until, none, bits) };
    }
}

/// `signals`, a bit each, as the system has them.
pub(super) fn set_of(signals: u64) -> libc::sigset_t {
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

/// Gives the mask that this thread had before.
pub(super) fn change_mask(how: c_int, set: &libc::sigset_t) -> libc::sigset_t {
    // SAFETY: the pointers are to a valid set and to a local, for which all zeros is a valid value.
    unsafe {
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(how, set, &raw mut before);
        before
    }
}
