//! docs/operations.md has every metric of the proxy and every reason of its own responses, and no
//! other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::page::{read, root, sections};

const PAGE: &str = "docs/operations.md";

/// The texts of the sources below a folder.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// Every source of the proxy.
fn of_proxy() -> Vec<String> {
    let mut found = Vec::new();
    sources(&root().join("proxy/src"), &mut found);
    found
}

fn is_metric(text: &str) -> bool {
    let rest = text.strip_prefix("crossfade_").unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let sources = of_proxy();
    // A name is a whole string literal.
    let literals = sources.iter().flat_map(|text| text.split('"'));
    let known: BTreeSet<&str> = literals.filter(|text| is_metric(text)).collect();
    assert!(known.len() > 20, "{known:?}");
    let all = sections(&read(PAGE));
    let section = all.iter().find(|section| section.title == "Metrics");
    let documented = section.into_iter().flat_map(|section| section.names());
    let documented: BTreeSet<&str> = documented.filter(|name| is_metric(name)).collect();
    assert_eq!(documented, known, "{PAGE}");
}

/// The values of `crossfade_local_replies_total`'s label, which one function of the proxy has.
#[test]
fn the_page_has_every_reason_of_the_proxys_own_responses_and_no_other() {
    const FUNCTION: &str = "fn label(self) -> &'static str {";
    let sources = of_proxy();
    let bodies = sources.iter().filter_map(|text| {
        let (_, rest) = text.split_once(FUNCTION)?;
        rest.split("\n    }\n").next()
    });
    let literals = bodies.flat_map(|body| body.split('"').skip(1).step_by(2));
    let known: BTreeSet<&str> = literals.collect();
    assert!(known.len() > 20, "{known:?}");
    let all = sections(&read(PAGE));
    let section = all
        .iter()
        .find(|section| section.title == "The proxy's own responses");
    let rows = section.into_iter().flat_map(|section| &section.rows);
    let cells = rows.filter_map(|row| row.get(1));
    let documented: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(documented, known, "{PAGE}");
}
