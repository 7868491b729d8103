//! Distilabel's pipeline and its Ctrl-C, told again: batches that are finished, put back, saved,
//! and gone on with, and a second press that always ends it.
//!
//! How it works there, by `argilla-io/distilabel`:
//!
//! * A batch manager hands batches to the steps' queues and takes their results from one output
//!   queue, on a thread of its own (`Pipeline.run` in `src/distilabel/pipeline/local.py`,
//!   `_output_queue_loop` in `pipeline/base.py`, `pipeline/batch_manager.py`); a step works on one
//!   batch after the other until it is sent `None` (`pipeline/step_wrapper.py`).
//! * SIGINT calls `_stop`: it sets `_stop_called`; the loop ends, the steps finish what they have in
//!   hand, what is in their queues goes back (`_add_batches_back_to_batch_manager`), what has come
//!   out is taken in (`_consume_output_queue`), and `_cache` saves it for the next run
//!   (`pipeline/base.py`). The next press is told to press again, the one after it forces.
//!
//! What falls short there:
//!
//! * `_stop` takes `_stop_called_lock`, and where it has been called before returns without giving
//!   it back: the second press leaks it, the third waits for it for ever, in the signal handler of
//!   the main thread.
//! * `_run_stage_steps_and_wait` holds that same lock while the steps load: a press is not heard
//!   until they have.
//! * Nothing has a time limit: `_finalize_pipeline_execution` waits for every step.
//! * `write_json` opens the cache's file for writing in place (`utils/serialization.py`): a kill
//!   leaves half of it.
//!
//! Here every one of these is turned round. Results are in the output once, in their order. One
//! executable plays both parts: with `WINDDOWN_DISTILABEL` set it is the program, otherwise it runs
//! the tests. Every wait ends, by what is waited for or by a failure; every child is gone when its
//! test is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

#[path = "distilabel/at_random.rs"]
mod at_random;
#[path = "distilabel/manager.rs"]
mod manager;
#[path = "distilabel/oracle.rs"]
mod oracle;
#[path = "distilabel/outside.rs"]
mod outside;
#[path = "distilabel/place.rs"]
mod place;
#[path = "../common/process.rs"]
mod process;
#[path = "distilabel/program.rs"]
mod program;
#[path = "../common/pty.rs"]
mod pty;
#[path = "../common/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGTERM};

use crate::at_random::{Blow, at_random};
use crate::manager::{DATASET, PARTIAL, State};
use crate::place::{DIRECTORY, Ending, Place, ending, line_of, numbers};
use crate::process::{Process, until};
use crate::pty::{CTRL_C, Pty};

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(60);
/// Of the endings that use the time for draining up: a second, and ample time for what comes then.
const GRACE: Duration = Duration::from_secs(4);
const SHORT: [&str; 2] = ["grace=4000", "reserve=3000"];
/// What a loaded machine may add to a bound (P15) before it is seen from outside.
const NOISE: Duration = Duration::from_secs(1);
/// Of a forced end: far from the grace period, however loaded the machine is.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Tests, by the names of their functions.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($test), || {
            $test();
            Ok(())
        })),*]
    };
}

fn main() -> ExitCode {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return program::main(Path::new(&directory));
    }
    let quick = trials![
        uninterrupted_it_is_what_the_oracle_says,
        ctrl_c_finishes_what_is_in_hand_and_puts_the_rest_back,
        interrupted_and_resumed_it_is_the_output_of_one_run,
        ctrl_c_while_loading_is_heard,
        a_load_that_hangs_is_bounded,
        a_batch_that_hangs_is_bounded_named_and_put_back,
        a_disk_that_hangs_is_bounded_and_the_state_is_the_old_one,
        the_second_press_forces_and_leaves_no_lock,
        a_kill_at_the_worst_moments_leaves_the_state_whole,
        the_next_run_is_refused_while_this_one_runs,
        the_user_is_told_what_happens_and_how_long,
        the_state_is_never_seen_half_written,
        a_kill_loses_and_doubles_nothing,
        four_presses_always_end_it,
        what_is_checked_is_seen_when_it_is_wrong,
    ];
    let long = trials![
        two_hundred_presses_lose_nothing,
        two_hundred_times_four_presses_end_it,
        two_hundred_kills_lose_and_double_nothing,
    ];
    let long = long.into_iter().map(|trial| trial.with_ignored_flag(true));
    let tests = quick.into_iter().chain(long).collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn uninterrupted_it_is_what_the_oracle_says() {
    let place = Place::new(30);
    place.complete();
    // Nothing is left to do, and nothing is done again.
    let written = fs::metadata(place.path(DATASET)).unwrap().modified();
    assert!(!place.complete().contains("resumed"));
    let again = fs::metadata(place.path(DATASET)).unwrap().modified();
    assert_eq!(written.unwrap(), again.unwrap());
}

