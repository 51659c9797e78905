//! What went wrong, as people read it.

/// An error as a sentence.
pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
