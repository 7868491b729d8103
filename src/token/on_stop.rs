//! Closures that are called at the stop.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use crate::panic::contained;
use crate::slab::Key;
use crate::token::StopToken;
use crate::token::node::{Callback, Node};

/// A registration of [`StopToken::on_stop`]: dropping it unregisters, without waiting for a call
/// that is under way.
#[must_use = "dropping it unregisters the closure; call detach() to keep it"]
pub struct OnStop {
    /// Weak: a closure that nobody can stop any more must not keep the token alive.
    registered: Option<(Weak<Node>, Key)>,
}

impl OnStop {
    pub(crate) fn register(token: &StopToken, callback: Callback) -> Self {
        match token.node().add_callback(callback) {
            Ok(key) => Self {
                registered: Some((Arc::downgrade(token.node()), key)),
            },
            Err(callback) => {
                let reason = token.node.known_reason();
                contained(|| callback(&reason));
                Self { registered: None }
            }
        }
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
