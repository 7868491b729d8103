//! What every store must do: functions over a way to open one, which each store is run through.
//!
//! A `Way` opens the same empty store again and again, also in another process.

mod death;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use winddown::{
    Claim, ClaimError, GivenUp, Ledger, LedgerError, Member, Membership, PreviousRun,
    ShutdownCoordinator, StopReason, WriteError, Written,
};

pub(crate) use death::*;

use crate::common::{FAR, bounded, embedded};
use crate::process::until;

/// How a store is opened.
pub(crate) trait Way: Send + Sync {
    fn open(&self) -> Ledger;
    /// For another process: what [`worker::open`](crate::worker::open) understands.
    fn address(&self) -> String;
    /// Does what somebody with the right to it can do by hand: runs this SQL.
    fn by_hand(&self, sql: &str);
}

/// A test for each promise, of this way.
macro_rules! conforms {
    ($way:expr) => {
        $crate::conformance::conforms! { $way =>
            a_claim_is_one_members_until_its_verdict
            of_many_who_claim_a_key_one_gets_it
            what_is_released_or_dropped_goes_on_with_its_state
            what_fails_is_given_up_until_it_is_retried
            at_the_end_what_is_left_is_released_and_nobody_is_a_member
            an_item_is_a_claim
            what_hangs_at_the_end_is_released_and_refused_later
            the_heart_beats_through_drain_and_hooks_and_leaving_is_last
            a_member_whose_row_is_deleted_fences_itself
            who_is_gone_cannot_claim_before_it_has_noticed
            a_claim_without_an_owner_is_pruned
            a_member_of_another_host_is_dead_when_its_heart_has_stood_still
            a_killed_process_is_found_dead_and_pruned_once
            what_a_killed_process_was_doing_is_known
            a_hook_of_any_name_stops_no_heart
            a_forced_run_is_told_from_a_killed_one
            a_run_that_is_out_of_time_says_so
            one_that_wakes_up_too_late_is_fenced_and_refused
            one_that_is_stopped_for_less_than_that_goes_on
        }
    };
    ($way:expr => $($promise:ident)+) => {
        $(
            #[test]
            fn $promise() {
                let Some(way) = $way else { return };
                $crate::conformance::$promise(&way);
            }
        )+
    };
}
pub(crate) use conforms;

/// A program that runs in this process.
pub(crate) struct Program {
    pub(crate) shutdown: ShutdownCoordinator,
    pub(crate) member: Member,
}

pub(crate) const BEAT: Duration = Duration::from_millis(50);

/// Reaching it fails, where nobody is to count as dead.
pub(crate) fn patient(name: &'static str) -> Membership {
    Membership::new(name).heartbeat(BEAT).dead_after(FAR)
}

/// Dead soon.
pub(crate) fn brittle(name: &'static str) -> Membership {
    Membership::new(name).heartbeat(BEAT).dead_after(BEAT * 40)
}

impl Program {
    pub(crate) fn start(ledger: &Ledger, membership: Membership) -> Self {
        let shutdown = embedded().install().unwrap();
        let member = ledger.join(&shutdown, membership).unwrap();
        Self { shutdown, member }
    }
}

fn keys(ledger: &Ledger) -> Vec<String> {
    let failed = ledger.failed().unwrap();
    failed.iter().map(|claim| claim.key().to_owned()).collect()
}

