//! Many runs, each ended at a moment that nobody chose.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{self, SIGKILL};

use crate::place::{Ending, Place, ending};
use crate::process::until;
use crate::program::EXIT;
use crate::random::Random;

/// What came of many runs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) endings: BTreeMap<Ending, usize>,
    pub(crate) replayed: usize,
    slowest: Duration,
}

/// Ends the program again and again at moments that nobody chose, while its partitions are fed so
/// many lines each, and starts it each time; then says that this is the end, and goes on until the
/// stream is over.
pub(crate) fn at_random(test: &str, rounds: usize, lines: usize, signals: &[Signal]) -> Seen {
    let mut random = Random::new(test);
    let started = Instant::now();
    let mut place = Place::new(3);
    let (mut seen, mut written, mut graceful) = (Seen::default(), 0, true);
    for round in 0.. {
        let feed = |place: &mut Place| match round.cmp(&rounds) {
            Less => (0..3).for_each(|partition| place.feed_lines(partition, lines)),
            Equal => (0..3).for_each(|partition| place.feed(partition, &[EXIT])),
            Greater => {}
        };
        feed(&mut place);
        let (mut program, replay) = place.start(&[]);
        assert!(!graceful || replay == 0, "replayed after a good end");
        seen.replayed += usize::from(replay > 0);
        if round < rounds {
            feed(&mut place);
        }
        if round < rounds && round % 2 == 1 {
            until("the next lines", || place.written_in_all() > written);
        }
        let signal = signals[round % signals.len()];
        let sent = (round < 2 * rounds).then(|| {
            thread::sleep(Duration::from_micros(random.below(15_000)));
            program.signal(signal);
            signal
        });
        let signalled = Instant::now();
        let ending = ending(&mut program, sent);
        *seen.endings.entry(ending).or_insert(0) += 1;
        if ending == Ending::Over {
            assert!(round >= rounds, "nobody has said that this is the end");
            break;
        }
        seen.slowest = seen.slowest.max(signalled.elapsed());
        graceful = ending != Ending::Killed(SIGKILL as i32);
        let by_now = if graceful {
            assert_eq!(ending, Ending::Stopped(signal as i32));
            place.assert_nothing_to_replay()
        } else {
            place.assert_whole_so_far()
        };
        assert!(by_now >= written, "what was written is gone");
        written = by_now;
    }
    place.assert_all_there();
    let all = place.written_in_all();
    let took = started.elapsed();
    println!("{test}: {written} of {all} lines before the last run, {seen:?}, {took:?} in all");
    seen
}
