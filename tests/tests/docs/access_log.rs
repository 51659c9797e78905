//! docs/operations.md has every variable of the access log and no other.

use std::collections::BTreeSet;

use admin_api::LogVariable;

use crate::page::{read, sections};

#[test]
fn the_page_has_every_variable_of_the_access_log_and_no_other() {
    let all = sections(&read("docs/operations.md"));
    let section = all.iter().find(|section| section.title == "The access log");
    let names = section.into_iter().flat_map(|section| section.names());
    let documented: BTreeSet<&str> = names.filter_map(|name| name.strip_prefix('$')).collect();
    let mut known: BTreeSet<&str> = LogVariable::ALL.iter().map(|(_, name)| *name).collect();
    // Stands for any field.
    known.insert("http_NAME");
    assert_eq!(documented, known);
}
