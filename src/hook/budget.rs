//! How long a hook may run: a pure function.

use std::time::Duration;

/// Where the reserves do not fit, nobody gets less than this part of what is left: of a thousand
/// hooks each would get so little that a busy machine made quick ones late. It is a part, not a
/// length, so that there is always some left for the next.
const LEAST: u128 = 256;

/// Below this, waking a thread to enforce the limit costs more than the limit.
const QUANTUM: Duration = Duration::from_millis(1);

/// The time of a hook with `cap` and `reserve`, when `left` is left of the grace period and
/// `reserves` are the nanoseconds of all reserves to come, its own among them. `None`: there is no
/// time at all.
///
/// P16: never less than its reserve, or where the reserves do not fit, than its share of what is
/// left: a little less for the last of many hundred that all hang.
pub(super) fn allow(
    left: Duration,
    cap: Duration,
    reserve: Duration,
    reserves: u128,
) -> Option<Duration> {
    if left.is_zero() {
        return None;
    }
    let (left_ns, reserve_ns) = (left.as_nanos(), reserve.as_nanos());
    let others = reserves.saturating_sub(reserve_ns);
    let allowed = if reserves <= left_ns {
        left_ns - others
    } else {
        // The product of two 94-bit numbers would not fit; a reserve beyond 292 years has no
        // meaning.
        let reserve_ns = reserve_ns.min(u128::from(u64::MAX));
        let left_ns = left_ns.min(u128::from(u64::MAX));
        let share = reserve_ns * left_ns / reserves;
        share
            .max(left_ns / LEAST)
            .max(QUANTUM.as_nanos().min(left_ns))
    };
    let allowed = u64::try_from(allowed).unwrap_or(u64::MAX);
    Some(Duration::from_nanos(allowed).min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, prop_oneof};

    use crate::property;

    const MS: Duration = Duration::from_millis(1);

    fn ns(span: Duration) -> u128 {
        span.as_nanos()
    }

    #[test]
    fn what_the_others_need_is_kept_for_them() {
        // Three hooks with 250 ms each, 1 s left: the first may take 500 ms, however slow it is.
        assert_eq!(
            allow(MS * 1000, MS * 5000, MS * 250, ns(MS * 750)),
            Some(MS * 500)
        );
        // The cap is a cap.
        assert_eq!(
            allow(MS * 10_000, MS * 5000, MS * 250, ns(MS * 750)),
            Some(MS * 5000)
        );
    }

    #[test]
    fn reserves_that_do_not_fit_shrink_in_proportion() {
        assert_eq!(
            allow(MS * 300, MS * 5000, MS * 200, ns(MS * 600)),
            Some(MS * 100)
        );
        assert_eq!(
            allow(MS * 300, MS * 5000, MS * 400, ns(MS * 600)),
            Some(MS * 200)
        );
        // Never less than can be held, nor than a little of what is left.
        assert_eq!(
            allow(MS * 2560, MS * 5000, MS * 250, ns(MS * 250_000)),
            Some(MS * 10)
        );
        assert_eq!(
            allow(MS * 5, MS * 5000, MS * 250, ns(MS * 250_000)),
            Some(MS)
        );
        assert_eq!(
            allow(MS / 2, MS * 5000, MS * 250, ns(MS * 250_000)),
            Some(MS / 2)
        );
    }

    #[test]
    fn no_time_is_none_and_huge_times_do_not_overflow() {
        assert_eq!(allow(Duration::ZERO, MS, MS, ns(MS)), None);
        let max = Duration::MAX;
        assert!(allow(max, max, max, ns(max)).is_some());
        assert!(allow(MS, max, max, ns(max) * 1000).is_some());
        assert_eq!(allow(MS, max, Duration::ZERO, 0), Some(MS));
    }

    /// Caps, reserves and what hooks would like to take: a blink, some time, for ever.
    fn span() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            (1..1_000_000_000_000_u64).prop_map(Duration::from_nanos),
            (1..100_000_u64).prop_map(|ms| MS * u32::try_from(ms).unwrap()),
            Just(Duration::MAX),
        ]
    }

    /// A cleaning on a clock that moves only while a hook runs: `left` for all, and the cap, the
    /// reserve and the wish of each.
    fn clean(
        mut left: Duration,
        hooks: &[(Duration, Duration, Duration)],
    ) -> Vec<Option<(Duration, Duration)>> {
        let reserve = |(cap, reserve, _): &(Duration, Duration, Duration)| *reserve.min(cap);
        let mut reserves: u128 = hooks.iter().map(|hook| ns(reserve(hook))).sum();
        let one = |hook: &(Duration, Duration, Duration)| {
            let allowed = allow(left, hook.0, reserve(hook), reserves)?;
            reserves -= ns(reserve(hook));
            let before = left;
            // P15: nothing may be allowed that is not there.
            left = left.checked_sub(hook.2.min(allowed)).unwrap();
            Some((before, allowed))
        };
        hooks.iter().map(one).collect()
    }

    #[test]
    fn p15_p16_any_hooks_share_any_time() {
        let hooks = proptest::collection::vec((span(), span(), span()), 1..40);
        let mut seen = [0; 4];
        property::holds("the hooks' time", &(span(), hooks), |(left, hooks)| {
            let allowed = clean(*left, hooks);
            let mut reserves: u128 = hooks.iter().map(|hook| ns(hook.1.min(hook.0))).sum();
            for ((cap, reserve, _), allowed) in hooks.iter().zip(&allowed) {
                let reserve = *reserve.min(cap);
                let Some((left, allowed)) = allowed else {
                    // All has been used by those before, who had no reserve to leave alone.
                    assert!(left.is_zero() || reserves > 0 || reserve.is_zero());
                    seen[0] += 1;
                    continue;
                };
                assert!(allowed <= cap && allowed <= left);
                // Half a millennium is for ever.
                let much = u128::from(u64::MAX);
                if reserves <= ns(*left) {
                    assert!(*allowed >= reserve.min(Duration::from_nanos(u64::MAX)));
                    seen[1] += 1;
                } else {
                    let share = ns(reserve).min(much) * ns(*left).min(much) / reserves;
                    assert!(ns(*allowed) >= share.min(ns(*cap)), "{allowed:?} < {share}");
                    seen[2] += 1;
                }
                reserves -= ns(reserve);
            }
            // Reserves that fit at the beginning are there at the turn of each, whatever the others
            // do; so nobody is skipped who has one.
            let all: u128 = hooks.iter().map(|hook| ns(hook.1.min(hook.0))).sum();
            if all <= ns(*left) && ns(*left) < u128::from(u64::MAX) {
                for ((cap, reserve, _), allowed) in hooks.iter().zip(&allowed) {
                    let reserve = *reserve.min(cap);
                    let allowed = allowed.map_or(Duration::ZERO, |(_, allowed)| allowed);
                    assert!(allowed >= reserve, "{allowed:?} < {reserve:?}");
                    seen[3] += 1;
                }
            }
        });
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }
}
