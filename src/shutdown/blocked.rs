//! Where a thread of this process is, in words: what the system shows of it to an ordinary user.
//!
//! From `/proc/self/task/TID/{comm,syscall,wchan}` and the link of the descriptor: see proc(5) and
//! syscalls(2). Linux only; elsewhere, and where `/proc` is not mounted, there is nothing.

use std::fs;

use crate::said::{self, Thread};
use crate::snapshot::ThreadSnapshot;

/// Where `thread` is. `None`: it has gone, or the system does not say.
pub(crate) fn whereabouts(thread: Thread) -> Option<ThreadSnapshot> {
    let number = thread.number;
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/self/task/{number}/{file}")).ok()?;
        // The system cuts a name after 15 bytes, also in the middle of a letter.
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let name = read("comm")?.trim_end_matches('\n').to_owned();
    let state = if number == said::this_thread().number {
        Some("running".to_owned())
    } else {
        let call = read("syscall").and_then(|line| in_words(&line));
        call.or_else(|| asleep_in(&read("wchan")?))
    };
    Some(ThreadSnapshot {
        id: number,
        name,
        state,
    })
}

/// What a line of `syscall` says: "running", or the number of the call and its arguments.
fn in_words(syscall: &str) -> Option<String> {
    let mut fields = syscall.split_whitespace();
    let call = fields.next()?;
    if call == "running" {
        return Some(call.to_owned());
    }
    let number: i64 = call.parse().ok()?;
    if number < 0 {
        // Blocked, but in no call: a page is being read in, for one.
        return None;
    }
    let mut fd = || {
        let argument = fields.next()?.strip_prefix("0x")?;
        // Of the register only the lower half is the descriptor.
        let fd = u64::from_str_radix(argument, 16).ok()? & u64::from(u32::MAX);
        Some((fd, fs::read_link(format!("/proc/self/fd/{fd}")).ok()))
    };
    Some(match name_of(number) {
        Some((name, Takes::Fd)) => match fd() {
            Some((fd, Some(link))) => {
                format!(
                    "blocked in {name} on fd {fd}, {}",
                    what(&link.to_string_lossy())
                )
            }
            Some((fd, None)) => format!("blocked in {name} on fd {fd}"),
            None => format!("blocked in {name}"),
        },
        Some((name, Takes::Time)) => format!("sleeping in {name}"),
        Some((name, Takes::Lock)) => format!("waiting for another thread, in {name}"),
        Some((name, Takes::Other)) => format!("blocked in {name}"),
        None => format!("blocked in system call {number}"),
    })
}

/// The kernel's function that it sleeps in; all that is left where the call is not shown.
fn asleep_in(wchan: &str) -> Option<String> {
    let function = wchan.trim();
    let known = !function.is_empty() && function != "0";
    known.then(|| format!("blocked in the kernel's {function}"))
}

/// What a descriptor's link stands for.
fn what(link: &str) -> String {
    match link.split_once(':') {
        Some(("socket", _)) => "a socket".to_owned(),
        Some(("pipe", _)) => "a pipe".to_owned(),
        Some(("anon_inode", kind)) => {
            format!("an {} descriptor", kind.trim_matches(['[', ']']))
        }
        _ if link.starts_with("/dev/pts/") || link.starts_with("/dev/tty") => {
            format!("the terminal {link}")
        }
        _ => link.to_owned(),
    }
}

