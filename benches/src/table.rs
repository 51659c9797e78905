//! Text tables: plain for a terminal, and Markdown.

/// A table. The first column is text, the others are numbers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Plain text: aligned columns with two spaces between them.
    pub(crate) fn plain(&self) -> String {
        self.lines("  ", "", None)
    }

    /// Markdown, also aligned.
    pub(crate) fn markdown(&self) -> String {
        let rule = |(column, width): (usize, &usize)| match column {
            0 => format!("|{}|", "-".repeat(width + 2)),
            _ => format!("{}:|", "-".repeat(width + 1)),
        };
        let rule: String = self.widths().iter().enumerate().map(rule).collect();
        self.lines(" | ", "|", Some(&rule))
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            for (column, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        widths
    }

    fn lines(&self, between: &str, around: &str, rule: Option<&str>) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (number, row) in std::iter::once(&self.header).chain(&self.rows).enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            let line = cells.join(between);
            match around {
                "" => text.push_str(line.trim_end()),
                _ => text.push_str(&format!("{around} {line} {around}")),
            }
            text.push('\n');
            if let (0, Some(rule)) = (number, rule) {
                text.push_str(rule);
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["proxy", "µs"]);
        table.row(vec!["nginx".into(), "18.10".into()]);
        table.row(vec!["a".into(), "7".into()]);
        table
    }

    #[test]
    fn text_is_on_the_left_and_numbers_on_the_right() {
        assert_eq!(
            table().plain(),
            "proxy     µs\nnginx  18.10\na          7\n"
        );
    }

    #[test]
    fn markdown_has_the_same_widths() {
        assert_eq!(
            table().markdown(),
            "| proxy |    µs |\n|-------|------:|\n| nginx | 18.10 |\n| a     |     7 |\n"
        );
    }
}
