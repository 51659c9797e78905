//! docs/config.md has every key of both config files and no other. The code lists its keys in the
//! error about a key that it does not know.

use std::collections::BTreeSet;

use controller::manifest::Manifest;
use proxy::Config;

use crate::page::{Section, read, sections};

const PAGE: &str = "docs/config.md";
/// A key that no table has, and that looks like none.
const UNKNOWN: &str = "zzzzzzzzzzzz";
/// Stands for the label of a version.
const LABEL: &str = "LABEL";

/// The part of the page about one file.
struct Half {
    /// The tables that it documents.
    tables: Vec<Table>,
    /// Reads the file; the message of its error.
    check: fn(&str) -> Option<String>,
}

struct Table {
    /// `services.health`; empty for the top level.
    path: String,
    /// Whether it is written `[[…]]`.
    is_array: bool,
    keys: BTreeSet<String>,
}

impl Half {
    fn of(heading: &str, check: fn(&str) -> Option<String>) -> Self {
        let page = read(PAGE);
        let all = sections(&page);
        let begin = all.iter().position(|one| one.title == heading);
        let begin = begin.unwrap_or_else(|| panic!("{PAGE} has no section `{heading}`"));
        let half = all.iter().skip(begin + 1).take_while(|one| one.level > 2);
        let tables = half.filter_map(Table::of).collect();
        Self { tables, check }
    }

    fn table(&self, path: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.path == path)
    }

    /// The keys that the code knows in a table, by what it says of one that it does not know;
    /// `None` where that is not a table with fixed keys.
    fn known(&self, text: &str) -> Option<BTreeSet<String>> {
        let message = (self.check)(text)?;
        let listed = message.strip_prefix(&format!("unknown field `{UNKNOWN}`"))?;
        let listed = listed.split("; did you mean").next().unwrap_or_default();
        let names = listed.split('`').skip(1).step_by(2);
        Some(names.map(str::to_owned).collect())
    }

    /// A file with one line in that table.
    fn file(&self, table: &Table, line: &str) -> String {
        let mut text = String::new();
        for (dot, _) in table.path.match_indices('.') {
            let outer = &table.path[..dot];
            if self.table(outer).is_some_and(|outer| outer.is_array) {
                text.push_str(&format!("[[{outer}]]\n"));
            }
        }
        match (table.path.as_str(), table.is_array) {
            ("", _) => {}
            (path, true) => text.push_str(&format!("[[{path}]]\n")),
            (path, false) => text.push_str(&format!("[{path}]\n")),
        }
        text.push_str(line);
        text.push('\n');
        text
    }

    /// Where the code has a table inside this one at `key`: its path, and its keys.
    fn inner(&self, table: &Table, key: &str) -> Option<(String, BTreeSet<String>)> {
        let path = match table.path.as_str() {
            "" => key.to_owned(),
            outer => format!("{outer}.{key}"),
        };
        let probe = |value: String| self.known(&self.file(table, &format!("{key} = {value}")));
        let one = probe(format!("{{ {UNKNOWN} = 1 }}"));
        let one = one.or_else(|| probe(format!("[{{ {UNKNOWN} = 1 }}]")));
        if let Some(keys) = one {
            return Some((path, keys));
        }
        let of_each = probe(format!("{{ {LABEL} = {{ {UNKNOWN} = 1 }} }}"))?;
        Some((format!("{path}.{LABEL}"), of_each))
    }
}

impl Table {
    /// The table that a section is about: its title is the table's header in backticks.
    fn of(section: &Section) -> Option<Self> {
        let title = section.title.trim_matches('`');
        let keys = section.names().map(str::to_owned).collect();
        if title == "top level" {
            let (path, is_array) = (String::new(), false);
            return Some(Self {
                path,
                is_array,
                keys,
            });
        }
        let inner = title.strip_prefix('[')?.strip_suffix(']')?;
        let array = inner
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'));
        Some(Self {
            path: array.unwrap_or(inner).to_owned(),
            is_array: array.is_some(),
            keys,
        })
    }
}

fn of_proxy() -> Half {
    Half::of("The proxy's config file", |text| {
        Config::parse(text).err().map(|error| error.message)
    })
}

fn of_manifest() -> Half {
    Half::of("The manifest", |text| {
        Manifest::parse(text).err().map(|error| error.message)
    })
}

/// Every table of the half has the keys of the code. `shared`: where a table may be documented in
/// place of this half, with the same keys.
#[track_caller]
fn check(half: &Half, shared: Option<&Half>) {
    assert!(half.tables.len() > 8, "{} tables", half.tables.len());
    for table in &half.tables {
        let text = half.file(table, &format!("{UNKNOWN} = 1"));
        let known = half.known(&text);
        let known = known.unwrap_or_else(|| panic!("{PAGE}: there is no table [{}]", table.path));
        assert_eq!(table.keys, known, "{PAGE}: the keys of [{}]", table.path);
        for key in &table.keys {
            let Some((path, keys)) = half.inner(table, key) else {
                continue;
            };
            let documented = half.table(&path);
            let documented = documented.or_else(|| shared.and_then(|other| other.table(&path)));
            let documented =
                documented.unwrap_or_else(|| panic!("{PAGE} has no section about [{path}]"));
            assert_eq!(documented.keys, keys, "{PAGE}: the keys of [{path}]");
        }
    }
}

/// Every documented key is in the complete example: set, or set or named in a comment.
#[track_caller]
fn check_example(half: &Half, example: &str) {
    let text = read(example);
    for table in &half.tables {
        for key in &table.keys {
            let has = text.lines().any(|line| mentions(line, key));
            assert!(has, "{example} lacks `{key}` of [{}]", table.path);
        }
    }
}

/// Whether a line sets the key, is the header of its table, or names it in backticks.
fn mentions(line: &str, key: &str) -> bool {
    if line.contains(&format!("`{key}`")) {
        return true;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(key).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + key.len()..]);
        let begins = !before.ends_with(is_name);
        let is_header = before.trim_start_matches(['#', ' ']).starts_with('[');
        begins && (after.starts_with(" = ") || is_header && after.starts_with([']', '.']))
    })
}

#[test]
fn the_page_has_every_key_of_the_proxys_config_and_no_other() {
    check(&of_proxy(), None);
}

#[test]
fn the_page_has_every_key_of_the_manifest_and_no_other() {
    check(&of_manifest(), Some(&of_proxy()));
}

#[test]
fn the_examples_have_every_key_of_the_page() {
    check_example(&of_proxy(), "config/proxy.toml");
    check_example(&of_manifest(), "config/crossfade.toml");
}

#[test]
fn a_key_is_found_where_it_is_set_and_not_in_a_word() {
    assert!(mentions("# bake = \"5m\"", "bake"));
    assert!(mentions("[[services.endpoints]]", "endpoints"));
    assert!(mentions("[services.versions.\"2.0.0\"]", "versions"));
    assert!(mentions("health = { path = \"/\" }", "path"));
    assert!(!mentions("# hard_bake = \"5m\"", "bake"));
    assert!(!mentions("# the bake of a version", "bake"));
}
