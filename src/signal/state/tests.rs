//! The judging of deliveries, with the time given.

use super::*;
use crate::token::{Deliveries, Ending, GraceClock, NO_RECORD};

fn state(debounce: Duration, escalation: Escalation) -> SignalState {
    lingering(debounce, Duration::ZERO, escalation)
}

fn lingering(debounce: Duration, linger: Duration, escalation: Escalation) -> SignalState {
    let node = Node::with_ending(Ending {
        deliveries: Deliveries::new(),
        clock: GraceClock::new(Duration::from_secs(1)),
    });
    let exit_policy = ExitPolicy::default();
    SignalState::new(
        node,
        SignalSettings {
            debounce,
            linger,
            escalation,
            exit_policy,
            exit_on_timeout: false,
        },
    )
    .unwrap()
}

const MS: Duration = Duration::from_millis(1);

fn at(ms: u32) -> Tick {
    Tick::from_nanos(1_000_000_000) + MS * ms
}

#[test]
fn the_first_stops_and_the_window_belongs_to_it() {
    let state = state(MS * 300, Escalation::SecondSignal);
    assert_eq!(
        state.judge(Signal::INT, Origin::Terminal, at(0)),
        Answer::Stop
    );
    assert_eq!(
        state.judge(Signal::INT, Origin::Unknown, at(4)),
        Answer::Noted
    );
    assert_eq!(
        state.judge(Signal::TERM, Origin::Unknown, at(299)),
        Answer::Noted
    );
    assert_eq!(
        state.judge(Signal::TERM, Origin::Unknown, at(300)),
        Answer::Force
    );
    assert_eq!(
        state.judge(Signal::TERM, Origin::Unknown, at(304)),
        Answer::Noted
    );
    assert_eq!(
        state.judge(Signal::TERM, Origin::Unknown, at(400)),
        Answer::AtOnce
    );
}

#[test]
fn after_a_programmatic_stop_the_first_signal_is_polite() {
    let state = state(Duration::ZERO, Escalation::SecondSignal);
    assert!(state.node.decide("by hand".into()).is_ok());
    assert_eq!(
        state.judge(Signal::INT, Origin::Unknown, at(0)),
        Answer::Noted
    );
    assert_eq!(
        state.judge(Signal::INT, Origin::Unknown, at(1)),
        Answer::Force
    );
}

#[test]
fn never_never_forces() {
    let state = state(Duration::ZERO, Escalation::Never);
    assert_eq!(
        state.judge(Signal::INT, Origin::Unknown, at(0)),
        Answer::Stop
    );
    for n in 1..100 {
        assert_eq!(
            state.judge(Signal::INT, Origin::Unknown, at(n)),
            Answer::Noted
        );
    }
}

#[test]
fn ended_or_forced_is_one_decision() {
    let state = state(Duration::ZERO, Escalation::SecondSignal);
    assert_eq!(
        state.judge(Signal::INT, Origin::Unknown, at(0)),
        Answer::Stop
    );
    assert_eq!(
        state.judge(Signal::INT, Origin::Unknown, at(1)),
        Answer::Force
    );
    assert!(!state.node.advance(Life::Stopped, Life::Ended));
}

#[test]
fn after_the_end_a_first_signal_is_nobody_s_and_a_second_still_ends_the_process() {
    let ended = state(MS * 300, Escalation::SecondSignal);
    assert!(ended.node.decide("by hand".into()).is_ok());
    assert!(ended.node.advance(Life::Stopped, Life::Ended));
    ended.reported.store(true, Ordering::Release);
    assert_eq!(
        ended.judge(Signal::TERM, Origin::Unknown, at(0)),
        Answer::AsBefore
    );
    // It is polite as long as the report is being told.
    let telling = state(MS * 300, Escalation::SecondSignal);
    assert!(telling.node.decide("by hand".into()).is_ok());
    assert!(telling.node.advance(Life::Stopped, Life::Ended));
    assert_eq!(
        telling.judge(Signal::TERM, Origin::Unknown, at(0)),
        Answer::Noted
    );
    let ended = state(MS * 300, Escalation::SecondSignal);
    assert_eq!(
        ended.judge(Signal::TERM, Origin::Unknown, at(0)),
        Answer::Stop
    );
    assert!(ended.node.advance(Life::Stopped, Life::Ended));
    // The same key press, once more.
    assert_eq!(
        ended.judge(Signal::TERM, Origin::Unknown, at(4)),
        Answer::Noted
    );
    assert_eq!(
        ended.judge(Signal::TERM, Origin::Unknown, at(400)),
        Answer::Force
    );
}

