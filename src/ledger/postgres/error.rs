//! What goes wrong between here and the server, and what another try could mend.

use std::error::Error;

use thiserror::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::ledger::error::StoreError;

/// One try has failed. It names the server, and never the password.
#[derive(Debug, Error)]
#[error("{at}: {message}")]
pub(super) struct Failure {
    at: String,
    message: String,
    refusal: Refusal,
    /// The connection broke while it was committed.
    pub(super) may_be_done: bool,
    /// The server has ended the transaction, and is there for the next.
    leaves_the_link: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Somebody else had it locked.
    Busy,
    /// No answer, no connection, or none any more.
    Unreachable,
    /// What is not mended by another try.
    Other,
}

impl Failure {
    pub(super) fn new(at: &str, refusal: Refusal, message: &impl ToString) -> Self {
        Self {
            at: at.to_owned(),
            message: message.to_string(),
            refusal,
            may_be_done: false,
            leaves_the_link: false,
        }
    }

    pub(super) fn of(at: &str, error: &tokio_postgres::Error, was_committing: bool) -> Self {
        let Some(said) = error.as_db_error() else {
            // Without its cause it says no more than "connection closed".
            let cause = error.source().map(|cause| format!(": {cause}"));
            let words = error.to_string();
            let cause = cause.filter(|cause| !words.ends_with(cause.as_str()));
            let message = format!("{words}{}", cause.unwrap_or_default());
            let is_io = error.is_closed()
                || error
                    .source()
                    .is_some_and(<dyn Error>::is::<std::io::Error>);
            let refusal = if is_io {
                Refusal::Unreachable
            } else {
                Refusal::Other
            };
            return Self {
                may_be_done: was_committing,
                ..Self::new(at, refusal, &message)
            };
        };
        let refusal = refusal(said.code());
        // `None`: an old server, which says it in its own language only.
        let goes_on = said.parsed_severity() == Some(Severity::Error);
        Self {
            may_be_done: was_committing && !goes_on,
            leaves_the_link: goes_on && refusal != Refusal::Unreachable,
            ..Self::new(at, refusal, &said.message())
        }
    }

    pub(super) fn leaves_the_link(&self) -> bool {
        self.leaves_the_link
    }

    pub(super) fn is_busy(&self) -> bool {
        self.refusal == Refusal::Busy
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.refusal == Refusal::Unreachable
    }

    pub(super) fn is_worth_another_try(&self) -> bool {
        self.refusal != Refusal::Other
    }

    pub(super) fn into_store_error(self, what: &'static str) -> StoreError {
        let is_unreachable = self.is_unreachable();
        let error = StoreError::new(what, self.is_busy(), self);
        if is_unreachable {
            error.unreachable()
        } else {
            error
        }
    }
}

fn refusal(code: &SqlState) -> Refusal {
    let busy = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    // It goes down, comes up, has not room for one more, or is a copy that follows another.
    let away = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    if busy.contains(code) {
        Refusal::Busy
    } else if away.contains(code) || code.code().starts_with("08") {
        Refusal::Unreachable
    } else {
        Refusal::Other
    }
}
