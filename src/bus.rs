//! Who is told what happens.
//!
//! 1. Nobody waits for a subscriber: what one has no room for, it misses, and is told how much
//!    (P15).
//! 2. No user code runs here: a subscriber is a channel (P17).
//! 3. Without subscribers an event is not even made.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};

use crate::event::Event;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// Events that a subscriber may be behind.
const ROOM: usize = 256;

struct Subscriber {
    sender: Sender<Event>,
    missed: usize,
}

#[derive(Default)]
struct State {
    subscribers: Vec<Subscriber>,
    /// The last event; after it there are no more.
    last: Option<Event>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Bus {
    /// There are subscribers.
    used: AtomicBool,
    state: Mutex<State>,
}

impl Bus {
    /// What happens from now on; after the end, the end.
    pub(crate) fn subscribe(&self) -> Receiver<Event> {
        // Two more, so that the last event, and how many are missing before it, always have room.
        let (sender, receiver) = bounded(ROOM + 2);
        self.add(sender);
        receiver
    }

    /// As `subscribe`, for a thread of the crate's own, which takes them all.
    pub(crate) fn subscribe_to_all(&self) -> Receiver<Event> {
        let (sender, receiver) = unbounded();
        self.add(sender);
        receiver
    }

    fn add(&self, sender: Sender<Event>) {
        let mut state = self.state.lock();
        if let Some(last) = &state.last {
            let _ = sender.try_send(last.clone());
            return;
        }
        state.subscribers.push(Subscriber { sender, missed: 0 });
        self.used.store(true, Ordering::Release);
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.is_used() {
            let event = event();
            self.state.lock().send(&event, ROOM);
        }
    }

    /// The last one: whoever subscribes later gets it too.
    pub(crate) fn close(&self, last: Event) {
        let mut state = self.state.lock();
        state.send(&last, usize::MAX);
        let told = std::mem::take(&mut state.subscribers);
        self.used.store(false, Ordering::Release);
        state.last = Some(last);
        drop(state);
        drop(told);
    }
}

impl State {
    fn send(&mut self, event: &Event, room: usize) {
        self.subscribers
            .retain_mut(|subscriber| subscriber.send(event, room));
    }
}

impl Subscriber {
    /// False: it has gone.
    fn send(&mut self, event: &Event, room: usize) -> bool {
        let is_bounded = self.sender.capacity().is_some();
        let has_room = !is_bounded || self.sender.len() + usize::from(self.missed > 0) < room;
        let sent = if has_room {
            self.send_both(event)
        } else {
            Err(TrySendError::Full(()))
        };
        match sent {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Full(())) => self.missed += 1,
            Err(TrySendError::Disconnected(())) => return false,
        }
        true
    }

    /// First how many are missing, then the event.
    fn send_both(&self, event: &Event) -> Result<(), TrySendError<()>> {
        let missed = (self.missed > 0).then_some(Event::Missed { count: self.missed });
        for event in missed.into_iter().chain([event.clone()]) {
            self.sender.try_send(event).map_err(|error| match error {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Phase;

    #[test]
    fn a_full_subscription_misses_the_newest_and_is_told_how_many() {
        let bus = Bus::default();
        let events = bus.subscribe();
        let phase = || Event::PhaseChanged(Phase::Draining);
        for _ in 0..ROOM + 3 {
            bus.emit(phase);
        }
        for _ in 0..2 {
            assert!(matches!(events.try_recv(), Ok(Event::PhaseChanged(_))));
        }
        bus.emit(phase);
        assert_eq!(events.len(), ROOM);
        // Full again; the last one has room all the same.
        bus.emit(phase);
        bus.close(Event::PhaseChanged(Phase::Ended));
        let all: Vec<Event> = events.try_iter().collect();
        assert!(matches!(all[ROOM - 2], Event::Missed { count: 3, .. }));
        assert!(matches!(all[ROOM - 1], Event::PhaseChanged(_)));
        assert!(matches!(all[ROOM], Event::Missed { count: 1, .. }));
        assert!(matches!(all[ROOM + 1], Event::PhaseChanged(Phase::Ended)));
    }

    #[test]
    fn a_subscription_that_has_gone_is_forgotten() {
        let bus = Bus::default();
        drop(bus.subscribe());
        let kept = bus.subscribe();
        bus.emit(|| Event::PhaseChanged(Phase::Draining));
        assert_eq!(bus.state.lock().subscribers.len(), 1);
        bus.close(Event::PhaseChanged(Phase::Ended));
        assert_eq!(kept.iter().count(), 2);
        assert_eq!(bus.subscribe().iter().count(), 1);
        assert!(!bus.is_used());
    }
}
