//! What is wanted: the manifest, the services, their versions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use admin_api::MaintenanceSpec;
use rusqlite::{Connection, OptionalExtension, params};

use super::proxy::write_proxy;
use super::{
    Applied, Journal, NewVersion, ProxyRecord, RequestedService, ServiceRecord, Split,
    VersionRecord, corrupt, from_json, to_json,
};
use crate::clock::Millis;
use crate::error::{Error, Result};

impl Journal {
    /// The manifest that `up` was given last; `None` where nothing is up.
    pub fn applied(&self) -> Result<Option<Applied>> {
        let connection = self.lock();
        let found = connection
            .query_row(
                "SELECT text, path, runtime, boot, kept, project FROM applied",
                [],
                |row| {
                    let path: String = row.get(1)?;
                    let runtime: String = row.get(2)?;
                    Ok(Applied {
                        text: row.get(0)?,
                        path: PathBuf::from(path),
                        runtime: from_json(&runtime)?,
                        boot: row.get(3)?,
                        kept: from_json(&row.get::<_, String>(4)?)?,
                        project: row.get(5)?,
                    })
                },
            )
            .optional()?;
        Ok(found)
    }

    /// Records the manifest.
    pub fn apply(&self, applied: &Applied, at: Millis) -> Result<()> {
        Ok(write_applied(&self.lock(), applied, at)?)
    }

    /// The containers were seen in this start of the machine.
    pub fn set_boot(&self, boot: &str) -> Result<()> {
        self.lock().execute("UPDATE applied SET boot = ?", [boot])?;
        Ok(())
    }

