//! placeholder
#[cfg(not(unix))]
compile_error!("winddown is for Unix: it stands on POSIX signals, which this target does not have");

mod builder;
mod clock;
mod coordinator;
mod error;
mod exit_policy;
mod handle;
mod hook;
mod inside;
mod panic;
mod reason;
mod report;
mod shutdown;
mod signal;
mod slab;
mod stopped_probe;
mod sync;
mod token;
mod work;

pub use builder::ShutdownBuilder;
pub use coordinator::ShutdownCoordinator;
pub use error::{InstallError, IntakeClosed, SpawnError, Stopped, TaskPanicked, UnknownSignal};
pub use exit_policy::{ExitBy, ExitPolicy};
pub use handle::ShutdownHandle;
pub use hook::{Guard, Hook, HookOptions, HookOutput};
pub use reason::{Origin, Phase, Signal, SignalReceived, StopReason};
pub use report::{
    Abandoned, DrainOutcome, DrainReport, Holder, HookOutcome, HookReport, Outcome, ShutdownReport,
};
pub use signal::Escalation;
pub use token::{OnStop, StopFuture, StopSource, StopToken, UntilStopped, UntilStoppedIter};
pub use work::{Hold, Task, TaskOutput};
