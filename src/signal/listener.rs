//! The watchdog: ends a linger, and a process whose grace period is over, whatever the rest of it
//! does (P15).
//!
//! It takes no lock, allocates nothing, logs nothing, and runs nobody's code (P12): it works when
//! everything else is stuck.

use crate::signal::bell::Ears;
use crate::signal::state::SignalState;
use crate::signal::{exit, mask};
use crate::sync::Ordering;
use crate::token::{Life, SLICE, after};

/// The listener's life: parked until the stop, or the signal that announces it (P23), then looking
/// at the clock until the end.
///
/// It lets the signals in, so that there is a thread to take them even in a program that blocks
/// them on all its own; but only when their handlers stand.
pub(crate) fn listen(state: &SignalState) {
    let Some(ending) = state.node.ending() else {
        return;
    };
    while !state.released.load(Ordering::Acquire) {
        let word = state.node.word();
        let owner_back = state.owner.is_back();
        match word.life() {
            Life::Running => {
                if state.installed.load(Ordering::Acquire) {
                    mask::let_in(state.answered.load(Ordering::Acquire));
                }
                state.bell.wait(Ears::LISTENER, None);
            }
            Life::Forced => {
                state.end_what_was_passed_on();
                state.bell.wait(Ears::LISTENER, None);
            }
            // Over, and somebody is there to go on.
            Life::Ended if owner_back || !state.settings.exit_on_timeout => {
                state.bell.wait(Ears::LISTENER, None);
            }
            // P15 counts from the first signal, so that a linger is watched over too.
            Life::Lingering | Life::Stopped | Life::Ended => {
                let stop = word.when();
                let now = ending.clock.now(stop);
                let lingers = word.life() == Life::Lingering;
                let end = word.when_at_latest() + state.settings.linger;
                if lingers && now >= end {
                    if state.end_the_linger() {
                        state.bell.ring(Ears::RUNNER);
                    }
                    continue;
                }
                let limit = ending.clock.deadline(stop) + after::WATCHDOG;
                if now >= limit && state.settings.exit_on_timeout && state.give_up_on(word) {
                    let death = state.death_by_timeout();
                    state.run_emergency_hooks(after::WATCHDOG_EMERGENCY);
                    exit::now(death);
                }
                // P15: what has moved meanwhile is looked at now.
                if now >= limit && state.node.word() != word {
                    continue;
                }
                let next = if lingers { end.min(limit) } else { limit };
                let left = if now < next { next.since(now) } else { SLICE };
                state.bell.wait(Ears::LISTENER, Some(left.min(SLICE)));
            }
        }
    }
}