/// One batch is in hand, and the queue behind it is full.
fn in_hand(place: &Place, arguments: &[&str]) -> (Process, Pty, u64) {
    let arguments = [&["replicas=1"], arguments].concat();
    let (program, pty) = place.start(&arguments);
    let number = until_in_hand(place, &program);
    (program, pty, number)
}

fn until_in_hand(place: &Place, program: &Process) -> u64 {
    let stalled = program.out.line("stalled generate");
    let number: u64 = stalled.rsplit(' ').next().unwrap().parse().unwrap();
    until("the others", || {
        // Read as it is saved: at any time it is whole.
        let state = fs::read_to_string(place.path("state")).unwrap_or_default();
        // All before it are through, and behind it the queue is full.
        state.contains(&format!("\"next\":{},", number + 6))
            && state.contains(&format!("\"written\":{number},"))
    });
    number
}

fn ctrl_c_finishes_what_is_in_hand_and_puts_the_rest_back() {
    let place = Place::new(20);
    let (mut program, mut pty, number) = in_hand(&place, &["stall=generate:4"]);
    pty.type_key(CTRL_C);
    program.out.line("stopping");
    place.release("generate");
    let (ended, all) = ending(&mut program);
    assert_eq!(ended, Ending::Stopped, "{all}");
    let state = place.assert_put_back();
    // That in hand is through its step; those behind it are not, and come next, in their order.
    let rest: Vec<u64> = (number + 1..state.next).collect();
    assert_eq!(numbers(&state, 0), rest, "{all}");
    assert!(numbers(&state, 1).contains(&number), "{state:?}");
    assert!(rest.len() > 4, "{state:?}");
    let told = program.err.all();
    assert!(told.contains("4 were put back"), "{told}");
    let all = place.complete();
    let resumed = format!("resumed {} of {}, 0 lost", state.written, state.next);
    assert!(all.contains(&resumed), "{all}");
}

fn interrupted_and_resumed_it_is_the_output_of_one_run() {
    let seen = at_random("interrupted", 12, Blow::Key);
    assert!(seen.contains_key(&Ending::Stopped), "{seen:?}");
}

fn ctrl_c_while_loading_is_heard() {
    let place = Place::new(10);
    let (mut program, mut pty) = place.start(&["stall=load:2"]);
    program.out.line("stalled load");
    pty.type_key(CTRL_C);
    let (ended, all) = ending(&mut program);
    assert_eq!(ended, Ending::Stopped, "{all}");
    assert!(!all.contains("loaded"), "{all}");
    assert_eq!(place.assert_put_back(), State::default());
    place.complete();
}

/// Ends by its time, with what it could not end named, and no status that could pass for success.
fn out_of_time(program: &mut Process, since: Instant, signal: Option<i32>) -> String {
    let status = program.end();
    let took = since.elapsed();
    let _ = (program.out.last_line(), program.err.last_line());
    let all = format!("{}\n{}", program.out.all(), program.err.all());
    assert!(took < GRACE + NOISE, "{took:?}: {all}");
    assert_eq!(status.signal(), signal, "{status}: {all}");
    assert!(!status.success() && !all.contains("violation"), "{all}");
    all
}

fn a_load_that_hangs_is_bounded() {
    let place = Place::new(10);
    let (mut program, mut pty) = place.start(&["stall=hung load:2", SHORT[0], SHORT[1]]);
    program.out.line("stalled hung load");
    let since = Instant::now();
    pty.type_key(CTRL_C);
    let all = out_of_time(&mut program, since, Some(2));
    assert!(all.contains("left behind: "), "{all}");
    assert_eq!(place.assert_put_back(), State::default());
    place.complete();
}

