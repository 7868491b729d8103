//! P8: hooks that run even on the forced exit.

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use winddown::{Event, HookOptions};

use crate::Scenario;
use crate::child::{hang, hear, hooks, quick, tell, tell_at_stop};
use crate::harness::{End, Launch, PROMPT, Signal, trials};
use crate::random::Random;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("emergency", emergency),
    ("taken off", taken_off),
    ("no time", no_time),
    ("escalating", escalating),
    ("sweep", sweep),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        an_emergency_hook_runs_on_the_forced_exit,
        an_emergency_hook_runs_while_another_hook_hangs,
        an_emergency_hook_runs_after_a_panicked_one,
        an_emergency_hook_that_has_begun_comes_to_its_end,
        an_emergency_hook_that_was_taken_off_never_runs,
        an_emergency_hook_runs_once_at_a_graceful_end,
        an_emergency_hook_runs_where_cleaning_has_no_time,
        no_ordinary_hook_begins_beside_an_emergency_hook,
        a_hung_emergency_hook_holds_nobody_for_long,
        whoever_listens_is_told_of_the_escalation,
        the_third_signal_ends_a_hung_emergency_hook_at_once,
        an_ending_is_done_or_forced_never_both,
    ]
}

fn emergency(how: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    hooks(&shutdown, &["bottom"]);
    if how == "panic" || how == "begun" {
        shutdown.hook_with(HookOptions::new("older").emergency(), || {
            tell("emergency older");
        });
    }
    if how == "panic" {
        // Before and behind it there is one: whichever goes first, one comes behind it.
        shutdown.hook_with(HookOptions::new("panics").emergency(), || {
            panic!("as it must")
        });
    }
    let (hung, begun) = (matches!(how, "hung" | "released"), how == "begun");
    let (release, released) = mpsc::channel();
    shutdown.hook_with(HookOptions::new("emergency").emergency(), move || {
        if begun {
            tell("stuck");
            hear();
            // Whoever does not wait for it has ended the process long before.
            thread::sleep(Duration::from_millis(50));
        }
        tell("emergency");
        let _ = release.send(());
        if hung {
            hang();
        }
    });
    if how == "released" {
        shutdown.hook("newer", move || {
            tell("stuck");
            released.recv().unwrap();
        });
    } else if how == "with hook" {
        shutdown.hook("hung", || {
            tell("stuck");
            hang();
        });
    } else if how != "graceful" && how != "begun" {
        tell_at_stop(&shutdown.token(), "stuck");
        tell("ready");
        loop {
            thread::sleep(Duration::from_millis(10));
        }
    }
    tell("ready");
    shutdown.wait().exit()
}

/// Of three one is removed, and one is run by hand.
fn taken_off(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    let emergency = |name| {
        let options = HookOptions::new(name).emergency();
        shutdown.hook_with(options, move || tell(name))
    };
    let removed = emergency("removed");
    emergency("stays");
    let by_hand = emergency("by hand");
    assert!(removed.remove());
    by_hand.run_now();
    shutdown.hook("stuck", || {
        tell("stuck");
        hang();
    });
    tell("ready");
    shutdown.wait().exit()
}

fn no_time(_: &str) -> ExitCode {
    let shutdown = quick()
        .grace_period(Duration::from_millis(200))
        .cleanup_reserve(Duration::ZERO)
        .install()
        .unwrap();
    hooks(&shutdown, &["bottom"]);
    shutdown.hook_with(HookOptions::new("emergency").emergency(), || {
        tell("emergency");
    });
    let _hold = shutdown.hold("never let go of").unwrap();
    tell("ready");
    shutdown.wait().exit()
}

/// The emergency hook lasts until the escalation has been told, or its time is over.
fn escalating(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    let events = shutdown.events();
    let (release, released) = mpsc::channel();
    thread::spawn(move || {
        for event in events {
            if let Event::Escalating { by, .. } = event {
                tell(format!("by {}", by.unwrap()));
                let _ = release.send(());
            }
        }
    });
    shutdown.hook_with(HookOptions::new("emergency").emergency(), move || {
        let _ = released.recv();
    });
    shutdown.hook("stuck", || {
        tell("stuck");
        hang();
    });
    tell("ready");
    shutdown.wait().exit()
}

fn force(how: &str) -> crate::harness::Program {
    let mut program = Launch::new("emergency").argument(how).ready();
    program.signal(Signal::SIGTERM);
    program.expect("stuck");
    program.signal(Signal::SIGTERM);
    program
}

/// P8: the emergency hook, and only it (P13); when it has returned, nothing is waited for. The best of ten must be well below
/// the time that it has.
fn an_emergency_hook_runs_on_the_forced_exit() {
    let took = (0..10).map(|_| {
        let ended = force("plain").end();
        let due = ["ready", "stuck", "emergency"];
        ended.assert_forced(Signal::SIGTERM, &due).took
    });
    let best = took.min().unwrap();
    assert!(best < Duration::from_millis(150), "{best:?}");
}

/// P8: it has its own thread.
fn an_emergency_hook_runs_while_another_hook_hangs() {
    force("with hook")
        .end()
        .assert_forced(Signal::SIGTERM, &["ready", "stuck", "emergency"]);
}

/// P14, on the forced exit.
fn an_emergency_hook_runs_after_a_panicked_one() {
    let mut ended = force("panic").end();
    ended.lines[2..].sort();
    ended.assert_forced(
        Signal::SIGTERM,
        &["ready", "stuck", "emergency", "emergency older"],
    );
}

