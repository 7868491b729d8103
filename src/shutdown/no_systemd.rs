//! In the place of `systemd.rs` without its feature: nobody to tell anything.

use std::time::Duration;

use crate::event::Event;
use crate::report::ShutdownReport;
use crate::shutdown::Core;

/// See the module.
pub(crate) struct Systemd;

#[expect(clippy::unused_self, reason = "as with the feature")]
impl Systemd {
    pub(crate) fn new(_: bool) -> Self {
        Self
    }

    pub(crate) fn beat(&self) -> Option<Duration> {
        None
    }

    pub(crate) fn lingering(&self, _: &Core, _: &Event) {}

    pub(crate) fn stopping(&self, _: &Core) {}

    pub(crate) fn look(&self, _: &Core) {}

    pub(crate) fn ended(&self, _: &Core, _: &ShutdownReport) {}
}
