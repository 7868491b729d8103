//! What the program is told, where it gets stuck, and what it tells its user.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, select};
use winddown::{Event, ShutdownHandle, ShutdownReport, StopReason, StopToken};

use crate::manager::GLANCE;

/// The last words wait so long for those before them.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) struct Options {
    pub(crate) directory: PathBuf,
    pub(crate) grace: Duration,
    /// Of it, for putting back and saving.
    pub(crate) reserve: Duration,
    pub(crate) debounce: Duration,
    /// Between two saves.
    pub(crate) save_every: Duration,
    /// What one batch takes in one step.
    pub(crate) work: Duration,
    pub(crate) replicas: usize,
    /// Where it gets stuck, and the how-manieth time.
    pub(crate) stalls: Vec<(String, usize)>,
}

impl Options {
    pub(crate) fn new(directory: &Path) -> Self {
        let mut options = Self {
            directory: directory.to_owned(),
            grace: Duration::from_secs(25),
            reserve: Duration::from_secs(5),
            debounce: Duration::from_millis(300),
            save_every: Duration::ZERO,
            work: Duration::ZERO,
            replicas: 2,
            stalls: Vec::new(),
        };
        for argument in std::env::args().skip(1) {
            let (name, value) = argument.split_once('=').unwrap();
            let millis = || Duration::from_millis(value.parse().unwrap());
            match name {
                "grace" => options.grace = millis(),
                "reserve" => options.reserve = millis(),
                "debounce" => options.debounce = millis(),
                "save" => options.save_every = millis(),
                "work" => options.work = Duration::from_micros(value.parse().unwrap()),
                "replicas" => options.replicas = value.parse().unwrap(),
                "stall" => {
                    let (place, time) = value.split_once(':').unwrap();
                    options
                        .stalls
                        .push((place.to_owned(), time.parse().unwrap()));
                }
                _ => panic!("{argument}"),
            }
        }
        options
    }
}

/// Gets stuck where it is told to, until there is a file `release PLACE`.
pub(crate) struct Stall {
    places: Vec<(String, usize, AtomicUsize)>,
    directory: PathBuf,
}

impl Stall {
    pub(crate) fn of(options: &Options) -> Arc<Self> {
        let places = options.stalls.iter();
        let places = places.map(|(place, time)| (place.clone(), *time, AtomicUsize::new(0)));
        Arc::new(Self {
            places: places.collect(),
            directory: options.directory.clone(),
        })
    }

    pub(crate) fn here(&self, place: &str) {
        self.wait(place, "", None);
    }

    /// With this batch.
    pub(crate) fn in_hand(&self, place: &str, number: u64) {
        self.wait(place, &number.to_string(), None);
    }

    /// As `here`, but only as long as nobody stops it.
    pub(crate) fn until_stopped(&self, place: &str, token: &StopToken) {
        self.wait(place, "", Some(token));
    }

    fn wait(&self, place: &str, with: &str, token: Option<&StopToken>) {
        let mut places = self.places.iter();
        let Some((_, time, came_by)) = places.find(|(stall, _, _)| stall == place) else {
            return;
        };
        if came_by.fetch_add(1, Ordering::Relaxed) + 1 == *time {
            println!("stalled {place} {with}");
            let release = self.directory.join(format!("release {place}"));
            while !release.exists() && !token.is_some_and(StopToken::is_stopped) {
                thread::sleep(GLANCE);
            }
        }
    }
}

/// Batches. (A set of items counts those that are only reserved as well.)
pub(crate) static IN_HAND: AtomicUsize = AtomicUsize::new(0);

/// One line to the user.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    // In one piece: others write to the same terminal.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Tells the user what happens, as it happens, and at the end how it went.
///
/// On a thread of its own, as a terminal may be held. The last words are handed to it, so that they
/// are the last.
pub(crate) fn start_telling(shutdown: &ShutdownHandle) {
    let (events, handle) = (shutdown.events(), shutdown.clone());
    let (last, last_words) = bounded::<(String, Sender<()>)>(1);
    thread::spawn(move || {
        let last = loop {
            select! {
                recv(events) -> event => match event {
                    Ok(event) => tell_event(&event, &handle),
                    // The last of them may come before the last words, or after them.
                    Err(_) => break last_words.recv(),
                },
                recv(last_words) -> last => {
                    for event in events.try_iter() {
                        tell_event(&event, &handle);
                    }
                    break last;
                }
            }
        };
        if let Ok((line, told)) = last {
            tell(format_args!("{line}"));
            drop(told);
        }
    });
    shutdown.on_report(move |report| {
        let (told, is_told) = bounded(0);
        if last.send((last_line(report), told)).is_ok() {
            let _ = is_told.recv_timeout(PATIENCE);
        }
    });
}

fn tell_event(event: &Event, handle: &ShutdownHandle) {
    match event {
        Event::Stopping(StopReason::Completed) => {}
        Event::Stopping(reason) => {
            let left = handle.snapshot().time_left().unwrap_or_default();
            let batches = match IN_HAND.load(Ordering::SeqCst) {
                1 => "1 batch".to_owned(),
                count => format!("{count} batches"),
            };
            tell(format_args!(
                "{reason}: finishing {batches} in hand, for {:.0} s at most; a second Ctrl-C ends at once",
                left.as_secs_f64().ceil()
            ));
        }
        // Who is late, since when, where it is, and what it said last.
        Event::Waiting(snapshot) => tell(format_args!("{snapshot}")),
        Event::HandedBack { name, why, .. } => tell(format_args!("{name}: put back: {why}")),
        Event::SignalIgnored(_) => tell(format_args!("still finishing; press again to force")),
        _ => {}
    }
}

fn last_line(report: &ShutdownReport) -> String {
    let left: Vec<String> = report
        .abandoned()
        .map(|left| format!("{} {}", left.what(), left.name()))
        .collect();
    match left.as_slice() {
        [] => format!("ended: {}", report.outcome()),
        left => format!(
            "ended: {}, left behind: {}",
            report.outcome(),
            left.join(", ")
        ),
    }
}
