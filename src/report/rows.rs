//! The report in rows, in groups: what belongs to no stage, each stage with what is in it, the
//! hooks.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use super::{DrainOutcome, DrainReport, Holder, HookOutcome, HookReport, Inner};

/// Of what is there more often than this, and says the same every time, there is one row.
const SAME: usize = 3;

/// Something that was waited for or called.
#[derive(Clone)]
pub(super) struct Row<'a> {
    pub(super) holder: Holder,
    pub(super) name: &'a str,
    pub(super) stage: Option<&'a str>,
    /// Both counted from the stop, and neither beyond the report's end.
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) fate: Fate<'a>,
    /// None for a stage that is not over.
    pub(super) location: Option<&'static Location<'static>>,
    /// So many that say the same; `from` and `to` are the first's and the last's.
    pub(super) count: usize,
}

impl Row<'_> {
    pub(super) fn what(&self) -> &'static str {
        self.holder.word()
    }

    pub(super) fn span(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }

    pub(super) fn is_stage(&self) -> bool {
        self.holder == Holder::Stage
    }

    pub(super) fn is_hook(&self) -> bool {
        self.holder.is_called()
    }

    /// It was not called at all.
    pub(super) fn is_skipped(&self) -> bool {
        self.fate.word == "skipped"
    }
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fate<'a> {
    pub(super) word: &'static str,
    /// An error, or what a panic said.
    pub(super) why: Option<&'a str>,
    pub(super) wrong: bool,
}

impl<'a> Fate<'a> {
    fn fine(word: &'static str) -> Self {
        Self {
            word,
            why: None,
            wrong: false,
        }
    }

    fn wrong(word: &'static str, why: Option<&'a str>) -> Self {
        Self {
            word,
            why,
            wrong: true,
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        match self.why {
            Some(why) => format!("{}: {why}", self.word),
            None => self.word.to_owned(),
        }
    }
}

impl<'a> From<&'a DrainOutcome> for Fate<'a> {
    fn from(outcome: &'a DrainOutcome) -> Self {
        match outcome {
            DrainOutcome::Ended => Self::fine("ended"),
            DrainOutcome::Failed(error) => Self::wrong("failed", Some(error)),
            DrainOutcome::Panicked(message) => Self::wrong("panicked", Some(message)),
            DrainOutcome::Abandoned => Self::wrong("abandoned", None),
            DrainOutcome::Aborted => Self::wrong("aborted", None),
            DrainOutcome::Undecided => Self::wrong("undecided", None),
        }
    }
}

impl<'a> From<&'a HookReport> for Fate<'a> {
    fn from(hook: &'a HookReport) -> Self {
        match &hook.outcome {
            HookOutcome::Completed => Self::fine("completed"),
            HookOutcome::Failed(error) => Self::wrong("failed", Some(error)),
            HookOutcome::Panicked(message) => Self::wrong("panicked", Some(message)),
            HookOutcome::TimedOut => Self::wrong("timed out", None),
            HookOutcome::Skipped => Self::wrong("skipped", hook.why),
        }
    }
}

/// Rows that belong together: of one stage, of none, the hooks.
#[derive(Default)]
pub(super) struct Group<'a> {
    /// The stage itself.
    pub(super) head: Option<Row<'a>>,
    pub(super) rows: Vec<Row<'a>>,
}

impl<'a> Group<'a> {
    /// The head first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Row<'a>> {
        self.head.iter().chain(&self.rows)
    }
}

/// Everything in its order: what belongs to no stage, the stages in their turn, the hooks as they
/// were called. No group is empty.
pub(super) fn groups(report: &Inner) -> Vec<Group<'_>> {
    let mut own = Group::default();
    let mut stages: Vec<Group<'_>> = Vec::new();
    for drained in &report.drained {
        let row = of_drained(drained, report.took);
        match drained.stage() {
            None if drained.holder == Holder::Stage => stages.push(Group {
                head: Some(row),
                rows: Vec::new(),
            }),
            None => own.rows.push(row),
            // What is a stage's follows it.
            Some(stage) => match stages.last_mut().filter(|last| is_of(last, stage)) {
                Some(last) => last.rows.push(row),
                None => stages.push(Group {
                    head: Some(under_way(stage, &row)),
                    rows: vec![row],
                }),
            },
        }
    }
    let hooks = report.hooks.list.iter();
    let hooks = Group {
        head: None,
        rows: folded(hooks.map(|hook| of_hook(hook, report.took)).collect()),
    };
    let mut groups = vec![own];
    groups.extend(stages);
    for group in &mut groups {
        group.rows = folded(std::mem::take(&mut group.rows));
        group.rows.sort_by_key(|row| (row.from, row.to));
    }
    groups.push(hooks);
    groups.retain(|group| group.all().next().is_some());
    groups
}

fn is_of(group: &Group<'_>, stage: &str) -> bool {
    group.head.as_ref().is_some_and(|head| head.name == stage)
}

fn of_drained(drained: &DrainReport, whole: Duration) -> Row<'_> {
    let to = drained.took.min(whole);
    Row {
        holder: drained.holder,
        name: &drained.name,
        stage: drained.stage(),
        from: drained.started.min(to),
        to,
        fate: (&drained.outcome).into(),
        location: Some(drained.location),
        count: 1,
    }
}

fn of_hook(hook: &HookReport, whole: Duration) -> Row<'_> {
    let to = (hook.started() + hook.took()).min(whole);
    Row {
        holder: hook.holder,
        name: &hook.name,
        stage: None,
        from: hook.started().min(to),
        to,
        fate: hook.into(),
        location: Some(hook.location),
        count: 1,
    }
}

/// A report that is not final has no row for a stage that is not over.
fn under_way<'a>(stage: &'a str, first: &Row<'a>) -> Row<'a> {
    Row {
        holder: Holder::Stage,
        name: stage,
        stage: None,
        from: first.from,
        to: first.from,
        fate: Fate::fine("under way"),
        location: None,
        count: 1,
    }
}

/// Makes one row of many that say the same. The items of one set are one row in any case.
fn folded(rows: Vec<Row<'_>>) -> Vec<Row<'_>> {
    let mut known = HashMap::new();
    for row in &rows {
        *known.entry(key(row)).or_insert(0) += 1;
    }
    known.retain(|(holder, ..), count| *count > SAME || *holder == Holder::Item);
    if known.is_empty() {
        return rows;
    }
    let mut kept: Vec<Row<'_>> = Vec::new();
    let mut places = HashMap::new();
    for row in rows {
        let key = key(&row);
        if !known.contains_key(&key) {
            kept.push(row);
            continue;
        }
        let place = *places.entry(key).or_insert(kept.len());
        if let Some(first) = kept.get_mut(place) {
            first.count += 1;
            first.from = first.from.min(row.from);
            first.to = first.to.max(row.to);
        } else {
            kept.push(row);
        }
    }
    kept
}

type Key<'a> = (
    Holder,
    &'a str,
    Fate<'a>,
    Option<&'static Location<'static>>,
);

fn key<'a>(row: &Row<'a>) -> Key<'a> {
    (row.holder, row.name, row.fate, row.location)
}
