//! What is kept on disk for the next start: the services that the admin API was the last to write,
//! those that are held, and the generation of the table that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use admin_api::{HoldSpec, ServiceSpec};
use serde::{Deserialize, Serialize};

use crate::table::cookie_key::CookieKey;
use crate::table::hold::Hold;

/// The format that this release writes and reads.
const FORMAT: u32 = 1;
/// The generation is kept as the name of an entry that wants nothing. Releases that know no
/// generation refuse a key of its own, and pass over such an entry. No service has a name with a
/// space.
const GENERATION: &str = "generation ";

/// All that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub(crate) struct Saved {
    /// Of the table; 0 where a release wrote it that did not keep it.
    pub(crate) generation: u64,
    pub(super) services: BTreeMap<String, SavedEntry>,
    /// Services that are held.
    holds: BTreeMap<String, HoldSpec>,
    /// Of sticky cookies, where a service has any: a release that does not know the key reads the
    /// state of those that need none.
    pub(crate) cookie_key: Option<CookieKey>,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    services: BTreeMap<String, SavedEntry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    holds: BTreeMap<String, HoldSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie_key: Option<CookieKey>,
}

/// What the admin API set a service to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedEntry {
    #[serde(default, with = "shared")]
    pub(super) spec: Option<Arc<ServiceSpec>>,
    #[serde(default, with = "shared")]
    pub(super) file: Option<Arc<ServiceSpec>>,
}

/// What has changed of it: all that is kept of each of these services from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedChanges {
    pub(crate) generation: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) services: BTreeMap<String, Kept>,
    /// Where one of these services needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cookie_key: Option<CookieKey>,
}

/// All that is kept of one service. Where there is neither `spec` nor `file`, the admin API was not
/// the last to write it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    #[serde(default, with = "shared", skip_serializing_if = "Option::is_none")]
    pub(super) spec: Option<Arc<ServiceSpec>>,
    #[serde(default, with = "shared", skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<Arc<ServiceSpec>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hold: Option<HoldSpec>,
}

impl Saved {
    pub(super) fn new(generation: u64, services: BTreeMap<String, SavedEntry>) -> Self {
        Self {
            generation,
            services,
            holds: BTreeMap::new(),
            cookie_key: None,
        }
    }

    /// The same, with services that are held.
    pub(crate) fn with_holds(self, holds: &BTreeMap<String, Arc<Hold>>) -> Self {
        let holds = holds.iter();
        let holds = holds.map(|(name, hold)| (name.clone(), hold.spec().clone()));
        Self {
            holds: holds.collect(),
            ..self
        }
    }

    /// Services that are held from the start on.
    pub(crate) fn holds(&self) -> BTreeMap<String, Arc<Hold>> {
        let holds = self.holds.iter();
        let holds = holds.map(|(name, spec)| (name.clone(), Hold::new(spec.clone())));
        holds.collect()
    }

    /// Takes in what has changed since.
    pub(super) fn take_in(&mut self, changes: SavedChanges) {
        self.generation = changes.generation;
        self.cookie_key = changes.cookie_key.or(self.cookie_key.take());
        for (name, Kept { spec, file, hold }) in changes.services {
            match hold {
                Some(hold) => drop(self.holds.insert(name.clone(), hold)),
                None => drop(self.holds.remove(&name)),
            }
            if spec.is_none() && file.is_none() {
                self.services.remove(&name);
            } else {
                self.services.insert(name, SavedEntry { spec, file });
            }
        }
    }
}

impl From<Saved> for File {
    fn from(saved: Saved) -> Self {
        let mut services = saved.services;
        if saved.generation > 0 {
            let name = format!("{GENERATION}{}", saved.generation);
            services.insert(name, SavedEntry::default());
        }
        Self {
            format: FORMAT,
            services,
            holds: saved.holds,
            cookie_key: saved.cookie_key,
        }
    }
}

impl TryFrom<File> for Saved {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        if file.format != FORMAT {
            return Err("another release wrote it in an unknown format".into());
        }
        let mut saved = Self::new(0, file.services);
        (saved.holds, saved.cookie_key) = (file.holds, file.cookie_key);
        let number = |name: &String| name.strip_prefix(GENERATION)?.parse::<u64>().ok();
        saved.generation = saved.services.keys().filter_map(number).max().unwrap_or(0);
        saved.services.retain(|name, _| number(name).is_none());
        Ok(saved)
    }
}

/// A service that is shared with what is wanted: a snapshot of ten thousand copies none of them.
mod shared {
    use std::sync::Arc;

    use admin_api::ServiceSpec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        spec: &Option<Arc<ServiceSpec>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        spec.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<ServiceSpec>>, D::Error> {
        let spec = Option::<ServiceSpec>::deserialize(deserializer)?;
        Ok(spec.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_know_no_generation_read_the_rest() {
        /// What those releases read.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Before {
            format: u32,
            services: BTreeMap<String, EntryBefore>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct EntryBefore {
            spec: Option<ServiceSpec>,
            file: Option<ServiceSpec>,
        }
        let spec: ServiceSpec = admin_api::strict::from_json(br#"{"name":"web"}"#).unwrap();
        let entry = SavedEntry {
            spec: Some(Arc::new(spec.clone())),
            file: None,
        };
        let saved = Saved::new(4711, [("web".to_owned(), entry)].into());
        let text = serde_json::to_vec(&saved).unwrap();
        let mut before: Before = admin_api::strict::from_json(&text).unwrap();
        let web = before.services.remove("web").unwrap();
        assert_eq!((web.spec, web.file), (Some(spec), None));
        let wants_nothing = |one: &EntryBefore| one.spec.is_none() && one.file.is_none();
        assert!(before.format == 1 && before.services.values().all(wants_nothing));

        let read: Saved = admin_api::strict::from_json(&text).unwrap();
        assert_eq!(read, saved);
    }
}
