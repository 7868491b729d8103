//! What belongs to a claim, in one transaction with its verdict.
//!
//! 1. The row of the claim is locked first, and the verdict is the last statement: so whoever is
//!    too late is told before the caller's part begins, and a part that has left the transaction
//!    broken is found out. A commit alone would not say so.
//! 2. The caller's part is called once. What fails before it is tried again; after it nothing is,
//!    but it is asked for whether it was committed.

use std::time::Instant;

use tokio_postgres::Transaction;

use super::error::Refusal;
use super::{Postgres, claims};
use crate::ledger::store::{ClaimId, Result, Verdict};
use crate::sync::Mutex;

/// What became of it.
enum Together {
    Committed,
    /// The caller's part said no.
    Refused,
    TooLate,
    /// A try before this one broke off after the caller's part, and was not committed.
    BrokenOff,
}

impl Postgres {
    /// Completes a claim in one transaction with what `f` does. `None`: not this owner's, or not of
    /// this epoch, and nothing was done.
    pub(in crate::ledger) fn complete_with<R: Send, E: Send>(
        &self,
        claim: &ClaimId,
        until: Instant,
        f: impl AsyncFnOnce(&Transaction<'_>) -> std::result::Result<R, E> + Send,
    ) -> Result<Option<std::result::Result<R, E>>> {
        let what = "complete a claim";
        let (part, output) = (Mutex::new(Some(f)), Mutex::new(None));
        let became = self.write(what, until, async |turn| {
            let tx = &turn.tx;
            if turn.is_again && claims::is_decided(tx, claim.epoch).await? {
                return Ok(Together::Committed);
            }
            if !claims::lock(tx, claim).await? {
                return Ok(Together::TooLate);
            }
            let f = part.lock().take();
            let Some(f) = f else {
                return Ok(Together::BrokenOff);
            };
            let done = f(tx).await;
            let is_refused = done.is_err();
            *output.lock() = Some(done);
            if is_refused {
                turn.undo();
                return Ok(Together::Refused);
            }
            if claims::decide(tx, claim, &Verdict::Completed).await? {
                Ok(Together::Committed)
            } else {
                turn.undo();
                Ok(Together::TooLate)
            }
        })?;
        match became {
            Together::Committed | Together::Refused => Ok(output.into_inner()),
            Together::TooLate => Ok(None),
            Together::BrokenOff => {
                let why = "the connection was lost before the commit";
                let failure = self.address.failure(Refusal::Unreachable, &why);
                Err(failure.into_store_error(what))
            }
        }
    }
}
