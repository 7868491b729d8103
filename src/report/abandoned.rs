//! What was left behind, by name.

use std::fmt;
use std::panic::Location;

use crate::text::clean;

/// Something that was left behind.
#[derive(Clone, Copy, Debug)]
pub struct Abandoned<'a> {
    pub(super) name: &'a str,
    pub(super) what: &'static str,
    pub(super) location: &'static Location<'static>,
}

impl<'a> Abandoned<'a> {
    /// The name it was registered under.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What it is: a hold, a task, a hook…
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Where it was registered.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

impl fmt::Display for Abandoned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({})",
            self.what,
            clean(self.name, true),
            self.location
        )
    }
}
