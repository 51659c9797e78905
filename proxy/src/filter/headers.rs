//! Header fields are removed, and added with values that have something of the request in them.

use std::io::Write;

use admin_api::{Part, Variable};

use crate::filter::subject::{Found, Subject};
use crate::filter::template::fill;
use crate::table::endpoint::Endpoint;
use crate::table::filter::headers::HeaderRules;
use crate::wire::sink::Sink;

/// Bytes of a usual value.
const USUAL_VALUE: usize = 64;

/// What a response has of its request, which is gone by then: the values of the variables of its
/// service's rules, one after the other.
#[derive(Debug, Default)]
pub(super) struct Captured {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Captured {
    pub(super) fn of(rules: &HeaderRules, subject: &Subject<'_>, found: &Found) -> Self {
        let mut captured = Self::default();
        for variable in &rules.of_request {
            subject.write(variable, found, &mut captured.text);
            captured.ends.push(captured.text.len());
        }
        captured
    }

    /// Writes what a variable stands for in a response, of this endpoint where it is from one.
    pub(super) fn write(
        &self,
        rules: &HeaderRules,
        variable: &Variable,
        endpoint: Option<&Endpoint>,
        to: &mut Vec<u8>,
    ) {
        match (variable, endpoint) {
            (Variable::Version, Some(endpoint)) => {
                to.extend_from_slice(endpoint.version.as_bytes());
            }
            // Memory takes whatever is written.
            (Variable::Endpoint, Some(endpoint)) => drop(write!(to, "{}", endpoint.target)),
            // A response of the proxy's own is from none.
            (Variable::Version | Variable::Endpoint, None) => {}
            _ => {
                let place = rules.of_request.iter().position(|one| one == variable);
                to.extend_from_slice(place.map_or(b"", |place| self.value(place)));
            }
        }
    }

    fn value(&self, place: usize) -> &[u8] {
        let start = match place {
            0 => 0,
            _ => self.ends[place - 1],
        };
        &self.text[start..self.ends[place]]
    }
}

/// Changes the fields of a head. `value` writes what a variable stands for. A value that comes out
/// empty is not written.
pub(super) fn apply(
    rules: &HeaderRules,
    to: &mut impl Sink,
    value: impl Fn(&Variable, &mut Vec<u8>),
) {
    if !rules.removed.is_empty() {
        to.take_out(&rules.removed);
    }
    let mut written = Vec::new();
    for (name, template) in &rules.added {
        if let [Part::Text(text)] = template.parts() {
            to.add(name.as_str().as_bytes(), &[text.as_bytes()]);
            continue;
        }
        written.clear();
        written.reserve(USUAL_VALUE);
        fill(template, &value, &mut written);
        // Around what was empty there may be spaces, which no field may begin or end with.
        let trimmed = written.trim_ascii();
        if !trimmed.is_empty() {
            to.add(name.as_str().as_bytes(), &[trimmed]);
        }
    }
}
