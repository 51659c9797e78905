//! What release 0.1.0 of November 2026 has written is still read: its journal, and the JSON of its
//! status, events and counts. `old_formats/` has what its programs wrote.

use std::collections::BTreeSet;

use admin_api::Protocol;
use controller::journal::{Checkpoint, Event, EventFilter, Journal, Phase};
use controller::verdict::Counts;
use rusqlite::Connection;
use serde_json::json;

const JOURNAL: &str = include_str!("old_formats/journal.sql");

#[test]
fn a_journal_of_that_release_is_read() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("state.db");
    let connection = Connection::open(&path).expect("made");
    connection.execute_batch(JOURNAL).expect("filled");
    drop(connection);
    let journal = Journal::open(&path).expect("opened");

    let services = journal.services().expect("read");
    let [web] = services.as_slice() else {
        unreachable!("it has one service: {services:?}");
    };
    assert_eq!((web.stable.version.as_str(), web.replicas), ("1.0.0", 2));
    assert_eq!(web.stable.template.env["GREETING"], "hello");
    let requested = web.requested.as_ref().expect("an `up` has written it");
    assert_eq!(requested.template, web.stable.template);

    let rollout = journal.running("web").expect("read").expect("it runs");
    assert_eq!((rollout.phase, rollout.step), (Phase::Shifting, 1));
    assert_eq!(rollout.to.template.transport.protocol, Protocol::H2);
    let checkpoints = [Checkpoint::Watched, Checkpoint::AtGate, Checkpoint::Agreed];
    assert_eq!(
        rollout.checkpoints,
        checkpoints
            .map(|one| (0, one))
            .into_iter()
            .collect::<BTreeSet<_>>()
    );
    assert!(journal.window(rollout.id).expect("read").is_some());

    let of_rollout = EventFilter {
        rollout: Some(rollout.id),
        ..EventFilter::default()
    };
    let events = journal.events(of_rollout).expect("read");
    let decided = events.iter().find_map(|event| event.stats.as_ref());
    let candidate = decided.expect("of a step that went well")["candidate"].clone();
    let counts: Counts = serde_json::from_value(candidate).expect("its counts");
    assert_eq!((counts.attempts, counts.latency.responses), (1, 0));
    assert_eq!(journal.proxy().expect("read").number, 0);
}

#[test]
fn an_event_is_written_with_both_keys_and_read_with_either() {
    for key in ["stats", "figures"] {
        let event = json!({"id": 1, "at": 7, "kind": "split", "text": "10%", key: {"tries": 50}});
        let event: Event = serde_json::from_value(event).expect(key);
        let written = serde_json::to_value(&event).expect("JSON");
        assert_eq!(written["stats"], json!({"tries": 50}), "{key}");
        assert_eq!(written["figures"], written["stats"], "{key}");
        let again: Event = serde_json::from_value(written).expect("both");
        assert_eq!(again, event);
    }
}

#[test]
fn counts_are_written_with_both_keys_and_read_with_either() {
    for key in ["responses", "answers"] {
        let latency = json!({key: 9, "slow": 1, "over_limit": 0, "p99_us": 5});
        let counts = json!({"tries": 9, "failures": 0, "latency": latency});
        let counts: Counts = serde_json::from_value(counts).expect(key);
        assert_eq!(counts.latency.responses, 9, "{key}");
        let written = serde_json::to_value(counts).expect("JSON");
        assert_eq!(written["latency"]["responses"], 9);
        assert_eq!(written["latency"]["answers"], 9);
    }
}
