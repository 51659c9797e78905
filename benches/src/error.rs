//! What can go wrong with a benchmark that is not a finding about a proxy.

use std::io;

/// Why the benchmark, or one contender in it, cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The machine refused something that the benchmark needs.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
    /// A program did not do what its config asks for. It carries the program's last words.
    #[error("{name}: {why}")]
    Program {
        /// Which one.
        name: String,
        /// What it did, or did not do.
        why: String,
    },
    /// The command line asks for what there is not.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C. Everything is being stopped.
    #[error("interrupted")]
    Interrupted,
    /// The plot could not be drawn.
    #[error("plot: {0}")]
    Plot(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when the machine refused.
pub(crate) trait Context<T> {
    /// The value, or the error with what was tried.
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
