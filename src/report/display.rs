//! The report as a waterfall: a row for everything, its bar on a common axis of time.
//!
//! ```text
//! shutdown: incomplete in 1.2 s (SIGTERM from pid 4242, uid 0)
//!   task  importer           ████████████                       612 ms  ended
//!   hook  close the database             ██████████████         580 ms  failed: disk full
//!         registered at src/main.rs:17:14
//! ```

use std::fmt::{self, Write};
use std::time::Duration;

use super::{DrainOutcome, HookOutcome, Inner, Outcome};

/// No line is wider.
const WIDTH: usize = 100;
const NAME: usize = 32;
const BAR: usize = 26;
/// Of the lines that belong to a row.
const INDENT: &str = "          ";
/// Rows of the same fate beyond this many are counted, not shown.
const ROWS: usize = 40;

struct Row<'a> {
    what: &'static str,
    name: &'a str,
    from: Duration,
    to: Duration,
    outcome: String,
    /// Where it was registered, for what went wrong.
    location: Option<String>,
}

pub(super) fn waterfall(
    report: &Inner,
    outcome: Outcome,
    unicode: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let state = if report.is_final {
        outcome.to_string()
    } else {
        "under way".to_owned()
    };
    let head = format!(
        "shutdown: {state} in {} ({})",
        time(report.took),
        report.reason
    );
    f.write_str(&fit(&head, WIDTH, unicode))?;
    for later in &report.later.kept {
        write!(f, "\n{}", fit(&format!("  later: {later}"), WIDTH, unicode))?;
    }
    if report.later.more > 0 {
        write!(f, "\n  later: {} more", report.later.more)?;
    }
    let rows = rows(report);
    let name = rows
        .iter()
        .map(|row| columns(&clean(row.name, unicode)))
        .max()
        .unwrap_or(0)
        .min(NAME);
    let mut shown = 0;
    for row in &rows {
        // What went wrong is always shown.
        if shown >= ROWS && row.location.is_none() {
            continue;
        }
        shown += 1;
        let mut line = format!("  {:<7} ", row.what);
        line.push_str(&pad(&short(row.name, name, unicode), name));
        line.push(' ');
        bar(row, report.took, unicode, &mut line);
        let _ = write!(line, " {:>8}  ", time(row.to.saturating_sub(row.from)));
        let outcome = clean(&row.outcome, unicode);
        // What went wrong stands nowhere else: it is shown whole.
        if columns(&line) + columns(&outcome) <= WIDTH {
            line.push_str(&outcome);
            write!(f, "\n{line}")?;
        } else {
            let (kind, why) = outcome.split_once(": ").unwrap_or(("failed", &outcome));
            line.push_str(kind);
            write!(f, "\n{}", fit(&line, WIDTH, unicode))?;
            for part in parts(why, WIDTH - INDENT.len()) {
                write!(f, "\n{INDENT}{part}")?;
            }
        }
        if let Some(location) = &row.location {
            // The end of a path says more than its beginning.
            let location = tail(location, WIDTH - 25, unicode);
            let line = format!("{INDENT}registered at {location}");
            write!(f, "\n{}", fit(&line, WIDTH, unicode))?;
        }
    }
    if shown < rows.len() {
        write!(
            f,
            "\n  and {} more, ended as they should",
            rows.len() - shown
        )?;
    }
    if report.hooks.more > 0 {
        write!(
            f,
            "\n  and {} guards more, dropped after the stop",
            report.hooks.more
        )?;
    }
    Ok(())
}

fn rows(report: &Inner) -> Vec<Row<'_>> {
    let drained = report.drained.iter().map(|drained| Row {
        what: drained.holder.word(),
        name: &drained.name,
        from: drained.started,
        to: drained.took,
        outcome: drained.outcome.to_string(),
        location: (drained.outcome != DrainOutcome::Ended).then(|| drained.location.to_string()),
    });
    let hooks = report.hooks.list.iter().map(|hook| Row {
        what: hook.holder.word(),
        name: &hook.name,
        from: hook.started,
        to: hook.started + hook.took,
        outcome: hook.outcome.to_string(),
        location: (hook.outcome != HookOutcome::Completed).then(|| hook.location.to_string()),
    });
    drained.chain(hooks).collect()
}

