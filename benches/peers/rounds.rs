//! Two and more sides of one comparison, measured in turns.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Shows that it works; the figures mean nothing.
    Short,
    Usual,
    /// With what takes minutes.
    Long,
}

impl Effort {
    /// Of what takes tens of milliseconds.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Self::Short => 2,
            _ => 31,
        }
    }

    /// Of what takes a millisecond: short enough to fall between two others who want the processor, and so many that
    /// those which do not are few.
    pub(crate) fn many_rounds(self) -> usize {
        match self {
            Self::Short => 2,
            _ => 401,
        }
    }

    /// How often something is done in a round.
    pub(crate) fn times(self, usual: u32) -> u32 {
        match self {
            Self::Short => usual.div_ceil(100),
            _ => usual,
        }
    }
}

/// One side: does all of it once, and says how long each phase of it took.
pub(crate) type Side<'a, const PHASES: usize> = Box<dyn FnMut() -> [Duration; PHASES] + 'a>;

/// Nanoseconds of each phase of each side: the medians of so many rounds, each of a millisecond or less.
pub(crate) fn in_turns<const SIDES: usize, const PHASES: usize>(
    rounds: usize,
    sides: [Side<'_, PHASES>; SIDES],
) -> [[f64; PHASES]; SIDES] {
    measured(rounds, sides).map(|side| side.map(|figures| median(&figures)))
}

/// The same of what takes longer than the scheduler lets anybody run: the best of the rounds, as on a busy machine most
/// are cut in pieces, and those of the slower side more than those of the other.
pub(crate) fn best_in_turns<const SIDES: usize, const PHASES: usize>(
    rounds: usize,
    sides: [Side<'_, PHASES>; SIDES],
) -> [[f64; PHASES]; SIDES] {
    measured(rounds, sides).map(|side| side.map(|figures| percentile(&figures, 0.0)))
}

fn measured<const SIDES: usize, const PHASES: usize>(
    rounds: usize,
    mut sides: [Side<'_, PHASES>; SIDES],
) -> [[Vec<f64>; PHASES]; SIDES] {
    let mut took = [const { [const { Vec::new() }; PHASES] }; SIDES];
    // The first round warms up. And each one begins with another side, so that none always comes after the same.
    for round in 0..=rounds {
        for turn in 0..SIDES {
            let side = (round + turn) % SIDES;
            let phases = sides[side]();
            if round > 0 {
                for (all, phase) in took[side].iter_mut().zip(phases) {
                    all.push(phase.as_secs_f64() * 1e9);
                }
            }
        }
    }
    took
}

pub(crate) fn median(figures: &[f64]) -> f64 {
    percentile(figures, 0.5)
}

/// The figure that so large a part of them does not exceed.
pub(crate) fn percentile(figures: &[f64], part: f64) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand at most"
    )]
    let index = ((figures.len() - 1) as f64 * part).round() as usize;
    figures[index]
}

/// How long it takes to do `f` so many times.
pub(crate) fn timed<R>(times: u32, mut f: impl FnMut() -> R) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        black_box(f());
    }
    start.elapsed()
}

/// A side that does one short thing many times.
pub(crate) fn each<'a, R>(times: u32, mut f: impl FnMut() -> R + 'a) -> Side<'a, 1> {
    Box::new(move || [timed(times, &mut f)])
}

/// The same on two threads at once: the time of the slower one.
pub(crate) fn each_on_two<'a, R>(times: u32, f: impl Fn() -> R + Sync + 'a) -> Side<'a, 1> {
    Box::new(move || {
        let together = Barrier::new(2);
        let one = || {
            together.wait();
            timed(times, &f)
        };
        let (here, there) = std::thread::scope(|scope| {
            let other = scope.spawn(one);
            (one(), other.join().unwrap())
        });
        [here.max(there)]
    })
}

/// Nanoseconds for one of `times`.
pub(crate) fn one_of(times: u32, took: f64) -> f64 {
    took / f64::from(times)
}
