//! As much of a terminal as is needed to see what stands on it.

/// What a terminal of some width shows after some output.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The last column is written; the next character goes to the next row.
    pending: bool,
}

impl Screen {
    pub(crate) fn after(output: &str, width: usize) -> Self {
        let mut screen = Self::default();
        let mut rest = output.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => screen.go(screen.row, 0),
                '\n' => screen.go(screen.row + 1, screen.column),
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "{output:?}");
                    let mut number = String::new();
                    let end = loop {
                        match rest.next() {
                            Some(c) if c.is_ascii_digit() => number.push(c),
                            // It was read in the middle.
                            None => return screen,
                            Some(end) => break end,
                        }
                    };
                    screen.escape(&number, end, output);
                }
                c => {
                    assert!(!c.is_control(), "{c:?} in {output:?}");
                    screen.put(c, width);
                }
            }
        }
        screen
    }

    fn escape(&mut self, number: &str, end: char, output: &str) {
        let column = if number == "2" { 0 } else { self.column };
        match end {
            'K' => {
                if let Some(row) = self.rows.get_mut(self.row) {
                    // A terminal at its last column erases that one.
                    row.truncate(column);
                }
                self.pending = false;
            }
            'A' => self.go(self.row - number.parse::<usize>().unwrap(), self.column),
            _ => panic!("unknown to the model: {end} in {output:?}"),
        }
    }

    fn go(&mut self, row: usize, column: usize) {
        (self.row, self.column, self.pending) = (row, column, false);
    }

    fn put(&mut self, c: char, width: usize) {
        if self.pending {
            self.go(self.row + 1, 0);
        }
        if self.rows.len() <= self.row {
            self.rows.resize(self.row + 1, Vec::new());
        }
        let row = &mut self.rows[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, ' ');
        }
        row[self.column] = c;
        if self.column + 1 == width {
            self.pending = true;
        } else {
            self.column += 1;
        }
    }

    /// The rows, without the blanks at their ends.
    pub(crate) fn rows(&self) -> Vec<String> {
        let text = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(text).collect()
    }

    pub(crate) fn last_row(&self) -> String {
        self.rows().pop().unwrap_or_default()
    }

    /// What is written next begins a row of its own.
    pub(crate) fn is_at_a_beginning(&self) -> bool {
        self.pending || self.column == 0 && self.rows.get(self.row).is_none_or(Vec::is_empty)
    }
}
