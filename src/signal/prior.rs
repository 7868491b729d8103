//! What a signal did before its handler was installed here.

/// See the module. As a number, it is kept where a handler can read it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Prior {
    /// Nothing was installed for it here.
    NotOurs = 0,
    Default = 1,
    Ignored = 2,
    /// Another handler, which goes on being called first (P11).
    Handler = 3,
}

impl Prior {
    pub(crate) fn of(action: &libc::sigaction) -> Self {
        match action.sa_sigaction {
            libc::SIG_DFL => Self::Default,
            libc::SIG_IGN => Self::Ignored,
            _ => Self::Handler,
        }
    }
}
