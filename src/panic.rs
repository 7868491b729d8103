//! What a panic leaves behind.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The payload that `catch_unwind` hands over.
pub(crate) type Payload = Box<dyn Any + Send>;

/// What the panic said, as far as it was text.
pub(crate) fn message(payload: Payload) -> String {
    let payload = match payload.downcast::<&'static str>() {
        Ok(text) => return (*text).to_owned(),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            forget(payload);
            "a panic without a message".to_owned()
        }
    }
}

/// Drops what a panic left. Its drop code may panic again, and there must be an end to it.
fn forget(payload: Payload) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(again);
    }
}

/// Shows a value and drops it. Both are user code, and a panic of the second while the first
/// unwinds would end the process.
pub(crate) fn show_and_drop<E, R>(error: E, show: impl FnOnce(&E) -> R) -> R {
    let error = std::mem::ManuallyDrop::new(error);
    let shown = catch_unwind(AssertUnwindSafe(|| show(&error)));
    let dropped = catch_unwind(AssertUnwindSafe(move || {
        drop(std::mem::ManuallyDrop::into_inner(error));
    }));
    match shown {
        Ok(shown) => {
            forget_payload(dropped);
            shown
        }
        Err(payload) => {
            forget_payload(dropped);
            std::panic::resume_unwind(payload)
        }
    }
}

/// Runs user code of which only that it has run is of interest.
pub(crate) fn contained(f: impl FnOnce()) {
    forget_payload(catch_unwind(AssertUnwindSafe(f)));
}

/// The same, where it has been caught already.
pub(crate) fn forget_payload(result: Result<(), Payload>) {
    if let Err(payload) = result {
        forget(payload);
    }
}
