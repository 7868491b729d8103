//! The handler as one more thread: against another, a stop by the program, the end, the watchdog,
//! and the coming and going of coordinators.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::exit_policy::ExitPolicy;
use crate::reason::{Origin, Signal, StopReason};
use crate::signal::bell::{Bell, Ears};
use crate::signal::handler::Seat;
use crate::signal::listener;
use crate::signal::owner::OwnerWord;
use crate::signal::state::{Answer, Escalation, SignalSettings, SignalState};
use crate::sync::{AtomicBool, Ordering, model, model_with, thread};
use crate::token::{Announcement, Deliveries, Ending, GraceClock, Life, Node};

const MS: Duration = Duration::from_millis(1);
const DEBOUNCE: Duration = Duration::from_millis(300);

fn at(ms: u32) -> Tick {
    Tick::now() + MS * ms
}

fn state(linger: Duration) -> Arc<SignalState> {
    state_with(DEBOUNCE, linger)
}

fn state_with(debounce: Duration, linger: Duration) -> Arc<SignalState> {
    let node = Node::with_ending(Ending {
        deliveries: Deliveries::new(),
        clock: GraceClock::new(Duration::from_secs(25)),
    });
    let settings = SignalSettings {
        debounce,
        linger,
        escalation: Escalation::SecondSignal,
        exit_policy: ExitPolicy::default(),
        exit_on_timeout: false,
    };
    Arc::new(SignalState::new(node, settings).unwrap())
}

fn deliver(state: &SignalState, signal: Signal, ms: u32) -> Answer {
    state.judge(signal, Origin::Unknown, at(ms))
}

/// On a thread of its own.
fn delivery(state: &Arc<SignalState>, signal: Signal, ms: u32) -> loom::thread::JoinHandle<Answer> {
    let state = Arc::clone(state);
    thread::spawn(move || deliver(&state, signal, ms))
}

fn later(state: &SignalState) -> Vec<StopReason> {
    let deliveries = &state.node.ending().unwrap().deliveries;
    deliveries.later(state.node.word()).kept
}

fn count(answers: &[Answer], of: Answer) -> usize {
    answers.iter().filter(|answer| **answer == of).count()
}

/// P6, P2, P3, P7: of two handlers at once one stops the program, which reads stopped before either
/// returns, and the other is kept.
#[test]
fn two_first_signals_are_one_request() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        let both = [Signal::INT, Signal::TERM].map(|signal| {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let answer = deliver(&state, signal, 0);
                assert!(state.node.is_stopped());
                let reason = state.node.reason().unwrap().signal().unwrap();
                assert_eq!(answer == Answer::Stop, reason == signal);
                answer
            })
        });
        let answers = both.map(|handler| handler.join().unwrap());
        assert_eq!(count(&answers, Answer::Stop), 1);
        assert_eq!(count(&answers, Answer::Noted), 1);
        assert_eq!(later(&state).len(), 1);
    });
}

/// P4: a handler takes no lock; whoever waits is woken all the same, when the runner comes to tell.
#[test]
fn who_waits_is_woken_after_a_signal() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        let waiting = Arc::clone(&state);
        let waiting = thread::spawn(move || waiting.node.wait_until(None));
        let handler = delivery(&state, Signal::TERM, 0);
        // The runner's part.
        while !state.node.is_stopped() {
            thread::yield_now();
        }
        Announcement::of(&state.node).finish();
        assert!(waiting.join().unwrap());
        assert_eq!(handler.join().unwrap(), Answer::Stop);
    });
}

/// P8: of several second signals one forces the end, and the same key press once more does not cut
/// it short.
#[test]
fn of_two_second_signals_one_forces() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        assert_eq!(deliver(&state, Signal::TERM, 0), Answer::Stop);
        let second = delivery(&state, Signal::TERM, 300);
        let third = delivery(&state, Signal::INT, 301);
        let answers = [second.join().unwrap(), third.join().unwrap()];
        assert_eq!(count(&answers, Answer::Force), 1);
        assert_eq!(count(&answers, Answer::Noted), 1);
    });
}

