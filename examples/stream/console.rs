//! What is said on stderr: by a thread of its own, so that a stderr that nobody reads holds up nothing.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// So many lines may wait; what does not fit is not said.
const WAITING: usize = 64;

/// For the last line, of somebody who has to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clones speak on the same stderr.
#[derive(Clone)]
pub(crate) struct Console {
    lines: Sender<(String, Option<Sender<()>>)>,
}

impl Console {
    pub(crate) fn start() -> io::Result<Self> {
        let (lines, said) = bounded(WAITING);
        // Not a task: nothing waits for it but the last line.
        thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || speak(&said))?;
        Ok(Self { lines })
    }

    pub(crate) fn say(&self, line: String) {
        let _ = self.lines.try_send((line, None));
    }

    /// Waits until it has been said, with all before it.
    pub(crate) fn last(&self, line: String) {
        let (done, said) = bounded(1);
        if self
            .lines
            .send_timeout((line, Some(done)), PATIENCE)
            .is_ok()
        {
            let _ = said.recv_timeout(PATIENCE);
        }
    }
}

fn speak(lines: &Receiver<(String, Option<Sender<()>>)>) {
    for (mut line, done) in lines {
        line.push('\n');
        // In one piece. Not `eprintln!`: it panics when nobody reads any more.
        let _ = io::stderr().write_all(line.as_bytes());
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}
