//! The in-band stop: a stream that ends when all of its partitions have.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::error::PartitionError;
use crate::slab::Key;
use crate::sync::Mutex;
use crate::token::Node;
use crate::work::barrier::{Barrier, End, EndPolicy};

/// Stops the program when every assigned partition has ended and nothing of them is in flight.
///
/// Made by [`ShutdownHandle::end_of_stream`](crate::ShutdownHandle::end_of_stream); clones are the
/// same stream. The stop has the reason
/// [`StopReason::EndOfStream`](crate::StopReason::EndOfStream), and is never asked for early and
/// never left out:
///
/// * A partition ends with [`finish`](Self::finish). Until the stop, late data takes the end back:
///   [`resume`](Self::resume).
/// * What is between its reading and its effect is an [`Arrival`], which keeps the stream from
///   being over while it lives.
/// * A new assignment is one more to wait for. With a revoked one go its end and its arrivals: what
///   still comes from that generation counts for nothing, whoever has the partition now.
/// * An empty assignment is no end, since between two assignments it happens to everybody; unless
///   [`ends_when_empty`](Self::ends_when_empty) says so.
///
/// Each change and the look whether the stream is over are one step, so that two changes on two
/// threads cannot both miss the end.
///
/// # Limits
///
/// The methods that take a `&P` act on its current assignment. A reader that may outlive its
/// assignment should keep the [`Assignment`] and use that: then the wrong generation has an answer,
/// [`PartitionError::OldGeneration`].
///
/// Partitions are compared under a lock: `Hash` and `Eq` of `P` must not use the stream. Where one
/// of them panics, the stream can still be used, but a partition may be lost to it, and then it may
/// never be over. No other user code runs under the lock (P17).
///
/// Not for: keeping the drain open. Arrivals are counted for the end of the stream only; what the
/// shutdown has to wait for, whatever stopped the program, is a
/// [hold](crate::ShutdownHandle::hold), a task or an [item](crate::ShutdownHandle::in_flight)
/// (P21).
pub struct EndOfStream<P> {
    stream: Arc<Stream<P>>,
}

struct Stream<P> {
    node: Arc<Node>,
    stop: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State<P>>,
}

struct State<P> {
    assigned: HashMap<P, Key>,
    barrier: Barrier,
}

impl<P> Stream<P> {
    /// Changes the state, and stops the program if the stream is over by that.
    fn change<R>(&self, f: impl FnOnce(&mut State<P>) -> R) -> R {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let over = state.barrier.opens();
        drop(state);
        if over {
            // Before `result` can be dropped: there may be a `P` in it, whose drop code may panic.
            (self.stop)();
        }
        result
    }
}

impl<P: Eq + Hash> State<P> {
    /// The current assignment. `Hash` and `Eq` are user code, here under the lock: a map cannot be
    /// asked without them.
    fn key(&self, partition: &P) -> Result<Key, PartitionError> {
        let key = self.assigned.get(partition).copied();
        key.ok_or(PartitionError::UnknownPartition)
    }

    /// Gives a `P` back that is to be dropped without the lock.
    fn assign(&mut self, partition: P) -> (Result<Key, PartitionError>, Option<P>) {
        if self.barrier.is_open() {
            return (Err(PartitionError::IntakeClosed), Some(partition));
        }
        // Not `insert`, which would drop the second of two equal keys.
        if let Some(key) = self.assigned.get_mut(&partition) {
            self.barrier.revoke(*key);
            *key = self.barrier.assign();
            return (Ok(*key), Some(partition));
        }
        // Room first, which hashes every key: nothing is counted yet that could not be revoked
        // after a panic of that.
        self.assigned.reserve(1);
        let key = self.barrier.assign();
        self.assigned.insert(partition, key);
        (Ok(key), None)
    }
}

