//! What happened, in order, with the figures that decisions were made on.

use std::collections::BTreeMap;

use program::text::plain;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Journal, from_json, to_json};
use crate::clock::Millis;
use crate::error::Result;
use crate::renamed;

/// An event to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The rollout it belongs to.
    pub rollout: Option<i64>,
    /// The service it belongs to.
    pub service: Option<&'a str>,
    /// Who asked for it.
    pub who: Option<&'a str>,
    /// A stable word, for programs.
    pub kind: &'a str,
    /// A sentence, for people.
    pub text: &'a str,
    /// The figures behind it.
    pub stats: Option<&'a serde_json::Value>,
}

/// An event as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up.
    pub id: i64,
    /// The rollout it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
    /// The service it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Milliseconds since 1970.
    pub at: Millis,
    /// The user that requested it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// A stable word: the phase that began, or `began`, `paused`, `resumed`, `hook`, `drained`,
    /// `healed`, `died`, `unhealthy`, `split`, `scale`, `config`, `proxy`, `controller`, `failed`,
    /// `up`, `down`.
    pub kind: String,
    /// A sentence.
    pub text: String,
    /// The figures behind it.
    #[serde(flatten, with = "renamed::stats")]
    pub stats: Option<serde_json::Value>,
}

/// Which events.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventFilter<'a> {
    /// Of this rollout only.
    pub rollout: Option<i64>,
    /// Of this service only.
    pub service: Option<&'a str>,
    /// Younger than the event with this id.
    pub after: i64,
}

impl Journal {
    /// Writes an event.
    pub fn note(&self, event: &NewEvent<'_>, at: Millis) -> Result<()> {
        let newest = write(&self.lock(), event, at)?;
        self.newest.send_replace(newest);
        Ok(())
    }

    /// The newest thousand of the events asked for, oldest first.
    pub fn events(&self, filter: EventFilter<'_>) -> Result<Vec<Event>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT id, rollout, service, at, kind, text, figures, who FROM (
                 SELECT * FROM events
                 WHERE (?1 IS NULL OR rollout = ?1) AND (?2 IS NULL OR service = ?2) AND id > ?3
                 ORDER BY id DESC LIMIT 1000
             ) ORDER BY id",
        )?;
        let rows =
            statement.query_map(params![filter.rollout, filter.service, filter.after], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The first so many events younger than the one with this id, oldest first.
    pub fn events_after(&self, service: Option<&str>, id: i64, limit: u32) -> Result<Vec<Event>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT id, rollout, service, at, kind, text, figures, who FROM events
             WHERE (?1 IS NULL OR service = ?1) AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![service, id, limit], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The newest event of this kind.
    pub fn newest_of_kind(&self, kind: &str) -> Result<Option<Event>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT id, rollout, service, at, kind, text, figures, who FROM events
             WHERE kind = ? ORDER BY id DESC LIMIT 1",
        )?;
        Ok(statement.query_row([kind], read).optional()?)
    }

    /// The newest event that says what went wrong with a service since then.
    pub fn newest_failure(&self, service: &str, since: Millis) -> Result<Option<Event>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT id, rollout, service, at, kind, text, figures, who FROM events
             WHERE service = ? AND kind IN ('died', 'unhealthy', 'failed') AND at >= ?
             ORDER BY id DESC LIMIT 1",
        )?;
        let found = statement.query_row(params![service, since], read);
        Ok(found.optional()?)
    }

    /// How many containers of each version of a service were started in the place of others since
    /// then, and when that was last.
    pub fn restarts(
        &self,
        service: &str,
        since: Millis,
    ) -> Result<BTreeMap<String, (u64, Millis)>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT each.key, sum(each.value), max(at)
             FROM events, json_each(events.figures, '$.restarts') AS each
             WHERE service = ? AND kind = 'healed' AND at >= ? AND figures IS NOT NULL
             GROUP BY each.key",
        )?;
        let rows = statement.query_map(params![service, since], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A number that grows with every change of a service, by a user or by a rollout.
    /// What merely happens to it (a hook that ran, a container that was replaced) leaves it.
    pub fn generation(&self, service: &str) -> Result<i64> {
        Ok(self.lock().query_row(
            "SELECT coalesce(max(id), 0) FROM events
             WHERE service = ?
             AND kind NOT IN ('hook', 'healed', 'drained', 'died', 'unhealthy', 'failed')",
            [service],
            |row| row.get(0),
        )?)
    }

    /// Events go to these webhooks alone. A new one gets what comes; one that is
    /// not named any more is forgotten.
    pub fn set_webhooks(&self, urls: &[String]) -> Result<()> {
        let urls = to_json(&urls)?;
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "DELETE FROM told WHERE url NOT IN (SELECT value FROM json_each(?))",
            [&urls],
        )?;
        transaction.execute(
            "INSERT OR IGNORE INTO told (url, event)
             SELECT value, (SELECT coalesce(max(id), 0) FROM events) FROM json_each(?)",
            [&urls],
        )?;
        Ok(transaction.commit()?)
    }

    /// The last event that this webhook was told of; `None` where it is not to be told any.
    pub fn told(&self, url: &str) -> Result<Option<i64>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT event FROM told WHERE url = ?")?;
        Ok(statement.query_row([url], |row| row.get(0)).optional()?)
    }

    /// This webhook was told of all events up to this one.
    pub fn set_told(&self, url: &str, event: i64) -> Result<()> {
        self.lock().execute(
            "UPDATE told SET event = ? WHERE url = ?",
            params![event, url],
        )?;
        Ok(())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Event> {
    let stats: Option<String> = row.get(6)?;
    Ok(Event {
        id: row.get(0)?,
        rollout: row.get(1)?,
        service: row.get(2)?,
        at: row.get(3)?,
        kind: row.get(4)?,
        text: row.get(5)?,
        stats: stats.as_deref().map(from_json).transpose()?,
        who: row.get(7)?,
    })
}

pub(super) fn write(
    connection: &Connection,
    event: &NewEvent<'_>,
    at: Millis,
) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO events (rollout, service, at, kind, text, figures, who)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            event.rollout,
            event.service,
            at,
            event.kind,
            plain(event.text),
            event.stats.map(to_json).transpose()?,
            event.who
        ],
    )?;
    Ok(connection.last_insert_rowid())
}