/// P8: what cleaning has begun is waited for, as long as all of them have time, and no longer. The best of ten must be well
/// below that time, which a busy machine alone may take up.
fn an_emergency_hook_that_has_begun_comes_to_its_end() {
    let took = (0..10).filter_map(|_| {
        let mut program = force("begun");
        let forced = Instant::now();
        // The forced path has called the other one, and is about to wait.
        program.expect("emergency older");
        program.say("go on");
        let ended = program.end();
        let whole = ended.lines.get(3).is_some_and(|line| line == "emergency");
        assert!(ended.end.is_forced(Signal::SIGTERM), "{ended:?}");
        assert!(ended.lines.len() <= 4, "nothing older follows: {ended:?}");
        whole.then(|| forced.elapsed())
    });
    let best = took.min().expect("one of ten comes to its end");
    assert!(best < Duration::from_millis(150), "{best:?}");
}

/// P13: a removed one has no call, one that was run by hand has had it.
fn an_emergency_hook_that_was_taken_off_never_runs() {
    let mut program = Launch::new("taken off").start();
    program.expect("by hand");
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("stuck");
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert_forced(Signal::SIGTERM, &["by hand", "ready", "stuck", "stays"]);
}

/// P13: at most once, on every path.
fn an_emergency_hook_runs_once_at_a_graceful_end() {
    let mut program = Launch::new("emergency").argument("graceful").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(0), &["ready", "emergency", "bottom"]);
}

/// Once the time is over, and only it: a terminal is put back all the same.
fn an_emergency_hook_runs_where_cleaning_has_no_time() {
    let mut program = Launch::new("no time").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready", "emergency"]);
}

/// P13: not even where the hook before it ends as the emergency hooks run.
fn no_ordinary_hook_begins_beside_an_emergency_hook() {
    force("released")
        .end()
        .assert_forced(Signal::SIGTERM, &["ready", "stuck", "emergency"]);
}

/// P8: at most 250 ms for the emergency hooks together.
fn a_hung_emergency_hook_holds_nobody_for_long() {
    let ended = force("hung").end();
    assert!(
        ended.took >= Duration::from_millis(100),
        "an emergency hook has its time: {ended:?}"
    );
    ended
        .assert_forced(Signal::SIGTERM, &["ready", "stuck", "emergency"])
        .assert_within(PROMPT);
}

/// Where there is time: the one who tells looks every 100 ms, of 250. So once in ten.
fn whoever_listens_is_told_of_the_escalation() {
    let told = (0..10).any(|_| {
        let mut program = Launch::new("escalating").ready();
        program.signal(Signal::SIGTERM);
        program.expect("stuck");
        program.signal(Signal::SIGINT);
        let ended = program.end();
        assert!(ended.end.is_forced(Signal::SIGINT), "{ended:?}");
        ended.lines.get(2).is_some_and(|line| line == "by SIGINT")
    });
    assert!(told);
}

/// P8: a third signal ends it at once. The best of ten must be well below the 250 ms that it would last otherwise.
fn the_third_signal_ends_a_hung_emergency_hook_at_once() {
    let best = (0..10).map(|_| {
        let mut program = force("hung");
        let forced = Instant::now();
        program.expect("emergency");
        program.signal(Signal::SIGTERM);
        program
            .end()
            .assert_forced(Signal::SIGTERM, &["ready", "stuck", "emergency"]);
        forced.elapsed()
    });
    let best = best.min().unwrap();
    assert!(
        best < Duration::from_millis(150),
        "the best of ten took {best:?}"
    );
}

/// A program that says how it ended, as close to its end as it can.
fn sweep(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    shutdown.hook_with(HookOptions::new("forced").emergency(), || {
        tell("forced or cleaned");
    });
    let token = shutdown.token();
    tell("ready");
    while !token.is_stopped() {
        std::hint::spin_loop();
    }
    tell("stopping");
    let report = shutdown.wait();
    tell("done");
    report.exit()
}

/// P8: "ended" and "forced" are one atomic decision. The second signal comes at a random time of the ending.
fn an_ending_is_done_or_forced_never_both() {
    let mut random = Random::new("an_ending_is_done_or_forced");
    let (mut done, mut forced) = (0, 0);
    for _ in 0..150 {
        let mut program = Launch::new("sweep").ready();
        program.signal(Signal::SIGTERM);
        program.expect("stopping");
        let until = Instant::now() + random.up_to(Duration::from_micros(600));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        program.signal(Signal::SIGTERM);
        let ended = program.end();
        let said_done = ended.lines.iter().any(|line| line == "done");
        let hook_ran = ended
            .lines
            .iter()
            .filter(|line| *line == "forced or cleaned")
            .count();
        assert!(hook_ran <= 1, "{ended:?}");
        match ended.end {
            // The whole ending, and nothing else.
            End::Code(0) => {
                assert!(said_done && hook_ran == 1, "{ended:?}");
                done += 1;
            }
            // Forced within, or killed in `exit` after all was done.
            end => {
                assert!(end.is_forced(Signal::SIGTERM), "{ended:?}");
                forced += 1;
            }
        }
    }
    eprintln!("{done} done, {forced} forced");
    assert!(forced > 0, "the sweep never met the ending");
}
