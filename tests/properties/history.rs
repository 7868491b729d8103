//! What a program may do with the stack: as data.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any as anything, prop_oneof};
use proptest::strategy::Just;

/// How a hook, or a clean-up, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Fail,
    Panic,
}

/// What a hook or a clean-up does.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
}

/// The numbers are those of one of the hooks and guards made so far, whichever that is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Hook(Body),
    Guard(Body),
    Remove(usize),
    RunNow(usize),
    /// Of the value in hand: a hook stays, a guard cleans up.
    Drop(usize),
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Shutdown,
    Wait,
    Drop,
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) before: Vec<Step>,
    pub(crate) ending: Ending,
    pub(crate) after: Vec<Step>,
}

fn step(body: impl Strategy<Value = Body> + Clone + 'static) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => body.clone().prop_map(Step::Hook),
        4 => body.prop_map(Step::Guard),
        2 => anything::<usize>().prop_map(Step::Remove),
        3 => anything::<usize>().prop_map(Step::RunNow),
        3 => anything::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Stop),
    ]
}

fn body(steps: impl Strategy<Value = Vec<Step>>) -> impl Strategy<Value = Body> {
    let end = prop_oneof![
        3 => Just(End::Complete),
        1 => Just(End::Fail),
        1 => Just(End::Panic),
    ];
    (steps, end).prop_map(|(steps, end)| Body { steps, end })
}

/// Hooks that register hooks that register hooks.
pub(crate) fn any() -> impl Strategy<Value = History> {
    let plain = body(Just(Vec::new())).boxed();
    let inner = body(vec(step(plain), 0..3)).boxed();
    let outer = body(vec(step(inner), 0..4)).boxed();
    let ending = prop_oneof![
        Just(Ending::Shutdown),
        Just(Ending::Wait),
        Just(Ending::Drop)
    ];
    (
        vec(step(outer.clone()), 0..16),
        ending,
        vec(step(outer), 0..6),
    )
        .prop_map(|(before, ending, after)| History {
            before,
            ending,
            after,
        })
}
