//! Rollouts, from intent to end.

use std::collections::BTreeSet;

use program::text::plain;
use rusqlite::{Connection, Row, params};

use super::events::{NewEvent, write};
use super::services::{add_version, version};
use super::{
    Checkpoint, Journal, NewVersion, RequestedService, RolloutRecord, Split, corrupt, from_json,
    optional, to_json,
};
use crate::clock::Millis;
use crate::error::Result;
use crate::journal::Phase;
use crate::plan::{RolloutSettings, Step};

/// The kind of the event with which a running rollout is scaled.
pub(crate) const SCALED: &str = "scale";

/// A rollout to be begun.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// The id of the version that is stable now.
    pub from: i64,
    /// The candidate.
    pub to: NewVersion,
    /// How it is to go.
    pub settings: RolloutSettings,
    /// The steps worked out from that.
    pub steps: Vec<Step>,
    /// Who asked for it.
    pub who: Option<String>,
    /// What an `up` asks for by it.
    pub requested: Option<RequestedService>,
}

/// A rollout's step from one phase to the next.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The phase that begins.
    pub phase: Phase,
    /// Index of the step.
    pub step: usize,
    /// Why it does not go on by itself, where it does not.
    pub paused: Option<String>,
    /// The split that was set by hand.
    pub hand_split: Option<Split>,
    /// Why it is rolled back, where it is.
    pub why: Option<String>,
    /// The word for it in the history.
    pub kind: &'static str,
    /// What the history says about it.
    pub text: String,
    /// The figures that it was decided on.
    pub stats: Option<serde_json::Value>,
    /// The user that requested it, if any.
    pub who: Option<String>,
}

impl Transition {
    /// A phase that goes on by itself.
    pub fn new(phase: Phase, step: usize, text: impl Into<String>) -> Self {
        Self {
            phase,
            step,
            paused: None,
            hand_split: None,
            why: None,
            kind: phase.as_str(),
            text: text.into(),
            stats: None,
            who: None,
        }
    }
}

