//! The stages' turn: the one built last is stopped first, and each next one when the one above is
//! empty or out of its share of the time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::event::Event;
use crate::reason::StopReason;
use crate::shutdown::Core;
use crate::shutdown::sequence::announce;
use crate::shutdown::teller::Teller;
use crate::sync::Ordering;
use crate::token::Announcement;

/// Stops all stages in their order, before `until`; what is still in them then is the drain's to
/// wait for.
pub(super) fn stop(core: &Arc<Core>, until: Tick, teller: &mut Teller) {
    let stages = core.work.close_stages();
    let reason = core.node.reason().unwrap_or(StopReason::Completed);
    let caps: Vec<Option<Duration>> = stages.iter().map(|stage| stage.cap()).collect();
    for (index, stage) in stages.iter().enumerate() {
        let name = || stage.name.clone();
        core.bus.emit(|| Event::StageStopping { stage: name() });
        stage.stop(&reason);
        // P4: threads and channels before anything else.
        let told = announce(core, Announcement::of(&stage.home.node));
        let done = || told.load(Ordering::Acquire) && stage.is_over();
        // P15: a share costs a look at all that are still to come, so what is empty has none.
        if !done() {
            let now = core.node.now();
            let share = now + share(until.since(now), &caps[index..]);
            core.work.wait_until(share, done, || teller.look(core));
        }
        let empty = stage.is_empty();
        core.bus.emit(|| Event::StageEnded {
            stage: name(),
            empty,
        });
    }
}

/// Closes what the runner has not come to: the report is being made without it. What is in flight is
/// found only in what has been closed (P20).
pub(super) fn stop_without_a_turn(core: &Core) {
    core.work.own.close();
    let reason = core.node.reason().unwrap_or(StopReason::Completed);
    for stage in core.work.close_stages() {
        if stage.stop(&reason) {
            // Its closures are user code, and there is no time for that.
            std::mem::forget(Announcement::of(&stage.home.node));
        }
    }
}

/// How much of what is `left` the first of these stages may use: its part, and what the caps of the
/// later ones leave of theirs.
fn share(left: Duration, caps: &[Option<Duration>]) -> Duration {
    // P15: thousands may still be to come.
    if left.is_zero() {
        return left;
    }
    let part = left / u32::try_from(caps.len().max(1)).unwrap_or(u32::MAX);
    let kept: Duration = caps
        .iter()
        .skip(1)
        .map(|cap| cap.map_or(part, |cap| cap.min(part)))
        .sum();
    let most = left.saturating_sub(kept);
    match caps.first() {
        Some(Some(cap)) => most.min(*cap),
        _ => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn stages_without_caps_have_equal_parts() {
        assert_eq!(share(S(12), &[None, None, None]), S(4));
        assert_eq!(share(S(12), &[None]), S(12));
        assert_eq!(share(S(0), &[None, None]), S(0));
    }

    #[test]
    fn what_a_cap_leaves_goes_to_the_others() {
        assert_eq!(share(S(12), &[Some(S(1)), None, None]), S(1));
        assert_eq!(share(S(12), &[None, Some(S(1)), None]), S(7));
        assert_eq!(share(S(12), &[None, Some(S(100))]), S(6));
    }

    #[test]
    fn a_stage_that_hangs_leaves_each_other_its_part() {
        for count in 1..20_u32 {
            let caps = vec![None; count as usize];
            let mut left = S(25);
            for stage in 0..count {
                let share = share(left, &caps[stage as usize..]);
                // Rounding apart.
                assert!(share + Duration::from_micros(1) >= S(25) / count);
                left = left.saturating_sub(share);
            }
        }
    }
}
