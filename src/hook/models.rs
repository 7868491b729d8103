//! The stack of hooks and guards: the runner and its workers against everybody else.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::clock::Tick;
use crate::hook::{Entry, Guard, HookOptions, Hooks, Registered, Turn, entry};
use crate::reason::StopReason;
use crate::report::{HookOutcome, HookReport};
use crate::slab::Key;
use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, model, model_with, thread, time};
use crate::token::{Deliveries, Ending, GraceClock, Node};

const GRACE: Duration = Duration::from_secs(25);
const CAP: Duration = Duration::from_millis(500);

/// The hooks of a program that has been stopped.
fn hooks() -> Arc<Hooks> {
    let node = Node::with_ending(Ending {
        deliveries: Deliveries::new(),
        clock: GraceClock::new(GRACE),
    });
    node.decide(StopReason::Completed).unwrap();
    Arc::new(Hooks::new(0, node, Arc::new(Bus::default())))
}

fn hook(name: &'static str, body: impl FnOnce() + Send + 'static) -> Entry {
    fallible(name, move || {
        body();
        Ok(())
    })
}

fn fallible(
    name: &'static str,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Entry {
    let body = Box::new(move |_| Some(body().into()));
    entry(HookOptions::new(name), CAP, Location::caller(), body)
}

fn register(hooks: &Hooks, name: &'static str, body: impl FnOnce() + Send + 'static) -> Key {
    match hooks.register(hook(name, body)) {
        Registered::OnStack(key) => key,
        Registered::RunNow(_) => unreachable!("the cleaning has not begun"),
    }
}

/// The runner's part. True: all in time.
fn clean(hooks: &Arc<Hooks>) -> bool {
    hooks.begin(Tick::now() + GRACE);
    loop {
        match hooks.oversee(|| {}) {
            Turn::Start(generation) => {
                assert!(hooks.start_worker(generation));
            }
            Turn::Over { in_time, left } => {
                assert!(left.is_empty());
                return in_time;
            }
        }
    }
}

fn reports(hooks: &Hooks) -> Vec<(String, HookOutcome)> {
    let told = |hook: &HookReport| (hook.name().to_owned(), hook.outcome().clone());
    hooks.reports(true).list.iter().map(told).collect()
}

fn completed(name: &str) -> (String, HookOutcome) {
    (name.to_owned(), HookOutcome::Completed)
}

/// In what order things were done.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn add(&self, what: &'static str) {
        self.0.lock().push(what);
    }

    fn adds(&self, what: &'static str) -> impl FnOnce() + Send + 'static {
        let log = self.clone();
        move || log.add(what)
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().clone()
    }
}

/// Raised once.
#[derive(Clone, Default)]
struct Flag(Arc<(Mutex<bool>, Condvar)>);

impl Flag {
    fn raise(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut raised = self.0.0.lock();
        while !*raised {
            self.0.1.wait(&mut raised);
        }
    }
}

/// P19, P13: a hook that is registered while the cleaning begins, goes on or ends is called once:
/// by a worker, or, after the end, by the thread that registers it.
#[test]
fn a_hook_that_comes_meanwhile_is_called() {
    model(|| {
        let (hooks, log) = (hooks(), Log::default());
        register(&hooks, "old", log.adds("old"));
        let (coming, new) = (Arc::clone(&hooks), log.clone());
        let coming = thread::spawn(move || {
            if let Registered::RunNow(entry) = coming.register(hook("new", new.adds("new"))) {
                assert_eq!(coming.run_late(entry), Some(HookOutcome::Completed));
                return 1;
            }
            2
        });
        assert!(clean(&hooks));
        let reported = coming.join().unwrap();
        assert_eq!(log.all().len(), 2);
        assert_eq!(reports(&hooks).len(), reported);
    });
}

/// P19, P17: one that is registered by a hook is the next to be called.
#[test]
fn a_hook_of_a_hook_is_the_next() {
    model(|| {
        let (hooks, log) = (hooks(), Log::default());
        register(&hooks, "old", log.adds("old"));
        let (inner, after) = (Arc::clone(&hooks), log.clone());
        register(&hooks, "new", move || {
            register(&inner, "newest", after.adds("newest"));
            after.add("new");
        });
        assert!(clean(&hooks));
        assert_eq!(log.all(), ["new", "newest", "old"]);
    });
}