/// P3, P2, P8: a signal and a stop by the program: one reason, the other is kept, and the signal
/// counts as the first in either case.
#[test]
fn a_signal_and_a_stop_are_one_stop() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        let signal = delivery(&state, Signal::TERM, 0);
        let mine = state.node.decide("by hand".into()).is_ok();
        let seen = state.node.reason();
        let answer = signal.join().unwrap();
        assert_eq!(answer, if mine { Answer::Noted } else { Answer::Stop });
        assert!(seen.is_some());
        assert_eq!(state.node.reason(), seen);
        assert_eq!(seen.unwrap().signal().is_none(), mine);
        assert_eq!(later(&state).len(), usize::from(mine));
        assert_eq!(deliver(&state, Signal::TERM, 300), Answer::Force);
    });
}

/// P8: once a signal has been told to force, the end is not reached any more.
#[test]
fn ended_or_forced_is_one_decision() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        deliver(&state, Signal::TERM, 0);
        let forced = Arc::new(AtomicBool::new(false));
        let (forcing, told) = (Arc::clone(&state), Arc::clone(&forced));
        let second = thread::spawn(move || {
            let answer = deliver(&forcing, Signal::TERM, 300);
            told.store(true, Ordering::Release);
            answer
        });
        let too_late = forced.load(Ordering::Acquire);
        let ended = state.node.advance(Life::Stopped, Life::Ended);
        assert!(!(too_late && ended));
        assert_eq!(second.join().unwrap(), Answer::Force);
        assert_eq!(state.node.word().life(), Life::Forced);
    });
}

/// P15, P8: the watchdog does not end a process whose owner has the report.
#[test]
fn an_owner_with_a_report_is_not_taken_along() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        deliver(&state, Signal::TERM, 0);
        let watching = Arc::clone(&state);
        let watchdog = thread::spawn(move || {
            let word = watching.node.word();
            watching.give_up_on(word)
        });
        let came_back = state.owner.come_back();
        let ended = state.node.advance(Life::Stopped, Life::Ended);
        let given_up = watchdog.join().unwrap();
        assert!(!(came_back && ended && given_up));
        assert!(ended || given_up);
    });
}

/// P7, P8: a linger is ended once, and a second signal that does it has a window of its own: it
/// does not force too, nor does what comes with it.
#[test]
fn a_linger_is_ended_once() {
    model(|| {
        let state = state(DEBOUNCE * 10);
        assert_eq!(deliver(&state, Signal::TERM, 0), Answer::Linger);
        let second = delivery(&state, Signal::TERM, 400);
        let third = delivery(&state, Signal::TERM, 401);
        let by_watchdog = state.end_the_linger();
        let answers = [second.join().unwrap(), third.join().unwrap()];
        assert!(state.node.is_stopped());
        if by_watchdog {
            // What comes after that is a second signal.
            assert_eq!(count(&answers, Answer::Stop), 0);
            return;
        }
        assert_eq!(count(&answers, Answer::Stop), 1);
        assert_eq!(count(&answers, Answer::Noted), 1);
        assert_eq!(deliver(&state, Signal::TERM, 699), Answer::Noted);
        assert_eq!(deliver(&state, Signal::TERM, 702), Answer::Force);
    });
}

/// P6: whoever presses a key does not linger, also where a signal that does comes in between.
#[test]
fn a_key_press_beside_a_polite_signal_stops() {
    model_with(3, || {
        let state = state_with(MS, DEBOUNCE * 10);
        let polite = delivery(&state, Signal::TERM, 0);
        let key = deliver(&state, Signal::INT, 5);
        assert_eq!(key, Answer::Stop);
        assert!(state.node.is_stopped());
        assert!(matches!(
            polite.join().unwrap(),
            Answer::Linger | Answer::Noted
        ));
    });
}

/// P7: of two deliveries after the end, which are one request, one is the first.
#[test]
fn after_the_end_one_delivery_is_the_first() {
    model_with(3, || {
        let state = state(Duration::ZERO);
        state.node.decide(StopReason::Completed).unwrap();
        assert!(state.node.advance(Life::Stopped, Life::Ended));
        state.reported.store(true, Ordering::Release);
        let other = delivery(&state, Signal::TERM, 0);
        let mine = deliver(&state, Signal::TERM, 0);
        let answers = [mine, other.join().unwrap()];
        assert_eq!(count(&answers, Answer::AsBefore), 1);
        assert_eq!(count(&answers, Answer::Noted), 1);
    });
}

