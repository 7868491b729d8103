//! The stages' turn: the one built last is stopped first, and each next one when the one above is
//! empty or out of its share of the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::event::Event;
use crate::reason::StopReason;
use crate::shutdown::Core;
use crate::shutdown::sequence::announce;
use crate::shutdown::teller::Teller;
use crate::sync::Ordering;
use crate::work::StageState;

/// As many stages that are late are looked at while the next ones stop, so that the report knows when
/// they became empty; that of more of them it knows only when the drain looks at all.
const LOOKED_AT: usize = 64;

/// Stops all stages in their order, before `until`; what is still in them then is the drain's to
/// wait for.
pub(super) fn stop(core: &Arc<Core>, until: Tick, teller: &mut Teller) {
    let stages = core.work.close_stages();
    let reason = core.node.reason().unwrap_or(StopReason::Completed);
    let mut budget = Budget::of(stages.iter().map(|stage| stage.cap()));
    let mut late: Vec<&Arc<StageState>> = Vec::new();
    for stage in &stages {
        let name = || stage.name.clone();
        core.bus.emit(|| Event::StageStopping { stage: name() });
        let now = core.node.now();
        let share = budget.next(until.since(now), stage.cap());
        stage.stop(&reason, share);
        // P4: threads and channels before anything else.
        let told = announce(core, stage.announce());
        let done = || {
            // Those above are waited for later, but it is now that they may become empty.
            for above in &late {
                above.is_empty();
            }
            told.load(Ordering::Acquire) && stage.is_over()
        };
        core.work
            .wait_until(now + share, done, || teller.look(core));
        let empty = stage.is_empty();
        core.bus.emit(|| Event::StageEnded {
            stage: name(),
            empty,
        });
        if !empty && late.len() < LOOKED_AT {
            late.push(stage);
        }
    }
}

/// Closes what the runner has not come to: the report is being made without it. What is in flight is
/// found only in what has been closed (P20).
pub(super) fn stop_without_a_turn(core: &Core) {
    core.work.own.close();
    let reason = core.node.reason().unwrap_or(StopReason::Completed);
    for stage in core.work.close_stages() {
        if stage.stop(&reason, Duration::ZERO) {
            // Its closures are user code, and there is no time for that here.
            stage.wake_threads();
        }
    }
}

/// How the time for draining is shared out among the stages.
struct Budget {
    /// How many are still to come, and how many of them have no cap of their own.
    stages: u32,
    uncapped: u32,
    /// The caps of the others, in the order of their turns.
    caps: VecDeque<Duration>,
}

impl Budget {
    fn of(all: impl Iterator<Item = Option<Duration>>) -> Self {
        let all: Vec<Option<Duration>> = all.collect();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let caps: VecDeque<Duration> = all.iter().filter_map(|cap| *cap).collect();
        Self {
            stages: count(all.len()),
            uncapped: count(all.len() - caps.len()),
            caps,
        }
    }

    /// How much of what is `left` the next stage may use: its part, and what the caps of the later
    /// ones leave of theirs. P15: thousands may be to come, so it costs a look at the caps alone.
    fn next(&mut self, left: Duration, cap: Option<Duration>) -> Duration {
        let part = left / self.stages.max(1);
        self.stages = self.stages.saturating_sub(1);
        if cap.is_some() {
            self.caps.pop_front();
        } else {
            self.uncapped = self.uncapped.saturating_sub(1);
        }
        let capped: Duration = self.caps.iter().map(|cap| part.min(*cap)).sum();
        let most = left.saturating_sub(part * self.uncapped + capped);
        cap.map_or(most, |cap| most.min(cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn first(left: Duration, caps: &[Option<Duration>]) -> Duration {
        Budget::of(caps.iter().copied()).next(left, caps[0])
    }

    #[test]
    fn stages_without_caps_have_equal_parts() {
        assert_eq!(first(S(12), &[None, None, None]), S(4));
        assert_eq!(first(S(12), &[None]), S(12));
        assert_eq!(first(S(0), &[None, None]), S(0));
    }

    #[test]
    fn what_a_cap_leaves_goes_to_the_others() {
        assert_eq!(first(S(12), &[Some(S(1)), None, None]), S(1));
        assert_eq!(first(S(12), &[None, Some(S(1)), None]), S(7));
        assert_eq!(first(S(12), &[None, Some(S(100))]), S(6));
        assert_eq!(first(S(12), &[Some(Duration::MAX), None]), S(6));
    }

    #[test]
    fn a_stage_that_hangs_leaves_each_other_its_part() {
        for count in 1..20_u32 {
            // Every third one is capped far above its part.
            let caps: Vec<_> = (0..count).map(|n| (n % 3 == 0).then_some(S(100))).collect();
            let mut budget = Budget::of(caps.iter().copied());
            let mut left = S(25);
            for cap in caps {
                let share = budget.next(left, cap);
                // Rounding apart.
                assert!(share + Duration::from_micros(1) >= S(25) / count);
                left = left.saturating_sub(share);
            }
        }
    }
}
