//! Nobody reads, or nobody is there: it costs nothing.

use std::time::Duration;

use libtest_mimic::{Completion, Trial};

use crate::harness::{End, Launch, Signal, Verdict, skip, trials};
use crate::manager::{Manager, start};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_socket_that_nobody_reads_costs_nothing,
        what_a_full_queue_refused_is_told_when_there_is_room,
        a_socket_that_is_gone_costs_nothing,
        without_a_socket_none_is_made,
    ]
}

/// From the signal to the end.
fn time_to_end(mut program: crate::harness::Program) -> Duration {
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("closing");
    program.echo("closed");
    let lines = ["ready", "closing", "closed", "clean"];
    program.end().assert(End::Code(0), &lines).took
}

fn a_socket_that_nobody_reads_costs_nothing() {
    let launch = Launch::new("closing").argument("files");
    let alone = time_to_end(start(&launch, []));
    let manager = Manager::on_a_path().variable("WATCHDOG_USEC", &20_000);
    manager.fill();
    let unread = time_to_end(manager.start(&launch));
    assert!(
        unread < alone + Duration::from_millis(500),
        "{unread:?}, and alone {alone:?}"
    );
    let rest = manager.rest();
    assert!(rest.iter().all(|told| told == "X_FILLER=1"), "{rest:?}");
}

fn what_a_full_queue_refused_is_told_when_there_is_room() {
    let manager = Manager::on_a_path();
    manager.fill();
    let mut program = manager.start(&Launch::new("closing").argument("files"));
    program.expect("ready");
    manager.hear_until("READY=1\n");
    manager.fill();
    program.signal(Signal::SIGTERM);
    program.expect("closing");
    let told = manager.hear_until("STOPPING=1\n");
    let last = told.last().unwrap();
    assert!(last.contains("EXTEND_TIMEOUT_USEC="), "{last}");
    program.echo("closed");
    program.end();
    let rest = manager.rest().concat();
    assert!(!rest.contains("STOPPING"), "{rest}");
}

fn a_socket_that_is_gone_costs_nothing() {
    let launch = Launch::new("closing").argument("files");
    for name in [
        "/no/such/socket",
        "@no such socket",
        "vsock:2:1",
        "nonsense",
        "",
    ] {
        time_to_end(start(&launch, [("NOTIFY_SOCKET", name)]));
    }
}

fn without_a_socket_none_is_made() -> Completion {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let options = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap()];
    let strace: Vec<&str> = options
        .into_iter()
        .chain(["-e", "trace=socket,socketpair,connect,sendto,sendmsg"])
        .collect();
    let probe = std::process::Command::new("strace")
        .args(&strace[1..])
        .arg("true")
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return skip("there is no strace here, or it may not trace");
    }
    let launch = |argument: &str| Launch::new("at once").argument(argument).through(&strace);
    let traced = |program: crate::harness::Program| {
        // Main, and the two of P23.
        program.end().assert(End::Code(0), &["3"]);
        std::fs::read_to_string(&trace).unwrap()
    };
    let manager = Manager::on_a_path();
    assert_eq!(traced(start(&launch("told"), [])), "");
    assert_eq!(traced(manager.start(&launch("silent"))), "");
    assert_eq!(manager.rest(), [""; 0]);
    // It would have been seen.
    let seen = traced(manager.start(&launch("told")));
    assert!(seen.contains("AF_UNIX"), "{seen}");
    assert_eq!(manager.rest()[0], "READY=1\n");
    ().verdict()
}