    /// Nothing is wanted any more. What was done stays in the history.
    pub fn clear(&self, why: &str, at: Millis) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "UPDATE rollouts SET phase = 'rolled-back', why = coalesce(why, ?1), ended = ?2
             WHERE ended IS NULL",
            params![why, at],
        )?;
        transaction.execute_batch(
            "DELETE FROM services; DELETE FROM retired; DELETE FROM applied; DELETE FROM proxy;",
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Every service, by name.
    pub fn services(&self) -> Result<Vec<ServiceRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT name, stable, previous, replicas, split, asked, maintenance FROM services
             ORDER BY name",
        )?;
        let rows = statement.query_map([], |row| {
            let split: String = row.get(4)?;
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get::<_, Option<i64>>(2)?,
                row.get(3)?,
                split,
                row.get::<_, Option<String>>(5)?,
                row.get::<_, Option<String>>(6)?,
            ))
        })?;
        let mut services = Vec::new();
        for row in rows {
            let (name, stable, previous, replicas, split, requested, maintenance) = row?;
            services.push(ServiceRecord {
                name,
                stable: version(&connection, stable)?,
                previous: previous.map(|id| version(&connection, id)).transpose()?,
                replicas,
                split: from_json(&split)?,
                requested: requested.as_deref().map(from_json).transpose()?,
                maintenance: maintenance.as_deref().map(from_json).transpose()?,
            });
        }
        Ok(services)
    }

    /// One service.
    pub fn service(&self, name: &str) -> Result<Option<ServiceRecord>> {
        Ok(self
            .services()?
            .into_iter()
            .find(|service| service.name == name))
    }

    /// Records a new service whose first version is `first`.
    pub fn add_service(&self, first: &NewVersion, replicas: u32, at: Millis) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let id = add_version(&transaction, first, at)?;
        let split = Split::from([(first.version.clone(), 100)]);
        transaction.execute(
            "INSERT INTO services (name, stable, previous, replicas, split)
             VALUES (?, ?, NULL, ?, ?)",
            params![first.service, id, replicas, to_json(&split)?],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Records what runs in place of what was known: these versions are stable, each with so many
    /// containers. Rollouts that were under way are over.
    ///
    /// # Errors
    /// When another version is known by one of these ids.
    pub fn adopt(
        &self,
        applied: Option<&Applied>,
        proxy: &ProxyRecord,
        services: &[(&VersionRecord, u32)],
        at: Millis,
    ) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        if let Some(applied) = applied {
            write_applied(&transaction, applied, at)?;
        }
        transaction.execute(
            "UPDATE rollouts SET phase = 'rolled-back', ended = ?1,
                 why = coalesce(why, 'the journal was lost meanwhile')
             WHERE ended IS NULL",
            [at],
        )?;
        transaction.execute_batch("DELETE FROM retired")?;
        write_proxy(&transaction, proxy)?;
        for (stable, replicas) in services {
            keep_version(&transaction, stable, at)?;
            let split = Split::from([(stable.version.clone(), 100)]);
            transaction.execute(
                "INSERT INTO services (name, stable, previous, replicas, split)
                 VALUES (?1, ?2, NULL, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET stable = ?2, replicas = ?3, split = ?4",
                params![stable.service, stable.id, replicas, to_json(&split)?],
            )?;
        }
        Ok(transaction.commit()?)
    }

    /// The service is wanted no more.
    pub fn remove_service(&self, name: &str) -> Result<()> {
        self.lock()
            .execute("DELETE FROM services WHERE name = ?", [name])?;
        Ok(())
    }

    /// What the manifest asks for has been done, or is a rollout that is in the journal.
    pub fn set_requested(&self, name: &str, requested: &RequestedService) -> Result<()> {
        self.lock().execute(
            "UPDATE services SET asked = ? WHERE name = ?",
            params![to_json(requested)?, name],
        )?;
        Ok(())
    }

    /// How many containers the stable version has.
    pub fn set_replicas(&self, name: &str, replicas: u32) -> Result<()> {
        self.lock().execute(
            "UPDATE services SET replicas = ? WHERE name = ?",
            params![replicas, name],
        )?;
        Ok(())
    }

    /// How new requests divide.
    pub fn set_split(&self, name: &str, split: &Split) -> Result<()> {
        self.lock().execute(
            "UPDATE services SET split = ? WHERE name = ?",
            params![to_json(split)?, name],
        )?;
        Ok(())
    }

    /// The service is under maintenance, or not any more.
    pub fn set_maintenance(&self, name: &str, maintenance: Option<&MaintenanceSpec>) -> Result<()> {
        self.lock().execute(
            "UPDATE services SET maintenance = ? WHERE name = ?",
            params![maintenance.map(to_json).transpose()?, name],
        )?;
        Ok(())
    }

    /// `stable` carries the service now, alone.
    pub fn set_stable(&self, name: &str, stable: &VersionRecord) -> Result<()> {
        let split = Split::from([(stable.version.clone(), 100)]);
        self.lock().execute(
            "UPDATE services SET stable = ?, split = ? WHERE name = ?",
            params![stable.id, to_json(&split)?, name],
        )?;
        Ok(())
    }

    /// The version that `rollback` starts again.
    pub fn set_previous(&self, name: &str, previous: &VersionRecord) -> Result<()> {
        self.lock().execute(
            "UPDATE services SET previous = ? WHERE name = ?",
            params![previous.id, name],
        )?;
        Ok(())
    }

    /// The newest record of a version with this label.
    pub fn version_named(&self, service: &str, label: &str) -> Result<Option<VersionRecord>> {
        let columns = VersionRecord::COLUMNS;
        let found = self
            .lock()
            .query_row(
                &format!(
                    "SELECT {columns} FROM versions WHERE service = ? AND version = ?
                     ORDER BY id DESC LIMIT 1"
                ),
                [service, label],
                VersionRecord::read,
            )
            .optional()?;
        Ok(found)
    }

    /// When each version of the service was deployed last.
    pub fn deployed(&self, service: &str) -> Result<BTreeMap<String, Millis>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT version, max(at) FROM versions WHERE service = ? GROUP BY version",
        )?;
        let rows = statement.query_map([service], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The id of the newest version of any service; 0 where there is none.
    pub fn newest_version(&self) -> Result<i64> {
        let newest = "SELECT coalesce(max(id), 0) FROM versions";
        Ok(self.lock().query_row(newest, [], |row| row.get(0))?)
    }

    /// What the images of the service's versions were, each once, the newest first.
    pub fn images(&self, service: &str) -> Result<Vec<(String, bool)>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT resolved, max(pull_name IS NOT NULL) FROM versions WHERE service = ? \
             GROUP BY resolved ORDER BY max(id) DESC",
        )?;
        let rows = statement.query_map([service], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The labels of every version that the service ever had, oldest first.
    pub fn labels(&self, service: &str) -> Result<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT version FROM versions WHERE service = ? GROUP BY version ORDER BY min(id)",
        )?;
        let rows = statement.query_map([service], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn write_applied(connection: &Connection, applied: &Applied, at: Millis) -> rusqlite::Result<()> {
    let path = applied.path.to_string_lossy();
    connection.execute(
        "INSERT OR REPLACE INTO applied (one, text, path, runtime, boot, kept, project, at)
         VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        params![
            applied.text,
            path,
            to_json(&applied.runtime)?,
            applied.boot,
            to_json(&applied.kept)?,
            applied.project,
            at
        ],
    )?;
    Ok(())
}

/// Writes a version under the id that it has, unless it is known.
fn keep_version(connection: &Connection, version: &VersionRecord, at: Millis) -> Result<()> {
    let known = self::version(connection, version.id);
    if let Ok(known) = known {
        if (&known.service, &known.version, &known.resolved)
            == (&version.service, &version.version, &version.resolved)
        {
            return Ok(());
        }
        return Err(Error::refused(format!(
            "containers of {} {} run as version {}, and the journal has {} {} as that",
            version.service, version.version, version.id, known.service, known.version
        )));
    }
    connection.execute(
        "INSERT INTO versions (id, service, version, image, resolved, pull_name, recipe, by_hand, at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            version.id,
            version.service,
            version.version,
            version.image,
            version.resolved,
            version.pull_name,
            to_json(&version.template)?,
            version.by_hand.as_ref().map(to_json).transpose()?,
            at
        ],
    )?;
    Ok(())
}

pub(super) fn version(connection: &Connection, id: i64) -> rusqlite::Result<VersionRecord> {
    let columns = VersionRecord::COLUMNS;
    connection
        .query_row(
            &format!("SELECT {columns} FROM versions WHERE id = ?"),
            [id],
            VersionRecord::read,
        )
        .optional()?
        .ok_or_else(|| corrupt(format!("there is no version {id}")))
}

pub(super) fn add_version(
    connection: &Connection,
    version: &NewVersion,
    at: Millis,
) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO versions (service, version, image, resolved, pull_name, recipe, by_hand, at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            version.service,
            version.version,
            version.image,
            version.resolved,
            version.pull_name,
            to_json(&version.template)?,
            version.by_hand.as_ref().map(to_json).transpose()?,
            at
        ],
    )?;
    Ok(connection.last_insert_rowid())
}