impl<P: Eq + Hash + Clone + Send + 'static> EndOfStream<P> {
    pub(crate) fn new(
        node: Arc<Node>,
        stop: impl Fn() + Send + Sync + 'static,
        partitions: impl IntoIterator<Item = P>,
    ) -> Self {
        let mut state = State {
            assigned: HashMap::new(),
            barrier: Barrier::default(),
        };
        // Nobody else has it yet: the iterator, user code, runs under no lock.
        for partition in partitions {
            let _ = state.assign(partition);
        }
        let stream = Stream {
            node,
            stop: Box::new(stop),
            state: Mutex::new(state),
        };
        Self {
            stream: Arc::new(stream),
        }
    }

    /// When the stream is over. Default: [`EndPolicy::All`]. For all clones, from here on.
    pub fn policy(self, policy: EndPolicy) -> Self {
        self.stream.change(|state| state.barrier.policy = policy);
        self
    }

    /// Takes an assignment of no partition at all for an end, also now. For a stream whose
    /// partitions never come back, or that may have had none from the start. For all clones, from
    /// here on.
    pub fn ends_when_empty(self) -> Self {
        self.stream
            .change(|state| state.barrier.empty_is_end = true);
        self
    }

    /// Assigns a partition: one more to wait for.
    ///
    /// One that is assigned already begins a new generation: it runs again, nothing of it is in
    /// flight, and what still comes from the old one counts for nothing.
    ///
    /// # Errors
    ///
    /// [`PartitionError::IntakeClosed`]: too late, the stream is over.
    pub fn assign(&self, partition: P) -> Result<Assignment<P>, PartitionError> {
        let (key, _drop_unlocked) = self.stream.change(|state| state.assign(partition));
        key.map(|key| self.assignment_at(key))
    }

    /// Takes a partition away, with its end and what is in flight of it. When all others have
    /// ended, that is the end of the stream.
    ///
    /// Its unfinished work is not undone: that belongs to whoever gets the partition next, or is
    /// handed back as an [item](crate::ShutdownHandle::in_flight).
    ///
    /// # Errors
    ///
    /// [`PartitionError::UnknownPartition`]: it is not assigned.
    pub fn revoke(&self, partition: &P) -> Result<(), PartitionError> {
        let removed = self.stream.change(|state| {
            let removed = state.assigned.remove_entry(partition);
            if let Some((_, key)) = &removed {
                state.barrier.revoke(*key);
            }
            removed
        });
        match removed {
            Some(_) => Ok(()),
            None => Err(PartitionError::UnknownPartition),
        }
    }

    /// The current assignment of a partition, for its reader.
    ///
    /// # Errors
    ///
    /// [`PartitionError::UnknownPartition`]: it is not assigned.
    pub fn assignment(&self, partition: &P) -> Result<Assignment<P>, PartitionError> {
        let key = self.stream.state.lock().key(partition)?;
        Ok(self.assignment_at(key))
    }

    fn assignment_at(&self, key: Key) -> Assignment<P> {
        let stream = Arc::clone(&self.stream);
        Assignment { stream, key }
    }

    /// [`Assignment::finish`], for the current assignment.
    ///
    /// # Errors
    ///
    /// [`PartitionError::UnknownPartition`]: it is not assigned.
    pub fn finish(&self, partition: &P, end: End) -> Result<bool, PartitionError> {
        self.stream.change(|state| {
            let key = state.key(partition)?;
            state.barrier.finish(key, end)
        })
    }

    /// [`Assignment::resume`], for the current assignment.
    ///
    /// # Errors
    ///
    /// [`PartitionError::UnknownPartition`]: it is not assigned. [`PartitionError::IntakeClosed`]:
    /// too late, the stream is over.
    pub fn resume(&self, partition: &P) -> Result<Option<End>, PartitionError> {
        self.stream.change(|state| {
            let key = state.key(partition)?;
            state.barrier.resume(key)
        })
    }

    /// [`Assignment::arrive`], for the current assignment.
    ///
    /// # Errors
    ///
    /// [`PartitionError::UnknownPartition`]: it is not assigned; the others as there.
    pub fn arrive(&self, partition: &P) -> Result<Arrival<P>, PartitionError> {
        self.assignment(partition)?
            .arrive()
            .map_err(|error| match error {
                // It was taken away between the two steps.
                PartitionError::OldGeneration => PartitionError::UnknownPartition,
                error => error,
            })
    }

    /// How a partition has ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// [`PartitionError::UnknownPartition`]: it is not assigned.
    pub fn end(&self, partition: &P) -> Result<Option<End>, PartitionError> {
        let mut state = self.stream.state.lock();
        let key = state.key(partition)?;
        state.barrier.end(key)
    }

    /// How many assigned partitions have not ended.
    pub fn running(&self) -> usize {
        self.stream.state.lock().barrier.running()
    }

    /// How many arrivals of the current assignments live.
    pub fn in_flight(&self) -> usize {
        self.stream.state.lock().barrier.in_flight()
    }

    /// The stream is over, which nothing takes back. Also when something else had stopped the
    /// program before, so that a hook can tell a stream that was read to its end from one that was
    /// interrupted.
    pub fn is_over(&self) -> bool {
        self.stream.state.lock().barrier.is_open()
    }
}

/// One generation of one partition: what its reader keeps. Clones are the same generation.
///
/// From [`EndOfStream::assign`] or [`EndOfStream::assignment`]. Dropping it changes nothing.
pub struct Assignment<P> {
    stream: Arc<Stream<P>>,
    key: Key,
}

