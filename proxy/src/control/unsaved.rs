//! What the state file does not have yet, and what it gets.

use std::collections::BTreeSet;

use super::Control;
use crate::control::saved::{Saved, SavedChanges};
use crate::control::state_file::StateSource;
use crate::table::Table;
use crate::table::cookie_key::CookieKey;

/// At a start, the generations up to the next multiple of this may have been used by tables that
/// the process before had not saved.
const GENERATIONS: u64 = 1_000;

/// What has changed since it was last taken to be saved.
#[derive(Debug)]
pub(super) enum Unsaved {
    /// Anything.
    All,
    /// These services.
    Services(BTreeSet<String>),
}

/// The first generation that no earlier process can have had, where it has saved `generation`.
pub(super) fn generation_after(generation: u64) -> u64 {
    (generation / GENERATIONS + 1) * GENERATIONS
}

impl Unsaved {
    /// What is kept of this service has changed.
    pub(super) fn add(&mut self, service: &str) {
        if let Self::Services(services) = self {
            services.insert(service.to_owned());
        }
    }

    /// Gives what has changed, and begins anew. `None`: anything may have.
    fn take(&mut self) -> Option<BTreeSet<String>> {
        match std::mem::replace(self, Self::Services(BTreeSet::new())) {
            Self::All => None,
            Self::Services(services) => Some(services),
        }
    }
}

impl StateSource for Control {
    fn all(&self) -> Saved {
        let mut wanted = self.wanted();
        wanted.unsaved.take();
        let table = self.table.load();
        let mut saved = wanted.desired.to_save(table.generation);
        if table.sets_cookies() {
            saved.cookie_key = self.cookie_key_of(&table);
        }
        saved.with_holds(&wanted.holds)
    }

    fn changes(&self) -> Option<SavedChanges> {
        let mut wanted = self.wanted();
        let changed = wanted.unsaved.take()?;
        let table = self.table.load();
        let sets_cookie = |name: &String| {
            let service = table.service(name);
            service.is_some_and(|service| service.definition.sets_cookie())
        };
        let needs_key = changed.iter().any(sets_cookie);
        let services = changed.into_iter().map(|name| {
            let mut kept = wanted.desired.kept(&name);
            kept.hold = wanted.holds.get(&name).map(|hold| hold.spec().clone());
            (name, kept)
        });
        Some(SavedChanges {
            generation: table.generation,
            services: services.collect(),
            cookie_key: self.cookie_key_of(&table).filter(|_| needs_key),
        })
    }
}

impl Control {
    /// From here on the state file is this process's to write. When this returns, the file has
    /// everything, and the generation that the next process goes on after.
    pub(crate) async fn begin_saving(&self) {
        let Some(state) = &self.state else { return };
        state.open();
        self.save_generation(self.table.load().generation).await;
    }

    /// Saves that the table has this generation, which no call has asked for.
    pub(super) async fn save_generation(&self, generation: u64) {
        if self.wanted().skipped {
            return;
        }
        // An error was said so, and the next change says it to its caller.
        let _ = self.saved(generation).await;
    }

    /// The key of sticky cookies, where it is not in a file of its own.
    fn cookie_key_of(&self, table: &Table) -> Option<CookieKey> {
        (!self.has_key_file).then(|| table.cookie_key.clone())
    }

    /// Leaves the state file as releases before this one read it, too.
    pub(crate) async fn settle(&self) {
        if let Some(state) = &self.state {
            state.settle(self).await;
        }
    }
}
