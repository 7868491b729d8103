//! The primitives that the crate locks, counts and parks with, behind one name.
//!
//! What waits and what is locked takes its primitives from here, so that a model checker can be put
//! in their place without touching the code under test. Exceptions: the signal room, whose statics
//! and futex the system knows of. Nothing outside this file names `parking_lot`.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
