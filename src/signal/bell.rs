//! Wakes parked threads, from anywhere: a signal handler included.
//!
//! A [`Bell`] is rung for some of the threads that sleep beside it. Rung once or many times, it
//! wakes each of these once; rung before a thread waits, it is not lost (P4).

// Where there is none, socket pairs do it.
#[cfg_attr(
    not(all(any(target_os = "linux", target_os = "android"), not(winddown_pipe))),
    path = "bell/pipe.rs"
)]
mod futex;

pub(crate) use futex::Bell;

/// Some of the threads that sleep beside a bell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ears(u32);

impl Ears {
    /// The thread that runs the shutdown.
    pub(crate) const RUNNER: Self = Self(1);
    /// The watchdog.
    pub(crate) const LISTENER: Self = Self(1 << 1);
    /// The thread of the emergency hooks.
    pub(crate) const EMERGENCY: Self = Self(1 << 2);
    /// Whom a stop wakes.
    pub(crate) const OF_A_STOP: Self = Self(Self::RUNNER.0 | Self::LISTENER.0);
    pub(crate) const ALL: Self = Self(Self::OF_A_STOP.0 | Self::EMERGENCY.0);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    /// An interpreter finds data races in a few.
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 1000 };

    #[test]
    fn rung_before_the_wait_is_not_lost() {
        let bell = Bell::new().unwrap();
        bell.ring(Ears::RUNNER);
        bell.ring(Ears::ALL);
        bell.wait(Ears::RUNNER, None);
        bell.wait(Ears::LISTENER, None);
    }

    /// P23: it sleeps until then, whatever the widths of the system's times, and wakes up.
    #[test]
    fn a_wait_ends_when_its_time_is_over_and_not_much_before() {
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let bell = Bell::new().unwrap();
            let until = Instant::now() + Duration::from_millis(300);
            let mut waits = 0;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                bell.wait(Ears::RUNNER, Some(left));
                waits += 1;
            }
            told.send(waits).unwrap();
        });
        // Now and then one ends for nothing.
        let waits = tells.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(waits < 50, "{waits}");
    }

    #[test]
    fn wakes_those_it_is_rung_for_every_time() {
        let bell = Arc::new(Bell::new().unwrap());
        let (heard, hear) = std::sync::mpsc::channel();
        let sleepers = [Ears::RUNNER, Ears::LISTENER].map(|ear| {
            let (bell, heard) = (Arc::clone(&bell), heard.clone());
            let (called, calls) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                for () in calls {
                    bell.wait(ear, None);
                    heard.send(()).unwrap();
                }
            });
            called
        });
        let far = Duration::from_secs(60);
        for _ in 0..ROUNDS {
            for called in &sleepers {
                called.send(()).unwrap();
            }
            bell.ring(Ears::OF_A_STOP);
            for _ in &sleepers {
                hear.recv_timeout(far).unwrap();
            }
        }
    }

    #[test]
    fn a_wait_with_a_timeout_ends() {
        let bell = Bell::new().unwrap();
        bell.wait(Ears::RUNNER, Some(Duration::ZERO));
        bell.wait(Ears::RUNNER, Some(Duration::from_millis(1)));
        bell.wait(Ears::LISTENER, Some(Duration::from_nanos(1)));
    }
}
