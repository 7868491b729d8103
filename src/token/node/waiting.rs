//! Who waits for a node's stop: threads, a channel, futures and closures.
//!
//! Invariant 3 of the [node](super) is kept here: whoever registers looks at the words under the
//! lock, and [`wake`](Node::wake) takes that lock after the stop.

use std::convert::Infallible;
use std::sync::Weak;
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::slab::{Key, Taken};
use crate::token::node::{Callback, Node, Told, Waiting};

impl Told {
    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }
}

impl Node {
    /// Blocks until the stop, or `deadline`. True: stopped.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> bool {
        if self.is_stopped() {
            return true;
        }
        let stopped = &self.shared().stopped;
        let mut told = self.attend();
        // The event beats the deadline: look at it first, every time.
        while !self.is_stopped() {
            match deadline {
                None => stopped.wait(&mut told),
                Some(deadline) => {
                    if stopped.wait_until(&mut told, deadline).timed_out() {
                        return self.is_stopped();
                    }
                }
            }
        }
        true
    }

    pub(crate) fn receiver(&self) -> &Receiver<Infallible> {
        self.shared().receiver.get_or_init(|| {
            let (sender, receiver) = crossbeam_channel::bounded(0);
            let mut told = self.attend();
            let late = if self.is_stopped() {
                Some(sender)
            } else {
                told.waiting().sender.replace(sender)
            };
            drop(told);
            drop(late);
            receiver
        })
    }

    /// Nobody can stop this node any more: its channel is as one whose sender has gone.
    pub(crate) fn drop_sender(&self) {
        if let Some(shared) = self.shared.get() {
            let mut told = shared.told.lock();
            let sender = told.waiting.as_mut().and_then(|it| it.sender.take());
            drop(told);
            drop(sender);
        }
    }

    /// Keeps `waker` until the stop; `None` when the node is stopped already.
    pub(crate) fn add_waker(&self, waker: &Waker, old: Option<Key>) -> Option<Key> {
        let waker = waker.clone();
        let mut told = self.attend();
        if self.is_stopped() {
            return None;
        }
        let wakers = &mut told.waiting().wakers;
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
        drop(told);
        // Invariant 5: a waker may run code when it is dropped.
        drop(replaced);
        Some(key)
    }

    pub(crate) fn remove_waker(&self, key: Key) {
        let mut told = self.shared().told.lock();
        let waiting = told.waiting.as_mut();
        let removed = waiting.and_then(|waiting| waiting.wakers.remove(key));
        drop(told);
        drop(removed);
    }

    /// Keeps `callback` until the stop; gives it back when the node is stopped already.
    pub(crate) fn add_callback(&self, callback: Callback) -> Result<Key, Callback> {
        let mut told = self.attend();
        if self.is_stopped() {
            return Err(callback);
        }
        Ok(told.waiting().callbacks.push(callback))
    }

    pub(crate) fn remove_callback(&self, key: Key) {
        let mut told = self.shared().told.lock();
        let waiting = told.waiting.as_mut();
        let removed = waiting.and_then(|waiting| waiting.callbacks.remove(key));
        drop(told);
        drop(removed);
    }

    /// An `on_stop` closure waits for the stop.
    pub(crate) fn has_callbacks(&self) -> bool {
        let told = self.shared().told.lock();
        let waiting = told.waiting.as_ref();
        waiting.is_some_and(|waiting| !waiting.callbacks.is_empty())
    }

    /// Wakes the threads and channels of a stopped node; the rest is handed out.
    #[inline]
    pub(crate) fn wake(&self) -> (Option<Taken<Weak<Node>>>, Option<Box<Waiting>>) {
        let shared = self.shared();
        let mut told = shared.told.lock();
        let children = told.children.take_any();
        let mut waiting = told.waiting.take();
        drop(told);
        // P4: after the lock, or a waiter between its look and its wait would sleep for ever.
        shared.stopped.notify_all();
        if let Some(waiting) = &mut waiting {
            waiting.sender = None;
        }
        (children, waiting)
    }
}
