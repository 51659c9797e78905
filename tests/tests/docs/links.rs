//! Every link of the documentation to a file of the repository leads to one, and to a heading that
//! is there.

use std::collections::HashMap;
use std::path::Path;

use crate::page::{prose, read, root, sections};

const PAGES: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benches/README.md",
    "docs/admin-api.md",
    "docs/config.md",
    "docs/operations.md",
    "docs/rollouts.md",
];

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let anchor = |title: &str| {
        let kept = title.to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        let kept = kept.collect::<String>().replace(' ', "-");
        let count = seen.entry(kept.clone()).or_default();
        *count += 1;
        match *count {
            1 => kept,
            n => format!("{kept}-{}", n - 1),
        }
    };
    let titles = sections(page).into_iter().map(|section| section.title);
    let mut anchor = anchor;
    titles.map(|title| anchor(&title)).collect()
}

/// What the links of a page lead to.
fn targets(page: &str) -> Vec<String> {
    let text: Vec<&str> = prose(page).collect();
    let text = text.join("\n");
    let links = text.split("](").skip(1);
    links
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn check(page: &str, target: &str) {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let path = match file {
        "" => Path::new(page).to_owned(),
        file => folder.join(file),
    };
    let there = root().join(&path).exists();
    assert!(there, "{page}: there is no {}", path.display());
    if !anchor.is_empty() {
        let all = anchors(&read(&path.to_string_lossy()));
        let found = all.iter().any(|one| one == anchor);
        assert!(found, "{page}: {target} leads to no heading; {all:?}");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    for page in PAGES {
        for target in targets(&read(page)) {
            if !target.contains("://") {
                check(page, &target);
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn anchors_are_those_of_github() {
    let page = "# A\n## `[[services.endpoints]]`\n## After a crash\n## A\n";
    let want = ["a", "servicesendpoints", "after-a-crash", "a-1"];
    assert_eq!(anchors(page), want);
}
