//! The batch manager: where every batch is, what is saved of that, and the output.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};
use winddown::{Checkpoint, CheckpointError, StopToken};

use crate::outside::{Options, Stall, tell};

/// The checkpoint, in the directory of the program.
pub(crate) const STATE: &str = "state";
/// The output on its way, and when it is whole.
pub(crate) const PARTIAL: &str = "dataset.partial";
pub(crate) const DATASET: &str = "dataset";

/// The steps that take batches from a queue, in their order.
pub(crate) const STEPS: [&str; 2] = ["generate", "judge"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) rows: Vec<Row>,
    /// How often it was in hand when the time was over.
    pub(crate) tries: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) prompt: String,
    pub(crate) generation: Option<String>,
    pub(crate) score: Option<u64>,
}

/// What survives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The next batch that the source is asked for, and whether it has no more.
    pub(crate) next: u64,
    pub(crate) all_read: bool,
    pub(crate) steps: [Step; STEPS.len()],
    /// Through all steps, and waiting for those before them.
    pub(crate) done: BTreeMap<u64, Batch>,
    /// So many batches of the output are written, in so many bytes.
    pub(crate) written: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// To be put into the queue of the step, in this order.
    pub(crate) waiting: VecDeque<Batch>,
    /// In the queue or in hand. Empty after an end that was none of force.
    pub(crate) out: BTreeMap<u64, Batch>,
}

impl Step {
    /// Where its number belongs.
    fn put_back(&mut self, batch: Batch) {
        let place = self.waiting.partition_point(|b| b.number < batch.number);
        self.waiting.insert(place, batch);
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.all_read && self.written == self.next
    }
}

/// What comes to the manager.
pub(crate) enum Message {
    Loaded,
    /// The batch that was asked for; `None`: there are no more.
    Read(Option<Batch>),
    /// Its step is finished.
    Finished(usize, Batch),
}

pub(crate) struct Manager {
    directory: PathBuf,
    state: State,
    /// Until the end of the pipeline.
    checkpoint: Option<Checkpoint<State>>,
    output: File,
    channels: Option<Channels>,
    stall: Arc<Stall>,
}

/// What the manager holds of the channels: dropped when the pipeline is over, which ends the steps.
pub(crate) struct Channels {
    pub(crate) ask: Sender<u64>,
    pub(crate) queues: Vec<Sender<Batch>>,
    /// The steps' ends, to take out what they do not come to.
    pub(crate) ends: Vec<Receiver<Batch>>,
    pub(crate) messages: Receiver<Message>,
}

impl Manager {
    /// `None`: there is a whole output, and nothing to do.
    pub(crate) fn open(
        options: &Options,
        channels: Channels,
        stall: &Arc<Stall>,
    ) -> Result<Option<Self>, CheckpointError> {
        let directory = options.directory.clone();
        let (checkpoint, restored) = Checkpoint::<State>::builder(directory.join(STATE))
            .interval(options.save_every)
            .open()?;
        let fresh = restored.is_fresh();
        let mut state = restored.into_state().unwrap_or_default();
        if fresh && directory.join(DATASET).exists() {
            checkpoint.finish()?;
            return Ok(None);
        }
        // After an end by force: nobody has them in hand any more.
        let mut lost = 0;
        for step in &mut state.steps {
            for (_, batch) in std::mem::take(&mut step.out) {
                lost += 1;
                step.put_back(batch);
            }
        }
        if !fresh {
            println!("resumed {} of {}, {lost} lost", state.written, state.next);
        }
        let output = open_output(&directory, state.bytes);
        Ok(Some(Self {
            directory,
            state,
            checkpoint: Some(checkpoint),
            output,
            channels: Some(channels),
            stall: Arc::clone(stall),
        }))
    }

    /// Fills the queues, and asks for the next batch where there is room for it. True: all is
    /// written.
    pub(crate) fn send(&mut self) -> bool {
        if self.state.is_over() {
            return true;
        }
        let Some(channels) = &self.channels else {
            return true;
        };
        for (step, queue) in self.state.steps.iter_mut().zip(&channels.queues) {
            // It never waits: the steps wait for the manager.
            while let Some(batch) = step.waiting.pop_front() {
                if queue.is_full() {
                    step.waiting.push_front(batch);
                    break;
                }
                step.out.insert(batch.number, batch.clone());
                if queue.send(batch).is_err() {
                    break;
                }
            }
        }
        if !self.state.all_read && self.state.steps[0].waiting.is_empty() {
            // One that is asked for twice is read twice, and taken once.
            let _ = channels.ask.try_send(self.state.next);
        }
        false
    }

