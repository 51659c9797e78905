//! Why a change was not made.

use admin_api::strict::InputError;

use crate::table::route::Conflict;

/// Why a change was not made. The table is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no service `{0}`")]
    UnknownService(String),
    #[error("{message}")]
    UnknownVersion {
        field: &'static str,
        message: String,
    },
    #[error(transparent)]
    Invalid(#[from] InputError),
    #[error("{0}")]
    Conflict(String),
    #[error("the table is at generation {have}, not {queried}")]
    Generation { have: u64, queried: u64 },
    #[error("{0}")]
    State(String),
    #[error("the change is in force, but could not be kept for the next start: {0}")]
    NotSaved(String),
    #[error("another process of the proxy is taking over: call that process")]
    HandedOver,
}

/// Two services contradict each other.
pub(super) fn conflict(conflict: &Conflict) -> ChangeError {
    let [_, second] = &conflict.services;
    ChangeError::Conflict(format!("service `{second}` {}", conflict.message(second)))
}

/// There is no such service.
pub(super) fn unknown_service(name: &str) -> ChangeError {
    ChangeError::UnknownService(name.to_owned())
}
