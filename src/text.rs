//! Text in so many columns of a terminal, with nothing in it that could move the cursor.

use std::borrow::Cow;
use std::time::Duration;

/// A name that something was registered under. Most are literals.
pub(crate) type Name = Cow<'static, str>;

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
pub(crate) fn fit(text: &str, width: usize, unicode: bool) -> String {
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
pub(crate) fn short(name: &str, width: usize, unicode: bool) -> String {
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

/// The text in lines of at most `width` columns, broken between words where that costs little.
pub(crate) fn parts(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while columns(rest) > width {
        let mut used = 0;
        let (mut cut, mut word) = (rest.len(), None);
        for (at, c) in rest.char_indices() {
            if c == ' ' && used > width / 2 {
                word = Some(at);
            }
            used += column(c);
            if used > width {
                cut = at;
                break;
            }
        }
        let (line, left) = rest.split_at(word.unwrap_or(cut));
        lines.push(line.to_owned());
        rest = left
            .strip_prefix(' ')
            .filter(|_| word.is_some())
            .unwrap_or(left);
    }
    lines.push(rest.to_owned());
    lines
}

/// The last `width` columns of the text.
pub(crate) fn tail(text: &str, width: usize, unicode: bool) -> String {
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

pub(crate) fn pad(text: &str, width: usize) -> String {
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

pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// How wide a terminal may draw it: never less than it does.
fn column(c: char) -> usize {
    match c {
        '…' | '█' | '▏' | '▒' | '─' | '━' | '×' => 1,
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
