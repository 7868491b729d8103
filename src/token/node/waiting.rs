//! Who waits for a node's stop: threads, a channel, futures and closures.
//!
//! Invariant 3 of the [node](super) is kept here: whoever registers looks at the words under the
//! lock, and [`wake`](Node::wake) takes that lock after the stop.

use std::convert::Infallible;
use std::sync::Weak;
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::slab::Key;
use crate::token::node::{Callback, Node};

/// What a stopped node still had to wake.
pub(crate) struct Waiting {
    pub(crate) children: Vec<Weak<Node>>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) callbacks: Vec<Callback>,
    /// Dropped with this, so that the channel disconnects.
    _sender: Option<Sender<Infallible>>,
}

impl Node {
    /// Blocks until the stop, or `deadline`. True: stopped.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> bool {
        if self.is_stopped() {
            return true;
        }
        let mut shared = self.shared.lock();
        // The event beats the deadline: look at it first, every time.
        while !self.is_stopped() {
            match deadline {
                None => self.stopped.wait(&mut shared),
                Some(deadline) => {
                    if self.stopped.wait_until(&mut shared, deadline).timed_out() {
                        return self.is_stopped();
                    }
                }
            }
        }
        true
    }

    pub(crate) fn receiver(&self) -> &Receiver<Infallible> {
        self.receiver.get_or_init(|| {
            let (sender, receiver) = crossbeam_channel::bounded(0);
            let mut shared = self.shared.lock();
            let late = if self.is_stopped() {
                Some(sender)
            } else {
                shared.get_or_insert_default().sender.replace(sender)
            };
            drop(shared);
            drop(late);
            Box::new(receiver)
        })
    }

    /// Keeps `waker` until the stop; `None` when the node is stopped already.
    pub(crate) fn add_waker(&self, waker: &Waker, old: Option<Key>) -> Option<Key> {
        let waker = waker.clone();
        let mut shared = self.shared.lock();
        if self.is_stopped() {
            return None;
        }
        let wakers = &mut shared.get_or_insert_default().wakers;
        let replaced;
        let key;
        if let Some((place, old)) =
            old.and_then(|old| wakers.get_mut(old).map(|place| (place, old)))
        {
            key = old;
            replaced = Some(std::mem::replace(place, waker));
        } else {
            key = wakers.push(waker);
            replaced = None;
        }
        drop(shared);
        // Invariant 5: a waker may run code when it is dropped.
        drop(replaced);
        Some(key)
    }

    pub(crate) fn remove_waker(&self, key: Key) {
        let removed = self
            .shared
            .lock()
            .as_mut()
            .and_then(|shared| shared.wakers.remove(key));
        drop(removed);
    }

    /// Keeps `callback` until the stop; gives it back when the node is stopped already.
    pub(crate) fn add_callback(&self, callback: Callback) -> Result<Key, Callback> {
        let mut shared = self.shared.lock();
        if self.is_stopped() {
            return Err(callback);
        }
        Ok(shared.get_or_insert_default().callbacks.push(callback))
    }

    pub(crate) fn remove_callback(&self, key: Key) {
        let removed = self
            .shared
            .lock()
            .as_mut()
            .and_then(|shared| shared.callbacks.remove(key));
        drop(removed);
    }

    /// An `on_stop` closure waits for the stop.
    pub(crate) fn has_callbacks(&self) -> bool {
        let shared = self.shared.lock();
        shared
            .as_ref()
            .is_some_and(|shared| !shared.callbacks.is_empty())
    }

    /// Wakes the threads and channels of a stopped node; the rest is handed out.
    pub(crate) fn wake(&self) -> Option<Waiting> {
        let mut shared = self.shared.lock();
        let waiting = shared.as_mut().map(|shared| Waiting {
            children: shared.children.take(),
            wakers: shared.wakers.take(),
            callbacks: shared.callbacks.take(),
            _sender: shared.sender.take(),
        });
        drop(shared);
        // P4: after the lock, or a waiter between its look and its wait would sleep for ever.
        self.stopped.notify_all();
        waiting
    }
}
