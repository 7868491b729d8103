//! Histories that nobody wrote down, held against a model that is too simple to be wrong.
//!
//! The same ones each time; others with `PROPTEST_RNG_SEED`, more with `PROPTEST_CASES`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;
mod history;
mod model;
mod real;

use common::bounded;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use history::{Ending, History};

fn runner(test: &str) -> TestRunner {
    let given = Config::default();
    let config = Config {
        rng_seed: match given.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            seed @ RngSeed::Fixed(_) => seed,
        },
        failure_persistence: None,
        ..given
    };
    let (seed, cases) = (&config.rng_seed, config.cases);
    println!("{test}: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases}");
    TestRunner::new(config)
}

/// P13, P14, P19: what is called, in which order, and what everybody is told of it.
#[test]
fn p13_any_history_is_that_of_one_stack() {
    let seen = std::cell::RefCell::new(Seen::default());
    let mut runner = runner("any history");
    let held = runner.run(&history::any(), |history| {
        let model = model::of(&history);
        let of_it = history.clone();
        let real = bounded(move || real::of(&of_it));
        proptest::prop_assert_eq!(&real.log, &model.log);
        proptest::prop_assert_eq!(&real.report, &model.report);
        proptest::prop_assert_eq!(real.bodies_left, 0, "closures that were never dropped");
        seen.borrow_mut().note(&history, &model);
        Ok(())
    });
    held.unwrap_or_else(|shortest| panic!("{shortest}"));
    seen.into_inner().assert_all();
}

/// What the histories were about: one that never gets anywhere proves nothing.
#[derive(Debug, Default)]
struct Seen {
    calls: usize,
    failures: usize,
    panics: usize,
    removed: usize,
    run_now: usize,
    within: usize,
    after_the_end: usize,
    before_the_stop: usize,
    stopped_early: usize,
    dropped: usize,
}

impl Seen {
    fn note(&mut self, history: &History, told: &model::Told) {
        let count = |what: &str| told.log.iter().filter(|line| line.contains(what)).count();
        let call = |line: &&String| line.contains("call ");
        self.calls += told.log.iter().filter(call).count();
        let ended = |how| {
            told.report
                .iter()
                .filter(move |row| row.outcome.starts_with(how))
        };
        self.failures += ended("failed").count();
        self.panics += ended("panicked").count();
        self.removed += count("remove: true");
        self.run_now += count("run_now: Some");
        self.within += count("  call ");
        let over = told.log.iter().position(|line| line == "over");
        self.after_the_end += told.log[over.unwrap()..].iter().filter(call).count();
        self.before_the_stop += told.report.iter().filter(|row| row.early).count();
        self.stopped_early += count("stop: true");
        self.dropped += usize::from(history.ending == Ending::Drop);
    }

    fn assert_all(&self) {
        println!("{self:?}");
        let all = [
            self.calls,
            self.failures,
            self.panics,
            self.removed,
            self.run_now,
            self.within,
            self.after_the_end,
            self.before_the_stop,
            self.stopped_early,
            self.dropped,
        ];
        assert!(all.iter().all(|count| *count >= 20), "{self:?}");
    }
}
