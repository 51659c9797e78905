//! Which proxy is in force, and which one is to take over from it.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Journal, from_json, to_json};
use crate::error::Result;

/// The proxy that is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyRecord {
    /// How many have taken over since `up`.
    pub number: u32,
    /// Its image, or program; `None`: the manifest's.
    pub image: Option<String>,
    /// Why the engine publishes its ports; `None`: it has its sockets from the controller.
    pub published: Option<String>,
    /// What is to take over from it, once that was begun.
    pub upgrade: Option<ProxyUpgrade>,
}

/// An upgrade that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyUpgrade {
    /// The next one's image, or program; `None`: the manifest's.
    pub image: Option<String>,
    /// The process that served before: one that reports another has taken over.
    pub before: String,
}

impl Journal {
    /// The proxy that is in force.
    pub fn proxy(&self) -> Result<ProxyRecord> {
        let connection = self.lock();
        let found = connection
            .query_row(
                "SELECT number, image, upgrade, published FROM proxy",
                [],
                |row| {
                    let upgrade: Option<String> = row.get(2)?;
                    Ok(ProxyRecord {
                        number: row.get(0)?,
                        image: row.get(1)?,
                        published: row.get(3)?,
                        upgrade: upgrade.as_deref().map(from_json).transpose()?,
                    })
                },
            )
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    /// Records it.
    pub fn set_proxy(&self, proxy: &ProxyRecord) -> Result<()> {
        Ok(write_proxy(&self.lock(), proxy)?)
    }
}

pub(super) fn write_proxy(connection: &Connection, proxy: &ProxyRecord) -> rusqlite::Result<()> {
    let upgrade = proxy.upgrade.as_ref().map(to_json).transpose()?;
    connection.execute(
        "INSERT OR REPLACE INTO proxy (one, number, image, upgrade, published)
         VALUES (1, ?, ?, ?, ?)",
        params![proxy.number, proxy.image, upgrade, proxy.published],
    )?;
    Ok(())
}