fn bar(row: &Row<'_>, whole: Duration, unicode: bool, line: &mut String) {
    let (full, empty) = if unicode { ('█', ' ') } else { ('#', ' ') };
    let whole = whole.as_nanos().max(1);
    let at = |time: Duration| {
        let columns = time.as_nanos().min(whole) * BAR as u128 / whole;
        usize::try_from(columns).unwrap_or(BAR).min(BAR)
    };
    let from = at(row.from).min(BAR - 1);
    // Whatever ran at all is seen.
    let to = at(row.to).max(from + 1);
    let skipped = row.from == row.to && row.outcome == "skipped";
    for column in 0..BAR {
        line.push(if !skipped && (from..to).contains(&column) {
            full
        } else {
            empty
        });
    }
}

/// Three digits and a unit.
pub(crate) fn time(span: Duration) -> String {
    let (value, unit) = match span {
        _ if span < Duration::from_millis(1) => return format!("{} us", span.as_micros()),
        _ if span < Duration::from_secs(1) => return format!("{} ms", span.as_millis()),
        _ if span < Duration::from_secs(120) => (span.as_secs_f64(), "s"),
        _ => return format!("{} min", span.as_secs() / 60),
    };
    format!("{value:.1} {unit}")
}

/// The text in at most `width` columns, with nothing in it that could move the cursor.
fn fit(text: &str, width: usize, unicode: bool) -> String {
    let text = clean(text, unicode);
    if columns(&text) <= width {
        return text;
    }
    let more = if unicode { "…" } else { "~" };
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += column(c);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push_str(more);
    kept
}

/// A name in at most `width` columns. Where it does not fit, its middle goes: what tells it from
/// its like is often at its end.
fn short(name: &str, width: usize, unicode: bool) -> String {
    let name = clean(name, unicode);
    if columns(&name) <= width {
        return name;
    }
    let end = tail(&name, width / 2, unicode);
    let mut start = String::new();
    let mut used = columns(&end);
    for c in name.chars() {
        used += column(c);
        if used > width {
            break;
        }
        start.push(c);
    }
    start + &end
}

/// The text in lines of at most `width` columns.
fn parts(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for c in text.chars() {
        if used + column(c) > width {
            lines.push(String::new());
            used = 0;
        }
        used += column(c);
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// The last `width` columns of the text.
fn tail(text: &str, width: usize, unicode: bool) -> String {
    let text = clean(text, unicode);
    let mut used = 0;
    let kept = text.char_indices().rev().take_while(|(_, c)| {
        used += column(*c);
        used <= width
    });
    let from = kept.last().map_or(0, |(at, _)| at);
    if from == 0 {
        text
    } else {
        format!("{}{}", if unicode { "…" } else { "~" }, &text[from..])
    }
}

fn pad(text: &str, width: usize) -> String {
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(
        ' ',
        width.saturating_sub(columns(text)),
    ));
    padded
}

/// Without control characters, line ends and marks that turn the direction of writing: a name
/// cannot break the lines of a report. Where the locale is not UTF-8, without anything but ASCII.
pub(crate) fn clean(text: &str, unicode: bool) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        let shown = if unicode {
            !is_hidden(c)
        } else {
            c.is_ascii() && !c.is_control()
        };
        if shown {
            cleaned.push(c);
        } else {
            cleaned.extend(c.escape_default());
        }
    }
    cleaned
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// How wide a terminal may draw it: never less than it does.
fn column(c: char) -> usize {
    match c {
        '…' | '█' => 1,
        // East Asian scripts, signs and emoji are drawn two columns wide; some of what is counted
        // so here is not.
        '\u{1100}'.. => 2,
        _ => 1,
    }
}

/// What the environment says of the terminal's encoding, by the rules of `setlocale(3)`.
pub(crate) fn locale_is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests;
