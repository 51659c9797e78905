//! Where the English word is really meant.

/// The word, where it stands (a file, or the beginning of a path or of `file:line`), and why.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[];
