//! docs/operations.md has every metric of the proxy, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::page::{read, root, sections};

const PAGE: &str = "docs/operations.md";

/// The names of metrics in the sources below a folder: they are whole string literals.
fn in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            in_sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let literals = text.split('"').filter(|part| is_metric(part));
            found.extend(literals.map(str::to_owned));
        }
    }
}

fn is_metric(text: &str) -> bool {
    let rest = text.strip_prefix("crossfade_").unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let mut known = BTreeSet::new();
    in_sources(&root().join("proxy/src"), &mut known);
    assert!(known.len() > 20, "{known:?}");
    let all = sections(&read(PAGE));
    let section = all.iter().find(|section| section.title == "Metrics");
    let documented = section.into_iter().flat_map(|section| section.names());
    let documented = documented.filter(|name| is_metric(name)).map(str::to_owned);
    assert_eq!(documented.collect::<BTreeSet<_>>(), known, "{PAGE}");
}
