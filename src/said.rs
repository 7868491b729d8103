//! What threads say that they are doing, for whoever asks from outside.
//!
//! Words belong to the thread that said them, and the snapshot shows them with what that thread is
//! running: a task, a hook, the item it took last. So nothing has to be carried around, and a
//! thread that never says anything costs nothing.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::Said;
use crate::sync::{self, Mutex};

/// A thread at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Thread {
    /// The system's number for it where it is on Linux, one of our own elsewhere; 0 where it has
    /// none.
    pub(crate) number: u32,
    /// How often it had said something by then: no clock is both cheap and fine enough to tell the
    /// words of one item from those of the next.
    said: u32,
}

impl Thread {
    /// Nobody's.
    pub(crate) const NONE: Self = Self { number: 0, said: 0 };

    /// As one number.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.said)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        let [number, said] = [bits >> 32, bits & u64::from(u32::MAX)];
        // Half of the number each.
        let half = |bits| u32::try_from(bits).unwrap_or_default();
        Self {
            number: half(number),
            said: half(said),
        }
    }
}

/// What one thread said last, and which of its words they are.
type Board = Mutex<Option<(Said, u32)>>;

sync::global! {
    static BOARDS: Mutex<BTreeMap<u32, Arc<Board>>> = Mutex::new(BTreeMap::new());
}

/// This thread's board, which goes with it.
struct Mine {
    number: u32,
    board: Arc<Board>,
}

thread_local! {
    static MINE: RefCell<Option<Mine>> = const { RefCell::new(None) };
    static THREAD: Cell<Thread> = const { Cell::new(Thread::NONE) };
}

impl Drop for Mine {
    fn drop(&mut self) {
        let board = BOARDS.lock().remove(&self.number);
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
/// A task or hook that is a future, started here, says it for itself, on whatever thread it is
/// driven.
///
/// Not for: a hold that travels between threads; that has [`Hold::say`](crate::Hold::say). Nor for
/// the futures of others, which have nobody to say it for.
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

/// This thread says it, or the future that it drives.
pub(crate) fn put(said: Said) {
    #[cfg(feature = "tokio")]
    if let Some(voice) = VOICE
        .try_with(|voice| voice.borrow().clone())
        .ok()
        .flatten()
    {
        voice(said);
        return;
    }
    let mut thread = this_thread();
    thread.said = thread.said.wrapping_add(1);
    let _ = THREAD.try_with(|known| known.set(thread));
    // A thread that is being taken down has nothing to say any more.
    let _ = MINE.try_with(|mine| {
        let mut mine = mine.borrow_mut();
        let mine = mine.get_or_insert_with(|| {
            let board = Arc::new(Board::default());
            BOARDS.lock().insert(thread.number, Arc::clone(&board));
            let number = thread.number;
            Mine { number, board }
        });
        let before = mine.board.lock().replace((said, thread.said));
        drop(before);
    });
}

/// What `thread` has said since then.
pub(crate) fn said_since(thread: Thread) -> Option<Said> {
    let board = BOARDS.lock().get(&thread.number).cloned()?;
    let words = board.lock();
    let (said, which) = words.as_ref()?;
    (*which != thread.said).then(|| said.clone())
}

/// Takes what a future says, whichever thread it is driven on.
#[cfg(feature = "tokio")]
pub(crate) type Voice = Arc<dyn Fn(Said) + Send + Sync>;

#[cfg(feature = "tokio")]
thread_local! {
    /// Of the future that this thread drives.
    static VOICE: RefCell<Option<Voice>> = const { RefCell::new(None) };
}

/// Until it is dropped, what this thread says goes to the voice that it was made with.
#[cfg(feature = "tokio")]
pub(crate) struct Speaking(Option<Voice>);

/// This thread is about to drive the future that `voice` belongs to.
#[cfg(feature = "tokio")]
pub(crate) fn speak_with(voice: &Voice) -> Speaking {
    let voice = Some(Arc::clone(voice));
    let before = VOICE.try_with(|own| own.replace(voice));
    Speaking(before.ok().flatten())
}

#[cfg(feature = "tokio")]
impl Drop for Speaking {
    fn drop(&mut self) {
        let before = self.0.take();
        let voice = VOICE.try_with(|own| own.replace(before));
        // It may be the last share of what it speaks for.
        drop(voice);
    }
}

/// The thread of what is registered now; nobody's inside a tokio task, with which any thread may go
/// on: what that thread says or does later is not about it.
pub(crate) fn carrier() -> Thread {
    #[cfg(feature = "tokio")]
    if tokio::task::try_id().is_some() {
        return Thread::NONE;
    }
    this_thread()
}

/// The thread that asks. The first time it costs a system call.
#[inline]
pub(crate) fn this_thread() -> Thread {
    let known = THREAD.try_with(Cell::get).unwrap_or(Thread::NONE);
    if known.number == 0 {
        learn(known)
    } else {
        known
    }
}

#[cold]
fn learn(known: Thread) -> Thread {
    let number = number();
    let thread = Thread { number, ..known };
    let _ = THREAD.try_with(|known| known.set(thread));
    thread
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn number() -> u32 {
    // "PID/task/TID". Without /proc there is nothing to look a thread up in either.
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = link
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    number.unwrap_or_else(own_number)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn number() -> u32 {
    own_number()
}

/// Above all numbers that the system gives out (Linux has 2^22 of them).
fn own_number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1 << 30);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_with_their_thread() {
        let (start, end) = std::thread::spawn(|| {
            say("before");
            let start = this_thread();
            assert!(said_since(start).is_none());
            say("one");
            say_progress("rows", 3, 9);
            let said = said_since(start).unwrap();
            assert_eq!(said.to_string(), "rows 3 of 9 (33 %)");
            (start, this_thread())
        })
        .join()
        .unwrap();
        assert!(said_since(start).is_none() && said_since(end).is_none());
        assert_ne!(start.number, this_thread().number);
    }
}
