//! The next attempt of a request is made by the newest table, whatever table the one before it was
//! made by.

use std::rc::Rc;
use std::time::Duration;

use admin_api::{EndpointSpec, ServiceSpec};

use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::{GET, GOOD, Http, POST, Rig, run, take_out};

use Speaks::{Http1, Http2, Silence};
use Step::{Close, Take, Wait};

/// Time for a change of the table.
const BREAKS_LATER: &[Step] = &[Take, Wait(Duration::from_secs(1)), Close];

/// A request that is sent, and how it is sent.
struct Case {
    client: Http,
    speaks: Speaks,
    request: Request,
    service: &'static str,
    /// The versions of two endpoints.
    versions: [&'static str; 2],
    /// What the first of them speaks, if it is something else.
    first: Option<Speaks>,
}

impl Case {
    /// Over all wires: a GET whose endpoint breaks a second after it took the request.
    fn all(service: &'static str, versions: [&'static str; 2]) -> impl Iterator<Item = Self> {
        let wires = [Http::One, Http::Two].into_iter().flat_map(|client| {
            let speaks = [Http1, Http2].into_iter();
            speaks.map(move |speaks| (client, speaks))
        });
        wires.map(move |(client, speaks)| Self {
            client,
            speaks,
            request: GET,
            service,
            versions,
            first: None,
        })
    }

    /// Sends the request by a table that has the first endpoint alone. Once it is under way, the
    /// table changes.
    #[track_caller]
    fn check(&self, change: impl FnOnce(&mut ServiceSpec), want: &str) {
        let got = run(self.outcome(change));
        assert_eq!(got, want, "{:?} to {:?}", self.client, self.speaks);
    }

    async fn outcome(&self, change: impl FnOnce(&mut ServiceSpec)) -> String {
        let script = Script::new(&[BREAKS_LATER, &GOOD], &[(1, &[&GOOD])]);
        let endpoints = [
            (self.versions[0], self.first.unwrap_or(self.speaks)),
            (self.versions[1], self.speaks),
        ];
        let rig = Rc::new(Rig::new("", self.service, &endpoints, script).await);
        rig.put(|spec| take_out(spec, 1));
        let before = rig.table();
        let first = before.services()[0].endpoints().next().unwrap().clone();
        let mut client = rig.client(self.client).await;
        let changes = async {
            while first.claims.own(0) == 0 || self.first.is_none() && rig.script.seen().is_empty() {
                tokio::task::yield_now().await;
            }
            rig.put(change);
        };
        let ((response, _), ()) = tokio::join!(client.send(&self.request), changes);
        rig.settle().await;
        let mut line = rig.outcome(vec![response], 2).line();
        let table = rig.table();
        for label in table.services()[0].departed() {
            let stats = rig.stats(label);
            let (attempts, failures) = (stats.attempts(), stats.failures());
            line.push_str(&format!("; {label} had {failures} of {attempts} failed"));
        }
        if first.claims.own(0) > 0 {
            line.push_str("; the first one is never drained");
        }
        line
    }
}

#[test]
fn it_goes_to_an_endpoint_that_only_the_newest_table_has() {
    for case in Case::all(r#"{"name":"web"}"#, ["1", "1"]) {
        case.check(|_| {}, "200; seen 1+1; 2xx 1, reset 1");
        case.check(|spec| take_out(spec, 0), "200; seen 1+1; 2xx 1, reset 1");
    }
}

#[test]
fn it_goes_to_another_version_where_its_own_has_no_endpoint_left() {
    for case in Case::all(r#"{"name":"web","split":{"1":1,"2":1}}"#, ["1", "2"]) {
        case.check(
            |spec| take_out(spec, 0),
            "200; seen 1+1; 2xx 1; 1 had 1 of 1 failed",
        );
    }
}

#[test]
fn it_goes_to_another_version_where_its_own_is_to_have_no_more_requests() {
    for case in Case::all(r#"{"name":"web","split":{"1":1,"2":1}}"#, ["1", "2"]) {
        case.check(
            |spec| {
                let more = spec.endpoints[0].clone();
                let address = "127.0.0.1:1".into();
                spec.endpoints.push(EndpointSpec { address, ..more });
                spec.split.insert("1".into(), 0);
            },
            "200; seen 1+1; of 1: reset 1; of 2: 2xx 1",
        );
    }
}

#[test]
fn it_ends_where_the_version_that_it_names_is_gone() {
    let service = r#"{"name":"web","split":{"1":1,"2":1},"force":{"header":"x-version","from":["127.0.0.1"]}}"#;
    for case in Case::all(service, ["1", "2"]) {
        let named = GET.fields(&[("x-version", "1")]);
        let case = Case {
            request: named,
            ..case
        };
        case.check(
            |spec| take_out(spec, 0),
            "502 error=connection_terminated; seen 1+0; nothing counted; 1 had 0 of 0 failed",
        );
    }
}

#[test]
fn it_ends_where_its_service_has_no_endpoint_left_and_is_counted() {
    for case in Case::all(r#"{"name":"web"}"#, ["1", "1"]) {
        case.check(
            |spec| {
                take_out(spec, 1);
                take_out(spec, 0);
            },
            "502 error=connection_terminated; seen 1+0; 1 had 1 of 1 failed",
        );
    }
}

#[test]
fn a_second_connection_is_made_to_an_endpoint_that_only_the_newest_table_has() {
    for case in Case::all(r#"{"name":"web"}"#, ["1", "1"]) {
        let case = Case {
            request: POST,
            first: Some(Silence),
            ..case
        };
        case.check(|spec| take_out(spec, 0), "200; seen 1+0; 2xx 1");
    }
}
