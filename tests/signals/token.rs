//! P2, P3, P6: what the signalled thread sees when the handler has returned.

use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;

use libtest_mimic::Trial;
use nix::sys::signal::raise;
use winddown::{Escalation, StopReason};

use crate::Scenario;
use crate::child::{fine, quick, short, spin, tell};
use crate::harness::{End, Launch, Signal, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("raise", raised), ("many raise", many_raise)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_handler_stops_the_token_and_its_children,
        one_reason_whatever_nests
    ]
}

fn raised(_: &str) -> ExitCode {
    // Whoever needs a thread to be scheduled for the token to read stopped is going to wait for it.
    for _ in 0..4 {
        thread::spawn(|| spin());
    }
    for _ in 0..20 {
        let shutdown = quick().signals([winddown::Signal::TERM]).install().unwrap();
        let token = shutdown.token();
        let child = token.child();
        let child_token = child.token();
        let grandchild = child_token.child();
        let grandchild_token = grandchild.token();
        let tokens = [&token, &child_token, &grandchild_token];
        assert!(tokens.iter().all(|token| !token.is_stopped()));

        raise(Signal::SIGTERM).unwrap();
        let stopped = tokens.map(winddown::StopToken::is_stopped);
        let reasons = tokens.map(winddown::StopToken::reason);
        assert_eq!(stopped, [true; 3]);
        for reason in reasons {
            // P2: stop seen, reason readable.
            assert_eq!(short(&reason.unwrap()), "SIGTERM");
        }
        drop(shutdown);
    }
    tell("all stopped");
    fine()
}

/// P6, and P2.
fn the_handler_stops_the_token_and_its_children() {
    Launch::new("raise")
        .start()
        .end()
        .assert(End::Code(0), &["all stopped"]);
}

fn many_raise(_: &str) -> ExitCode {
    const SIGNALS: [Signal; 4] = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ];
    for _ in 0..20 {
        let own = SIGNALS.map(|signal| winddown::Signal::try_from(signal as i32).unwrap());
        let shutdown = quick()
            .signals(own)
            .escalation(Escalation::Never)
            .install()
            .unwrap();
        let token = shutdown.token();
        let start = Barrier::new(SIGNALS.len());
        let reasons: Vec<StopReason> = thread::scope(|scope| {
            let threads = SIGNALS.map(|signal| {
                let (token, start) = (&token, &start);
                scope.spawn(move || {
                    start.wait();
                    raise(signal).unwrap();
                    token.reason().unwrap()
                })
            });
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let report = shutdown.shutdown();
        assert!(
            reasons.iter().all(|reason| reason == report.reason()),
            "{reasons:?}"
        );
        // P3: the first, and the three others.
        let mut all: Vec<String> = report.later_reasons().iter().map(short).collect();
        all.push(short(report.reason()));
        // `shutdown` asks for a stop itself, too late to matter.
        all.retain(|reason| reason != "completed");
        all.sort();
        assert_eq!(all, ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"]);
    }
    tell("one reason each");
    fine()
}

/// P2, P3: four signals on four threads at once, and everybody reads the same reason.
fn one_reason_whatever_nests() {
    Launch::new("many raise")
        .start()
        .end()
        .assert(End::Code(0), &["one reason each"]);
}
