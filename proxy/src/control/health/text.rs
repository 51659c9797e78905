//! What went wrong, as people read it.

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
