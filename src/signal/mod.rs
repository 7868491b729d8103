//! Signals: the handler, what it decides, the watchdog, the ways of dying.

mod bell;
mod emergency_line;
pub(crate) mod exit;
pub(crate) mod handler;
pub(crate) mod install;
pub(crate) mod listener;
pub(crate) mod mask;
#[cfg(all(test, winddown_loom))]
mod models;
mod owner;
mod prior;
pub(crate) mod state;

pub(crate) use bell::Ears;
pub(crate) use emergency_line::EmergencyLine;
pub use state::Escalation;
pub(crate) use state::{SignalSettings, SignalState};
