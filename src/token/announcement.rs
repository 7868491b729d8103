//! Telling everybody under a node that it has stopped: threads and channels first, then wakers,
//! then `on_stop`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use crate::inside;
use crate::panic::forget_payload;
use crate::reason::StopReason;
use crate::token::node::{Callback, Node};

/// What is left to do after the threads and channels have been woken: user code.
pub(crate) struct Announcement {
    wakers: Vec<Waker>,
    callbacks: Vec<(Arc<Node>, Vec<Callback>)>,
}

impl Announcement {
    /// Wakes the threads and channels of `node`, which is stopped, and of everything below it. No
    /// user code.
    pub(crate) fn of(node: &Arc<Node>) -> Self {
        let mut announcement = Self {
            wakers: Vec::new(),
            callbacks: Vec::new(),
        };
        let mut todo = Vec::new();
        let wake = |todo: &mut Vec<_>, node: Arc<Node>| {
            // Of a hundred thousand children most have nothing: they are looked at once.
            if let Some(waiting) = node.wake() {
                todo.push((node, waiting));
            }
        };
        wake(&mut todo, Arc::clone(node));
        while let Some((node, waiting)) = todo.pop() {
            for child in &waiting.children {
                if let Some(child) = child.upgrade() {
                    child.stop_by_parent();
                    wake(&mut todo, child);
                }
            }
            announcement.wakers.extend(waiting.wakers);
            if !waiting.callbacks.is_empty() {
                announcement.callbacks.push((node, waiting.callbacks));
            }
        }
        announcement
    }

    /// There is no user code to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.callbacks.is_empty()
    }

    /// Wakes the futures, then calls the `on_stop` closures in the order they were registered, node
    /// by node. A panic of one does not stop the next.
    pub(crate) fn finish(self) {
        wake(self.wakers);
        call(self.callbacks);
    }

    /// As [`finish`](Self::finish), as code of the coordinator `id` (P17).
    pub(crate) fn finish_inside(self, id: u64) {
        let waking = inside::enter_wakers(id);
        wake(self.wakers);
        drop(waking);
        let _inside = inside::enter(id);
        call(self.callbacks);
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        forget_payload(catch_unwind(AssertUnwindSafe(|| waker.wake())));
    }
}

fn call(callbacks: Vec<(Arc<Node>, Vec<Callback>)>) {
    for (node, callbacks) in callbacks {
        let reason = node.reason().unwrap_or(StopReason::Completed);
        for callback in callbacks {
            forget_payload(catch_unwind(AssertUnwindSafe(|| callback(&reason))));
        }
    }
}
