//! The report as a waterfall: a row for everything, its bar on a common axis of time, what belongs
//! to a stage below that; then what went wrong, whole, and where it was registered.
//!
//! ```text
//! shutdown: incomplete in 1.2 s (SIGTERM from pid 4242 (docker-init), uid 0)
//!                          0 ────────────────── 600 ms ────────────── 1.2 s
//!   hold  upload           ██████                                            150 ms  ended
//!   stage source           ━━━━━━━━━━━━━━━━━━━━━━━━━                         612 ms  ended
//!     task  importer       █████████████████████████                         612 ms  ended
//!   hook  close database                            ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  580 ms  failed: disk full
//! what went wrong, and where it was registered:
//!   src/main.rs:17:14: hook close database: failed: disk full
//! ```

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::time::Duration;

use super::rows::{Group, Row, groups};
use super::{Inner, Outcome};
use crate::text::{clean, columns, fit, pad, parts, short, time};

/// No line is wider.
const WIDTH: usize = 100;
const NAME: usize = 32;
/// The axis is as long as the names and outcomes leave it, within these.
const AXIS: std::ops::RangeInclusive<usize> = 24..=50;
/// Of an outcome next to its bar; what went wrong is said whole below.
const OUTCOME: usize = 20;
/// So many rows are drawn: what went wrong and what took longest; the others are counted.
const ROWS: usize = 40;

pub(super) fn waterfall(
    report: &Inner,
    outcome: Outcome,
    unicode: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    head(report, outcome, unicode, f)?;
    let groups = groups(report);
    let drawn = drawn(&groups);
    let picture = Picture::new(&groups, &drawn, report.took, unicode);
    if groups.iter().flat_map(Group::all).count() > 1 {
        write!(f, "\n{}", picture.axis())?;
    }
    let mut stages = 0;
    for (at, group) in groups.iter().enumerate() {
        let mut hidden = Hidden::default();
        for (row, line) in group.all().zip(0..) {
            if drawn.contains(&(at, line)) {
                write!(f, "\n{}", picture.line(row))?;
            } else {
                hidden.add(row);
            }
        }
        if group.head.is_some() && !drawn.contains(&(at, 0)) {
            stages += 1;
        } else if hidden.count > 0 {
            let indent = if group.head.is_some() { "    " } else { "  " };
            write!(f, "\n{indent}{hidden}")?;
        }
    }
    if stages > 0 {
        write!(f, "\n  and {stages} more stages")?;
    }
    if report.hooks.more > 0 {
        let more = report.hooks.more;
        write!(f, "\n  and {more} more hooks and guards")?;
    }
    wrong(&groups, unicode, f)
}

/// How it ended as a whole, and why.
fn head(
    report: &Inner,
    outcome: Outcome,
    unicode: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let state = if report.is_final {
        format!("{outcome} in")
    } else {
        "under way for".to_owned()
    };
    let (took, reason) = (time(report.took), &report.reason);
    let text = format!("shutdown: {state} {took} ({reason})");
    let mut lines = parts(&clean(&text, unicode), WIDTH - 4).into_iter();
    f.write_str(&lines.next().unwrap_or_default())?;
    for line in lines {
        write!(f, "\n    {line}")?;
    }
    for (at, later) in report.later.timed() {
        let line = format!("  after {}: {later}", time(at));
        write!(f, "\n{}", fit(&line, WIDTH, unicode))?;
    }
    if report.later.more > 0 {
        write!(f, "\n  and {} more reasons", report.later.more)?;
    }
    if report.handed_back > 0 {
        write!(f, "\n  items handed back: {}", report.handed_back)?;
    }
    Ok(())
}

