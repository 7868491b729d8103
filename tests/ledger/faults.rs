//! What goes wrong beside the store: files that are moved, descriptors that run out, clocks that jump.

use std::fs;
use std::time::Duration;

use winddown::{Ledger, Membership, WriteError, Written};

use crate::common::{FAR, embedded};
use crate::sqlite::{Away, InFile};

#[test]
fn a_verdict_that_nobody_took_can_be_given_again() {
    let file = InFile::new();
    let ledger = file.open();
    let shutdown = embedded()
        .cleanup_reserve(Duration::from_millis(400))
        .install()
        .unwrap();
    let slow = Membership::new("worker").heartbeat(FAR / 4).dead_after(FAR);
    let member = ledger.join(&shutdown, slow).unwrap();
    let hold = shutdown.hold("work").unwrap();
    let (done, dropped) = (
        member.claim("done", &()).unwrap(),
        member.claim("dropped", &()).unwrap(),
    );
    // Nothing can be written into a directory.
    fs::create_dir(format!("{}.member-{}.journal", file.address(), member.id())).unwrap();
    let away = Away::of(&file);
    shutdown.stop("enough");
    for claim in [&done, &dropped] {
        let refused = claim.complete();
        assert!(
            matches!(
                &refused,
                Err(WriteError::Store {
                    journal: Some(_),
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    away.over();
    assert_eq!(done.complete().unwrap(), Written::Stored);
    drop(dropped);
    assert_eq!(ledger.released().unwrap(), ["dropped"]);
    drop(hold);
}
