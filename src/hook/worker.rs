//! The thread that hooks run on. It can be left behind, and another takes its place.

use std::sync::Arc;

use crate::hook::cleaning::{Done, Next};
use crate::hook::{Hooks, caught};
use crate::inside;
use crate::sync::thread;

impl Hooks {
    /// Starts a worker. Where no thread can be had, one hook is run here and now, on the runner:
    /// better than none, though nothing can cut it short then but the watchdog. It is handed to
    /// `inline`, which may note that the runner is away.
    pub(crate) fn start_worker(self: &Arc<Self>, generation: u64, inline: impl FnOnce(&dyn Fn())) {
        let hooks = Arc::clone(self);
        let started = thread::Builder::new()
            .name("winddown-hooks".to_owned())
            .spawn(move || hooks.work(generation, usize::MAX));
        if started.is_err() {
            inline(&|| {
                self.work(generation, 1);
            });
        }
    }

    /// Runs hooks, newest first, until there are none, `most` have been run, or another worker has
    /// taken over.
    fn work(&self, generation: u64, most: usize) {
        let _inside = inside::enter(self.id);
        let mut done = None;
        let mut count = 0;
        loop {
            match self.next(generation, done.take()) {
                Next::Run(body, time) => {
                    let outcome = Done(caught(body, Some(time)));
                    count += 1;
                    if count == most {
                        self.give_back(generation, outcome);
                        return;
                    }
                    done = Some(outcome);
                }
                Next::Leave => return,
            }
        }
    }
}
