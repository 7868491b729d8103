//! Telling everybody under a node that it has stopped: threads and channels first, then wakers,
//! then `on_stop`.

use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::inside;
use crate::panic::contained;
use crate::slab::Taken;
use crate::token::node::{Callback, Node};

/// What is left to do after the threads and channels have been woken: user code.
pub(crate) struct Announcement {
    wakers: Vec<Waker>,
    callbacks: Vec<(Arc<Node>, Taken<Callback>)>,
}

impl Announcement {
    /// Wakes the threads and channels of `node`, which is stopped, and of everything below it. No
    /// user code.
    pub(crate) fn of(node: &Arc<Node>) -> Self {
        let mut announcement = Self {
            wakers: Vec::new(),
            callbacks: Vec::new(),
        };
        let mut families = Vec::new();
        families.extend(announcement.take(Arc::clone(node)));
        while let Some(family) = families.pop() {
            for child in family.filter_map(|child| child.upgrade()) {
                // Of a hundred thousand children most have nobody.
                if child.stop_by_parent() {
                    families.extend(announcement.take(child));
                }
            }
        }
        announcement
    }

    /// Takes everything from a stopped node; its children are the caller's.
    #[inline]
    fn take(&mut self, node: Arc<Node>) -> Option<Taken<Weak<Node>>> {
        let (children, waiting) = node.wake();
        if let Some(mut waiting) = waiting {
            self.wakers.extend(waiting.wakers.take());
            if let Some(callbacks) = waiting.callbacks.take_any() {
                self.callbacks.push((node, callbacks));
            }
        }
        children
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

pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        contained(|| waker.wake());
    }
}

fn call(callbacks: Vec<(Arc<Node>, Taken<Callback>)>) {
    for (node, callbacks) in callbacks {
        let reason = node.known_reason();
        for callback in callbacks {
            contained(|| callback(&reason));
        }
    }
}
