//! What happened, in order, with the figures that decisions were made on.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{Store, from_json, to_json};
use crate::clock::Millis;
use crate::error::Result;

/// An event to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The rollout it belongs to.
    pub rollout: Option<i64>,
    /// The service it belongs to.
    pub service: Option<&'a str>,
    /// A stable word, for programs.
    pub kind: &'a str,
    /// A sentence, for people.
    pub text: &'a str,
    /// The figures behind it.
    pub figures: Option<&'a serde_json::Value>,
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
    /// A stable word: the phase that began, or `began`, `paused`, `resumed`, `note`, `drained`,
    /// `split`, `scale`, `up`, `down`.
    pub kind: String,
    /// A sentence.
    pub text: String,
    /// The figures behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<serde_json::Value>,
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

impl Store {
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
            "SELECT id, rollout, service, at, kind, text, figures FROM (
                 SELECT * FROM events
                 WHERE (?1 IS NULL OR rollout = ?1) AND (?2 IS NULL OR service = ?2) AND id > ?3
                 ORDER BY id DESC LIMIT 1000
             ) ORDER BY id",
        )?;
        let rows = statement.query_map(
            params![filter.rollout, filter.service, filter.after],
            |row| {
                let figures: Option<String> = row.get(6)?;
                Ok(Event {
                    id: row.get(0)?,
                    rollout: row.get(1)?,
                    service: row.get(2)?,
                    at: row.get(3)?,
                    kind: row.get(4)?,
                    text: row.get(5)?,
                    figures: figures.as_deref().map(from_json).transpose()?,
                })
            },
        )?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

pub(super) fn write(
    connection: &Connection,
    event: &NewEvent<'_>,
    at: Millis,
) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO events (rollout, service, at, kind, text, figures) VALUES (?, ?, ?, ?, ?, ?)",
        params![
            event.rollout,
            event.service,
            at,
            event.kind,
            event.text,
            event.figures.map(to_json).transpose()?
        ],
    )?;
    Ok(connection.last_insert_rowid())
}
