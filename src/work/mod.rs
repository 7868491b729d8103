//! Work that the shutdown waits for.

mod hold;
mod holders;
mod task;

pub use hold::Hold;
pub(crate) use holders::Holders;
pub(crate) use task::Spawn;
pub use task::{Task, TaskOutput};
