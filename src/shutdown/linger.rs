//! Before the stop: parked.

use crate::shutdown::Core;
use crate::shutdown::teller::Teller;
use crate::signal::Ears;
use crate::sync::Ordering;
use crate::token::{Life, SLICE};

/// Waits for the stop. False: there will be none, as the installation was refused.
///
/// A linger is ended by the watchdog, or by whoever asks for the stop meanwhile: what is done here
/// may take its time, or hang.
pub(super) fn until_stop(core: &Core, teller: &mut Teller) -> bool {
    let mut announced = false;
    while !core.node.is_stopped() {
        if core.signals.released.load(Ordering::Acquire) {
            return false;
        }
        let word = core.node.word();
        if word.life() != Life::Lingering {
            // P23: without a time, unless systemd asks for signs of life.
            core.signals.bell.wait(Ears::RUNNER, core.systemd.beat());
            continue;
        }
        match core.node.ending() {
            Some(ending) if !announced => {
                announced = true;
                // Looked up while whoever sent the signal is most likely still there.
                teller.lingering(core, ending.deliveries.received(word));
            }
            _ => teller.look(core),
        }
        core.signals.bell.wait(Ears::RUNNER, Some(SLICE));
    }
    true
}