fn a_batch_that_hangs_is_bounded_named_and_put_back() {
    for signal in [SIGINT, SIGTERM] {
        let place = Place::new(20);
        let (mut program, mut pty, number) =
            in_hand(&place, &["stall=generate:4", SHORT[0], SHORT[1]]);
        let since = Instant::now();
        if signal == SIGINT {
            pty.type_key(CTRL_C);
        } else {
            program.signal(SIGTERM);
        }
        let died_of = (signal == SIGINT).then_some(2);
        let all = out_of_time(&mut program, since, died_of);
        assert!(
            all.contains(&format!("put back {number} of generate")),
            "{all}"
        );
        assert!(all.contains("batches of generate: put back: "), "{all}");
        // By its name, and where it was spawned.
        let spawned = line_of("stage.spawn(replica.name");
        let mut wrong = all.lines().filter(|line| line.contains(&spawned));
        assert!(
            wrong.any(|line| line.ends_with("task generate 0 of stage generate: abandoned")),
            "{all}"
        );
        let state = place.assert_put_back();
        let rest: Vec<u64> = (number..state.next).collect();
        assert_eq!(numbers(&state, 0), rest, "{all}");
        let tries: Vec<u32> = state.steps[0].waiting.iter().map(|b| b.tries).collect();
        assert_eq!((tries[0], tries[1..].iter().sum()), (1, 0_u32), "{state:?}");
        place.complete();
    }
}

fn a_disk_that_hangs_is_bounded_and_the_state_is_the_old_one() {
    for stall in ["stall=save:30", "stall=write:3", "stall=last save:1"] {
        let place = Place::new(30);
        let (mut program, mut pty) = place.start(&[stall, SHORT[0], SHORT[1], "work=2000"]);
        if stall.starts_with("stall=last") {
            program.out.line("loaded");
        } else {
            program.out.line("stalled");
        }
        let since = Instant::now();
        pty.type_key(CTRL_C);
        let all = out_of_time(&mut program, since, Some(2));
        assert!(all.contains("hook save the state: timed out"), "{all}");
        place.assert_whole_so_far();
        place.complete();
    }
}

/// Where an end by force can do the most harm: with a batch in hand, with the output written and
/// the state not, with half an output, with the output in its place and the state still there.
const WORST: [&str; 5] = [
    "stall=generate:5",
    "stall=judge:4",
    "stall=save:25",
    "stall=write:3",
    "stall=rename:1",
];

fn the_second_press_forces_and_leaves_no_lock() {
    for stall in WORST {
        let place = Place::new(20);
        let (mut program, mut pty) = place.start(&[stall, "debounce=0"]);
        program.out.line("stalled");
        pty.type_key(CTRL_C);
        program.out.line("stopping");
        let since = Instant::now();
        pty.type_key(CTRL_C);
        let (ended, all) = ending(&mut program);
        let took = since.elapsed();
        assert_eq!(ended, Ending::Forced, "{stall}: {all}");
        assert!(took < AT_ONCE, "{took:?}");
        // The next run starts at once.
        place.complete();
    }
}

fn a_kill_at_the_worst_moments_leaves_the_state_whole() {
    for stall in WORST {
        let place = Place::new(20);
        let (mut program, _pty) = place.start(&[stall]);
        program.out.line("stalled");
        program.signal(SIGKILL);
        let (ended, all) = ending(&mut program);
        assert_eq!(ended, Ending::Killed(9), "{stall}: {all}");
        let state = place.assert_whole_so_far();
        if stall == "stall=write:3" {
            let length = fs::metadata(place.path(PARTIAL)).unwrap().len();
            assert!(length > state.bytes, "not half an output");
        }
        place.complete();
    }
}

/// Read all the time, while it is saved all the time.
fn the_state_is_never_seen_half_written() {
    let place = Place::new(60);
    let (mut program, _pty) = place.start(&["save=0"]);
    let mut seen = BTreeSet::new();
    while program.ended().is_none() {
        let Ok(file) = fs::read_to_string(place.path(manager::STATE)) else {
            continue;
        };
        // One line that says how long the next one is.
        let (first, state) = file.split_once('\n').expect("half a line");
        let mut words = first.split(' ').skip_while(|word| *word != "bytes");
        let bytes: usize = words.nth(1).unwrap().parse().unwrap();
        assert_eq!(state.len(), bytes + 1, "half a state");
        seen.insert(first.to_owned());
    }
    assert_eq!(ending(&mut program).0, Ending::Over);
    assert!(seen.len() > 10, "{} states were seen", seen.len());
    place.assert_complete();
}

