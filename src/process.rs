//! Which process something belongs to.

/// The process in which it was made. A forked child has a copy, which is none of its business.
#[derive(Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    /// Async-signal-safe.
    pub(crate) fn is_this(self) -> bool {
        self.0 == std::process::id()
    }
}
