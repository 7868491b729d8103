//! Many runs, each ended at a moment that nobody chose.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGKILL;

use crate::place::{Ending, Place, ending};
use crate::pty::CTRL_C;
use crate::random::Random;

/// What is done to a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    Key,
    FourKeys,
    Kill,
}

/// The program, ended at such moments until it is through, again and again; how often it ended how.
pub(crate) fn at_random(test: &str, rounds: usize, blow: Blow) -> BTreeMap<Ending, usize> {
    let mut random = Random::new(test);
    let (mut endings, mut runs, mut slowest) = (BTreeMap::new(), 0, Duration::ZERO);
    while runs < rounds {
        // Those that press four times find something in hand that takes as long as they do.
        let (place, work) = match blow {
            Blow::FourKeys => (Place::new(12), "work=25000"),
            _ => (Place::new(40), "work=2000"),
        };
        let mut written = 0;
        while !place.is_complete() || place.path("state").exists() {
            runs += 1;
            let (mut program, mut pty) =
                place.start(&[work, "debounce=5", "save=0", "grace=20000"]);
            if runs % 3 > 0 {
                program.out.line("loaded");
            }
            let micros = |random: &mut Random, most| Duration::from_micros(random.below(most));
            thread::sleep(micros(&mut random, 30_000));
            let struck = Instant::now();
            match blow {
                Blow::Key => pty.type_key(CTRL_C),
                Blow::FourKeys => {
                    for _ in 0..4 {
                        pty.type_key(CTRL_C);
                        thread::sleep(micros(&mut random, 15_000));
                    }
                }
                Blow::Kill => program.signal(SIGKILL),
            }
            let (ending, all) = ending(&mut program);
            slowest = slowest.max(struck.elapsed());
            *endings.entry(ending).or_insert(0) += 1;
            let state = match ending {
                Ending::Over => break,
                Ending::Stopped if all.contains("ready") => place.assert_put_back(),
                // Before it had opened the state: that is as the run before has left it.
                Ending::Stopped | Ending::Forced | Ending::Killed(_) => place.assert_whole_so_far(),
            };
            if !place.is_complete() {
                assert!(state.written >= written, "what was written is gone: {all}");
                written = state.written;
            }
        }
        place.assert_complete();
    }
    println!("{test}: {runs} runs, {endings:?}, at most {slowest:?} from the blow to the end");
    endings
}
