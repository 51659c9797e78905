//! The examples of docs/admin-api.md are what the admin API sends, field by field.

use ::admin_api::{DrainReceipt, ErrorBody, ServiceStats, ServiceView, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::page::read;

const PAGE: &str = "docs/admin-api.md";

/// The JSON examples of the page, in order.
fn examples() -> Vec<String> {
    let page = read(PAGE);
    let blocks = page.split("```json\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

/// A field that has another name in the code is missing in what is read and written again.
#[track_caller]
fn check<T: DeserializeOwned + Serialize>(example: &str) {
    let want: Value =
        serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
    let read: T =
        serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
    let got = serde_json::to_value(&read).unwrap();
    assert_eq!(got, want, "{PAGE}");
}

#[test]
fn every_example_is_of_its_type() {
    let examples = examples();
    let [error, service, receipt, stats, status] = examples.as_slice() else {
        panic!("{PAGE} has {} examples", examples.len());
    };
    check::<ErrorBody>(error);
    check::<ServiceView>(service);
    check::<DrainReceipt>(receipt);
    check::<ServiceStats>(stats);
    check::<Status>(status);
}
