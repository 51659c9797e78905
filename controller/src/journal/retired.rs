//! Containers that get no new requests and wait for their drain receipt.

use rusqlite::params;

use super::Journal;
use crate::error::Result;

/// A container that is on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The container's name.
    pub name: String,
    /// The service it served.
    pub service: String,
    /// The version it served.
    pub version: String,
    /// Its address in the proxy's table; `None` where it was not running any more.
    pub address: Option<String>,
}

impl Journal {
    /// Records that these containers are on their way out. One that is there already stays as
    /// it is: it may have lost its address since.
    pub fn retire(&self, containers: &[Retired]) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for container in containers {
            transaction.execute(
                "INSERT OR IGNORE INTO retired (name, service, version, address)
                 VALUES (?, ?, ?, ?)",
                params![
                    container.name,
                    container.service,
                    container.version,
                    container.address
                ],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The containers of all services that are on their way out, by name.
    pub fn retired(&self) -> Result<Vec<Retired>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT name, service, version, address FROM retired ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(Retired {
                name: row.get(0)?,
                service: row.get(1)?,
                version: row.get(2)?,
                address: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The container is gone.
    pub fn forget_retired(&self, name: &str) -> Result<()> {
        self.lock()
            .execute("DELETE FROM retired WHERE name = ?", [name])?;
        Ok(())
    }
}
