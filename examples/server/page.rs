//! The snapshot as a page.

use std::fmt::{self, Write};
use std::time::Duration;

use winddown::{Phase, Snapshot, StillHere};

use crate::Times;

/// Rows of the table; of more, the number is shown.
const ROWS: usize = 100;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A whole page, which brings itself up to date as long as somebody answers.
pub(crate) fn show(snapshot: &Snapshot, times: &Times) -> String {
    let phase = snapshot.phase();
    let title = match snapshot.time_left() {
        Some(left) => format!("{phase}, {} left", time(left)),
        None => phase.to_string(),
    };
    let main = Main { snapshot, times };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"1\"></noscript>\n\
         <style>\n{STYLE}</style>\n<p id=\"seen\"></p>\n{main}<script>\n{SCRIPT}</script>\n</html>\n",
        Escaped(&title)
    )
}

/// What changes from one look to the next.
struct Main<'a> {
    snapshot: &'a Snapshot,
    times: &'a Times,
}

impl fmt::Display for Main<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.snapshot.phase();
        let pid = std::process::id();
        writeln!(f, "<main class=\"{phase}\">")?;
        writeln!(f, "<h1>{phase} <small>server, pid {pid}</small></h1>")?;
        write!(f, "<p>{}", meaning(phase))?;
        if let (Phase::Lingering, Some(left)) = (phase, self.snapshot.time_left()) {
            let passed = self.times.grace.saturating_sub(left);
            let closes = self.times.linger.saturating_sub(passed);
            write!(f, " The listener closes in {}.", time(closes))?;
        }
        writeln!(f, "</p>")?;
        if let Some(reason) = self.snapshot.reason() {
            let reason = reason.to_string();
            write!(f, "<p>Why: <bdi>{}</bdi>", Escaped(&reason))?;
            if let Some(since) = self.snapshot.since_stop() {
                write!(f, ", {} ago", time(since))?;
            }
            writeln!(f, "</p>")?;
        }
        if let Some(left) = self.snapshot.time_left() {
            self.bar(left, f)?;
        }
        let (here, later): (Vec<_>, Vec<_>) = self
            .snapshot
            .holders()
            .iter()
            .partition(|here| here.age().is_some());
        self.table(&here, f)?;
        if !later.is_empty() {
            let heading = if phase == Phase::Cleaning {
                "Then"
            } else {
                "After that, the clean-up"
            };
            writeln!(f, "<h2>{heading}</h2>\n<ol>")?;
            for here in later.iter().take(ROWS) {
                let (kind, name) = (here.holder(), Escaped(here.name()));
                writeln!(f, "<li><i>{kind}</i> <bdi>{name}</bdi></li>")?;
            }
            writeln!(f, "</ol>")?;
            more(later.len().saturating_sub(ROWS), f)?;
        }
        writeln!(f, "</main>")
    }
}

impl Main<'_> {
    /// It runs down by itself between two looks.
    fn bar(&self, left: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = left.as_secs_f64() / self.times.grace.as_secs_f64().max(f64::EPSILON) * 100.0;
        let percent = percent.min(100.0);
        writeln!(
            f,
            "<div class=\"bar\" role=\"progressbar\" aria-label=\"grace period\" \
             aria-valuemin=\"0\" aria-valuemax=\"100\" aria-valuenow=\"{percent:.0}\">\
             <div style=\"--left:{percent:.2}%;animation-duration:{}ms\"></div></div>\n\
             <p class=\"left\"><b>{}</b> left of {}</p>",
            left.as_millis(),
            time(left),
            time(self.times.grace),
        )
    }

    fn table(&self, here: &[&StillHere], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = match self.snapshot.phase() {
            Phase::Running => "A stop would wait for",
            Phase::Lingering => "The stop will wait for",
            _ => "Still here",
        };
        let all = here.len() + self.snapshot.more();
        writeln!(f, "<h2>{heading} <small>{all}</small></h2>")?;
        if here.is_empty() {
            return writeln!(f, "<p>nobody</p>");
        }
        writeln!(
            f,
            "<table>\n<tr><th>who, registered where<th>for<th>says, its thread</tr>"
        )?;
        for here in here.iter().take(ROWS) {
            row(here, f)?;
        }
        writeln!(f, "</table>")?;
        more(all.saturating_sub(ROWS), f)
    }
}

fn row(here: &StillHere, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (kind, name) = (here.holder(), Escaped(here.name()));
    write!(f, "<tr><td><i>{kind}</i> <b><bdi>{name}</bdi></b>")?;
    if here.count() > 1 {
        write!(f, " × {}", here.count())?;
    }
    if let Some(stage) = here.stage() {
        write!(f, " of <bdi>{}</bdi>", Escaped(stage))?;
    }
    let place = here.location().to_string();
    write!(
        f,
        "<br><small>{}</small><td class=\"age\">",
        Escaped(&place)
    )?;
    if let Some(age) = here.age() {
        write!(f, "{}", time(age))?;
    }
    write!(f, "<td>")?;
    if let Some(said) = here.said() {
        let said = said.to_string();
        write!(f, "<bdi>{}</bdi>", Escaped(&said))?;
    }
    if let Some(state) = here.thread().and_then(|thread| thread.state()) {
        write!(f, "<br><small>{}</small>", Escaped(state))?;
    }
    writeln!(f, "</tr>")
}

fn more(more: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if more > 0 {
        writeln!(f, "<p>and {more} more</p>")?;
    }
    Ok(())
}

/// For whoever has been woken at night.
fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "Ready: takes requests.",
        Phase::Lingering => "Not ready any more, still takes requests.",
        Phase::Draining => "The listener is closed; what was begun is being finished.",
        Phase::Cleaning => "Hooks and guards run, the newest first.",
        Phase::Ended => "The report is made; the process is about to go.",
        _ => "",
    }
}

fn time(span: Duration) -> String {
    match span.as_secs() {
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Text as text, whatever a client has put into it, between tags and in quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
