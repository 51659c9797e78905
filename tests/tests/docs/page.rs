//! Markdown, as far as these tests need it: headings, and the tables below each of them.

use std::fs;
use std::path::{Path, PathBuf};

/// A heading, and the rows of the tables between it and the next one.
#[derive(Debug)]
pub(crate) struct Section {
    /// 1 for `#`, 2 for `##`.
    pub(crate) level: usize,
    pub(crate) title: String,
    /// The cells of each row, without the head of its table.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Section {
    /// What stands in backticks in the first column.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let first = self.rows.iter().filter_map(|row| row.first());
        first.flat_map(|cell| cell.split('`').skip(1).step_by(2))
    }
}

/// The top folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a file of the repository.
pub(crate) fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a page that are no code.
pub(crate) fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The sections of a page.
pub(crate) fn sections(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in prose(page) {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if level > 0 && line[level..].starts_with(' ') {
            let title = line[level..].trim().to_owned();
            let rows = Vec::new();
            sections.push(Section { level, title, rows });
        } else if let (Some(section), Some(row)) = (sections.last_mut(), line.strip_prefix('|')) {
            if row.starts_with("---") {
                // What came before is the head.
                section.rows.pop();
            } else {
                let cells = row.trim_end_matches('|').split('|');
                let cells = cells.map(|cell| cell.trim().to_owned());
                section.rows.push(cells.collect());
            }
        }
    }
    sections
}

#[test]
fn sections_have_the_rows_of_their_tables_and_code_is_left_out() {
    let page = "# A\n\n| key | type |\n|---|---|\n| `a`, `b` | x |\n```\n# no\n```\n## B\n| k |\n|---|\n| `c` |\n";
    let found = sections(page);
    let names: Vec<Vec<&str>> = found.iter().map(|one| one.names().collect()).collect();
    assert_eq!(names, [vec!["a", "b"], vec!["c"]]);
    assert_eq!((found[1].level, &*found[1].title), (2, "B"));
}
