//! P10, P13 where there is no more memory to be had from the system, at the installation or at the stop; and where there was no
//! descriptor from the beginning, or nobody to talk to at the end.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;

use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::raise;
use winddown::{InFlight, Interrupted};

use crate::Scenario;
use crate::child::{hang, hooks, quick, short, tell};
use crate::harness::{End, Launch, PROMPT, Signal, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("memory", memory),
    ("descriptors", descriptors),
    ("closed", closed),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        without_memory_it_is_refused_or_ends,
        without_descriptors_it_is_installed_and_ends,
        with_nobody_to_talk_to_it_ends_as_it_should,
    ]
}

fn limit(resource: Resource, soft: u64) {
    let (_, maximum) = getrlimit(resource).unwrap();
    setrlimit(resource, soft, maximum).unwrap();
}

/// From here on the system gives so many more bytes of addresses, and no more. What the heap has it keeps.
fn limit_memory(more: u64) {
    let used = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = used.split(' ').next().unwrap().parse().unwrap();
    limit(Resource::RLIMIT_AS, pages * 4096 + more);
}

/// When the limit comes, and how much above what is used by then.
fn memory(argument: &str) -> ExitCode {
    let (when, more) = argument.split_once(' ').unwrap();
    let more = more.parse().unwrap();
    // Enough for everything that is small.
    drop(std::hint::black_box(vec![0_u8; 64 * 1024]));
    if when == "install" {
        limit_memory(more);
    }
    ending(|| {
        if when == "stop" {
            wait_until_all_rest();
            limit_memory(more);
        }
    })
}

fn descriptors(_: &str) -> ExitCode {
    limit(Resource::RLIMIT_NOFILE, 3);
    std::fs::File::open("/dev/null").unwrap_err();
    ending(|| ())
}

fn ending(before_the_stop: impl FnOnce()) -> ExitCode {
    let Ok(shutdown) = quick().install() else {
        tell("refused");
        raise(Signal::SIGTERM).unwrap();
        hang();
    };
    hooks(&shutdown, &["two", "one"]);
    let jobs: InFlight<u8> = shutdown
        .in_flight("jobs")
        .on_interrupted(|_: Interrupted<u8>| tell("back"));
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    before_the_stop();
    raise(Signal::SIGTERM).unwrap();
    drop(item);
    let report = shutdown.wait();
    tell(short(report.reason()));
    report.exit()
}

/// A thread that has just been started still needs something.
fn wait_until_all_rest() {
    let rests = |number: &str| {
        let status = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).unwrap();
        status.rsplit(')').next().unwrap().starts_with(" S")
    };
    let own = nix::unistd::gettid().to_string();
    let tasks = || std::fs::read_dir("/proc/self/task").unwrap();
    let names = || tasks().map(|task| task.unwrap().file_name().into_string().unwrap());
    while !names().all(|name| name == own || rests(&name)) {
        thread::yield_now();
    }
}

const WHOLE: [&str; 4] = ["back", "one", "two", "SIGTERM"];

/// From nothing at all to more than enough for all threads.
fn without_memory_it_is_refused_or_ends() {
    let mut seen = BTreeMap::new();
    for when in ["install", "stop"] {
        for step in 0..60 {
            let argument = format!("{when} {}", step * 256 * 1024);
            // One heap: a thread of glibc's that has to begin one of its own fails at its first byte, and aborts.
            let launch = Launch::new("memory").through(&["MALLOC_ARENA_MAX=1"]);
            let ended = launch.argument(&argument).start().end();
            let fate = match ended.end {
                End::Code(0) if ended.lines == WHOLE => "ended",
                End::Signal(15) if ended.lines == ["refused"] && when == "install" => "refused",
                // A thread that has a stack and no room for the other stack of std's: nobody can catch that.
                End::Signal(6)
                    if ended
                        .errors
                        .contains("failed to allocate an alternative stack") =>
                {
                    "aborted by std"
                }
                _ => panic!("{argument}: {ended:?}"),
            };
            *seen.entry((when, fate)).or_insert(0) += 1;
        }
    }
    eprintln!("{seen:?}");
    assert!(seen.contains_key(&("install", "refused")) && seen.contains_key(&("stop", "ended")));
}

/// P10, P13: what it needs to wake a thread is no descriptor.
fn without_descriptors_it_is_installed_and_ends() {
    Launch::new("descriptors")
        .start()
        .end()
        .assert(End::Code(0), &WHOLE);
}

/// Nothing is where stdout and stderr were; then, the next file that is opened.
fn closed(how: &str) -> ExitCode {
    let (how, place) = how.split_once(' ').unwrap();
    for number in [1, 2] {
        nix::unistd::close(number).unwrap();
    }
    let place = std::path::PathBuf::from(place);
    let theirs = (how == "taken").then(|| std::fs::File::create(place.join("theirs")).unwrap());
    quick().run(move |shutdown| {
        shutdown.hook("hook", move || {
            println!("to nobody");
            std::fs::write(place.join("hook"), "was called")
        });
        shutdown.hook("shown", || Err::<(), _>("in the report"));
        raise(Signal::SIGTERM).unwrap();
        drop(theirs);
        Err::<(), _>("on purpose")
    })
}

/// P13: an error and a report that cannot be shown hold nobody, and the status tells of them.
fn with_nobody_to_talk_to_it_ends_as_it_should() {
    for how in ["closed", "taken"] {
        let place = tempfile::tempdir().unwrap();
        let argument = format!("{how} {}", place.path().display());
        let ended = Launch::new("closed").argument(&argument).start().end();
        ended.assert(End::Code(1), &[]).assert_within(PROMPT);
        let called = std::fs::read_to_string(place.path().join("hook")).unwrap();
        assert_eq!(called, "was called");
    }
}
