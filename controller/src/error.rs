//! What can go wrong here, and the exit code that tells it to a script.

use std::io;
use std::path::PathBuf;

use admin_api::strict::InputError;

use crate::http::proxy_admin::AdminError;
use crate::runtime::RuntimeError;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// It failed, or it was refused.
pub const EXIT_FAILED: u8 = 1;
/// The candidate was rolled back.
pub const EXIT_ROLLED_BACK: u8 = 2;
/// The rollout is paused, and waits for somebody.
pub const EXIT_PAUSED: u8 = 3;
/// Somebody else was faster: the generation is not the one that was named.
pub const EXIT_STALE: u8 = 4;
/// Wrong flags, names or manifest.
pub const EXIT_USAGE: u8 = 64;
/// Something that is needed is not there.
pub const EXIT_UNAVAILABLE: u8 = 69;

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
    /// A name, a number or a combination that makes no sense. Says what would.
    #[error("{0}")]
    Usage(String),
    /// It makes sense, but not now, or it was tried and failed.
    #[error("{0}")]
    Refused(String),
    /// The rollout that was waited for was rolled back.
    #[error("{0}")]
    RolledBack(String),
    /// The rollout that was waited for waits for somebody itself.
    #[error("{0}")]
    Paused(String),
    /// What was to be changed has been changed meanwhile.
    #[error("{0}")]
    Stale(String),
    /// Something that is needed is not there.
    #[error("{0}")]
    Unavailable(String),
    /// A container ended that should run.
    #[error("{name} exited{}{}", with_code(*code), with_output(output))]
    Exited {
        /// The container.
        name: String,
        /// Its exit code, where one is known.
        code: Option<i64>,
        /// The last lines that it printed.
        output: String,
    },
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
    /// The controller refused, in its own words.
    #[error("{message}")]
    Controller {
        /// The exit code that it asked for.
        exit: u8,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// For `map_err` of whatever touches a file.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// What the program ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Manifest { .. } | Self::Usage(_) => EXIT_USAGE,
            Self::Unavailable(_) | Self::Runtime(RuntimeError::Unavailable { .. }) => {
                EXIT_UNAVAILABLE
            }
            Self::RolledBack(_) => EXIT_ROLLED_BACK,
            Self::Paused(_) => EXIT_PAUSED,
            Self::Stale(_) => EXIT_STALE,
            Self::Controller { exit, .. } => *exit,
            Self::Proxy(error) if error.is_ours() => EXIT_UNAVAILABLE,
            _ => EXIT_FAILED,
        }
    }

    /// Whether this says nothing about the candidate: the engine or the proxy cannot be
    /// reached, the disk is full. Such an error is tried again, never judged.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Proxy(error) => error.is_ours(),
            // One that is gone while it is being looked at was taken away by somebody.
            Self::Runtime(
                RuntimeError::Unavailable { .. }
                | RuntimeError::File { .. }
                | RuntimeError::Failed { .. }
                | RuntimeError::NoSuchContainer { .. },
            )
            | Self::Journal(_)
            | Self::File { .. }
            | Self::Unavailable(_) => true,
            _ => false,
        }
    }
}

fn with_code(code: Option<i64>) -> String {
    code.map(|code| format!(" with code {code}"))
        .unwrap_or_default()
}

fn with_output(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!("; it said: {output}")
    }
}
