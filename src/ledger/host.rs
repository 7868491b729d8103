//! This host, and its clock.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::clock::Tick;

/// What members of the same host have in common.
pub(super) struct Host {
    pub(super) name: String,
    /// Another after each boot; empty where the system has none.
    pub(super) boot: String,
}

pub(super) fn this_host() -> Host {
    let name = rustix::system::uname();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Host {
        name: name.nodename().to_string_lossy().into_owned(),
        boot: boot.trim().to_owned(),
    }
}

/// The clock that a member fences itself by. On Linux it goes on while the machine sleeps: the
/// others may be awake.
pub(super) fn now() -> Tick {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    Tick::from_nanos(part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec))
}

/// Of another width on each system.
fn part(part: impl TryInto<u64>) -> u64 {
    part.try_into().unwrap_or(0)
}
