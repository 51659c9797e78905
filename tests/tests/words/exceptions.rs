//! Where the English word is really meant.

/// The word, where it stands (a file, or the beginning of a path or of `file:line`), and why.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "answers",
        "sample-client/src/",
        "the old key of the JSON summary, kept for one release",
    ),
    (
        "answers",
        "benches/fixtures/",
        "results.json as an earlier release wrote it",
    ),
];
