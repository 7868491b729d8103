//! A directory with the prompts and what became of them, and the program that runs in it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::unistd::setsid;
use tempfile::TempDir;
use winddown::{Checkpoint, Restored};

use crate::manager::{Batch, DATASET, PARTIAL, Row, STATE, State};
use crate::oracle;
use crate::process::{self, Process, before_exec};
use crate::program::{PROMPTS, ROWS};
use crate::pty::Pty;

/// Set for the program; its value is its directory.
pub(crate) const DIRECTORY: &str = "WINDDOWN_DISTILABEL";

pub(crate) struct Place {
    directory: TempDir,
    prompts: Vec<String>,
}

impl Place {
    /// With prompts for so many batches, the last one not full.
    pub(crate) fn new(batches: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rows = 0..batches * ROWS - 1;
        let prompts: Vec<String> = rows.map(|row| format!("prompt {row} of äll")).collect();
        fs::write(directory.path().join(PROMPTS), prompts.join("\n")).unwrap();
        Self { directory, prompts }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(std::env::current_exe().unwrap());
        command
            .env(DIRECTORY, self.directory.path())
            .env("RUST_BACKTRACE", "0")
            .args(arguments);
        command
    }

    /// On a terminal of its own, whose keys it gets; what it writes goes into pipes, as the system
    /// throws away what nobody has read yet when the leader of a session dies.
    pub(crate) fn start(&self, arguments: &[&str]) -> (Process, Pty) {
        let pty = Pty::open();
        let mut command = self.command(arguments);
        command
            .stdin(pty.line.try_clone().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        before_exec(&mut command, || {
            setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
        (Process::start(command), pty)
    }

    /// Runs it to its end; it must get there by itself.
    #[track_caller]
    pub(crate) fn complete(&self) -> String {
        let (mut program, _pty) = self.start(&[]);
        let (ending, all) = ending(&mut program);
        assert_eq!(ending, Ending::Over, "{all}");
        self.assert_complete();
        all
    }

    /// Lets the program go on that is stalled there.
    pub(crate) fn release(&self, place: &str) {
        fs::write(self.path(&format!("release {place}")), "").unwrap();
    }

    /// Taken as the next run takes it. The program must have ended.
    pub(crate) fn state(&self) -> Option<State> {
        let (checkpoint, restored) = Checkpoint::<State>::open(self.path(STATE)).unwrap();
        drop(checkpoint);
        assert!(
            !matches!(restored, Restored::Previous { .. }),
            "half a state"
        );
        restored.into_state()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.path(DATASET).exists()
    }

    /// The output is that of a run that was never interrupted, and nothing else is left.
    #[track_caller]
    pub(crate) fn assert_complete(&self) {
        let dataset = fs::read_to_string(self.path(DATASET)).unwrap();
        assert_eq!(dataset, oracle::dataset(&self.prompts));
        for left in [STATE, PARTIAL, "state.previous", "state.new"] {
            assert!(!self.path(left).exists(), "{left} is left");
        }
    }

    /// At any time: the state has each batch once, as its step left it, in its order, and what it
    /// says is written is.
    pub(crate) fn whole_so_far(&self) -> Result<State, String> {
        let Some(state) = self.state() else {
            return Ok(State::default());
        };
        let output = [PARTIAL, DATASET].map(|name| fs::read(self.path(name)).ok());
        let output = output.into_iter().flatten().next().unwrap_or_default();
        let bytes = usize::try_from(state.bytes).unwrap();
        let expected = oracle::first(&self.prompts, state.written);
        same("the bytes", &bytes, &expected.len())?;
        same(
            "the output",
            &output.get(..bytes),
            &Some(expected.as_bytes()),
        )?;
        let all = oracle::batches(&self.prompts);
        same("all read", &(state.next == all || !state.all_read), &true)?;
        let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
        let places = state.steps.iter().enumerate();
        for (step, batch) in places
            .flat_map(|(step, at)| {
                at.waiting
                    .iter()
                    .chain(at.out.values())
                    .map(move |b| (step, b))
            })
            .chain(state.done.values().map(|batch| (2, batch)))
        {
            *seen.entry(batch.number).or_default() += 1;
            same("the rows", &batch.rows, &self.rows(batch, step))?;
        }
        let expected = (state.written..state.next).map(|number| (number, 1));
        same("the batches", &seen, &expected.collect())?;
        for step in &state.steps {
            let numbers: Vec<u64> = step.waiting.iter().map(|batch| batch.number).collect();
            same("the order", &numbers.is_sorted(), &true)?;
        }
        Ok(state)
    }

    fn rows(&self, batch: &Batch, step: usize) -> Vec<Row> {
        let prompts = oracle::of_batch(&self.prompts, batch.number).iter();
        let rows = prompts.map(|prompt| Row {
            prompt: prompt.clone(),
            generation: (step > 0).then(|| oracle::generation(prompt)),
            score: (step > 1).then(|| oracle::score(prompt)),
        });
        rows.collect()
    }

    #[track_caller]
    pub(crate) fn assert_whole_so_far(&self) -> State {
        self.whole_so_far().unwrap()
    }

    /// After an end that was none of force: and nothing is in anybody's hands, or half written.
    #[track_caller]
    pub(crate) fn assert_put_back(&self) -> State {
        let state = self.assert_whole_so_far();
        for step in &state.steps {
            assert!(step.out.is_empty(), "{state:?}");
        }
        if state != State::default() {
            let length = fs::metadata(self.path(PARTIAL)).unwrap().len();
            assert_eq!(length, state.bytes, "half an output");
        }
        state
    }
}

fn same<T: PartialEq + Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should {
        return Ok(());
    }
    Err(format!(
        "{what}\n  is        {is:?}\n  should be {should:?}"
    ))
}

/// What waits for that step, in its order.
pub(crate) fn numbers(state: &State, step: usize) -> Vec<u64> {
    let waiting = state.steps[step].waiting.iter();
    waiting.map(|batch| batch.number).collect()
}

/// Where `what` stands in the source of the program.
pub(crate) fn line_of(what: &str) -> String {
    let source = include_str!("program.rs").lines();
    let before = source.take_while(|line| !line.contains(what)).count();
    format!("program.rs:{}:", before + 1)
}

/// How a run ended, as it told and as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// All is written.
    Over,
    /// In good order, by SIGINT.
    Stopped,
    /// By a second press.
    Forced,
    /// Without a word, by this signal.
    Killed(i32),
}

/// Waits for the end, and makes sure that what was told is what is seen. With all that it wrote.
#[track_caller]
pub(crate) fn ending(program: &mut Process) -> (Ending, String) {
    let status = program.end();
    // Both read to their ends.
    let _ = (program.out.last_line(), program.err.last_line());
    let out = program.out.all();
    let all = format!("{status}\n{out}\n{}", program.err.all());
    assert!(!all.contains("violation"), "{all}");
    assert!(!all.contains("panicked"), "{all}");
    let last = out.lines().rfind(|line| line.starts_with("over: "));
    let ending = match (last.unwrap_or_default(), status.code(), status.signal()) {
        // What came after the end has its own effect again (P10).
        ("over: Completed, clean", Some(0), None)
        | ("over: Completed, clean", None, Some(2 | 9)) => Ending::Over,
        ("over: SIGINT, clean", None, Some(2)) => Ending::Stopped,
        ("", None, Some(2)) if out.contains("stopping") => Ending::Forced,
        ("", None, Some(signal)) => Ending::Killed(signal),
        _ => panic!("{all}"),
    };
    (ending, all)
}
