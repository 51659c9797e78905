//! The windows in which candidate and stable are compared, one for each rollout that is watched.

use rusqlite::{OptionalExtension, params};

use super::{Journal, from_json, to_json};
use crate::error::Result;
use crate::verdict::Window;

impl Journal {
    /// Writes the window of a rollout's step down, in place of the one before.
    pub fn keep_window(&self, rollout: i64, window: &Window) -> Result<()> {
        self.lock().execute(
            "INSERT INTO windows (rollout, window) VALUES (?1, ?2)
             ON CONFLICT (rollout) DO UPDATE SET window = ?2",
            params![rollout, to_json(window)?],
        )?;
        Ok(())
    }

    /// The window of the step that a rollout is at, where it has been opened.
    pub fn window(&self, rollout: i64) -> Result<Option<Window>> {
        let text: Option<String> = self
            .lock()
            .query_row(
                "SELECT window FROM windows WHERE rollout = ?",
                [rollout],
                |row| row.get(0),
            )
            .optional()?;
        Ok(text.as_deref().map(from_json).transpose()?)
    }
}
