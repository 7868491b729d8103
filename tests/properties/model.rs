//! The promises, as a program with one thread and one vector.

use crate::history::{Body, End, Ending, History, Step};

/// All that anybody is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// What was done and called, and the answers, in order; what a hook does is indented.
    pub(crate) log: Vec<String>,
    pub(crate) report: Vec<Row>,
    /// Closures that are still there when nothing else is.
    pub(crate) bodies_left: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) outcome: String,
    /// It began before the stop.
    pub(crate) early: bool,
}

/// Where the closure is.
enum Place {
    Stack(Body),
    /// Of a guard made after the end.
    InHand(Body),
    Gone,
}

struct Made {
    place: Place,
    is_guard: bool,
    /// The program still has the value.
    held: bool,
}

#[derive(Default)]
struct Model {
    made: Vec<Made>,
    log: Vec<String>,
    /// With when it began, in calls, and 0 for before the stop.
    report: Vec<(usize, Row)>,
    calls: usize,
    depth: usize,
    stopped: bool,
    over: bool,
}

pub(crate) fn of(history: &History) -> Told {
    let mut model = Model::default();
    model.all(&history.before);
    if history.ending == Ending::Wait {
        model.step(&Step::Stop);
    }
    model.stopped = true;
    // P13: one stack, and what is registered meanwhile goes on top of it.
    while let Some(top) = model.top() {
        model.call(top);
    }
    model.over = true;
    model.tell("over");
    model.all(&history.after);
    let mut number = 0;
    while number < model.made.len() {
        model.step(&Step::Drop(number));
        number += 1;
    }
    // Nobody is told in the order of the ends, but of the beginnings.
    model.report.sort_by_key(|(began, _)| *began);
    Told {
        log: model.log,
        report: model.report.into_iter().map(|(_, row)| row).collect(),
        bodies_left: 0,
    }
}

impl Model {
    fn tell(&mut self, what: &str) {
        self.log.push(format!("{}{what}", "  ".repeat(self.depth)));
    }

    fn all(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn top(&self) -> Option<usize> {
        let on_stack = |made: &Made| matches!(made.place, Place::Stack(_));
        self.made.iter().rposition(on_stack)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Hook(body) => {
                let number = self.made.len();
                // P19: before its value is in anybody's hand.
                self.make(Place::Stack(body.clone()), false, !self.over);
                if self.over {
                    self.call(number);
                    self.made[number].held = true;
                }
            }
            Step::Guard(body) => {
                let body = body.clone();
                let place = if self.over {
                    Place::InHand(body)
                } else {
                    Place::Stack(body)
                };
                self.make(place, true, true);
            }
            Step::Stop => {
                let first = !self.stopped;
                self.stopped = true;
                self.tell(&format!("stop: {first}"));
            }
            Step::Remove(number) | Step::RunNow(number) | Step::Drop(number) => {
                if self.made.is_empty() {
                    return;
                }
                let number = number % self.made.len();
                if !std::mem::take(&mut self.made[number].held) {
                    return;
                }
                self.use_up(number, step);
            }
        }
    }

    fn make(&mut self, place: Place, is_guard: bool, held: bool) {
        self.made.push(Made {
            place,
            is_guard,
            held,
        });
    }

    fn use_up(&mut self, number: usize, step: &Step) {
        let Made {
            place, is_guard, ..
        } = &self.made[number];
        let there = matches!(place, Place::Stack(_));
        let gone = matches!(place, Place::Gone);
        match step {
            _ if *is_guard && gone => {}
            _ if *is_guard => drop(self.call(number)),
            Step::Remove(_) => {
                self.made[number].place = Place::Gone;
                self.tell(&format!("remove: {there}"));
            }
            Step::RunNow(_) => {
                let outcome = there.then(|| self.call(number));
                self.tell(&format!("run_now: {outcome:?}"));
            }
            _ => {}
        }
    }

    /// P13: once. P14: with one outcome, whatever else goes on.
    fn call(&mut self, number: usize) -> String {
        let place = std::mem::replace(&mut self.made[number].place, Place::Gone);
        let (Place::Stack(body) | Place::InHand(body)) = place else {
            unreachable!("called twice");
        };
        self.calls += 1;
        let began = if self.stopped { self.calls } else { 0 };
        self.tell(&format!("call {number}"));
        self.depth += 1;
        self.all(&body.steps);
        self.depth -= 1;
        let outcome = match body.end {
            End::Complete => "completed".to_owned(),
            End::Fail => format!("failed: {number}"),
            End::Panic => format!("panicked: {number}"),
        };
        // Before the stop there is no report; what failed waits for it.
        if !self.over && (self.stopped || body.end != End::Complete) {
            let row = Row {
                name: number.to_string(),
                outcome: outcome.clone(),
                early: began == 0,
            };
            self.report.push((began, row));
        }
        outcome
    }
}
