//! Work that the shutdown waits for.

mod all;
mod barrier;
mod batch;
mod commit;
mod deferred;
mod end_of_stream;
mod hold;
mod holders;
mod home;
mod in_flight;
mod item;
#[cfg(all(test, winddown_loom))]
mod models;
mod place;
mod set;
mod sets;
mod stage;
mod stage_state;
mod task;
mod under_way;

pub(crate) use all::Work;
pub use barrier::{End, EndPolicy};
pub use batch::{DrainOutput, Drained, Split, drain, split_at_end};
#[cfg(feature = "tokio")]
pub(crate) use deferred::drop_whole;
pub use end_of_stream::{Arrival, Assignment, EndOfStream};
pub use hold::Hold;
#[cfg(feature = "tokio")]
pub(crate) use holders::Abort;
pub(crate) use holders::Holders;
pub(crate) use home::Home;
pub use in_flight::{HandBack, InFlight, InFlightBuilder, Item, NotCompleted, Slot};
pub use item::{Advice, Interrupted};
#[cfg(feature = "tokio")]
pub(crate) use set::HandingBack;
pub(crate) use sets::{Sets, UserCall};
pub use stage::Stage;
pub(crate) use stage_state::StageState;
#[cfg(feature = "tokio")]
pub(crate) use task::{Admitted, with_failure};
pub use task::{Task, TaskOutput};
#[cfg(feature = "tokio")]
pub(crate) use under_way::Commits;