/// What the first argument of a call is, as far as it is of interest.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    expect(dead_code, reason = "no calls are known by number there")
)]
enum Takes {
    Fd,
    Time,
    Lock,
    Other,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn name_of(number: i64) -> Option<(&'static str, Takes)> {
    macro_rules! calls {
        ($($takes:ident: $($call:ident = $name:literal)+;)+) => {
            [$($((i64::from(libc::$call), $name, Takes::$takes)),+),+]
        };
    }
    let calls = calls! {
        Fd: SYS_read = "read" SYS_write = "write" SYS_readv = "readv" SYS_writev = "writev"
            SYS_pread64 = "pread" SYS_pwrite64 = "pwrite" SYS_preadv = "preadv"
            SYS_pwritev = "pwritev" SYS_recvfrom = "recvfrom" SYS_recvmsg = "recvmsg"
            SYS_recvmmsg = "recvmmsg" SYS_sendto = "sendto" SYS_sendmsg = "sendmsg"
            SYS_sendmmsg = "sendmmsg" SYS_accept4 = "accept"
            SYS_connect = "connect" SYS_shutdown = "shutdown" SYS_fsync = "fsync"
            SYS_fdatasync = "fdatasync" SYS_flock = "flock" SYS_fcntl = "fcntl" SYS_ioctl = "ioctl"
            SYS_close = "close" SYS_getdents64 = "getdents" SYS_epoll_pwait = "epoll_wait"
            SYS_epoll_pwait2 = "epoll_wait" SYS_splice = "splice"
            SYS_copy_file_range = "copy_file_range" SYS_io_uring_enter = "io_uring_enter";
        Time: SYS_nanosleep = "nanosleep" SYS_clock_nanosleep = "clock_nanosleep";
        Lock: SYS_futex = "futex" SYS_futex_waitv = "futex";
        Other: SYS_ppoll = "poll" SYS_pselect6 = "select" SYS_wait4 = "wait4" SYS_waitid = "waitid"
            SYS_openat = "open" SYS_unlinkat = "unlink" SYS_renameat2 = "rename"
            SYS_rt_sigsuspend = "sigsuspend" SYS_rt_sigtimedwait = "sigwait"
            SYS_sched_yield = "sched_yield";
    };
    // The older calls that newer architectures do without.
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let older = calls! {
        Fd: SYS_epoll_wait = "epoll_wait";
        Other: SYS_poll = "poll" SYS_select = "select" SYS_open = "open" SYS_pause = "pause"
            SYS_rename = "rename" SYS_unlink = "unlink";
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
    let older = [];
    // These have one call for what has none of its own.
    #[cfg(any(target_arch = "x86", target_arch = "s390x"))]
    let sockets = calls! { Other: SYS_socketcall = "socketcall"; };
    #[cfg(not(any(target_arch = "x86", target_arch = "s390x")))]
    let sockets = calls! { Fd: SYS_accept = "accept"; };
    // Not known by name on every Android.
    #[cfg(target_os = "linux")]
    let files = calls! { Fd: SYS_sendfile = "sendfile"; };
    #[cfg(not(target_os = "linux"))]
    let files = [];
    // Those with times of 64 bits: the same numbers on all that had others before (asm-generic's
    // `unistd.h`), and not among the names of every C library.
    #[cfg(target_pointer_width = "32")]
    let wider = [
        (407, "clock_nanosleep", Takes::Time),
        (413, "select", Takes::Other),
        (414, "poll", Takes::Other),
        (417, "recvmmsg", Takes::Fd),
        (421, "sigwait", Takes::Other),
        (422, "futex", Takes::Lock),
    ];
    #[cfg(not(target_pointer_width = "32"))]
    let wider = [];
    let calls = calls.iter().chain(&older).chain(&wider);
    let mut calls = calls.chain(&sockets).chain(&files);
    let found = calls.find(|call| call.0 == number)?;
    Some((found.1, found.2))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn name_of(_: i64) -> Option<(&'static str, Takes)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn calls_are_put_into_words() {
        let line = |call: libc::c_long, first: &str| {
            in_words(&format!("{call} {first} 0x2 0x7ffd 0x1")).unwrap()
        };
        assert_eq!(in_words("running\n").unwrap(), "running");
        assert_eq!(in_words("-1 0x7ffd 0x7ffe\n"), None);
        assert_eq!(in_words(""), None);
        let unknown_fd = line(libc::SYS_recvfrom, "0x7ffffff0");
        assert_eq!(unknown_fd, "blocked in recvfrom on fd 2147483632");
        assert_eq!(
            line(libc::SYS_futex, "0x7f0000"),
            "waiting for another thread, in futex"
        );
        assert_eq!(
            line(libc::SYS_clock_nanosleep, "0x1"),
            "sleeping in clock_nanosleep"
        );
        assert_eq!(line(99_999, "0x1"), "blocked in system call 99999");
        assert_eq!(line(libc::SYS_ppoll, "0x1"), "blocked in poll");
        #[cfg(target_pointer_width = "32")]
        assert_eq!(line(407, "0x1"), "sleeping in clock_nanosleep");
    }

    #[test]
    fn what_the_kernel_calls_it_is_better_than_nothing() {
        assert_eq!(
            asleep_in("pipe_read\n").unwrap(),
            "blocked in the kernel's pipe_read"
        );
        assert_eq!(asleep_in("0"), None);
        assert_eq!(asleep_in("\n"), None);
    }

    #[test]
    fn descriptors_are_put_into_words() {
        assert_eq!(what("socket:[12345]"), "a socket");
        assert_eq!(what("pipe:[1]"), "a pipe");
        assert_eq!(what("anon_inode:[eventpoll]"), "an eventpoll descriptor");
        assert_eq!(what("/dev/pts/3"), "the terminal /dev/pts/3");
        assert_eq!(what("/var/log/a: b"), "/var/log/a: b");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_whose_name_is_cut_in_a_letter_is_found() {
        let found = std::thread::spawn(|| {
            fs::write("/proc/thread-self/comm", b"thread of gr\xc3").unwrap();
            whereabouts(said::this_thread())
        });
        let found = found.join().unwrap().unwrap();
        assert_eq!(found.name, "thread of gr\u{fffd}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_reads_from_a_pipe_is_found_there() {
        use std::io::Read;
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (number, numbers) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            number.send(said::this_thread()).unwrap();
            let _ = reader.read(&mut [0]);
        });
        let number = numbers.recv().unwrap();
        let state = loop {
            let found = whereabouts(number).unwrap();
            match found.state {
                Some(state) if state.contains("read on fd") => break state,
                _ => std::thread::yield_now(),
            }
        };
        assert!(state.ends_with(", a pipe"), "{state}");
        drop(writer);
        thread.join().unwrap();
        // A thread is joined a moment before the system has forgotten it.
        let far = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let Some(found) = whereabouts(number) {
            assert!(std::time::Instant::now() < far, "{found:?}");
            std::thread::yield_now();
        }
    }
}
