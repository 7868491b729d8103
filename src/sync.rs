//! The primitives that the crate locks, counts and parks with, behind one name.
//!
//! What waits and what is locked takes its primitives from here, so that a model checker can be put
//! in their place without touching the code under test.
//! Not from here: `Arc`; numbers that are only handed out; what the system itself knows of, such as
//! the tables of the signal handler. Nothing outside this file names `parking_lot`.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::thread;

#[cfg(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe)))]
pub(crate) use crate::signal::handler::Futex;

/// A `static` of one of these, which a model makes anew for each of its runs.
macro_rules! global {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        $(#[$doc])*
        static $name: $type = $value;
    };
}

/// A `thread_local!`, which a model has for each of its threads.
macro_rules! local {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        std::thread_local! {
            $(#[$doc])*
            static $name: $type = const { $value };
        }
    };
}

pub(crate) use {global, local};
