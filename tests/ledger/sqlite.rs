//! The conformance suite on `SQLite`, and what only `SQLite` does.

use tempfile::TempDir;
use winddown::Ledger;

use crate::conformance::{self, Way};

pub(crate) struct InFile {
    pub(crate) directory: TempDir,
}

impl InFile {
    pub(crate) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("ledger.db")
    }

    pub(crate) fn sql(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.busy_timeout(crate::FAR).unwrap();
        connection
    }
}

impl Way for InFile {
    fn open(&self) -> Ledger {
        Ledger::open(self.path()).unwrap()
    }

    fn address(&self) -> String {
        self.path().into_os_string().into_string().unwrap()
    }

    fn by_hand(&self, sql: &str) {
        self.sql().execute_batch(sql).unwrap();
    }
}

macro_rules! conforms {
    ($($promise:ident)+) => {
        $(
            #[test]
            fn $promise() {
                conformance::$promise(&InFile::new());
            }
        )+
    };
}

conforms! {
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
    a_forced_run_is_told_from_a_killed_one
    a_run_that_is_out_of_time_says_so
    one_that_wakes_up_too_late_is_fenced_and_refused
    one_that_is_stopped_for_less_than_that_goes_on
}
