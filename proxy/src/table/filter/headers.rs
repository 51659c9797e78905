//! Which header fields of a message are removed and added.

use admin_api::{HeaderRules as Spec, Template, Variable};
use http::HeaderName;

/// The rules of one direction.
#[derive(Debug, Default)]
pub(crate) struct HeaderRules {
    /// Those that are set are among them.
    pub(crate) removed: Vec<HeaderName>,
    pub(crate) added: Vec<(HeaderName, Template)>,
    /// What the values have of a request, each once.
    pub(crate) of_request: Vec<Variable>,
}

impl HeaderRules {
    /// Of rules that were checked.
    pub(super) fn of(spec: &Spec) -> Self {
        let name = |name: &String| HeaderName::try_from(name).ok();
        let mut rules = Self {
            removed: spec.remove.iter().filter_map(name).collect(),
            ..Self::default()
        };
        rules.removed.extend(spec.set.keys().filter_map(name));
        for (written, template) in spec.set.iter().chain(&spec.add) {
            if let Some(name) = name(written) {
                rules.add(name, template.clone());
            }
        }
        rules
    }

    /// Has a field be the value of a variable, whatever else is said of it.
    pub(super) fn set(&mut self, name: &HeaderName, variable: Variable) {
        self.added.retain(|(added, _)| added != name);
        if !self.removed.contains(name) {
            self.removed.push(name.clone());
        }
        self.add(name.clone(), Template::of(variable));
    }

    fn add(&mut self, name: HeaderName, template: Template) {
        for variable in template.variables() {
            if !variable.is_of_response() && !self.of_request.contains(variable) {
                self.of_request.push(variable.clone());
            }
        }
        self.added.push((name, template));
    }

    /// Whether a value has this variable of a request.
    pub(super) fn has(&self, variable: &Variable) -> bool {
        self.of_request.contains(variable)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}
