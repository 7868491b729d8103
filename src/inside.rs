//! Which coordinators' user code this thread is running.
//!
//! A hook, a task or an `on_stop` closure that waited for the shutdown it is part of would wait for
//! itself. So the calls that wait ask here first (P17).

use std::cell::RefCell;

use crate::sync;

sync::local! {
    static INSIDE: RefCell<Vec<(u64, Code)>> = RefCell::new(Vec::new());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    /// A hook, a task, a hand-back, an `on_stop` closure.
    Own,
    /// A waker. What an executor polls in it is not the coordinator's, but must not block either.
    Waker,
}

/// Until it is dropped, this thread runs code of the coordinator.
pub(crate) struct Inside {
    id: u64,
    code: Code,
}

/// This thread is about to run code of the coordinator `id`.
pub(crate) fn enter(id: u64) -> Inside {
    enter_with(id, Code::Own)
}

/// This thread is about to call wakers, for the coordinator `id`.
pub(crate) fn enter_wakers(id: u64) -> Inside {
    enter_with(id, Code::Waker)
}

fn enter_with(id: u64, code: Code) -> Inside {
    // A thread that is being taken down has no marks any more; it ends soon.
    let _ = INSIDE.try_with(|inside| inside.borrow_mut().push((id, code)));
    Inside { id, code }
}

/// This thread runs code of the coordinator `id`, or its wakers: whoever blocks asks this.
pub(crate) fn is_inside(id: u64) -> bool {
    is_in(|own, _| own == id)
}

/// This thread runs code of the coordinator `id` itself: whoever awaits asks this.
pub(crate) fn is_inside_own(id: u64) -> bool {
    is_in(|own, code| own == id && code == Code::Own)
}

fn is_in(f: impl Fn(u64, Code) -> bool) -> bool {
    INSIDE
        .try_with(|inside| inside.borrow().iter().any(|(id, code)| f(*id, *code)))
        .unwrap_or(false)
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| {
            let mut inside = inside.borrow_mut();
            if let Some(last) = inside.iter().rposition(|own| *own == (self.id, self.code)) {
                inside.remove(last);
            }
        });
    }
}
