//! What the tests of all keys have in common.

use crate::ServiceSpec;
use crate::strict::from_toml;

/// A service with this in its table is refused: for this field, with a message that has this.
#[track_caller]
pub(super) fn check_refused(keys: &str, field: &str, says: &str) {
    let text = format!("name = \"web\"\n{keys}\n");
    let error = from_toml::<ServiceSpec>(&text).and_then(|spec| spec.traffic.check());
    let error = error.expect_err(keys);
    assert_eq!(error.field.as_deref(), Some(field), "{error}");
    assert!(error.message.contains(says), "{error}");
}
