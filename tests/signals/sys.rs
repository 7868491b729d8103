//! The few calls for which there is no safe wrapper.
#![expect(
    unsafe_code,
    reason = "fork without exec, atexit, tgkill, and handlers that are not ours"
)]

use std::sync::atomic::{AtomicBool, Ordering};

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
    // SAFETY: the children of these tests call nothing but `write`, `pause`, `alarm`, `raise` and `_exit`.
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

/// Sets the default disposition.
pub(crate) fn default_disposition(signal: Signal) {
    set(signal, SigHandler::SigDfl);
}

fn set(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing but an atomic store.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// Runs `action` within the handler of `signal`, by way of the registry that many libraries share.
pub(crate) fn within_handler(signal: Signal, action: impl Fn() + Send + Sync + 'static) {
    // SAFETY: the tests pass only what is promised to be async-signal-safe.
    unsafe { signal_hook::low_level::register(signal as i32, action) }.unwrap();
}
