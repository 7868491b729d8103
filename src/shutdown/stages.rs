//! The stages' turn: the one built last is stopped first, and each next one when the one above is
//! empty or out of its share of the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::event::Event;
use crate::shutdown::Core;
use crate::shutdown::sequence::announce;
use crate::shutdown::teller::Teller;
use crate::sync::Ordering;

/// Stops all stages in their order, before `until`; what is still in them then is the drain's to
/// wait for.
pub(super) fn stop(core: &Arc<Core>, until: Tick, teller: &mut Teller) {
    let stages = core.work.close_stages();
    let reason = core.work.reason();
    let mut budget = Budget::of(stages.iter().map(|stage| stage.cap()));
    for stage in &stages {
        let name = || stage.name.clone();
        core.bus.emit(|| Event::StageStopping { stage: name() });
        let now = core.node.now();
        let share = budget.next(until.since(now));
        stage.stop(&reason, share);
        // P4: threads and channels before anything else.
        let told = announce(core, stage.announce());
        let done = || told.load(Ordering::Acquire) && stage.is_over();
        core.work
            .wait_until(now + share, done, || teller.look(core));
        let empty = stage.is_empty();
        core.bus.emit(|| Event::StageEnded {
            stage: name(),
            empty,
        });
    }
}

/// Closes what the runner has not come to: the report is being made without it. What is in flight
/// is found only in what has been closed (P20).
pub(super) fn stop_without_a_turn(core: &Core) {
    core.work.own.close();
    let reason = core.work.reason();
    for stage in core.work.close_stages() {
        if stage.stop(&reason, Duration::ZERO) {
            // Its closures are user code, and there is no time for that here.
            stage.wake_threads();
        }
    }
}

/// How the time for draining is shared out among the stages.
struct Budget {
    /// The caps of the stages still to come, in the order of their turns.
    stages: VecDeque<Option<Duration>>,
    /// Those of them that have one.
    caps: VecDeque<Duration>,
    /// What each of them can count on, where its own cap is not less.
    part: Duration,
}

impl Budget {
    /// The caps are taken as they are now: one that is changed later is not shared out again.
    fn of(stages: impl Iterator<Item = Option<Duration>>) -> Self {
        let stages: VecDeque<Option<Duration>> = stages.collect();
        let caps = stages.iter().filter_map(|cap| *cap).collect();
        Self {
            stages,
            caps,
            part: Duration::ZERO,
        }
    }

    /// How much of what is `left` the next stage may use: its part, and what the caps of the later
    /// ones leave of theirs. P15: thousands may be to come, so it costs a look at the caps alone.
    ///
    /// The parts only grow: what a later cap leaves is given away once, and who hangs for as long
    /// as that has taken nothing from the others.
    fn next(&mut self, left: Duration) -> Duration {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let part = self.part.max(left / count(self.stages.len().max(1)));
        self.part = part;
        let cap = self.stages.pop_front().flatten();
        if cap.is_some() {
            self.caps.pop_front();
        }
        let capped: Duration = self.caps.iter().map(|cap| part.min(*cap)).sum();
        let uncapped = part * count(self.stages.len() - self.caps.len());
        let most = left.saturating_sub(uncapped + capped);
        cap.map_or(most, |cap| most.min(cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, prop_oneof};

    use crate::property;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn first(left: Duration, caps: &[Option<Duration>]) -> Duration {
        Budget::of(caps.iter().copied()).next(left)
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
            for _ in caps {
                let share = budget.next(left);
                // Rounding apart.
                assert!(share + Duration::from_micros(1) >= S(25) / count);
                left = left.saturating_sub(share);
            }
        }
    }

    #[test]
    fn what_a_cap_leaves_is_given_away_once() {
        let mut budget = Budget::of([None, None, None, Some(S(0))].into_iter());
        assert_eq!(budget.next(S(16)), S(8));
        // That one has hung. The next may take no more than its part, or the third has less.
        assert_eq!(budget.next(S(8)), S(4));
        assert_eq!(budget.next(S(4)), S(4));
    }

    /// P15, and no stage starves another: each uses of its share what it likes.
    #[test]
    fn p15_any_stages_share_any_time() {
        let time = || (0..100_000_000_000_u64).prop_map(Duration::from_nanos);
        let cap = prop_oneof![
            Just(None),
            time().prop_map(Some),
            Just(Some(Duration::ZERO)),
            Just(Some(Duration::MAX)),
        ];
        let stages = proptest::collection::vec((cap, time()), 1..40);
        property::holds("the stages' time", &(time(), stages), |(whole, stages)| {
            let mut budget = Budget::of(stages.iter().map(|(cap, _)| *cap));
            let mut left = *whole;
            // Rounding apart.
            let part = (*whole / u32::try_from(stages.len()).unwrap())
                .saturating_sub(Duration::from_micros(1));
            for (nth, (cap, wish)) in stages.iter().enumerate() {
                let share = budget.next(left);
                assert!(share <= left, "{share:?} of {left:?}");
                assert!(cap.is_none_or(|cap| share <= cap));
                assert!(
                    share >= part.min(cap.unwrap_or(part)),
                    "{share:?} < {part:?}"
                );
                // What nobody else can use is the last one's.
                if nth + 1 == stages.len() {
                    assert_eq!(share, cap.map_or(left, |cap| left.min(cap)));
                }
                left -= share.min(*wish);
            }
        });
    }
}
