//! Messages of release 0.1.0 of November 2026 are still read, and that release reads ours.
//! `proxy/tests/old_formats/` has what its processes sent each other.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::message::{Commit, Hello, Offer, Prepared, Ready, Update};
use crate::control::snapshot::{HandoverSnapshot, Report, ServiceSnapshot};
use crate::table::counts::remote::Counts;
use crate::table::counts::values::ProcessCounts;

fn message<T: DeserializeOwned>(name: &str) -> T {
    let all = include_str!("../../../tests/old_formats/handover.json");
    let mut all: Value = serde_json::from_str(all).unwrap();
    serde_json::from_value(all[name].take()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn written(message: &impl Serialize) -> Value {
    serde_json::to_value(message).unwrap()
}

#[test]
fn the_messages_of_that_release_are_read() {
    let hello: Hello = message("hello");
    assert_eq!(hello.draining_process, None);
    let hello: Hello = message("hello_of_elder");
    assert_eq!(hello.draining_process, Some(17_099_131_090_914_589_590));
    let Offer::Sockets {
        labels, tickets, ..
    } = message("offer")
    else {
        unreachable!("it offers its sockets");
    };
    assert_eq!((labels.len(), tickets.len()), (4, 0));
    let Prepared = message("prepared");
    let ready: Ready = message("ready");
    assert_eq!(ready.kept.len(), 1);
    let commit: Commit = message("commit");
    assert_eq!(commit.draining_processes, [7]);
}

#[test]
fn the_table_of_that_release_is_read() {
    let mut snapshot: HandoverSnapshot = message("snapshot");
    assert_eq!((snapshot.generation, snapshot.drains.len()), (4, 1));
    assert!(!snapshot.is_standby);
    let web = snapshot.services.remove("web").unwrap();
    let web: ServiceSnapshot = serde_json::from_value(web).unwrap();
    assert_eq!((web.endpoints.len(), web.drained.len()), (3, 1));
    assert!(web.spec.mirror.is_some() && web.spec.traffic.ejection.is_some());
    let Update::Snapshot(update) = message("telling") else {
        unreachable!("it sends a table");
    };
    assert_eq!(update.names, ["file", "held", "web"]);
}

#[test]
fn the_counts_of_that_release_are_read_and_its_words_for_reasons_understood() {
    let mut report: Report = message("report");
    let versions = &report.services["web"];
    assert_eq!(versions["1.0.0"].stats.responses.success, 55);
    assert_eq!(versions["1.0.0"].stats.forced.responses.total(), 0);
    assert_eq!(report.holds["held"].refused, 1);
    assert_eq!(report.mirrors["web"].version, "2.0.0");

    report.process.refused.insert("bad_answer".into(), 3);
    let mut own = ProcessCounts::default();
    own.refused.insert("bad_response".into(), 1);
    own.add(&report.process);
    assert_eq!(own.refused["bad_response"], 4);
    assert_eq!(own.refused.get("bad_answer"), None);
}

#[test]
fn that_release_finds_the_keys_that_it_needs_in_our_messages() {
    let hello = Hello {
        draining_process: Some(7),
        ..message("hello")
    };
    assert_eq!(written(&hello)["elder"], 7);
    let commit = Commit {
        draining_processes: vec![7],
    };
    assert_eq!(written(&commit)["elders"], json!([7]));
    let snapshot = HandoverSnapshot {
        is_standby: true,
        ..message("snapshot")
    };
    let update = written(&Update::Snapshot(Box::new(snapshot)));
    assert_eq!(update["Picture"]["is_heir"], true);
    assert_eq!(written(&Update::Stopping), "Stopping");
}