pub(crate) fn a_claim_is_one_members_until_its_verdict(way: &dyn Way) {
    let ledger = way.open();
    let (one, two) = (
        Program::start(&ledger, patient("one")),
        Program::start(&way.open(), patient("two")),
    );
    let claim = one.member.claim("a", &["payload"]).unwrap();
    assert_eq!(claim.payload::<Vec<String>>().unwrap(), ["payload"]);
    for other in [&one.member, &two.member] {
        match other.claim("a", &()) {
            Err(ClaimError::Taken { by, key, .. }) => {
                assert_eq!((by.id(), by.name(), &*key), (one.member.id(), "one", "a"));
                assert_eq!((by.pid(), by.in_flight()), (std::process::id(), 1));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(claim.complete().unwrap(), Written::Stored);
    assert!(matches!(claim.complete(), Err(WriteError::Decided { .. })));
    assert!(matches!(
        claim.fail("late"),
        Err(WriteError::Decided { .. })
    ));
    // Gone, and its key is free.
    assert!(ledger.released().unwrap().is_empty());
    let again = two.member.claim("a", &()).unwrap();
    assert!(again.epoch() > claim.epoch());
    assert_eq!(
        (again.crashes(), again.failures(), again.interruptions()),
        (0, 0, 0)
    );
}

pub(crate) fn of_many_who_claim_a_key_one_gets_it(way: &dyn Way) {
    const MANY: usize = 4;
    let ledger = way.open();
    let programs: Vec<Program> = (0..MANY)
        .map(|_| Program::start(&ledger, patient("worker")))
        .collect();
    for round in 0..20 {
        let (start, key) = (Barrier::new(MANY), format!("key {round}"));
        let got: usize = thread::scope(|scope| {
            let claims: Vec<_> = programs
                .iter()
                .map(|program| {
                    scope.spawn(|| {
                        start.wait();
                        let claim = program.member.claim(&key, &());
                        // Kept until all have tried.
                        start.wait();
                        usize::from(claim.is_ok())
                    })
                })
                .collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).sum()
        });
        assert_eq!(got, 1);
    }
}

pub(crate) fn what_is_released_or_dropped_goes_on_with_its_state(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    let claim = program.member.claim("a", &1).unwrap();
    assert_eq!(claim.saved::<u32>().unwrap(), None);
    claim.save(&17).unwrap();
    assert_eq!(claim.release().unwrap(), Written::Stored);
    assert!(matches!(claim.save(&18), Err(WriteError::Decided { .. })));
    assert_eq!(ledger.released().unwrap(), ["a"]);
    let claim = program.member.claim("a", &2).unwrap();
    assert_eq!(
        (claim.payload::<u32>().unwrap(), claim.saved().unwrap()),
        (2, Some(17))
    );
    drop(claim);
    let claim = program.member.claim("a", &3).unwrap();
    // A release of a program that goes on is no interruption, and no crash.
    assert_eq!(
        (claim.crashes(), claim.interruptions(), claim.failures()),
        (0, 0, 0)
    );
    assert!(claim.saved::<String>().is_err(), "of another shape");
}

pub(crate) fn what_fails_is_given_up_until_it_is_retried(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    program
        .member
        .claim("a", &"apples")
        .unwrap()
        .fail("no apples")
        .unwrap();
    let panicked = program.member.claim("b", &()).unwrap();
    let thread = thread::spawn(move || {
        let _panicked = panicked;
        std::panic::resume_unwind(Box::new("as it does"));
    });
    thread.join().unwrap_err();
    assert_eq!(keys(&ledger), ["a", "b"]);
    let failed = &ledger.failed().unwrap()[0];
    assert_eq!(failed.payload::<String>().unwrap(), "apples");
    assert!(matches!(failed.why(), GivenUp::Failed { error, .. } if error == "no apples"));
    assert_eq!((failed.crashes(), failed.failures()), (0, 1));
    match program.member.claim("a", &()) {
        Err(ClaimError::GivenUp(failed)) => {
            assert_eq!(failed.to_string(), "a: failed: no apples");
        }
        other => panic!("{other:?}"),
    }
    assert!(ledger.retry("a").unwrap() && !ledger.retry("a").unwrap());
    assert!(ledger.discard("b").unwrap() && !ledger.discard("b").unwrap());
    assert!(!ledger.discard("a").unwrap(), "it is not given up");
    assert!(keys(&ledger).is_empty());
    assert_eq!(program.member.claim("a", &()).unwrap().failures(), 1);
}

pub(crate) fn at_the_end_what_is_left_is_released_and_nobody_is_a_member(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    assert_eq!(ledger.previous_run("worker").unwrap(), PreviousRun::None);
    let left = program.member.claim("left", &()).unwrap();
    let released = program.member.claim("released", &()).unwrap();
    program.shutdown.stop("enough");
    let told = program.member.claim("more", &());
    assert!(matches!(told, Err(ClaimError::IntakeClosed)), "{told:?}");
    released.release().unwrap();
    let report = program.shutdown.shutdown();
    assert_eq!(report.exit_code(), 0, "{report}");
    let last = report.hooks().last().unwrap();
    assert_eq!(
        (last.name(), last.holder().to_string()),
        ("member worker leaves", "last".to_owned())
    );
    assert!(ledger.members().unwrap().is_empty());
    let mut open = ledger.released().unwrap();
    open.sort();
    assert_eq!(open, ["left", "released"]);
    assert!(matches!(
        left.complete(),
        Err(WriteError::Superseded { .. })
    ));
    assert!(matches!(
        ledger.previous_run("worker").unwrap(),
        PreviousRun::Clean { .. }
    ));
    assert_eq!(ledger.previous_run("other").unwrap(), PreviousRun::None);
    let refused = ledger.join(&program.shutdown, patient("worker"));
    assert!(matches!(refused, Err(LedgerError::IntakeClosed)));
    let next = Program::start(&ledger, patient("worker"));
    for key in ["released", "left"] {
        let claim = next.member.claim(key, &()).unwrap();
        assert_eq!((claim.crashes(), claim.interruptions()), (0, 1), "{key}");
    }
    assert!(next.member.id() > program.member.id());
}

pub(crate) fn an_item_is_a_claim(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    let jobs = program.member.in_flight("jobs");
    let item = |key: &str| {
        let slot = jobs.reserve().unwrap();
        slot.fill(program.member.claim(key, &()).unwrap()).unwrap()
    };
    item("done").complete(Claim::complete).unwrap();
    item("failed").fail("no paper");
    drop(item("dropped"));
    let uncommitted = item("uncommitted").complete(|_| Err::<(), _>("no ink"));
    uncommitted.unwrap_err();
    assert_eq!(keys(&ledger), ["failed"]);
    assert_eq!(ledger.released().unwrap(), ["dropped", "uncommitted"]);
    let claim = program.member.claim("uncommitted", &()).unwrap();
    assert_eq!(claim.failures(), 1);
    claim.complete().unwrap();
    // Fetched over the stop.
    let slot = jobs.reserve().unwrap();
    let fetched = program.member.claim("fetched", &()).unwrap();
    program.shutdown.stop("enough");
    assert!(slot.fill(fetched).is_none());
    assert_eq!(ledger.released().unwrap(), ["dropped", "fetched"]);
    assert_eq!(program.shutdown.shutdown().exit_code(), 0);
}

pub(crate) fn what_hangs_at_the_end_is_released_and_refused_later(way: &dyn Way) {
    let ledger = way.open();
    let shutdown = embedded()
        .grace_period(Duration::from_millis(1500))
        .install()
        .unwrap();
    let member = ledger.join(&shutdown, patient("worker")).unwrap();
    let jobs = member.in_flight("jobs");
    let (over, end) = std::sync::mpsc::channel::<()>();
    let (begun, working) = std::sync::mpsc::channel();
    let worker = thread::spawn(move || {
        let slot = jobs.reserve().unwrap();
        let item = slot.fill(member.claim("slow", &()).unwrap()).unwrap();
        begun.send(()).unwrap();
        end.recv().unwrap();
        item.complete(Claim::complete).unwrap_err()
    });
    working.recv().unwrap();
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.handed_back(), 1);
    assert_eq!(ledger.released().unwrap(), ["slow"]);
    over.send(()).unwrap();
    worker.join().unwrap();
    assert_eq!(ledger.released().unwrap(), ["slow"]);
}

pub(crate) fn the_heart_beats_through_drain_and_hooks_and_leaving_is_last(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, brittle("worker"));
    let other = Program::start(&way.open(), brittle("other"));
    let id = program.member.id();
    let beaten = |phase: &str, hook: Option<&str>| {
        let row = || {
            let members = ledger.members().unwrap();
            members
                .into_iter()
                .find(|member| member.id() == id)
                .expect("taken for dead")
        };
        until("the phase", || {
            row().phase() == phase && row().hook() == hook
        });
        let first = row().last_heartbeat();
        // Longer than `dead_after`: a heart that stood still would be found.
        until("the heart to beat", || {
            row().last_heartbeat() > first + BEAT * 50
        });
    };
    let (in_hook, begun) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    program.shutdown.hook("slow one", move || {
        in_hook.send(()).unwrap();
        gone.recv().unwrap();
    });
    let hold = program.shutdown.hold("request").unwrap();
    thread::scope(|scope| {
        let ending = scope.spawn(|| program.shutdown.shutdown());
        beaten("draining", None);
        drop(hold);
        begun.recv().unwrap();
        beaten("cleaning", Some("slow one"));
        assert_eq!(ledger.members().unwrap().len(), 2);
        go.send(()).unwrap();
        let report = ending.join().unwrap();
        assert_eq!(report.reason(), &StopReason::Completed);
        assert_eq!((report.later_reasons(), report.exit_code()), (&[][..], 0));
    });
    let members = ledger.members().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].id(), other.member.id());
}

