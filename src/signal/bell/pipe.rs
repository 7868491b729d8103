//! Where there is no futex, a socket pair for each thread: `send` is async-signal-safe, and neither
//! end of it can raise SIGPIPE.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::signal::bell::Ears;

/// See the module.
pub(crate) struct Bell {
    pairs: [Pair; 3],
    process: u32,
}

struct Pair {
    hammer: UnixStream,
    ear: UnixStream,
}

impl Pair {
    fn new() -> io::Result<Self> {
        let (hammer, ear) = UnixStream::pair()?;
        hammer.set_nonblocking(true)?;
        Ok(Self { hammer, ear })
    }
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            pairs: [Pair::new()?, Pair::new()?, Pair::new()?],
            process: std::process::id(),
        })
    }

    fn pairs(&self, ears: Ears) -> impl Iterator<Item = &Pair> {
        let pairs = self.pairs.iter().enumerate();
        pairs.filter_map(move |(ear, pair)| (ears.0 & 1 << ear != 0).then_some(pair))
    }

    /// Async-signal-safe.
    pub(crate) fn ring(&self, ears: Ears) {
        // P10: a forked child shares the pairs with its parent.
        if self.process == std::process::id() {
            for pair in self.pairs(ears) {
                // Full: then it has been rung already.
                let _ = (&pair.hammer).write(&[1]);
            }
        }
    }

    /// Until it rings for `ear`, or `timeout` is over; now and then for nothing.
    pub(crate) fn wait(&self, ear: Ears, timeout: Option<Duration>) {
        // Zero would mean for ever.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        for pair in self.pairs(ear) {
            if pair.ear.set_read_timeout(timeout).is_ok() {
                let _ = (&pair.ear).read(&mut [0; 64]);
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
