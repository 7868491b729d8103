//! The primitives that the crate locks, counts and parks with, behind one name.
//!
//! What waits and what is locked takes its primitives from here, so that a model checker can be put
//! in their place without touching the code under test: with `--cfg winddown_loom` they are loom's.
//! Under Miri the locks are std's.
//! Not from here: `Arc`; numbers that are only handed out; what the system itself knows of, such as
//! the tables of the signal handler. Nothing outside this file names `parking_lot`.

#[cfg(not(any(winddown_loom, miri)))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(all(miri, not(winddown_loom)))]
pub(crate) use plain::{Condvar, Mutex, MutexGuard};
#[cfg(not(winddown_loom))]
pub(crate) use std::sync::OnceLock;
#[cfg(not(winddown_loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(winddown_loom))]
pub(crate) use std::thread;

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(winddown_loom, winddown_pipe))
))]
pub(crate) use crate::signal::handler::Futex;

#[cfg(winddown_loom)]
mod model;
#[cfg(all(miri, not(winddown_loom)))]
mod plain;
#[cfg(winddown_loom)]
pub(crate) use model::*;

/// A `static` of one of these, which a model makes anew for each of its runs.
#[cfg(not(winddown_loom))]
macro_rules! global {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        $(#[$doc])*
        static $name: $type = $value;
    };
}

/// A `thread_local!`, which a model has for each of its threads.
#[cfg(not(winddown_loom))]
macro_rules! local {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        std::thread_local! {
            $(#[$doc])*
            static $name: $type = const { $value };
        }
    };
}

#[cfg(winddown_loom)]
macro_rules! global {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        loom::lazy_static! {
            $(#[$doc])*
            static ref $name: $type = $value;
        }
    };
}

#[cfg(winddown_loom)]
macro_rules! local {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        loom::thread_local! {
            $(#[$doc])*
            static $name: $type = $value;
        }
    };
}

pub(crate) use {global, local};