pub(crate) fn a_member_whose_row_is_deleted_fences_itself(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    way.by_hand("DELETE FROM winddown_members");
    let reason = program.shutdown.token().wait_timeout(FAR).unwrap();
    assert!(matches!(&reason, StopReason::Fenced { member, .. } if member == "worker"));
    assert!(reason.is_failure() && program.member.is_fenced());
    assert!(matches!(claim.complete(), Err(WriteError::Fenced { .. })));
    assert!(matches!(
        program.member.claim("b", &()),
        Err(ClaimError::Fenced { .. })
    ));
    assert_eq!(program.shutdown.shutdown().exit_code(), 1);
    assert_eq!(ledger.previous_run("worker").unwrap(), PreviousRun::Fenced);
}

pub(crate) fn who_is_gone_cannot_claim_before_it_has_noticed(way: &dyn Way) {
    let ledger = way.open();
    // It beats once in a long time.
    let slow = Membership::new("worker").heartbeat(FAR / 4).dead_after(FAR);
    let program = Program::start(&ledger, slow);
    way.by_hand("DELETE FROM winddown_members");
    assert!(matches!(
        program.member.claim("a", &()),
        Err(ClaimError::Fenced { .. })
    ));
    assert!(program.shutdown.token().is_stopped());
    assert!(ledger.released().unwrap().is_empty());
}

pub(crate) fn a_claim_without_an_owner_is_pruned(way: &dyn Way) {
    let ledger = way.open();
    let orphan = |key: &str, owner: i64, crashes: u32| {
        way.by_hand(&format!(
            "INSERT INTO winddown_claims (key, state, owner, epoch, crashes, interruptions, \
                 failures, since, payload) \
             VALUES ('{key}', 'claimed', {owner}, 1, {crashes}, 0, 0, 0, '4')"
        ));
    };
    orphan("a", 4711, 1);
    let program = Program::start(&ledger, patient("worker"));
    let failed = ledger.failed().unwrap();
    assert!(matches!(
        failed[0].why(),
        GivenUp::Orphaned { owner: 4711, .. }
    ));
    assert_eq!(
        (failed[0].crashes(), failed[0].payload::<u32>().unwrap()),
        (1, 4)
    );
    // By a heartbeat, and by whoever wants it before one comes.
    orphan("b", 4711, 1);
    until("it to be pruned", || keys(&ledger) == ["a", "b"]);
    orphan("c", 4711, 1);
    let refused = program.member.claim("c", &());
    assert!(
        matches!(refused, Err(ClaimError::GivenUp(_))),
        "{refused:?}"
    );
}