/// Longer than any of these programs lives.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_linger_ends_by_a_later_signal_and_the_next_one_forces() {
    let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
    let judge = |signal, ms| state.judge(signal, Origin::Unknown, at(ms));
    assert_eq!(judge(Signal::TERM, 0), Answer::Linger);
    assert!(!state.node.is_stopped());
    // P7: the same request, of whatever kind.
    assert_eq!(judge(Signal::INT, 4), Answer::Noted);
    assert_eq!(judge(Signal::TERM, 299), Answer::Noted);
    assert_eq!(state.node.word().life(), Life::Lingering);
    // P6: by the handler itself.
    assert_eq!(judge(Signal::TERM, 300), Answer::Stop);
    assert!(state.node.is_stopped());
    // A request of its own, with a window of its own.
    assert_eq!(judge(Signal::TERM, 304), Answer::Noted);
    assert_eq!(judge(Signal::INT, 599), Answer::Noted);
    assert_eq!(judge(Signal::TERM, 600), Answer::Force);
}

#[test]
fn the_clock_and_the_reason_are_those_of_the_first() {
    let state = lingering(Duration::ZERO, LONG, Escalation::SecondSignal);
    state.judge(Signal::TERM, Origin::Terminal, at(0));
    let word = state.node.word();
    state.judge(Signal::INT, Origin::Unknown, at(500));
    assert_eq!(state.node.word(), word.moved_to(Life::Stopped));
    assert_eq!(
        state.node.reason().unwrap().to_string(),
        "SIGTERM from the terminal"
    );
}

#[test]
fn a_key_press_does_not_linger() {
    for signal in [Signal::INT, Signal::QUIT] {
        let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
        assert_eq!(state.judge(signal, Origin::Unknown, at(0)), Answer::Stop);
    }
    for signal in [Signal::TERM, Signal::HUP, Signal::USR1] {
        let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
        assert_eq!(state.judge(signal, Origin::Unknown, at(0)), Answer::Linger);
    }
}

#[test]
fn after_a_linger_that_ended_by_itself_the_second_signal_forces() {
    let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
    let judge = |ms| state.judge(Signal::TERM, Origin::Unknown, at(ms));
    assert_eq!(judge(0), Answer::Linger);
    assert!(state.end_the_linger());
    assert_eq!(judge(299), Answer::Noted);
    assert_eq!(judge(300), Answer::Force);
}

#[test]
fn a_stop_ends_the_linger_and_the_signal_stays_the_reason() {
    let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
    let judge = |ms| state.judge(Signal::TERM, Origin::Unknown, at(ms));
    assert_eq!(judge(0), Answer::Linger);
    assert_eq!(state.node.decide("now".into()), Err("now".into()));
    assert!(state.node.is_stopped());
    assert_eq!(
        state.node.reason().and_then(|reason| reason.signal()),
        Some(Signal::TERM)
    );
    assert_eq!(judge(300), Answer::Force);
}

#[test]
fn never_ends_a_linger_and_never_forces() {
    let state = lingering(MS * 300, LONG, Escalation::Never);
    let judge = |ms| state.judge(Signal::TERM, Origin::Unknown, at(ms));
    assert_eq!(judge(0), Answer::Linger);
    assert_eq!(judge(299), Answer::Noted);
    assert_eq!(judge(300), Answer::Stop);
    for n in 4..100 {
        assert_eq!(judge(n * 300), Answer::Noted);
    }
}

/// P6, where one handler interrupts another between its two steps.
#[test]
fn a_handler_inside_another_leaves_nothing_undone() {
    // A SIGINT has claimed the first place when a SIGTERM comes in between.
    let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
    let deliveries = &state.node.ending().unwrap().deliveries;
    deliveries.be_polite(at(0)).unwrap();
    let inside = state.judge(Signal::TERM, Origin::Unknown, at(1));
    assert_eq!(inside, Answer::Linger);
    let outside = state.answer(Signal::INT, at(0), NO_RECORD, Ok(()));
    assert_eq!(outside, Answer::Stop);
    assert!(state.node.is_stopped());

    // The one that ends the linger has said so when another comes in between: that one stops the
    // token before it returns.
    let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
    let deliveries = &state.node.ending().unwrap().deliveries;
    let judge = |ms| state.judge(Signal::TERM, Origin::Unknown, at(ms));
    assert_eq!(judge(0), Answer::Linger);
    assert!(deliveries.insist(at(400)));
    assert_eq!(judge(401), Answer::Stop);
    assert_eq!(judge(699), Answer::Noted);
    assert_eq!(judge(700), Answer::Force);
}

