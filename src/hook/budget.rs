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
}
