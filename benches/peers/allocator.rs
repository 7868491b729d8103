//! Counts what is allocated, while somebody wants to know.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Of this thread, while it wants to know: others may be tidying up at the same time.
    static KEPT: Cell<Option<i64>> = const { Cell::new(None) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `f` has allocated and not freed, as they were asked for: without what the allocator adds.
pub(crate) fn kept<R>(f: impl FnOnce() -> R) -> (R, i64) {
    KEPT.set(Some(0));
    let result = f();
    (result, KEPT.take().unwrap())
}

/// Otherwise all that it costs is a look, on both sides of a comparison.
fn count(size: usize, sign: i64) {
    // A thread that is being taken down frees too.
    let _ = KEPT.try_with(|kept| {
        if let Some(bytes) = kept.get() {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            kept.set(Some(bytes + sign * size));
        }
    });
}

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: all of it is done by the system's allocator, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
