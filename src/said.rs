//! What threads say that they are doing, for whoever asks from outside.
//!
//! Words belong to the thread that said them, and the snapshot shows them with what that thread is
//! running: a task, a hook, the item it took last. So nothing has to be carried around, and a thread
//! that never says anything costs nothing.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Tick;
use crate::snapshot::Said;
use crate::sync::Mutex;

/// A thread: the system's number for it where it is on Linux, one of our own elsewhere; 0 where it
/// has none.
pub(crate) type Thread = u32;

struct Words {
    said: Said,
    at: Tick,
}

/// What one thread said last.
type Board = Mutex<Option<Words>>;

static BOARDS: Mutex<BTreeMap<Thread, Arc<Board>>> = Mutex::new(BTreeMap::new());

/// This thread's board, which goes with it.
struct Mine {
    thread: Thread,
    board: Arc<Board>,
}

thread_local! {
    static MINE: RefCell<Option<Mine>> = const { RefCell::new(None) };
    static THREAD: Cell<Thread> = const { Cell::new(0) };
}

impl Drop for Mine {
    fn drop(&mut self) {
        let board = BOARDS.lock().remove(&self.thread);
        drop(board);
    }
}

/// Says what this thread is doing now, for [snapshots](crate::ShutdownHandle::snapshot) and whoever
/// shows them: inside a hook, a task, an item, or any other thread that is waited for.
///
/// It stays until the thread says something else, takes the next item, or begins the next hook.
/// Costs about as much as the text itself; from a hot loop, say it every hundredth time.
///
/// ```
/// winddown::say("row 300 of 900");
/// ```
///
/// Not for: a hold that travels between threads; that has [`Hold::say`](crate::Hold::say).
pub fn say(what: impl Into<Cow<'static, str>>) {
    put(Said::new(what.into(), None));
}

/// As [`say`], with how much is done of how much.
///
/// ```
/// winddown::say_progress("rows", 300, 900);
/// ```
pub fn say_progress(what: impl Into<Cow<'static, str>>, done: u64, of: u64) {
    put(Said::new(what.into(), Some((done, of))));
}

fn put(said: Said) {
    let thread = this_thread();
    // A thread that is being taken down has nothing to say any more.
    let _ = MINE.try_with(|mine| {
        let mut mine = mine.borrow_mut();
        let mine = mine.get_or_insert_with(|| {
            let board = Arc::new(Board::default());
            BOARDS.lock().insert(thread, Arc::clone(&board));
            Mine { thread, board }
        });
        let at = Tick::coarse();
        let before = mine.board.lock().replace(Words { said, at });
        drop(before);
    });
}

/// What `thread` has said since `since`.
pub(crate) fn said_by(thread: Thread, since: Tick) -> Option<Said> {
    let board = BOARDS.lock().get(&thread).cloned()?;
    let words = board.lock();
    words
        .as_ref()
        .filter(|words| words.at >= since)
        .map(|words| words.said.clone())
}

/// The thread that asks. The first time it costs a system call.
pub(crate) fn this_thread() -> Thread {
    let known = THREAD.try_with(Cell::get).unwrap_or(0);
    if known != 0 {
        return known;
    }
    let thread = number();
    let _ = THREAD.try_with(|known| known.set(thread));
    thread
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn number() -> Thread {
    // "PID/task/TID". Without /proc there is nothing to look a thread up in either.
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = link
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    number.unwrap_or_else(own_number)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn number() -> Thread {
    own_number()
}

/// Above all numbers that the system gives out (Linux has 2^22 of them).
fn own_number() -> Thread {
    use crate::sync::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1 << 30);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_with_their_thread() {
        let thread = std::thread::spawn(|| {
            let start = Tick::coarse();
            say("one");
            say_progress("rows", 3, 9);
            let said = said_by(this_thread(), start).unwrap();
            assert_eq!(said.to_string(), "rows 3 of 9 (33 %)");
            assert!(said_by(this_thread(), Tick::NEVER).is_none());
            this_thread()
        });
        let thread = thread.join().unwrap();
        assert!(said_by(thread, Tick::from_nanos(0)).is_none());
        assert_ne!(thread, this_thread());
    }
}
