//! Properties, for the tests: the same cases each time, others with `PROPTEST_RNG_SEED`, more with
//! `PROPTEST_CASES`.
#![allow(clippy::panic, clippy::print_stdout, reason = "tests")]

use std::cell::RefCell;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Panics with the simplest input for which `holds` panics.
pub(crate) fn holds<S: Strategy>(what: &str, inputs: &S, holds: impl FnMut(&S::Value)) {
    let given = Config::default();
    let seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        seed @ RngSeed::Fixed(_) => seed,
    };
    println!(
        "{what}: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={}",
        given.cases
    );
    let config = Config {
        rng_seed: seed,
        failure_persistence: None,
        ..given
    };
    let holds = RefCell::new(holds);
    let result = TestRunner::new(config).run(inputs, |input| {
        (holds.borrow_mut())(&input);
        Ok(())
    });
    result.unwrap_or_else(|simplest| panic!("{simplest}"));
}
