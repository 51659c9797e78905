//! Errors of the benchmark itself, as opposed to results of a proxy.

use std::io;

/// Why the benchmark, or one contender, cannot continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What the benchmark tried to do.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A program did not work as configured. The text ends with the last lines of its log.
    #[error("{name}: {why}")]
    Program {
        /// The program.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// The command line cannot be satisfied, or the run has failed.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The plot could not be drawn.
    #[error("plot: {0}")]
    Plot(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    /// Returns the value, or the error with `what`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what(),
            source: source.into(),
        })
    }
}
