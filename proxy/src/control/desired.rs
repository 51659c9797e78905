//! Which services are wanted: by the config file, by the admin API, and who was last.
//!
//! The last writer wins, service by service. When the file is read again, only services whose
//! own text in it changed are replaced. What the admin API set survives a restart, and wins over
//! the file then too, unless that service's text in the file has changed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use admin_api::ServiceSpec;

use crate::control::saved::{Kept, Saved, SavedEntry};

/// Everything that is wanted, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// What is wanted now. `None`: the admin API took away what the file has.
    spec: Option<Arc<ServiceSpec>>,
    /// What the file had when it was last read.
    file: Option<Arc<ServiceSpec>>,
    /// Whether the admin API was the last writer.
    by_admin: bool,
}

impl Desired {
    /// What is wanted at the start: the file's services, and what was saved.
    pub(crate) fn at_start(file: &[ServiceSpec], saved: Saved) -> Self {
        let mut desired = Self::default();
        for (name, SavedEntry { spec, file }) in saved.services {
            desired.entries.insert(
                name,
                Entry {
                    spec,
                    file,
                    by_admin: true,
                },
            );
        }
        desired.read_file(file);
        desired
    }

    /// Takes up what the file has now.
    pub(crate) fn read_file(&mut self, file: &[ServiceSpec]) {
        let now: BTreeMap<&str, &ServiceSpec> =
            file.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        // Gone from the file: gone, unless only the admin API ever had it.
        self.entries
            .retain(|name, entry| entry.file.is_none() || now.contains_key(name.as_str()));
        for (name, spec) in now {
            let unchanged = self
                .entries
                .get(name)
                .is_some_and(|entry| entry.file.as_deref() == Some(spec));
            if !unchanged {
                let spec = Arc::new(spec.clone());
                let entry = Entry {
                    spec: Some(spec.clone()),
                    file: Some(spec),
                    by_admin: false,
                };
                self.entries.insert(name.to_owned(), entry);
            }
        }
    }

    /// The admin API sets a service, or (`None`) takes it away.
    pub(crate) fn set(&mut self, name: &str, spec: Option<ServiceSpec>) {
        let file = self.entries.get(name).and_then(|entry| entry.file.clone());
        if spec.is_none() && file.is_none() {
            self.entries.remove(name);
        } else {
            self.entries.insert(
                name.to_owned(),
                Entry {
                    spec: spec.map(Arc::new),
                    file,
                    by_admin: true,
                },
            );
        }
    }

    /// Whether the admin API was the last to write this service.
    pub(crate) fn is_by_admin(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.by_admin)
    }

    /// Neither the file nor the admin API has this service any more.
    pub(crate) fn forget(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Sets a service as another process has it: what is wanted, what the file had, and whether
    /// the admin API was the last to write it.
    pub(crate) fn adopt(
        &mut self,
        name: &str,
        spec: Option<ServiceSpec>,
        file: Option<ServiceSpec>,
        by_admin: bool,
    ) {
        let entry = Entry {
            spec: spec.map(Arc::new),
            file: file.map(Arc::new),
            by_admin,
        };
        self.entries.insert(name.to_owned(), entry);
    }

    /// What the file had of this service when it was last read.
    pub(crate) fn in_file(&self, name: &str) -> Option<&ServiceSpec> {
        self.entries.get(name)?.file.as_deref()
    }

    /// What the file has and the admin API took away.
    pub(crate) fn taken_away(&self) -> impl Iterator<Item = (&String, &ServiceSpec)> {
        let gone = self.entries.iter().filter(|(_, e)| e.spec.is_none());
        gone.filter_map(|(name, entry)| Some((name, entry.file.as_deref()?)))
    }

    /// Leaves only services with these names.
    pub(crate) fn keep_only(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }

    /// The service of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&ServiceSpec> {
        self.entries.get(name)?.spec.as_deref()
    }

    /// Every service, by name.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &ServiceSpec> {
        self.entries
            .values()
            .filter_map(|entry| entry.spec.as_deref())
    }

    /// What is to be kept on disk, at this generation of the table.
    pub(crate) fn to_save(&self, generation: u64) -> Saved {
        let by_admin = self.entries.iter().filter(|(_, entry)| entry.by_admin);
        let services = by_admin.map(|(name, entry)| {
            let entry = SavedEntry {
                spec: entry.spec.clone(),
                file: entry.file.clone(),
            };
            (name.clone(), entry)
        });
        Saved::new(generation, services.collect())
    }

    /// What is to be kept of one service.
    pub(super) fn kept(&self, name: &str) -> Kept {
        let entry = self.entries.get(name).filter(|entry| entry.by_admin);
        Kept {
            spec: entry.and_then(|entry| entry.spec.clone()),
            file: entry.and_then(|entry| entry.file.clone()),
            hold: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use admin_api::strict::from_json;

    use super::*;

    fn spec(name: &str, prefix: &str) -> ServiceSpec {
        let json = serde_json::json!({"name": name, "path_prefix": prefix});
        from_json(json.to_string().as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(desired: &Desired, want: &[(&str, &str)]) {
        let have: Vec<_> = desired
            .specs()
            .map(|spec| (spec.name.as_str(), spec.path_prefix.as_str()))
            .collect();
        assert_eq!(have, want);
    }

    #[test]
    fn only_services_whose_own_text_changed_are_replaced() {
        let mut desired = Desired::at_start(&[spec("a", "/1"), spec("b", "/1")], Saved::default());
        desired.set("a", Some(spec("a", "/admin")));
        desired.set("c", Some(spec("c", "/admin")));
        desired.read_file(&[spec("a", "/1"), spec("b", "/2")]);
        check(&desired, &[("a", "/admin"), ("b", "/2"), ("c", "/admin")]);
        desired.read_file(&[spec("a", "/3"), spec("b", "/2")]);
        check(&desired, &[("a", "/3"), ("b", "/2"), ("c", "/admin")]);
        desired.read_file(&[spec("b", "/2")]);
        check(&desired, &[("b", "/2"), ("c", "/admin")]);
    }

    #[test]
    fn what_the_admin_api_set_survives_a_restart_unless_the_text_has_changed_since() {
        let file = [spec("a", "/1"), spec("b", "/1"), spec("d", "/1")];
        let mut desired = Desired::at_start(&file, Saved::default());
        desired.set("a", Some(spec("a", "/admin")));
        desired.set("b", Some(spec("b", "/admin")));
        desired.set("c", Some(spec("c", "/admin")));
        desired.set("d", None);
        let saved = desired.to_save(1);

        let restarted = Desired::at_start(&file, saved.clone());
        check(
            &restarted,
            &[("a", "/admin"), ("b", "/admin"), ("c", "/admin")],
        );
        let edited = Desired::at_start(&[spec("a", "/1"), spec("b", "/2")], saved);
        check(&edited, &[("a", "/admin"), ("b", "/2"), ("c", "/admin")]);
    }

    #[test]
    fn what_is_only_in_the_file_is_not_saved() {
        let desired = Desired::at_start(&[spec("a", "/1")], Saved::default());
        assert!(desired.to_save(1).services.is_empty());
    }
}
