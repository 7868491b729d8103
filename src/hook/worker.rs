//! The thread that hooks run on. It can be left behind, and another takes its place.

use std::sync::Arc;

use crate::hook::cleaning::{Next, Ran};
use crate::hook::{Hooks, caught};
use crate::inside;
use crate::sync::thread;

impl Hooks {
    /// Starts a worker. False: no thread can be had, and the caller is to [run one](Self::run_one).
    pub(crate) fn start_worker(self: &Arc<Self>, generation: u64) -> bool {
        let hooks = Arc::clone(self);
        let started = thread::Builder::new()
            .name("winddown-hooks".to_owned())
            .spawn(move || hooks.work(generation, usize::MAX));
        started.is_ok()
    }

    /// Runs one hook here and now: better than none, though nothing can cut it short then but the
    /// watchdog.
    pub(crate) fn run_one(&self, generation: u64) {
        self.work(generation, 1);
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
                    let outcome = Ran(caught(body, Some(time)));
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

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::bus::Bus;
    use crate::clock::Tick;
    use crate::hook::{HookOptions, Hooks, Turn, entry};
    use crate::token::{Deliveries, Ending, GraceClock, Node};

    const GRACE: Duration = Duration::from_secs(60);

    fn three_hooks() -> Hooks {
        let node = Node::with_ending(Ending {
            deliveries: Deliveries::new(),
            clock: GraceClock::new(GRACE),
        });
        let hooks = Hooks::new(0, node, Arc::new(Bus::default()));
        for _ in 0..3 {
            let body = Box::new(|_| Some(Ok(()).into()));
            let entry = entry(HookOptions::new("one"), GRACE, Location::caller(), body);
            hooks.register(entry);
        }
        hooks
    }

    /// So that the runner can look around between two.
    #[test]
    fn where_there_is_no_thread_hooks_are_run_one_at_a_time() {
        let hooks = three_hooks();
        hooks.begin(Tick::now() + GRACE);
        for left in [2, 1, 0] {
            let Turn::Start(generation) = hooks.oversee(|| ()) else {
                unreachable!("it is over with {left} left");
            };
            hooks.run_one(generation);
            assert_eq!(hooks.still_here(3).1, left);
        }
        assert!(matches!(
            hooks.oversee(|| ()),
            Turn::Over { in_time: true, .. }
        ));
    }

    /// The owner has made the report, and the runner must not find that nothing is left to do.
    #[test]
    fn what_was_closed_with_hooks_on_it_was_not_in_time() {
        let hooks = three_hooks();
        hooks.begin(Tick::now() + GRACE);
        assert_eq!(hooks.close_now().len(), 3);
        assert!(matches!(
            hooks.oversee(|| ()),
            Turn::Over { in_time: false, .. }
        ));
    }
}