/// What went wrong, whole: a line of the form that terminals and editors can jump from. A stage is
/// here only where nothing in it says why.
fn wrong(groups: &[Group<'_>], unicode: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut titled = false;
    for group in groups {
        let blamed = group.rows.iter().any(|row| row.fate.wrong);
        for row in group.all().filter(|row| row.fate.wrong) {
            let Some(location) = row.location else {
                continue;
            };
            if row.is_stage() && blamed {
                continue;
            }
            if !titled {
                titled = true;
                f.write_str("\nwhat went wrong, and where it was registered:")?;
            }
            let of = row
                .stage
                .map_or(String::new(), |stage| format!(" of stage {stage}"));
            let (name, fate) = (name(row, unicode), row.fate.text());
            let what = clean(&format!("{} {name}{of}: {fate}", row.what()), unicode);
            let place = clean(&location.to_string(), unicode);
            let line = format!("  {place}: {what}");
            if columns(&line) <= WIDTH {
                write!(f, "\n{line}")?;
                continue;
            }
            // The place is whole even where it is wider than the screen: it can be jumped to.
            write!(f, "\n  {place}:")?;
            for part in parts(&what, WIDTH - 6) {
                write!(f, "\n      {part}")?;
            }
        }
    }
    Ok(())
}

/// A row, by its group and its place in [`Group::all`].
type Place = (usize, usize);

/// Which rows are drawn: what went wrong first, then what took longest; and the stages that those
/// belong to.
fn drawn(groups: &[Group<'_>]) -> HashSet<Place> {
    let mut all: Vec<(Place, &Row<'_>)> = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        all.extend(group.all().zip(0..).map(|(row, line)| ((at, line), row)));
    }
    all.sort_by_key(|(_, row)| (!row.fate.wrong, std::cmp::Reverse(row.span())));
    let mut drawn: HashSet<Place> = all.iter().take(ROWS).map(|(place, _)| *place).collect();
    let heads: Vec<Place> = drawn.iter().map(|(at, _)| (*at, 0)).collect();
    drawn.extend(heads.iter().filter(|(at, _)| groups[*at].head.is_some()));
    // Where a line would only say that one more is there, that one is drawn.
    for (at, group) in groups.iter().enumerate() {
        let mut hidden = (0..group.all().count()).filter(|line| !drawn.contains(&(at, *line)));
        if let (Some(line), None) = (hidden.next(), hidden.next()) {
            drawn.insert((at, line));
        }
    }
    drawn
}

/// What a group has besides what is drawn.
#[derive(Default)]
struct Hidden {
    count: usize,
    longest: Duration,
}

impl Hidden {
    fn add(&mut self, row: &Row<'_>) {
        self.count += row.count;
        self.longest = self.longest.max(row.span());
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "and {} more, {} at most", self.count, time(self.longest))
    }
}

/// The signs that bars are made of.
struct Signs {
    work: char,
    wrong: char,
    stage: char,
    /// Too short for a column.
    moment: char,
    axis: char,
}

const UNICODE: Signs = Signs {
    work: '█',
    wrong: '▒',
    stage: '━',
    moment: '▏',
    axis: '─',
};

const ASCII: Signs = Signs {
    work: '#',
    wrong: 'x',
    stage: '=',
    moment: '|',
    axis: '-',
};

/// The columns that all lines have in common.
struct Picture {
    unicode: bool,
    signs: Signs,
    /// Of the words for what a row is.
    what: usize,
    /// Of everything before the axis.
    left: usize,
    axis: usize,
    /// Of the times behind the bars.
    took: usize,
    whole: Duration,
}

impl Picture {
    fn new(groups: &[Group<'_>], drawn: &HashSet<Place>, whole: Duration, unicode: bool) -> Self {
        let (mut what, mut left, mut took, mut outcome) = (0, 0, 0, 0);
        for (at, group) in groups.iter().enumerate() {
            let rows = group
                .all()
                .zip(0..)
                .filter(|(_, line)| drawn.contains(&(at, *line)));
            for (row, _) in rows {
                what = what.max(row.what().len());
                let name = columns(&name(row, unicode)).min(NAME);
                took = took.max(time(row.span()).len());
                left = left.max(indent(row).len() + name);
                outcome = outcome.max(columns(&clean(&row.fate.text(), unicode)).min(OUTCOME));
            }
        }
        let left = left + what + 1;
        let axis = WIDTH.saturating_sub(left + 1 + 2 + took + 2 + outcome);
        Self {
            unicode,
            signs: if unicode { UNICODE } else { ASCII },
            what,
            left,
            axis: axis.clamp(*AXIS.start(), *AXIS.end()),
            took,
            whole,
        }
    }

    /// The axis with its beginning, its middle and its end.
    fn axis(&self) -> String {
        let (middle, end) = (time(self.whole / 2), time(self.whole));
        let first = (self.axis / 2).saturating_sub(2 + middle.len().div_ceil(2));
        let second = self
            .axis
            .saturating_sub(1 + 1 + first + 2 + middle.len() + 1 + end.len());
        let line = |columns| self.signs.axis.to_string().repeat(columns);
        let (first, second) = (line(first), line(second));
        format!("{:1$} 0 {first} {middle} {second} {end}", "", self.left)
    }

    fn line(&self, row: &Row<'_>) -> String {
        let indent = indent(row);
        let room = self.left - indent.len() - self.what - 1;
        let name = short(&name(row, self.unicode), room, self.unicode);
        let mut line = format!("{indent}{:<1$} ", row.what(), self.what);
        line.push_str(&pad(&name, room));
        line.push(' ');
        self.bar(row, &mut line);
        let took = if has_bar(row) {
            time(row.span())
        } else {
            String::new()
        };
        let _ = write!(line, "  {took:>0$}  ", self.took);
        line.push_str(&clean(&row.fate.text(), self.unicode));
        fit(&line, WIDTH, self.unicode)
    }

    fn bar(&self, row: &Row<'_>, line: &mut String) {
        let whole = self.whole.as_nanos().max(1);
        let at = |time: Duration| {
            let columns = time.as_nanos().min(whole) * self.axis as u128 / whole;
            usize::try_from(columns).unwrap_or(self.axis)
        };
        let from = at(row.from).min(self.axis - 1);
        let to = at(row.to);
        let sign = match row {
            _ if !has_bar(row) => ' ',
            // Whatever ran at all is seen.
            _ if to <= from && row.span().as_nanos() * self.axis as u128 * 2 < whole => {
                self.signs.moment
            }
            _ if row.is_stage() => self.signs.stage,
            _ if row.fate.wrong => self.signs.wrong,
            _ => self.signs.work,
        };
        let to = to.max(from + 1);
        line.extend((0..self.axis).map(|column| {
            if (from..to).contains(&column) {
                sign
            } else {
                ' '
            }
        }));
    }
}

/// It began, and it is known when it ended.
fn has_bar(row: &Row<'_>) -> bool {
    !row.is_skipped() && row.location.is_some()
}

fn indent(row: &Row<'_>) -> &'static str {
    if row.stage.is_some() { "    " } else { "  " }
}

fn name(row: &Row<'_>, unicode: bool) -> String {
    let name = clean(row.name, unicode);
    match row.count {
        0 | 1 => name,
        count if unicode => format!("{name} ×{count}"),
        count => format!("{name} x{count}"),
    }
}

#[cfg(test)]
mod tests;
