//! Tokio programs, with the same promises: a thin room over the hooks, the tasks and the sequence,
//! which know nothing of runtimes.

mod bridge;
mod driven;
mod hand_back;
mod hook;
mod run;
mod task;

pub use bridge::Link;
pub use task::{AsyncTask, TaskLost};
