//! Hand-backs that wait until what is being dropped has gone.
//!
//! A future that is dropped drops what it holds piece by piece, and an item may be the first of
//! them. Who is handed the item would then begin while the rest of the work still lives: its
//! connection, its transaction, its lock. So it is handed back when all of it has gone.

use std::cell::RefCell;

type Later = Box<dyn FnOnce()>;

thread_local! {
    /// `Some` while this thread drops something as a whole.
    static DEFERRED: RefCell<Option<Vec<Later>>> = const { RefCell::new(None) };
}

/// Calls `f` when what this thread drops as a whole has gone; at once where it drops nothing so.
pub(super) fn or_now(f: impl FnOnce() + 'static) {
    let defers = DEFERRED
        .try_with(|deferred| deferred.borrow().is_some())
        .unwrap_or(false);
    if !defers {
        f();
        return;
    }
    let later: Later = Box::new(f);
    let _ = DEFERRED.try_with(|deferred| {
        if let Some(deferred) = deferred.borrow_mut().as_mut() {
            deferred.push(later);
        }
    });
}

/// Drops `value`; the items that go with it are handed back after that.
#[cfg(feature = "tokio")]
pub(crate) fn drop_whole<T>(value: T) {
    let outermost = DEFERRED.try_with(|deferred| {
        let mut deferred = deferred.borrow_mut();
        let outermost = deferred.is_none();
        deferred.get_or_insert_default();
        outermost
    });
    // Handed back also where the drop panics.
    let _hand_back = outermost.unwrap_or(false).then_some(HandBack);
    drop(value);
}

#[cfg(feature = "tokio")]
struct HandBack;

#[cfg(feature = "tokio")]
impl Drop for HandBack {
    fn drop(&mut self) {
        let deferred = DEFERRED.try_with(|deferred| deferred.borrow_mut().take());
        // A hand-back catches its own panics.
        for later in deferred.ok().flatten().unwrap_or_default() {
            later();
        }
    }
}
