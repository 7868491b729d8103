//! What systemd is told, and in which order.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::harness::{End, Launch, Signal, trials};
use crate::manager::{Manager, left, value};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_service_tells_its_life_to_a_path,
        a_service_tells_its_life_to_an_abstract_name,
        a_status_is_told_once_a_second_and_is_one_line,
        a_long_status_is_cut,
        signs_of_life_come_while_running_and_while_stopping,
        signs_of_life_come_at_half_of_the_time,
        signs_of_life_come_while_handing_back,
        a_watchdog_of_another_process_is_none_of_ours,
        p23_only_a_watchdog_wakes_the_runner_up,
    ]
}

fn stopping() -> String {
    let (pid, uid) = (std::process::id(), rustix::process::getuid());
    let uid = uid.as_raw();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let name = name.trim_end();
    format!(
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\nSTATUS=stopping: SIGTERM from pid {pid} ({name}), uid {uid}\n"
    )
}

fn tells_its_life(manager: &Manager) {
    let mut program = manager.start(&Launch::new("closing").argument("files"));
    program.expect("ready");
    assert_eq!(manager.rest(), ["READY=1\n"]);
    program.signal(Signal::SIGTERM);
    assert_eq!(manager.hear(), stopping());
    program.expect("closing");
    program.echo("closed");
    let lines = ["ready", "closing", "closed", "clean"];
    program.end().assert(End::Code(0), &lines);
    // On a machine that is busy the second may have passed before the hook was let go.
    let mut rest = manager.rest();
    rest.retain(|told| left(told).is_none());
    let [last] = &rest[..] else {
        panic!("{rest:?}")
    };
    let status = value(last, "STATUS").unwrap();
    assert!(status.starts_with("shutdown: clean in "), "{last}");
    assert!(!last.contains("STOPPING"), "{last}");
}

fn a_service_tells_its_life_to_a_path() {
    tells_its_life(&Manager::on_a_path());
}

fn a_service_tells_its_life_to_an_abstract_name() {
    tells_its_life(&Manager::with_an_abstract_name());
}

fn a_status_is_told_once_a_second_and_is_one_line() {
    let manager = Manager::on_a_path();
    let mut program = manager.start(&Launch::new("closing").argument("files\nREADY=1"));
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("closing");
    manager.hear_until("STOPPING=1\n");
    let told = [manager.hear(), manager.hear(), manager.hear()];
    for told in &told {
        let status = value(told, "STATUS").unwrap();
        let waited_for = status.starts_with("cleaning: waiting for hook files\\nREADY=1 (");
        assert!(waited_for && !told.contains("\nREADY"), "{told}");
    }
    // By the program's own clock, shown to a tenth of a second.
    for pair in told.windows(2) {
        let apart = left(&pair[0])
            .unwrap()
            .saturating_sub(left(&pair[1]).unwrap());
        assert!(apart.as_millis() >= 900, "{told:?}");
    }
    program.echo("closed");
    program.end();
}

fn a_long_status_is_cut() {
    let manager = Manager::on_a_path();
    let mut program = manager.start(&Launch::new("closing").argument(&"é".repeat(9_000)));
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("closing");
    let told = manager.hear_until("cleaning");
    let last = told.last().unwrap();
    assert!(last.len() > 1_000 && last.ends_with("é…\n"), "{last}");
    program.echo("closed");
    program.end();
}

/// `WATCHDOG_PID` is the number of the process itself.
const OWN_NUMBER: [&str; 4] = ["sh", "-c", "export WATCHDOG_PID=$$; exec \"$@\"", "sh"];

