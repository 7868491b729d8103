//! What no member can be made to show from outside: two at once.

use std::sync::Barrier;
use std::thread;

use super::*;
use crate::ledger::soon;

fn doing() -> Doing {
    Doing {
        phase: "running".to_owned(),
        hook: None,
    }
}

fn join(store: &dyn Store) -> i64 {
    let id = store.next_epoch(soon()).unwrap();
    let new = NewMember {
        id,
        name: "worker".to_owned(),
        host: "here".to_owned(),
        boot: String::new(),
        pid: 1,
        dead_after: Duration::from_secs(60),
        max_crashes: 9,
    };
    store.join(&new, soon()).unwrap();
    id
}

fn row(store: &dyn Store, id: i64) -> MemberRow {
    let members = store.members(soon()).unwrap();
    members.into_iter().find(|row| row.info.id == id).unwrap()
}

fn claim(store: &dyn Store, owner: i64) -> ClaimId {
    let epoch = match store.claim(owner, "a", "0", soon()).unwrap() {
        Answer::Claimed { epoch, .. } => Some(epoch),
        _ => None,
    };
    ClaimId {
        key: "a".to_owned(),
        owner,
        epoch: epoch.unwrap(),
    }
}

fn of_two_who_prune_at_once_one_does(stores: [&dyn Store; 2]) {
    for _ in 0..50 {
        let id = join(stores[0]);
        claim(stores[0], id);
        let start = Barrier::new(2);
        let prune = |store: &dyn Store| {
            let dead = row(store, id);
            start.wait();
            store.prune(&dead, EndKind::Killed, soon()).unwrap()
        };
        let pruned: Vec<bool> = thread::scope(|scope| {
            let two = stores.map(|store| scope.spawn(move || prune(store)));
            two.map(|one| one.join().unwrap()).into()
        });
        assert_eq!(pruned.iter().filter(|pruned| **pruned).count(), 1);
        assert_eq!(stores[0].open_keys(soon()).unwrap(), ["a"]);
        // Forgiven, or it would be given up some time.
        let next = join(stores[1]);
        assert!(
            stores[1]
                .decide(&claim(stores[1], next), &Verdict::Completed, soon())
                .unwrap()
        );
        stores[1].leave(next, "worker", end(), soon()).unwrap();
    }
}

fn end() -> End {
    End {
        kind: EndKind::Clean,
        took: Duration::ZERO,
        doing: doing(),
        in_flight: 0,
    }
}

fn who_has_been_heard_of_since_is_not_pruned(store: &dyn Store) {
    let id = join(store);
    let mine = claim(store, id);
    let before = row(store, id);
    assert!(store.beat(id, &doing(), soon()).unwrap());
    assert!(!store.prune(&before, EndKind::Killed, soon()).unwrap());
    assert!(store.save(&mine, "1", soon()).unwrap());
    assert!(
        store
            .prune(&row(store, id), EndKind::Killed, soon())
            .unwrap()
    );
    assert!(!store.beat(id, &doing(), soon()).unwrap());
    assert!(!store.save(&mine, "2", soon()).unwrap());
}

/// Of an owner, and of an epoch: each alone is not enough.
fn a_write_of_another_owner_or_epoch_changes_nothing(store: &dyn Store) {
    let (one, two) = (join(store), join(store));
    let old = claim(store, one);
    assert!(store.decide(&old, &released(), soon()).unwrap());
    let current = claim(store, one);
    assert!(current.epoch > old.epoch);
    let wrong = [
        old,
        ClaimId {
            owner: two,
            ..current.clone()
        },
    ];
    let verdicts = [
        Verdict::Completed,
        released(),
        Verdict::Failed {
            error: String::new(),
        },
    ];
    for claim in &wrong {
        for verdict in &verdicts {
            assert!(!store.decide(claim, verdict, soon()).unwrap());
        }
        assert!(!store.save(claim, "1", soon()).unwrap());
    }
    assert!(store.decide(&current, &Verdict::Completed, soon()).unwrap());
}

fn released() -> Verdict {
    Verdict::Released {
        interrupted: false,
        failed: false,
    }
}

#[test]
fn sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let [one, two] = [(); 2].map(|()| Sqlite::open(&path, soon()).unwrap());
    of_two_who_prune_at_once_one_does([&one, &two]);
    who_has_been_heard_of_since_is_not_pruned(&one);
    a_write_of_another_owner_or_epoch_changes_nothing(&one);
}

#[test]
fn last_words_are_understood() {
    let took = Duration::from_millis(1500);
    for found in [
        Found::Dead(EndKind::Forced),
        Found::Dead(EndKind::TimedOut),
        Found::Left(EndKind::Clean, took),
        Found::Left(EndKind::TimedOut, took),
    ] {
        assert_eq!(Found::of_words(&found.to_words()), found);
    }
    for cut_off in ["", "left", "left 15", "forc"] {
        assert_eq!(Found::of_words(cut_off), Found::Dead(EndKind::Killed));
    }
}
