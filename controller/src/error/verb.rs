//! An error that ends a verb.

use std::error::Error as StdError;

use super::exit::Exit;

/// Why a verb ends without success: a sentence for its user, an exit code for scripts, and the
/// cause where there is one. The cause is part of what is shown.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", after_colon(source.as_deref()))]
pub struct VerbError {
    pub(super) exit: Exit,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl VerbError {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }
}

fn after_colon(source: Option<&(dyn StdError + Send + Sync)>) -> String {
    source.map_or_else(String::new, |source| format!(": {source}"))
}
