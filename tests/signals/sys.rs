//! The few calls for which there is no safe wrapper.
#![expect(
    unsafe_code,
    reason = "fork without exec, atexit, tgkill, the allocator, and handlers that are not ours"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

use crate::child::{hang, tell};

/// Sends a signal to one thread of a process.
pub(crate) fn signal_thread(process: Pid, thread: i32, signal: Signal) -> nix::Result<()> {
    // SAFETY: the call takes three numbers, and touches no memory of ours.
    let result =
        unsafe { libc::syscall(libc::SYS_tgkill, process.as_raw(), thread, signal as i32) };
    Errno::result(result).map(drop)
}

/// Registers an exit handler that tells that it is stuck, and is.
pub(crate) fn at_exit_hang() {
    extern "C" fn stuck() {
        tell("stuck");
        hang();
    }
    // SAFETY: the handler never unwinds: it never comes back at all.
    assert_eq!(unsafe { libc::atexit(stuck) }, 0);
}

/// Forks a copy of this process that runs `child` and never comes back.
pub(crate) fn fork(child: fn() -> !) -> Pid {
    // SAFETY: the children of these tests call nothing but `write`, `pause`, `alarm`, `raise` and `_exit`; but for one that
    // installs, and one that drops what it has, while none of the parent's other threads does anything.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => child(),
    }
}

/// What the handler installed by [`bare_handler`] saw.
pub(crate) static BARE: AtomicBool = AtomicBool::new(false);

/// Installs a handler behind everybody's back, as any C library may.
pub(crate) fn bare_handler(signal: Signal) {
    extern "C" fn handler(_: libc::c_int) {
        BARE.store(true, Ordering::SeqCst);
    }
    set(signal, SigHandler::Handler(handler));
}

/// As [`bare_handler`], with a mask and a stack; it sees only what comes with that mask.
pub(crate) fn choosy_handler(signal: Signal) {
    extern "C" fn handler(_: libc::c_int) {
        let masked = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGUSR1));
        BARE.store(masked, Ordering::SeqCst);
    }
    let (handler, mask) = (SigHandler::Handler(handler), SigSet::from(Signal::SIGUSR1));
    let action = SigAction::new(handler, SaFlags::SA_ONSTACK, mask);
    // SAFETY: the handler asks for the mask, and stores.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// The handler that stands there now asks for the other stack.
pub(crate) fn is_on_a_stack(signal: Signal) -> bool {
    // SAFETY: an all-zero `sigaction` is a valid one; the call only reads.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(
            libc::sigaction(signal as i32, std::ptr::null(), &raw mut action),
            0
        );
        action
    };
    action.sa_flags & libc::SA_ONSTACK != 0
}

/// How often the handler installed by [`counting_handler`] was called.
pub(crate) static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// Installs a handler that counts.
pub(crate) fn counting_handler(signal: Signal) {
    extern "C" fn handler(_: libc::c_int) {
        COUNTED.fetch_add(1, Ordering::SeqCst);
    }
    set(signal, SigHandler::Handler(handler));
}

/// Installs a handler that does nothing but interrupt: calls are not restarted after it.
pub(crate) fn interrupting_handler(signal: Signal) {
    extern "C" fn handler(_: libc::c_int) {}
    let handler = SigHandler::Handler(handler);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// Sets the default disposition.
pub(crate) fn default_disposition(signal: Signal) {
    set(signal, SigHandler::SigDfl);
}

fn set(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing but change an atomic.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// Runs `action` within the handler of `signal`, by way of the registry that many libraries share.
pub(crate) fn within_handler(signal: Signal, action: impl Fn() + Send + Sync + 'static) {
    // SAFETY: the tests pass only what is promised to be async-signal-safe.
    unsafe { signal_hook::low_level::register(signal as i32, action) }.unwrap();
}

/// Runs a child that shares this process's memory, as that of `vfork` does, and dies by `signal` in a handler of ours.
pub(crate) fn die_sharing_memory(signal: Signal) -> Pid {
    extern "C" fn child(signal: *mut libc::c_void) -> libc::c_int {
        // SAFETY: both are async-signal-safe.
        unsafe {
            libc::kill(libc::getpid(), signal.addr().try_into().unwrap_or(0));
            libc::_exit(0)
        }
    }
    let mut stack = vec![0_u128; 0x4000];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let number = std::ptr::without_provenance_mut(signal as usize);
    // SAFETY: this thread goes on only when the child is gone; so the stack, which ends aligned, outlives it, and the two
    // never use what they share at the same time.
    let pid = unsafe { libc::clone(child, stack.as_mut_ptr_range().end.cast(), flags, number) };
    Pid::from_raw(Errno::result(pid).unwrap())
}

/// Bytes on the heap of this process.
#[cfg(target_env = "gnu")]
pub(crate) fn on_the_heap() -> usize {
    // SAFETY: has no preconditions.
    unsafe { libc::mallinfo2() }.uordblks
}

/// The allocator of these programs: the system's, until it is frozen.
pub(crate) struct Freezing;

static FROZEN: AtomicBool = AtomicBool::new(false);

/// From now on whoever needs the allocator hangs: as if its one lock were held by a thread that a signal has interrupted.
pub(crate) fn freeze_the_allocator() {
    FROZEN.store(true, Ordering::SeqCst);
}

thread_local! {
    /// Constant and never dropped, so that it is there without the allocator.
    static WITHOUT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`, in which this thread does without the allocator, or dies of SIGABRT.
pub(crate) fn without_the_allocator(f: impl FnOnce()) {
    WITHOUT.set(true);
    f();
    WITHOUT.set(false);
}

fn refuse_where_asked() {
    if WITHOUT.get() {
        std::process::abort();
    }
    while FROZEN.load(Ordering::Relaxed) {
        nix::unistd::pause();
    }
}

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for Freezing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        refuse_where_asked();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        refuse_where_asked();
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(memory, layout) };
    }
}
