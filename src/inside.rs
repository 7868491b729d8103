//! Which coordinators' user code this thread is running.
//!
//! A hook, a task or an `on_stop` closure that waited for the shutdown it is part of would wait for
//! itself. So the calls that wait ask here first (P17).

use std::cell::RefCell;

use crate::sync;

sync::local! {
    static INSIDE: RefCell<Vec<u64>> = RefCell::new(Vec::new());
}

/// Until it is dropped, this thread runs code of the coordinator.
pub(crate) struct Inside {
    id: u64,
}

/// This thread is about to run code of the coordinator `id`.
pub(crate) fn enter(id: u64) -> Inside {
    // A thread that is being taken down has no marks any more; it ends soon.
    let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(id));
    Inside { id }
}

/// This thread runs code of the coordinator `id`.
pub(crate) fn is_inside(id: u64) -> bool {
    INSIDE
        .try_with(|inside| inside.borrow().contains(&id))
        .unwrap_or(false)
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| {
            let mut inside = inside.borrow_mut();
            if let Some(last) = inside.iter().rposition(|id| *id == self.id) {
                inside.remove(last);
            }
        });
    }
}
