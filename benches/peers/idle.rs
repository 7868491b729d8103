//! A program that waits: its threads, and how often they wake up.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::parts::{Installed, Part, Who, say};
use crate::rounds::Effort;
use crate::table::Figure::Count;
use crate::table::Must::{Be, Nothing};
use crate::table::Table;

pub(crate) fn rows(table: &mut Table, effort: Effort) {
    let seconds = match effort {
        Effort::Short => "1",
        Effort::Usual => "5",
        Effort::Long => "60",
    };
    let peers = [Who::Winddown, Who::SignalMod, Who::Ctrlc];
    // All at once: they have nothing to do.
    let parts = peers.map(|who| Part::start("idle", who, &[seconds]));
    let [ours, theirs, ctrlc] = parts.map(|mut part| {
        let line = part.line();
        part.end();
        let (threads, wake_ups) = line.trim().split_once(' ').unwrap();
        [threads, wake_ups].map(|figure| Count(figure.parse().unwrap()))
    });
    let most = [Be(Count(2.0)), Be(Count(0.0))];
    let idle = format!("wake-ups in {seconds} s of idling");
    for (n, what) in ["threads of an idle program", &idle]
        .into_iter()
        .enumerate()
    {
        let peers = [
            ("signal-mod", theirs[n], most[n]),
            ("ctrlc", ctrlc[n], Nothing),
        ];
        table.row(what, ours[n], &peers);
    }
}

/// Says how many threads there are beside the main one, and how often they have been scheduled meanwhile.
pub(crate) fn part(who: Who, seconds: u64) {
    let installed = Installed::new(who);
    let kept = if let Installed::Winddown(coordinator) = &installed {
        coordinator.hook("hook", || ());
        let (hold, token) = (coordinator.hold("hold").unwrap(), coordinator.token());
        Some((hold, token.child(), token.on_stop(|_| ())))
    } else {
        None
    };
    // They go to sleep.
    thread::sleep(Duration::from_millis(200));
    let before = switches();
    thread::sleep(Duration::from_secs(seconds));
    let after = switches();
    assert_eq!(before.len(), after.len());
    let wake_ups = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    say(&format!("{} {wake_ups}", after.len()));
    drop(kept);
    drop(installed);
}

/// How often each thread but the main one has gone to sleep, or was put to.
fn switches() -> Vec<u64> {
    let main = std::process::id().to_string();
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let others = threads
        .map(|thread| thread.unwrap())
        .filter(|thread| *thread.file_name() != *main);
    others
        .map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap();
            let counts = status
                .lines()
                .filter_map(|line| line.split_once("ctxt_switches:"));
            counts
                .map(|(_, count)| count.trim().parse::<u64>().unwrap())
                .sum()
        })
        .collect()
}
