//! The table, as Markdown, a line as soon as it is measured.

use std::fmt;

/// Something that was measured.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    /// In nanoseconds.
    Time(f64),
    Bytes(f64),
    Count(f64),
}

impl Figure {
    fn value(self) -> f64 {
        match self {
            Self::Time(value) | Self::Bytes(value) | Self::Count(value) => value,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Time(ns) if ns < 9.95 => write!(f, "{ns:.2} ns"),
            Self::Time(ns) if ns < 999.5 => write!(f, "{ns:.0} ns"),
            Self::Time(ns) if ns < 99_950.0 => write!(f, "{:.1} µs", ns / 1e3),
            Self::Time(ns) if ns < 999_500.0 => write!(f, "{:.0} µs", ns / 1e3),
            Self::Time(ns) if ns < 999.5e6 => write!(f, "{:.1} ms", ns / 1e6),
            Self::Time(ns) => write!(f, "{:.1} s", ns / 1e9),
            Self::Bytes(bytes) => write!(f, "{bytes:.0} B"),
            Self::Count(count) => write!(f, "{count:.0}"),
        }
    }
}

/// What winddown must reach.
#[derive(Clone, Copy)]
pub(crate) enum Must {
    /// So many times the peer's figure.
    Times(f64),
    /// This figure, whatever the peers do.
    Be(Figure),
    /// It is of interest, and that is all.
    Nothing,
}

/// A peer's side of a row, and what winddown must reach beside it.
pub(crate) type Beside<'a> = (&'a str, Figure, Must);

pub(crate) struct Table {
    missed: Vec<String>,
}

impl Table {
    pub(crate) fn begin() -> Self {
        println!(
            "| {:<42} | {:>9} | {:<36} | {:>9} | {:>6} | {:<8} |",
            "", "winddown", "beside", "", "ratio", "must"
        );
        println!(
            "|{:-<44}|----------:|{:-<38}|----------:|-------:|----------|",
            "", ""
        );
        Self { missed: Vec::new() }
    }

    /// A row, and a line for each peer in it.
    pub(crate) fn row(&mut self, what: &str, ours: Figure, peers: &[Beside<'_>]) {
        for (n, (peer, theirs, must)) in peers.iter().enumerate() {
            let (what_once, ours_once) = if n == 0 {
                (what, ours.to_string())
            } else {
                ("", String::new())
            };
            let ratio = ours.value() / theirs.value();
            let ratio_shown = if ratio.is_finite() {
                format!("{ratio:.2}")
            } else {
                String::new()
            };
            let must = self.judge(what, ours, ratio, *must);
            let theirs = theirs.to_string();
            println!(
                "| {what_once:<42} | {ours_once:>9} | {peer:<36} | {theirs:>9} | {ratio_shown:>6} | {must:<8} |"
            );
        }
    }

    /// A row without a peer.
    pub(crate) fn alone(&mut self, what: &str, ours: Figure, must: Must) {
        let must = self.judge(what, ours, f64::NAN, must);
        let ours = ours.to_string();
        println!(
            "| {what:<42} | {ours:>9} | {:<36} | {:>9} | {:>6} | {must:<8} |",
            "", "", ""
        );
    }

    fn judge(&mut self, what: &str, ours: Figure, ratio: f64, must: Must) -> String {
        let (reached, must) = match must {
            Must::Nothing => return String::new(),
            Must::Times(times) => (ratio <= times, times.to_string()),
            Must::Be(figure) => (ours.value() <= figure.value(), figure.to_string()),
        };
        if reached {
            return must;
        }
        self.missed.push(what.to_owned());
        format!("{must} !")
    }

    pub(crate) fn end(self) {
        if !self.missed.is_empty() {
            println!("\n! not reached in this run: {}", self.missed.join("; "));
        }
    }
}