fn the_next_run_is_refused_while_this_one_runs() {
    let place = Place::new(20);
    let (mut program, mut pty) = place.start(&["stall=generate:4"]);
    program.out.line("stalled");
    let (mut second, _pty) = place.start(&[]);
    assert_eq!(second.end().code(), Some(1));
    second.err.last_line();
    let told = second.err.all();
    assert!(
        told.contains(&format!("in use by process {}", program.pid())),
        "{told}"
    );
    pty.type_key(CTRL_C);
    program.out.line("stopping");
    place.release("generate");
    assert_eq!(ending(&mut program).0, Ending::Stopped);
    place.complete();
}

/// All on the terminal, read with an acknowledgement: what nobody has read when it dies is gone.
fn the_user_is_told_what_happens_and_how_long() {
    let place = Place::new(20);
    let mut pty = Pty::open();
    let mut command = place.command(&["stall=generate:4", "stall=report:1", "replicas=1"]);
    command.args(["grace=20000", "debounce=60000"]);
    let mut program = pty.start(command);
    let number = until_in_hand(&place, &program);
    pty.type_key(CTRL_C);
    let told = program.out.line("finishing");
    assert!(told.contains("SIGINT"), "{told}");
    assert!(
        told.ends_with("finishing 1 batch in hand, for 20 s at most; a second Ctrl-C ends at once"),
        "{told}"
    );
    // Every second: how long still, who, for how long, where, and with what.
    let told = program.out.line("draining, ");
    assert!(told.contains(" left: SIGINT"), "{told}");
    program.out.line("1 of batches of generate");
    let all = program.out.all();
    assert!(all.contains(&format!("batch {number}")), "{all}");
    // What comes too soon to force is answered.
    pty.type_key(CTRL_C);
    program.out.line("still finishing; press again to force");
    place.release("generate");
    program
        .out
        .line("batches are written, 4 were put back; run it again to go on");
    program.out.line("ended: clean");
    place.release("report");
    let status = program.end();
    assert_eq!(status.signal(), Some(2), "{status}");
    place.assert_put_back();
    place.complete();
}

fn a_kill_loses_and_doubles_nothing() {
    let seen = at_random("killed", 12, Blow::Kill);
    assert!(seen.contains_key(&Ending::Killed(9)), "{seen:?}");
}

fn four_presses_always_end_it() {
    let seen = at_random("four presses", 12, Blow::FourKeys);
    let by_a_press = [Ending::Stopped, Ending::Forced, Ending::Killed(2)];
    assert!(by_a_press.iter().any(|class| seen.contains_key(class)));
}

fn two_hundred_presses_lose_nothing() {
    let seen = at_random("interrupted often", 200, Blow::Key);
    assert!(seen.contains_key(&Ending::Over) && seen.contains_key(&Ending::Stopped));
}

fn two_hundred_times_four_presses_end_it() {
    let seen = at_random("four presses often", 200, Blow::FourKeys);
    for class in [Ending::Over, Ending::Stopped, Ending::Forced] {
        assert!(seen.contains_key(&class), "{seen:?}");
    }
}

fn two_hundred_kills_lose_and_double_nothing() {
    let seen = at_random("killed often", 200, Blow::Kill);
    assert!(seen.contains_key(&Ending::Over) && seen.contains_key(&Ending::Killed(9)));
}

/// So that a clean check means something.
fn what_is_checked_is_seen_when_it_is_wrong() {
    let wrong: [fn(&mut State); 6] = [
        |state| state.written += 1,
        |state| state.bytes -= 1,
        |state| drop(state.steps[0].waiting.pop_back()),
        |state| state.steps[0].waiting.swap(0, 1),
        |state| {
            let twice = state.steps[0].waiting[0].clone();
            state.done.insert(twice.number, twice);
        },
        |state| state.steps[0].waiting[0].rows.truncate(1),
    ];
    for (case, wrong) in wrong.into_iter().enumerate() {
        let place = Place::new(20);
        let (mut program, mut pty, _) = in_hand(&place, &["stall=generate:8"]);
        pty.type_key(CTRL_C);
        program.out.line("stopping");
        place.release("generate");
        assert_eq!(ending(&mut program).0, Ending::Stopped);
        let mut state = place.assert_put_back();
        let path = place.path(manager::STATE);
        let (mut checkpoint, _) = winddown::Checkpoint::<State>::open(path).unwrap();
        wrong(&mut state);
        checkpoint.save(&state).unwrap();
        drop(checkpoint);
        assert!(place.whole_so_far().is_err(), "case {case}");
    }
}
