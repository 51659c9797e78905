//! Templates with their values.

use admin_api::{Part, Template, Variable};

/// Writes a template with its values.
pub(super) fn fill(template: &Template, value: impl Fn(&Variable, &mut Vec<u8>), to: &mut Vec<u8>) {
    for part in template.parts() {
        match part {
            Part::Text(text) => to.extend_from_slice(text.as_bytes()),
            Part::Variable(variable) => value(variable, to),
        }
    }
}
