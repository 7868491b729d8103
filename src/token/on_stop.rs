//! Closures that are called at the stop.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use crate::panic::contained;
use crate::reason::StopReason;
use crate::slab::Key;
use crate::sync::{AtomicBool, Ordering};
use crate::token::StopToken;
use crate::token::node::{Callback, Node};

/// A registration of [`StopToken::on_stop`]: dropping it unregisters, without waiting for a call
/// that is under way.
#[must_use = "dropping it unregisters the closure; call detach() to keep it"]
pub struct OnStop {
    /// Weak: a closure that nobody can stop any more must not keep the token alive.
    registered: Option<(Weak<Node>, Key)>,
    /// It has not been called yet, nor unregistered: decided once.
    open: Arc<AtomicBool>,
}

impl OnStop {
    pub(crate) fn register(
        token: &StopToken,
        f: impl FnOnce(&StopReason) + Send + 'static,
    ) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        // Whoever calls it has taken it off the list of the token long before, maybe.
        let to_call = Arc::clone(&open);
        let callback: Callback = Box::new(move |reason| {
            if to_call.swap(false, Ordering::AcqRel) {
                f(reason);
            }
        });
        let registered = match token.node().add_callback(callback) {
            Ok(key) => Some((Arc::downgrade(token.node()), key)),
            Err(callback) => {
                let reason = token.node.known_reason();
                contained(|| callback(&reason));
                None
            }
        };
        Self { registered, open }
    }

    /// Keeps the closure registered for as long as the token lives; a coordinator's, and a stage's,
    /// lives until its stop.
    pub fn detach(mut self) {
        self.registered = None;
    }
}

impl Drop for OnStop {
    fn drop(&mut self) {
        if let Some((node, key)) = self.registered.take() {
            self.open.store(false, Ordering::Release);
            if let Some(node) = node.upgrade() {
                node.remove_callback(key);
            }
        }
    }
}

impl fmt::Debug for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStop").finish_non_exhaustive()
    }
}

impl UnwindSafe for OnStop {}
impl RefUnwindSafe for OnStop {}
