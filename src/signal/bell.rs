//! Wakes one parked thread, from anywhere: a signal handler included.

use std::io;
use std::time::Duration;

#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
use crate::sync::Futex;

/// Rung once or many times, it wakes its thread once; rung before the thread waits, it is not lost
/// (P4).
///
/// On Linux a futex: no descriptor that a daemon's clean-up could close, or that could run out.
/// Private memory, so a forked child rings its own copy (P10).
#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
pub(crate) struct Bell(Futex);

#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
impl Bell {
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Futex::new(0)))
    }

    /// Async-signal-safe.
    pub(crate) fn ring(&self) {
        if self.0.swap(1) == 0 {
            self.0.wake();
        }
    }

    /// Until it rings, or `timeout` is over; now and then for nothing.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        if self.0.swap(0) == 0 {
            self.0.wait(0, timeout);
            // A ring that is taken back here was for what the caller is about to look at.
            self.0.swap(0);
        }
    }
}

/// Elsewhere a socket pair: `send` is async-signal-safe, and neither end of it can raise SIGPIPE.
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe))))]
pub(crate) struct Bell {
    hammer: std::os::unix::net::UnixStream,
    ear: std::os::unix::net::UnixStream,
    process: u32,
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe))))]
impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (hammer, ear) = std::os::unix::net::UnixStream::pair()?;
        hammer.set_nonblocking(true)?;
        Ok(Self {
            hammer,
            ear,
            process: std::process::id(),
        })
    }

    /// Async-signal-safe.
    pub(crate) fn ring(&self) {
        use std::io::Write;
        // P10: a forked child shares the pair with its parent.
        if self.process == std::process::id() {
            // Full: then it has been rung already.
            let _ = (&self.hammer).write(&[1]);
        }
    }

    /// Until it rings, or `timeout` is over; now and then for nothing.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        use std::io::Read;
        // Zero would mean for ever.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        if self.ear.set_read_timeout(timeout).is_ok() {
            let _ = (&self.ear).read(&mut [0; 64]);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// An interpreter finds data races in a few.
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 1000 };

    #[test]
    fn rung_before_the_wait_is_not_lost() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.ring();
        bell.wait(None);
    }

    #[test]
    fn wakes_a_thread_every_time() {
        let bell = Arc::new(Bell::new().unwrap());
        let (heard, hear) = std::sync::mpsc::channel();
        let waiting = Arc::clone(&bell);
        let thread = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                waiting.wait(None);
                heard.send(()).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            bell.ring();
            hear.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        thread.join().unwrap();
    }

    #[test]
    fn a_wait_with_a_timeout_ends() {
        Bell::new().unwrap().wait(Some(Duration::ZERO));
    }
}