/// Set when it is dropped.
#[derive(Default)]
struct Witness {
    dropped: Arc<AtomicBool>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// P10, P12: a handler never looks at a coordinator that has gone, and none is kept for ever.
#[test]
fn a_handler_sees_only_what_is_there() {
    model_with(3, || {
        let seat = Arc::new(Seat::<Witness>::default());
        let first = Arc::new(Witness::default());
        let dropped = Arc::clone(&first.dropped);
        let handlers = [0, 1].map(|_| {
            let (seat, dropped) = (Arc::clone(&seat), Arc::clone(&dropped));
            thread::spawn(move || {
                seat.look(|state| {
                    if state.is_some() {
                        // Twice: it may go in between.
                        assert!(!dropped.load(Ordering::Relaxed));
                        assert!(!dropped.load(Ordering::Relaxed));
                    }
                });
            })
        });
        seat.put(&first);
        seat.release(&first);
        drop(first);
        for handler in handlers {
            handler.join().unwrap();
        }
        seat.look(|state| assert!(state.is_none()));
        let second = Arc::new(Witness::default());
        seat.put(&second);
        seat.look(|state| {
            assert!(state.is_some_and(|state| Arc::ptr_eq(&state.dropped, &second.dropped)))
        });
        seat.release(&second);
        assert!(dropped.load(Ordering::Relaxed));
        assert_eq!(Arc::strong_count(&second), 1);
    });
}

/// P4: a ring is not lost, whenever it comes; of two, each finds its change seen.
#[test]
fn a_bell_wakes_its_thread() {
    model_with(3, || {
        let bell = Arc::new(Bell::new().unwrap());
        let changes = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let ringing = changes.clone().map(|change| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                change.store(true, Ordering::Relaxed);
                bell.ring(Ears::OF_A_STOP);
            })
        });
        while !changes.iter().all(|change| change.load(Ordering::Relaxed)) {
            bell.wait(Ears::RUNNER, None);
        }
        for thread in ringing {
            thread.join().unwrap();
        }
    });
}

/// P4: of two threads that sleep beside one bell each is woken, rung for together and alone.
#[test]
fn a_bell_wakes_each_of_its_threads() {
    model(|| {
        let bell = Arc::new(Bell::new().unwrap());
        let rung = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let sleepers = [(Ears::RUNNER, 0), (Ears::LISTENER, 1)].map(|(ear, own)| {
            let (bell, rung) = (Arc::clone(&bell), rung.clone());
            thread::spawn(move || {
                for rung in [&rung[0], &rung[own]] {
                    while !rung.load(Ordering::Relaxed) {
                        bell.wait(ear, None);
                    }
                }
            })
        });
        rung[0].store(true, Ordering::Relaxed);
        bell.ring(Ears::OF_A_STOP);
        rung[1].store(true, Ordering::Relaxed);
        bell.ring(Ears::LISTENER);
        for thread in sleepers {
            thread.join().unwrap();
        }
    });
}

/// P10, P23: the watchdog goes when its coordinator does, whatever signal comes meanwhile.
#[test]
fn the_watchdog_goes_with_its_coordinator() {
    model(|| {
        let state = state(Duration::ZERO);
        let (watched, interrupted) = (Arc::clone(&state), Arc::clone(&state));
        let watchdog = thread::spawn(move || listener::listen(&watched));
        let signal = thread::spawn(move || {
            if deliver(&interrupted, Signal::TERM, 0) == Answer::Stop {
                interrupted.ring();
            }
        });
        state.released.store(true, Ordering::Release);
        state.ring();
        watchdog.join().unwrap();
        signal.join().unwrap();
    });
}

/// P15: an owner that comes back, or a process that goes without it: one of the two.
#[test]
fn the_owner_comes_back_or_is_given_up() {
    model(|| {
        let owner = Arc::new(OwnerWord::default());
        let waiting = Arc::clone(&owner);
        let watchdog = thread::spawn(move || waiting.give_up());
        let came_back = owner.come_back();
        assert_ne!(came_back, watchdog.join().unwrap());
        assert_eq!(owner.is_back(), came_back);
    });
}
