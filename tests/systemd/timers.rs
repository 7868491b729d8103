//! What systemd's timers make of it: they end a service that hangs, and leave one alone that moves.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::{End, Launch, Signal, trials};
use crate::manager::{Manager, Stopped, extension, left};

/// `TimeoutStopSec=`, far below the grace periods here.
const STOP: Duration = Duration::from_secs(1);

/// What one extension of a grace period of 10 s is.
const WINDOW: Duration = Duration::from_secs(2);

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        what_moves_survives_a_short_stop_timeout,
        what_hangs_is_not_extended,
        no_extension_reaches_beyond_the_grace_period,
        a_linger_survives_a_short_stop_timeout,
    ]
}

/// Stops a service with a grace period, whose work takes so many tenths of a second, or hangs.
fn stopped(argument: &str) -> Stopped {
    let watchdog = Duration::from_secs(4);
    let manager = Manager::on_a_path().variable("WATCHDOG_USEC", &watchdog.as_micros());
    let mut program = manager.start(&Launch::new("working").argument(argument));
    program.expect("ready");
    assert_eq!(manager.hear(), "READY=1\n");
    manager.stop(program, STOP, Some(watchdog))
}

fn extensions(told: &[String]) -> Vec<Duration> {
    told.iter().filter_map(|told| extension(told)).collect()
}

fn what_moves_survives_a_short_stop_timeout() {
    // Two and two seconds: the first extension alone does not last for that.
    let stopped = stopped("10 20");
    assert_eq!(stopped.ended.end, End::Code(0), "{:?}", stopped.told);
    assert!(stopped.took > STOP + WINDOW, "{:?}", stopped.took);
    let extensions = extensions(&stopped.told);
    assert!(extensions.len() > 2, "{:?}", stopped.told);
}

fn what_hangs_is_not_extended() {
    let stopped = stopped("10 hangs");
    let killed = End::Signal(Signal::SIGKILL as i32);
    assert_eq!(stopped.ended.end, killed, "{:?}", stopped.told);
    assert_eq!(extensions(&stopped.told), [WINDOW], "{:?}", stopped.told);
    // What it hangs in is told all the same.
    let waits = |told: &String| told.contains("STATUS=draining: waiting for task copy (");
    assert!(stopped.told.iter().any(waits), "{:?}", stopped.told);
}

fn no_extension_reaches_beyond_the_grace_period() {
    // The task fills its share of the time and the hook the rest, each moving all the while.
    let stopped = stopped("4 1000");
    assert_eq!(stopped.ended.end, End::Code(124), "{:?}", stopped.told);
    let margin = Duration::from_secs(1);
    // As shown, to a tenth of a second.
    let rounding = Duration::from_millis(51);
    for told in &stopped.told {
        if let (Some(more), Some(left)) = (extension(told), left(told)) {
            assert!(more <= left + margin + rounding, "{told}");
        }
    }
    let last = *extensions(&stopped.told).last().unwrap();
    assert!(last <= margin, "{:?}", stopped.told);
}

fn a_linger_survives_a_short_stop_timeout() {
    let manager = Manager::on_a_path();
    let mut program = manager.start(&Launch::new("lingering"));
    program.expect("ready");
    let stopped = manager.stop(program, STOP, None);
    assert_eq!(stopped.ended.end, End::Code(0), "{:?}", stopped.told);
    assert!(stopped.took > STOP, "{:?}", stopped.took);
    // Nothing else: it is too late for READY=1, and too soon for STOPPING=1.
    let [lingers, stops, ended] = &stopped.told[..] else {
        panic!("{:?}", stopped.told)
    };
    assert!(lingers.starts_with("STATUS=lingering"), "{lingers}");
    assert_eq!(extension(lingers), Some(Duration::from_secs(3)));
    assert!(
        stops.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\n"),
        "{stops}"
    );
    assert!(ended.starts_with("EXTEND_TIMEOUT_USEC="), "{ended}");
}
