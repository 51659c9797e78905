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
    (
        "answer",
        "proxy/src/wire/reply.rs",
        "a reason of the release before, in a deprecated metric",
    ),
    (
        "shortage",
        "proxy/src/wire/reply.rs",
        "a reason of the release before, in a deprecated metric",
    ),
    (
        "answer",
        "docs/operations.md",
        "a reason of the release before, in a deprecated metric",
    ),
    (
        "elder",
        "program/src/sockets/copies.rs",
        "a key between processes of two releases",
    ),
    (
        "elders",
        "proxy/src/lifecycle/handover/message.rs",
        "a key between processes of two releases",
    ),
    (
        "picture",
        "proxy/src/lifecycle/handover/message.rs",
        "a key between processes of two releases",
    ),
    (
        "heir",
        "proxy/src/control/snapshot.rs",
        "a key between processes of two releases",
    ),
    (
        "elders",
        "admin-api/src/status.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "elders",
        "docs/admin-api.md",
        "a deprecated key, written for one more release",
    ),
    (
        "elders",
        "proxy/src/admin/mod.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "elders",
        "controller/src/testing/proxy.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "answers",
        "controller/src/renamed.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "figures",
        "controller/src/renamed.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "mend",
        "controller/src/renamed.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "trouble",
        "controller/src/renamed.rs",
        "a deprecated key, written for one more release",
    ),
    (
        "holder",
        "controller/src/project/proxy/mod.rs",
        "a label of containers that outlive an upgrade",
    ),
    (
        "reach",
        "controller/src/manifest/container.rs",
        "a key in journals that exist",
    ),
    (
        "reach",
        "controller/src/manifest/mod.rs",
        "a key in journals that exist",
    ),
    (
        "recipe",
        "controller/src/journal/",
        "a column and a key of journals that exist",
    ),
];