/// Two deliveries at once to each of many states, as closely as two threads can; gives both answers
/// to each.
fn at_once(states: &[SignalState], signals: [Signal; 2], ms: u32) -> Vec<[Answer; 2]> {
    let arrived = std::sync::atomic::AtomicUsize::new(0);
    let judge_all = |signal| {
        let answers = states.iter().enumerate().map(|(round, state)| {
            arrived.fetch_add(1, Ordering::SeqCst);
            let mut spins = 0;
            while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                spins += 1;
                if spins % 1000 == 0 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
            let answer = state.judge(signal, Origin::Unknown, at(ms));
            // P6, in all that is tested so: before the handler returns.
            assert!(state.node.is_stopped() || signal == Signal::TERM);
            answer
        });
        answers.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let [one, two] = signals.map(|signal| scope.spawn(move || judge_all(signal)));
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        one.into_iter()
            .zip(two)
            .map(|(one, two)| [one, two])
            .collect()
    })
}

/// So often, so many states: without a futex each of them holds six descriptors.
const BATCHES: usize = if cfg!(miri) { 1 } else { 125 };
const BATCH: usize = 40;

/// P6: whatever comes in between, a key press that has returned has stopped the token.
#[test]
fn a_key_press_beside_another_signal_stops() {
    let state = |_| lingering(Duration::ZERO, LONG, Escalation::Never);
    for _ in 0..BATCHES {
        let states: Vec<_> = (0..BATCH).map(state).collect();
        at_once(&states, [Signal::TERM, Signal::INT], 0);
    }
}

/// P7: two at once, after the window of the first, are one request.
#[test]
fn two_that_end_a_linger_together_are_one() {
    let state = |_| {
        let state = lingering(MS * 300, LONG, Escalation::SecondSignal);
        state.judge(Signal::TERM, Origin::Unknown, at(0));
        state
    };
    for _ in 0..BATCHES {
        let states: Vec<_> = (0..BATCH).map(state).collect();
        for mut answers in at_once(&states, [Signal::HUP, Signal::INT], 400) {
            answers.sort_by_key(|answer| *answer != Answer::Stop);
            assert_eq!(answers, [Answer::Stop, Answer::Noted]);
        }
    }
}

/// What the console says of the next Ctrl-C is what it does, whatever was before.
#[cfg(feature = "console")]
#[test]
fn would_force_says_what_the_next_delivery_does() {
    #[derive(Clone, Copy)]
    enum Step {
        Stop,
        Term,
        Int,
        EndLinger,
        End,
    }
    use Step::{End, EndLinger, Int, Stop, Term};
    let steps = [Stop, Term, Int, EndLinger, End];
    let mut forced = 0;
    // Three of them, in every order, 200 ms apart.
    for history in 0..125 {
        let history = [history / 25, history / 5 % 5, history % 5].map(|step: usize| steps[step]);
        for (linger, escalation) in [
            (Duration::ZERO, Escalation::SecondSignal),
            (LONG, Escalation::SecondSignal),
            (LONG, Escalation::Never),
        ] {
            for now in (0..1000).step_by(50) {
                let state = lingering(MS * 300, linger, escalation);
                for (step, when) in history.into_iter().zip([0, 200, 400]) {
                    if when > now {
                        break;
                    }
                    match step {
                        Stop => drop(state.node.decide("by hand".into())),
                        Term => drop(state.judge(Signal::TERM, Origin::Unknown, at(when))),
                        Int => drop(state.judge(Signal::INT, Origin::Terminal, at(when))),
                        EndLinger => drop(state.end_the_linger()),
                        End => drop(state.node.advance(Life::Stopped, Life::Ended)),
                    }
                }
                let said = state.would_force(at(now));
                // After the end there is nobody left to say it.
                let is_over = state.node.word().life() == Life::Ended;
                let does = state.judge(Signal::INT, Origin::Terminal, at(now)) == Answer::Force;
                assert_eq!(said, does && !is_over);
                forced += u32::from(does);
            }
        }
    }
    assert!(forced > 1000, "{forced}");
}