impl Journal {
    /// Records a rollout and its candidate. A service has one at a time: a second is an error
    /// of the journal, so look first.
    pub fn begin_rollout(&self, new: &NewRollout, at: Millis) -> Result<RolloutRecord> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let to = add_version(&transaction, &new.to, at)?;
        transaction.execute(
            "INSERT INTO rollouts
                (service, from_version, to_version, settings, steps, phase, step, created, phase_since,
                 asked)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?7, ?8)",
            params![
                new.to.service,
                new.from,
                to,
                to_json(&new.settings)?,
                to_json(&new.steps)?,
                Phase::Starting.as_str(),
                at,
                new.requested.as_ref().map(to_json).transpose()?
            ],
        )?;
        let id = transaction.last_insert_rowid();
        let record = select(&transaction, "WHERE id = ?", [id])?
            .pop()
            .ok_or_else(|| corrupt("the rollout just written is not there"))?;
        let event = NewEvent {
            rollout: Some(id),
            service: Some(&new.to.service),
            who: new.who.as_deref(),
            kind: "began",
            text: &format!("{}: {}", record.title(), new.settings.strategy),
            stats: None,
        };
        let newest = write(&transaction, &event, at)?;
        transaction.commit()?;
        self.newest.send_replace(newest);
        Ok(record)
    }

    /// Records that a rollout comes into a phase, or is paused in it, and gives it back as it
    /// now is.
    pub fn enter(
        &self,
        rollout: &RolloutRecord,
        transition: &Transition,
        at: Millis,
    ) -> Result<RolloutRecord> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let ended = transition.phase.is_over().then_some(at);
        // One that is only scaled has been where it is for as long as before.
        let since = match transition.kind {
            SCALED => rollout.phase_since,
            _ => at,
        };
        transaction.execute(
            "UPDATE rollouts SET phase = ?, step = ?, why = coalesce(?, why), paused = ?,
                 hand_split = ?, phase_since = ?, ended = ? WHERE id = ?",
            params![
                transition.phase.as_str(),
                transition.step,
                transition.why.as_deref().map(plain),
                transition.paused.as_deref().map(plain),
                transition.hand_split.as_ref().map(to_json).transpose()?,
                since,
                ended,
                rollout.id
            ],
        )?;
        // A step that is only paused, or whose candidate has a second chance, is watched on: every other
        // is compared anew.
        if !["paused", "set-aside", "passed", SCALED].contains(&transition.kind) {
            transaction.execute("DELETE FROM windows WHERE rollout = ?", [rollout.id])?;
        }
        let event = NewEvent {
            rollout: Some(rollout.id),
            service: Some(&rollout.service),
            who: transition.who.as_deref(),
            kind: transition.kind,
            text: &transition.text,
            stats: transition.stats.as_ref(),
        };
        let newest = write(&transaction, &event, at)?;
        let record = select(&transaction, "WHERE id = ?", [rollout.id])?
            .pop()
            .ok_or_else(|| corrupt("a rollout is gone from the journal"))?;
        transaction.commit()?;
        self.newest.send_replace(newest);
        Ok(record)
    }

    /// Records that the service of a rollout has another number of stable containers, and the rollout
    /// these steps for that.
    pub fn rescale(&self, rollout: &RolloutRecord, replicas: u32, steps: &[Step]) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "UPDATE services SET replicas = ? WHERE name = ?",
            params![replicas, rollout.service],
        )?;
        transaction.execute(
            "UPDATE rollouts SET steps = ? WHERE id = ?",
            params![to_json(&steps)?, rollout.id],
        )?;
        Ok(transaction.commit()?)
    }

    /// Records that a step has this behind it. Can be repeated.
    pub fn mark(&self, rollout: i64, step: usize, mark: Checkpoint) -> Result<()> {
        self.lock().execute(
            "INSERT OR IGNORE INTO marks (rollout, step, mark) VALUES (?, ?, ?)",
            params![rollout, step, to_json(&mark)?],
        )?;
        Ok(())
    }

    /// Every rollout that has not ended.
    pub fn unfinished(&self) -> Result<Vec<RolloutRecord>> {
        Ok(select(&self.lock(), "WHERE ended IS NULL ORDER BY id", [])?)
    }

    /// The service's rollout that has not ended.
    pub fn running(&self, service: &str) -> Result<Option<RolloutRecord>> {
        let rest = "WHERE ended IS NULL AND service = ?";
        Ok(select(&self.lock(), rest, [service])?.pop())
    }

    /// One rollout.
    pub fn rollout(&self, id: i64) -> Result<Option<RolloutRecord>> {
        Ok(select(&self.lock(), "WHERE id = ?", [id])?.pop())
    }

    /// Rollouts, newest first.
    pub fn rollouts(&self, service: Option<&str>, limit: u32) -> Result<Vec<RolloutRecord>> {
        let rest = "WHERE ?1 IS NULL OR service = ?1 ORDER BY id DESC LIMIT ?2";
        Ok(select(&self.lock(), rest, params![service, limit])?)
    }
}

fn select(
    connection: &Connection,
    rest: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<RolloutRecord>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, service, from_version, to_version, settings, steps, phase, step, paused,
                hand_split, why, created, phase_since, ended, asked FROM rollouts {rest}"
    ))?;
    statement
        .query_map(params, |row| read(connection, row))?
        .collect()
}

fn checkpoints(
    connection: &Connection,
    rollout: i64,
) -> rusqlite::Result<BTreeSet<(usize, Checkpoint)>> {
    let mut statement =
        connection.prepare_cached("SELECT step, mark FROM marks WHERE rollout = ?")?;
    statement
        .query_map([rollout], |row| {
            Ok((row.get(0)?, from_json(&row.get::<_, String>(1)?)?))
        })?
        .collect()
}

fn read(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<RolloutRecord> {
    let phase: String = row.get(6)?;
    Ok(RolloutRecord {
        id: row.get(0)?,
        service: row.get(1)?,
        from: version(connection, row.get(2)?)?,
        to: version(connection, row.get(3)?)?,
        settings: from_json(&row.get::<_, String>(4)?)?,
        steps: from_json(&row.get::<_, String>(5)?)?,
        phase: phase.parse().map_err(|error: String| corrupt(error))?,
        step: row.get(7)?,
        paused: row.get(8)?,
        hand_split: optional(row, 9)?,
        why: row.get(10)?,
        created: row.get(11)?,
        phase_since: row.get(12)?,
        ended: row.get(13)?,
        requested: optional(row, 14)?,
        checkpoints: checkpoints(connection, row.get(0)?)?,
    })
}