impl<P> Assignment<P> {
    /// The number of this assignment. A later one, of whatever partition of this stream, has a
    /// larger number.
    pub fn generation(&self) -> u64 {
        self.key.serial()
    }

    /// Says that the partition has ended. True: this call did it. Once everything that was read
    /// from it has [arrived](Self::arrive).
    ///
    /// A suspended one may still come to the end of its data; after that it stays there, unless
    /// [resumed](Self::resume).
    ///
    /// # Errors
    ///
    /// [`PartitionError::OldGeneration`]: the partition has been revoked or assigned anew, and this
    /// counts for nothing.
    pub fn finish(&self, end: End) -> Result<bool, PartitionError> {
        self.stream
            .change(|state| state.barrier.finish(self.key, end))
    }

    /// Takes the end back, since there is late data, and says what it was; `None` when there was
    /// none to take back.
    ///
    /// Also an end of data: what the caller has flushed for it is the caller's. Under
    /// [`EndPolicy::Any`] a partition stays suspended for as long as the end of data of another
    /// stands.
    ///
    /// # Errors
    ///
    /// [`PartitionError::OldGeneration`], as for [`finish`](Self::finish).
    /// [`PartitionError::IntakeClosed`]: too late, the stream is over.
    pub fn resume(&self) -> Result<Option<End>, PartitionError> {
        self.stream.change(|state| state.barrier.resume(self.key))
    }

    /// Counts something that has been read, until the [`Arrival`] is dropped: the stream is not
    /// over before.
    ///
    /// # Errors
    ///
    /// [`PartitionError::OldGeneration`], as for [`finish`](Self::finish).
    /// [`PartitionError::IntakeClosed`]: the program has stopped (P22), or is about to, as the
    /// stream is over; what was read is to be handed back. [`PartitionError::Ended`]: after the end
    /// of its partition; [`resume`](Self::resume) first, if it is late data.
    pub fn arrive(&self) -> Result<Arrival<P>, PartitionError> {
        let stopped = self.stream.node.is_stopped();
        let mut state = self.stream.state.lock();
        state.barrier.arrive(self.key, stopped)?;
        drop(state);
        Ok(Arrival {
            stream: Arc::clone(&self.stream),
            key: self.key,
        })
    }

    /// How it has ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// [`PartitionError::OldGeneration`], as for [`finish`](Self::finish).
    pub fn end(&self) -> Result<Option<End>, PartitionError> {
        self.stream.state.lock().barrier.end(self.key)
    }
}

/// Something of a partition that is in flight: while it lives the stream is not over.
///
/// From [`Assignment::arrive`]. A clone covers what is made from it, also after the end of its
/// partition. Once its partition is revoked it counts for nothing.
///
/// Not for: keeping the drain open; see [`EndOfStream`].
#[must_use = "it counts only while it lives; keep it in a variable that is not `_`"]
pub struct Arrival<P> {
    stream: Arc<Stream<P>>,
    key: Key,
}

impl<P> Clone for EndOfStream<P> {
    fn clone(&self) -> Self {
        let stream = Arc::clone(&self.stream);
        Self { stream }
    }
}

impl<P> Clone for Assignment<P> {
    fn clone(&self) -> Self {
        Self {
            stream: Arc::clone(&self.stream),
            key: self.key,
        }
    }
}

impl<P> Clone for Arrival<P> {
    fn clone(&self) -> Self {
        self.stream.state.lock().barrier.share(self.key);
        Self {
            stream: Arc::clone(&self.stream),
            key: self.key,
        }
    }
}

impl<P> Drop for Arrival<P> {
    fn drop(&mut self) {
        self.stream.change(|state| state.barrier.leave(self.key));
    }
}

impl<P> fmt::Debug for EndOfStream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, in_flight, over) = {
            let state = self.stream.state.lock();
            let barrier = &state.barrier;
            (barrier.running(), barrier.in_flight(), barrier.is_open())
        };
        f.debug_struct("EndOfStream")
            .field("running", &running)
            .field("in_flight", &in_flight)
            .field("over", &over)
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Assignment<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Arrival<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("generation", &self.key.serial())
            .finish_non_exhaustive()
    }
}

// The only user code under the lock compares partitions; what its panic can do is among the limits
// above.
impl<P> UnwindSafe for EndOfStream<P> {}
impl<P> RefUnwindSafe for EndOfStream<P> {}
impl<P> UnwindSafe for Assignment<P> {}
impl<P> RefUnwindSafe for Assignment<P> {}
impl<P> UnwindSafe for Arrival<P> {}
impl<P> RefUnwindSafe for Arrival<P> {}