fn signs_of_life_come_while_running_and_while_stopping() {
    let manager = Manager::on_a_path().variable("WATCHDOG_USEC", &600_000);
    let mut program = manager.start(
        &Launch::new("closing")
            .argument("files")
            .through(&OWN_NUMBER),
    );
    program.expect("ready");
    let told = [manager.hear(), manager.hear(), manager.hear()];
    assert_eq!(told, ["READY=1\n", "WATCHDOG=1\n", "WATCHDOG=1\n"]);
    program.signal(Signal::SIGTERM);
    program.expect("closing");
    manager.hear_until("STOPPING=1\n");
    for _ in 0..3 {
        manager.hear_until("WATCHDOG=1\n");
    }
    program.echo("closed");
    program.end();
    let rest = manager.rest();
    let [.., report, life] = &rest[..] else {
        panic!("{rest:?}")
    };
    assert!(report.contains("STATUS=shutdown: clean"), "{rest:?}");
    assert_eq!(life, "WATCHDOG=1\n");
}

fn signs_of_life_come_at_half_of_the_time() {
    let most = Duration::from_secs(3);
    let manager = Manager::on_a_path().variable("WATCHDOG_USEC", &most.as_micros());
    let began = Instant::now();
    let mut program = manager.start(&Launch::new("closing").argument("files"));
    program.expect("ready");
    manager.hear_until("WATCHDOG=1\n");
    let first = began.elapsed();
    manager.hear_until("WATCHDOG=1\n");
    let second = began.elapsed();
    assert!(first >= most / 2 && second >= most, "{first:?}, {second:?}");
    assert!(second.saturating_sub(first) < most, "{first:?}, {second:?}");
}

fn signs_of_life_come_while_handing_back() {
    let manager = Manager::on_a_path().variable("WATCHDOG_USEC", &600_000);
    let mut program = manager.start(&Launch::new("handing back"));
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("handing back");
    manager.rest();
    // The hand-back hangs for 20 s; these come in one.
    let began = Instant::now();
    for _ in 0..3 {
        manager.hear_until("WATCHDOG=1\n");
    }
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
}

fn a_watchdog_of_another_process_is_none_of_ours() {
    let manager = Manager::on_a_path()
        .variable("WATCHDOG_USEC", &200_000)
        .variable("WATCHDOG_PID", &1);
    let mut program = manager.start(&Launch::new("closing").argument("files"));
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("closing");
    // A second of the program's own, in which there would be many.
    let told = manager.hear_until("STATUS=cleaning");
    assert!(!told.concat().contains("WATCHDOG"), "{told:?}");
    program.echo("closed");
    program.end();
}

/// P23, from the system's own view: the runner's wait has a timeout with a watchdog, and none without.
#[cfg(all(target_arch = "x86_64", not(winddown_pipe)))]
fn p23_only_a_watchdog_wakes_the_runner_up() {
    use crate::harness::{PATIENCE, Program};
    use std::fs::DirEntry;

    const FUTEX: &str = "202";
    let wait = |program: &mut Program, with_timeout: bool| {
        program.expect("ready");
        let tasks = format!("/proc/{}/task", program.pid());
        let read = |task: &DirEntry, file| {
            std::fs::read_to_string(task.path().join(file)).unwrap_or_default()
        };
        let far = Instant::now() + PATIENCE;
        loop {
            let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
            let runner = tasks.find(|task| read(task, "comm").starts_with("winddown-runner"));
            let call = runner
                .map(|runner| read(&runner, "syscall"))
                .unwrap_or_default();
            // The number of the call, then its arguments: the fourth is the timeout.
            let call: Vec<&str> = call.split_whitespace().collect();
            if call.first() == Some(&FUTEX) && (call.get(4) != Some(&"0x0")) == with_timeout {
                return;
            }
            assert!(Instant::now() < far, "{call:?}");
            std::thread::yield_now();
        }
    };
    let launch = Launch::new("closing").argument("files");
    let manager = Manager::on_a_path();
    wait(&mut manager.start(&launch), false);
    let watched = manager.variable("WATCHDOG_USEC", &60_000_000);
    wait(&mut watched.start(&launch), true);
}

#[cfg(not(all(target_arch = "x86_64", not(winddown_pipe))))]
fn p23_only_a_watchdog_wakes_the_runner_up() -> libtest_mimic::Completion {
    crate::harness::skip("what a thread waits in is known for x86-64 only")
}
