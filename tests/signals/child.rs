//! What the programs under test share: how they talk to the test that started them, and how they get stuck.
//!
//! Everything here is raw `read` and `write`: no buffer, no lock of std, so that a line that was told has left the
//! process, and a program that holds the locks of stdout can still tell.

use std::convert::Infallible;
use std::fmt::Display;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use winddown::{ShutdownBuilder, ShutdownCoordinator, StopReason, StopToken};

/// A grace period that no test reaches: whoever waits for its end has failed.
pub(crate) const FAR: Duration = Duration::from_secs(100);

/// Makes sure that nothing of this process outlives its test, and that it leaves no core behind.
pub(crate) fn prepare() {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none).unwrap();
    // The net below the net: the runner's own bounds are all shorter than this.
    nix::unistd::alarm::set(120);
}

/// Tells the test one line, in one `write`.
pub(crate) fn tell(line: impl Display) {
    put(rustix::stdio::stdout(), line);
}

fn put(to: BorrowedFd<'_>, line: impl Display) {
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(n) => rest = &rest[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Blocks until the test has sent a line. Hangs if the test is gone.
pub(crate) fn hear() -> String {
    let mut line = Vec::new();
    let mut byte = [0_u8];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(1) if byte[0] == b'\n' => return String::from_utf8(line).unwrap(),
            Ok(1) => line.push(byte[0]),
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => hang(),
        }
    }
}

/// Answers every line with itself, for ever: how a test sees that the process still lives, and that the signals
/// it sent before the line have been delivered.
pub(crate) fn answer() -> ! {
    loop {
        tell(hear());
    }
}

/// Never comes back.
pub(crate) fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// Keeps a processor busy, for ever.
pub(crate) fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// A builder under which every further delivery is an escalation and no time ever runs out.
pub(crate) fn quick() -> ShutdownBuilder {
    ShutdownCoordinator::builder()
        .debounce(Duration::ZERO)
        .grace_period(FAR)
        .hook_timeout(FAR)
}

/// Tells `line` at the stop, from the shutdown's own thread.
pub(crate) fn tell_at_stop(token: &StopToken, line: &'static str) {
    token.on_stop(move |_| tell(line)).detach();
}

/// Waits for the stop by looking only: independent of every wake-up.
pub(crate) fn look_until_stopped(token: &StopToken) {
    while !token.is_stopped() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// The reason without what differs from run to run.
pub(crate) fn short(reason: &StopReason) -> String {
    match reason {
        StopReason::Signal(received) => received.signal.to_string(),
        StopReason::Requested(what) => format!("requested {what}"),
        StopReason::Completed => "completed".into(),
        StopReason::Dropped => "dropped".into(),
        StopReason::Failed { error, .. } => format!("failed {error}"),
        StopReason::Panicked { message, .. } => format!("panicked {message}"),
        other => format!("{other:?}"),
    }
}

/// Hooks of the given names, registered in this order, each telling its name.
pub(crate) fn hooks(shutdown: &winddown::ShutdownHandle, names: &[&'static str]) {
    for &name in names {
        shutdown.hook(name, move || tell(name));
    }
}

/// Fills the pipe behind stderr: from now on, whoever writes to it blocks.
pub(crate) fn fill_stderr() {
    fill(rustix::stdio::stderr());
}

/// Until it takes no more.
pub(crate) fn fill(pipe: BorrowedFd<'_>) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL).unwrap());
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    for size in [4096, 1] {
        let block = vec![b'.'; size];
        while rustix::io::write(pipe, &block).is_ok() {}
    }
    fcntl(pipe, FcntlArg::F_SETFL(flags)).unwrap();
}

/// Until so many of the shutdown's own threads have started, and sleep: to start, they need memory.
pub(crate) fn until_parked(count: usize) {
    let parked = |stat: &String| stat.contains("(winddown-") && stat.contains(") S ");
    loop {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let stats = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")));
        if stats.flatten().filter(|stat| parked(stat)).count() == count {
            return;
        }
        thread::yield_now();
    }
}

/// A thread that does what it is told, and the end of its life as a channel that disconnects.
pub(crate) fn aside(f: impl FnOnce() + Send + 'static) -> mpsc::Receiver<Infallible> {
    let (done, gone) = mpsc::channel();
    thread::spawn(move || {
        f();
        drop(done);
    });
    gone
}

/// For scenarios that have said all they had to say.
pub(crate) fn fine() -> ExitCode {
    ExitCode::SUCCESS
}
