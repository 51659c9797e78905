//! What can go wrong here, whose fault it is, and the exit code that tells it to a script.

mod container;
mod exit;
mod fault;
mod no_controller;
mod verb;

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use admin_api::strict::InputError;

use crate::http::proxy_admin::AdminError;
use crate::runtime::RuntimeError;

pub use container::{ContainerError, Unhealthy};
pub use exit::Exit;
pub use fault::Fault;
pub use no_controller::NoController;
pub use verb::VerbError;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Every message is complete: it can be shown as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is wrong: `crossfade.toml:3: services[0].hots: …`.
    #[error("{}", source.in_file(path))]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InputError,
    },
    /// A verb ends without success.
    #[error(transparent)]
    Verb(VerbError),
    /// Containers of a version do not do what they were started for.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// What runs the containers failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The proxy did not do it.
    #[error(transparent)]
    Proxy(#[from] AdminError),
    /// The journal could not be read or written.
    #[error("the journal cannot be used: {0}")]
    Journal(#[from] rusqlite::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The controller process could not be called.
    #[error(transparent)]
    NoController(#[from] NoController),
}

impl Error {
    /// Wrong flags or names, or a combination that makes no sense. The message says what would.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::verb(Exit::USAGE, message)
    }

    /// The request makes sense, but not now, or it was tried and failed.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::verb(Exit::FAILED, message)
    }

    /// The rollout that the verb waited for was rolled back.
    pub fn rolled_back(message: impl Into<String>) -> Self {
        Self::verb(Exit::ROLLED_BACK, message)
    }

    /// The rollout that the verb waited for is paused.
    pub fn paused(message: impl Into<String>) -> Self {
        Self::verb(Exit::PAUSED, message)
    }

    /// What was to be changed has been changed meanwhile.
    pub fn stale(message: impl Into<String>) -> Self {
        Self::verb(Exit::STALE, message)
    }

    /// Something that is needed is not available.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::verb(Exit::UNAVAILABLE, message)
    }

    /// A verb ends with this exit code.
    pub fn verb(exit: Exit, message: impl Into<String>) -> Self {
        Self::Verb(VerbError::new(exit, message))
    }

    /// The same, for `map_err`: the cause is kept, and shown after the message.
    pub fn caused<E>(exit: Exit, message: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let error = VerbError::new(exit, message);
        move |source| Self::Verb(error.caused_by(source))
    }

    /// For `map_err` of whatever touches a file.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err` of whatever reads the manifest at `path`.
    pub fn manifest(path: impl Into<PathBuf>) -> impl FnOnce(InputError) -> Self {
        let path = path.into();
        move |source| Self::Manifest { path, source }
    }

    /// For `map_err` of what checks flags that stand for keys of the manifest: `--max-hold: …`.
    pub fn flag(error: InputError) -> Self {
        let flag = error.field.unwrap_or_default().replace('_', "-");
        Self::usage(format!("--{flag}: {}", error.message))
    }

    /// What the program ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Manifest { .. } => Exit::USAGE,
            Self::Verb(error) => error.exit,
            Self::Runtime(
                RuntimeError::Unavailable { .. }
                | RuntimeError::ImageNotFound { .. }
                | RuntimeError::PullFailed { .. },
            )
            | Self::NoController(_) => Exit::UNAVAILABLE,
            Self::Proxy(error) if Fault::of_proxy(error) == Fault::Environment => Exit::UNAVAILABLE,
            Self::Container(_)
            | Self::Runtime(_)
            | Self::Proxy(_)
            | Self::Journal(_)
            | Self::File { .. } => Exit::FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_cause_is_shown_after_the_message_and_kept() {
        let error = Error::caused(Exit::USAGE, "cannot be sent")(io::Error::other("too long"));
        assert_eq!(error.to_string(), "cannot be sent: too long");
        assert_eq!(error.exit(), Exit::USAGE);
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("too long"));
        assert!(Error::refused("no").source().is_none());
    }

    #[test]
    fn a_flag_is_named_as_it_is_written_on_the_command_line() {
        let error = Error::flag(InputError::of_field("max_hold", "has to be longer than 0"));
        assert_eq!(error.to_string(), "--max-hold: has to be longer than 0");
        assert_eq!(error.exit(), Exit::USAGE);
    }

    #[test]
    fn a_script_can_tell_what_is_missing_from_what_is_refused() {
        let refused = |status| {
            let status = http::StatusCode::from_u16(status).expect("a status");
            let (code, message) = ("invalid".to_owned(), "no".to_owned());
            let field = None;
            Error::from(AdminError::Refused {
                status,
                code,
                message,
                field,
            })
        };
        assert_eq!(refused(400).exit(), Exit::FAILED);
        assert_eq!(refused(503).exit(), Exit::UNAVAILABLE);
        let id = "web-1".to_owned();
        let gone = Error::from(RuntimeError::NoSuchContainer { id });
        assert_eq!(gone.exit(), Exit::FAILED);
    }
}