/// P13: of the runner, a `run_now` and a `remove`, one has the hook.
#[test]
fn one_takes_a_hook() {
    model(|| {
        let (hooks, called) = (hooks(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&called);
        let key = register(&hooks, "one", move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (running, removing) = (Arc::clone(&hooks), Arc::clone(&hooks));
        let running = thread::spawn(move || running.run_here(key).is_some());
        let removing = thread::spawn(move || removing.remove(key).is_some());
        assert!(clean(&hooks));
        let (ran, removed) = (running.join().unwrap(), removing.join().unwrap());
        assert!(!(ran && removed));
        assert_eq!(called.load(Ordering::Relaxed), usize::from(!removed));
    });
}

/// P13, P14: a guard that is dropped while the cleaning comes to it is cleaned up once, its drop
/// returns after that, and what is older than it comes later.
#[test]
fn a_guard_is_cleaned_up_once_and_in_its_place() {
    model(|| {
        let (hooks, log) = (hooks(), Log::default());
        register(&hooks, "old", log.adds("old"));
        let guard = Guard::new(&hooks, Arc::new(()), hook("guard", log.adds("guard")));
        let after = log.clone();
        let dropping = thread::spawn(move || {
            drop(guard);
            assert!(after.all().contains(&"guard"));
        });
        assert!(clean(&hooks));
        assert_eq!(log.all(), ["guard", "old"]);
        assert_eq!(reports(&hooks), ["guard", "old"].map(completed));
        dropping.join().unwrap();
    });
}

/// P13: the drop of a guard waits for its own clean-up, not for what is older: here that waits for
/// the drop.
#[test]
fn a_guard_waits_for_nothing_older() {
    model(|| {
        let (hooks, dropped) = (hooks(), Flag::default());
        let (wait, tell) = (dropped.clone(), dropped);
        register(&hooks, "old", move || wait.wait());
        let guard = Guard::new(&hooks, Arc::new(()), hook("guard", || ()));
        let dropping = thread::spawn(move || {
            drop(guard);
            tell.raise();
        });
        assert!(clean(&hooks));
        dropping.join().unwrap();
    });
}

/// P14, P13: a hook that is left behind is reported once, as timed out, whenever it returns; the
/// next runs on another thread.
#[test]
fn a_hook_that_is_left_behind_is_reported_once() {
    model(|| {
        let (hooks, log) = (hooks(), Log::default());
        register(&hooks, "old", log.adds("old"));
        let (begun, passed) = (Flag::default(), Flag::default());
        let (tell, wait) = (begun.clone(), passed.clone());
        let slow = fallible("slow", move || {
            tell.raise();
            wait.wait();
            Err("slow".into())
        });
        assert!(matches!(hooks.register(slow), Registered::OnStack(_)));
        let late = Arc::clone(&hooks);
        let clock = thread::spawn(move || {
            begun.wait();
            time::pass(CAP + CAP / 5);
            passed.raise();
            // The wait of the runner that ends now.
            drop(late.state.lock());
            late.changed.notify_all();
        });
        assert!(clean(&hooks));
        clock.join().unwrap();
        let reports = reports(&hooks);
        assert_eq!(reports.len(), 2);
        let of_slow = &reports.iter().find(|(name, _)| name == "slow").unwrap().1;
        assert!(matches!(
            of_slow,
            HookOutcome::TimedOut | HookOutcome::Failed(_)
        ));
        assert!(reports.contains(&completed("old")));
        assert_eq!(log.all(), ["old"]);
    });
}

/// P14, P18: where the owner cannot wait for the runner any longer, each hook is reported once all
/// the same.
#[test]
fn an_early_end_reports_each_hook_once() {
    model_with(3, || {
        let hooks = hooks();
        register(&hooks, "old", || ());
        register(&hooks, "new", || ());
        let closing = Arc::clone(&hooks);
        let closing = thread::spawn(move || {
            let left = closing.close_now();
            assert_eq!(reports(&closing).len(), 2);
            left.len()
        });
        hooks.begin(Tick::now() + GRACE);
        while let Turn::Start(generation) = hooks.oversee(|| {}) {
            assert!(hooks.start_worker(generation));
        }
        assert!(closing.join().unwrap() <= 2);
        assert!(reports(&hooks).is_empty());
    });
}