    /// Takes what has come, writes what is next, and saves when it is time for that.
    pub(crate) fn take(
        &mut self,
        message: Message,
        token: &StopToken,
    ) -> Result<(), CheckpointError> {
        match message {
            Message::Loaded => return Ok(()),
            Message::Read(None) => self.state.all_read = true,
            Message::Read(Some(batch)) => {
                if batch.number != self.state.next {
                    return Ok(());
                }
                self.state.next += 1;
                self.state.steps[0].waiting.push_back(batch);
            }
            Message::Finished(step, batch) => {
                if self.state.steps[step].out.remove(&batch.number).is_none() {
                    println!("violation: batch {} was not out", batch.number);
                }
                match self.state.steps.get_mut(step + 1) {
                    Some(next) => next.put_back(batch),
                    None => self.write(batch),
                }
            }
        }
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        self.stall.here("save");
        let _ = checkpoint.tick(token, &self.state)?;
        Ok(())
    }

    /// In the order of the numbers; on the disk before the state says so.
    fn write(&mut self, batch: Batch) {
        self.state.done.insert(batch.number, batch);
        while let Some(batch) = self.state.done.remove(&self.state.written) {
            let rows: Vec<String> = batch.rows.iter().map(line).collect();
            let text = rows.concat();
            let (start, end) = text.as_bytes().split_at(text.len() / 2);
            self.output.write_all(start).unwrap();
            self.stall.here("write");
            self.output.write_all(end).unwrap();
            self.state.bytes += text.len() as u64;
            self.state.written += 1;
        }
        self.output.sync_data().unwrap();
    }

    /// It was interrupted: it is the next one again.
    pub(crate) fn put_back(&mut self, step: usize, batch: Batch) {
        if self.state.steps[step].out.remove(&batch.number).is_none() {
            println!("violation: batch {} was not out", batch.number);
        }
        self.state.steps[step].put_back(batch);
    }

    /// Behind the end of all steps: what is still in the queues goes back, and all is saved.
    pub(crate) fn suspend(&mut self) -> Result<(), CheckpointError> {
        let Some(channels) = self.channels.take() else {
            return Ok(());
        };
        let token = winddown::StopSource::new().token();
        for message in channels.messages.try_iter() {
            self.take(message, &token)?;
        }
        let mut back = 0;
        for (step, end) in channels.ends.iter().enumerate() {
            for batch in end.try_iter() {
                self.put_back(step, batch);
                back += 1;
            }
        }
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        self.stall.here("last save");
        checkpoint.save(&self.state)?;
        let (written, next) = (self.state.written, self.state.next);
        tell(format_args!(
            "saved: {written} of {next} batches are written, {back} were put back; run it again to go on"
        ));
        Ok(())
    }

    /// The output is whole.
    pub(crate) fn finish(&mut self) -> Result<(), CheckpointError> {
        self.channels = None;
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return Ok(());
        };
        // Whoever is interrupted from here on has only this left to do.
        checkpoint.save(&self.state)?;
        if self.directory.join(PARTIAL).exists() {
            fs::rename(self.directory.join(PARTIAL), self.directory.join(DATASET)).unwrap();
        }
        self.stall.here("rename");
        checkpoint.finish()
    }
}

/// As far as the state knows it: what was written after that is written again.
fn open_output(directory: &Path, bytes: u64) -> File {
    let whole = directory.join(DATASET);
    let path = if whole.exists() {
        whole
    } else {
        directory.join(PARTIAL)
    };
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let mut output = options.open(path).unwrap();
    if output.metadata().unwrap().len() < bytes {
        println!("violation: the state has seen what is not written");
    }
    output.set_len(bytes).unwrap();
    output.seek(SeekFrom::End(0)).unwrap();
    output
}

fn line(row: &Row) -> String {
    let (generation, score) = (row.generation.as_deref(), row.score);
    let (prompt, generation) = (&row.prompt, generation.unwrap_or("violation"));
    format!("{prompt}\t{generation}\t{}\n", score.unwrap_or(u64::MAX))
}

/// Between two looks at something that nobody tells.
pub(crate) const GLANCE: Duration = Duration::from_millis(1);
