//! Loops that end at the stop.

use crate::token::StopToken;

/// Ends a loop at the stop: `for x in iter.until_stopped(&token)`.
pub trait UntilStopped: Iterator {
    /// The same items, until the stop.
    ///
    /// The stop is looked at *before* the next item is asked for: what the iterator has given is
    /// always passed on, never dropped on the floor. An iterator that blocks is not woken; for a
    /// channel use [`StopToken::receiver`] and `select!`.
    ///
    /// ```
    /// use winddown::{StopSource, UntilStopped};
    ///
    /// let source = StopSource::new();
    /// let token = source.token();
    /// let mut seen = 0;
    /// for n in (0..).until_stopped(&token) {
    ///     seen = n;
    ///     if n == 3 {
    ///         source.stop("three is enough");
    ///     }
    /// }
    /// assert_eq!(seen, 3);
    /// ```
    fn until_stopped(self, token: &StopToken) -> UntilStoppedIter<Self>
    where
        Self: Sized,
    {
        UntilStoppedIter {
            iter: self,
            token: token.clone(),
        }
    }
}

impl<I: Iterator> UntilStopped for I {}

/// Made by [`UntilStopped::until_stopped`].
#[derive(Clone, Debug)]
#[must_use = "iterators do nothing unless consumed"]
pub struct UntilStoppedIter<I> {
    iter: I,
    token: StopToken,
}

impl<I: Iterator> Iterator for UntilStoppedIter<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        if self.token.is_stopped() {
            None
        } else {
            self.iter.next()
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.iter.size_hint().1)
    }
}
