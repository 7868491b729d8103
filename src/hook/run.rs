//! Running one piece of user code, and saying how it ended.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::panic;
use crate::report::HookOutcome;

/// What a hook runs. It is told how long it may take, and `None` where nobody waits for it; and
/// gives `None` where somebody else has run it, or will have.
pub(crate) type Body = Box<dyn FnOnce(Option<Duration>) -> Option<Ended> + Send>;

/// How a hook has ended.
pub(crate) struct Ended {
    pub(crate) outcome: HookOutcome,
    /// Why it was skipped, where that is not for want of time.
    pub(crate) why: Option<&'static str>,
}

/// Runs `body`; a panic of it, or of the error it returned while that was shown, goes no further.
pub(crate) fn caught(body: Body, time: Option<Duration>) -> Option<Ended> {
    match catch_unwind(AssertUnwindSafe(|| body(time))) {
        Ok(ended) => ended,
        Err(payload) => Some(HookOutcome::Panicked(panic::message(payload)).into()),
    }
}

impl From<HookOutcome> for Ended {
    fn from(outcome: HookOutcome) -> Self {
        Self { outcome, why: None }
    }
}

impl From<Result<(), String>> for HookOutcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Completed)
    }
}

impl From<Result<(), String>> for Ended {
    fn from(result: Result<(), String>) -> Self {
        HookOutcome::from(result).into()
    }
}

/// What a hook or guard may return: `()`, `Result<T, E>` with `E: Display`, or `!`. Sealed.
#[diagnostic::on_unimplemented(
    message = "a hook, a guard's clean-up or a hand-back cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it returns `()`, or a `Result` with an error that is `Display`",
    note = "to drop a value, end the closure with `;`"
)]
pub trait HookOutput: sealed::Sealed {}

impl HookOutput for () {}
impl<T, E: Display> HookOutput for Result<T, E> {}
impl HookOutput for Never {}

/// `!`, which has no name on a stable compiler: the return type of a `fn() -> !`.
pub(crate) type Never = <fn() -> ! as sealed::Returns>::Output;

pub(crate) mod sealed {
    use std::fmt::Display;

    pub trait Sealed {
        /// How it ended, as text where it failed.
        #[doc(hidden)]
        fn into_result(self) -> Result<(), String>;
    }

    impl Sealed for () {
        fn into_result(self) -> Result<(), String> {
            Ok(())
        }
    }

    impl<T, E: Display> Sealed for Result<T, E> {
        fn into_result(self) -> Result<(), String> {
            self.map(drop)
                .map_err(|error| crate::panic::show_and_drop(error, |error| format!("{error:#}")))
        }
    }

    impl Sealed for super::Never {
        fn into_result(self) -> Result<(), String> {
            self
        }
    }

    pub trait Returns {
        type Output;
    }

    impl<R> Returns for fn() -> R {
        type Output = R;
    }
}
