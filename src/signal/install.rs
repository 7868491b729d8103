//! Putting the handlers in their place: all or none.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::error::InstallError;
use crate::reason::{MAX_SIGNAL, Signal};
use crate::signal::bell::Ears;
use crate::signal::handler;
use crate::signal::prior::{self, Prior, SIGNALS};
use crate::signal::state::{SignalState, bit};
use crate::sync::{self, Mutex, Ordering};
use crate::token::By;

sync::global! {
    /// One installation at a time.
    static INSTALLING: Mutex<()> = Mutex::new(());
}

/// The address of the handler that stood right after the installation (P11).
static STOOD: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];

fn stood(signal: Signal) -> usize {
    STOOD[prior::index(signal)].load(Ordering::Acquire)
}

/// Installs the handlers of `signals` for `state`. On an error everything is as it was.
pub(crate) fn install(
    state: &Arc<SignalState>,
    signals: &[Signal],
    override_ignored: bool,
) -> Result<(), InstallError> {
    let _one = INSTALLING.lock();
    if handler::is_taken() {
        return Err(InstallError::AlreadyInstalled);
    }
    // Everything that can be refused is refused before anything is changed.
    let mut new = Vec::new();
    let mut mask = 0;
    for &signal in signals {
        if mask & bit(signal) != 0 {
            continue;
        }
        let action = handler::action_of(signal)
            .map_err(|source| InstallError::Handler { signal, source })?;
        let now = Prior::of(&action);
        let prior = match prior::prior(signal) {
            // P9: asked only where it is not our own handler that stands there.
            prior if prior == Prior::NotOurs || now != Prior::Handler => {
                new.push((signal, action, now));
                now
            }
            _ if action.sa_sigaction != stood(signal) => {
                return Err(InstallError::Replaced(signal));
            }
            prior => prior,
        };
        if prior == Prior::Ignored && !override_ignored {
            new.retain(|(of, ..)| *of != signal);
        } else {
            mask |= bit(signal);
        }
    }
    state.answered.store(mask, Ordering::Release);
    // First the state, then the handlers: a signal that arrives in between is answered, not
    // swallowed.
    handler::put(state);
    for (signal, action, prior) in new {
        if let Err(source) = register(signal, &action, prior) {
            handler::release(state);
            // What was taken in meanwhile would have ended the process.
            let word = state.node.word();
            if word.by() == By::Signal {
                handler::as_before(word.signal());
            }
            return Err(InstallError::Handler { signal, source });
        }
    }
    // Only now may the listener let them in: before, they would have had their old effect.
    state.installed.store(true, Ordering::Release);
    state.bell.ring(Ears::LISTENER);
    Ok(())
}

/// The handlers of `state` still stand where they were put (P11).
pub(crate) fn is_installed(state: &SignalState) -> bool {
    if !handler::is_current(state) {
        return false;
    }
    (1..=MAX_SIGNAL)
        .map(Signal::from_raw)
        .filter(|signal| state.answers_to(*signal))
        .all(|signal| {
            handler::action_of(signal).is_ok_and(|action| action.sa_sigaction == stood(signal))
        })
}

fn register(signal: Signal, before: &libc::sigaction, prior: Prior) -> io::Result<()> {
    prior::set_prior(signal, prior);
    handler::chain_to(signal, before);
    let result = handler::place(signal, before).and_then(|stood| {
        // Whoever came in between is not forgotten.
        handler::chain_to(signal, &stood);
        // Invariant 4: the registry then goes before ours, so that whoever uses it later does not;
        // its own action for us has nothing left to do.
        handler::front_with_registry(signal).inspect_err(|_| handler::put_back(signal, &stood))
    });
    if result.is_err() {
        prior::set_prior(signal, Prior::NotOurs);
        return result;
    }
    let mut stands = handler::action_of(signal)?;
    STOOD[prior::index(signal)].store(stands.sa_sigaction, Ordering::Release);
    if prior == Prior::Handler {
        // The registry asks for neither, and is the one that the system looks at now.
        prior::keep_stack_and_mask(&mut stands, before);
        handler::put_back(signal, &stands);
    }
    Ok(())
}
