//! Every failure that a client sees is counted against a version, and so is every failed attempt
//! that a retry saved: over all wires, for all methods, whatever way the endpoint breaks.

use std::time::Duration;

use crate::table::counts::claim::Kind;
use crate::testing::hot_path::client::{Request, Response};
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::{
    DELETE, GET, GOOD, GRPC, HEAD, Http, Outcome, POST, PUT, Rig, Row, SERVICE, run,
};

use Speaks::{Http1, Http2};
use Step::{
    BeginBody, BeginHead, Close, GoAway, Reset, ResetStream, Respond, Stall, Take, TakeHead, Wait,
};

const OK: Step = Respond(200, "ok");
const SHORTLY: Step = Wait(Duration::from_millis(5));
const INTERNAL_ERROR: u32 = 2;
const REQUESTS: [Request; 6] = [GET, HEAD, PUT, DELETE, POST, GRPC];

/// What an endpoint does with a request in place of responding to it.
const BREAKS: &[&[Step]] = &[
    &[Take, Close],
    &[Take, Reset],
    &[Take, SHORTLY, Close],
    &[Take, SHORTLY, Reset],
    &[TakeHead, Close],
    &[TakeHead, Reset],
    &[Take, BeginHead, Close],
    &[Take, BeginHead, Reset],
    &[Take, BeginBody(100, "half"), Close],
    &[Take, BeginBody(100, "half"), Reset],
    &[Take, BeginBody(100, "half"), SHORTLY, Close],
];
/// The same in ways that only HTTP/2 has.
const BREAKS_OF_HTTP2: &[&[Step]] = &[
    &[Take, GoAway(true), Close],
    &[Take, GoAway(true), SHORTLY, Close],
    &[Take, GoAway(true), Reset],
    &[Take, ResetStream(INTERNAL_ERROR), Close],
    &[
        Take,
        BeginBody(100, "half"),
        ResetStream(INTERNAL_ERROR),
        Close,
    ],
    &[Take, BeginBody(100, "half"), GoAway(true), Close],
];

/// One way for a request to be broken.
struct Case {
    client: Http,
    speaks: Speaks,
    request: Request,
    breaks: &'static [Step],
    /// The connection carried a request before.
    kept: bool,
    endpoints: usize,
    /// Whether every connection breaks, or only the first.
    always: bool,
}

impl Case {
    fn name(&self) -> String {
        let Self {
            client,
            speaks,
            breaks,
            kept,
            endpoints,
            always,
            ..
        } = self;
        let method = match self.request.streams {
            true => "gRPC",
            false => self.request.method,
        };
        format!(
            "{method} from HTTP/{client:?} to {endpoints} {speaks:?}, kept {kept}, always {always}: {breaks:?}"
        )
    }

    fn outcome(&self) -> (String, Outcome) {
        let first: &[Step] = if self.kept { &[Take, OK] } else { &[] };
        let script = [first, self.breaks].concat();
        let requests: &[Request] = if self.kept {
            &[GET, self.request]
        } else {
            &[self.request]
        };
        let name = self.name();
        let row = Row::new(&name)
            .client(self.client)
            .endpoints(self.endpoints, self.speaks)
            .sends(requests);
        match self.always {
            true => row.script(&[&script, self.breaks]).outcome(),
            false => row.script(&[&script, &GOOD]).outcome(),
        }
    }
}

/// All ways there are for this client.
fn cases(client: Http) -> Vec<Case> {
    let mut cases = Vec::new();
    for speaks in [Http1, Http2] {
        let more = if speaks == Http2 {
            BREAKS_OF_HTTP2
        } else {
            &[]
        };
        for breaks in BREAKS.iter().chain(more) {
            for request in REQUESTS {
                for (kept, endpoints, always) in [
                    (false, 1, true),
                    (false, 2, false),
                    (false, 2, true),
                    (true, 1, true),
                    (true, 1, false),
                    (true, 2, true),
                    (true, 2, false),
                ] {
                    cases.push(Case {
                        client,
                        speaks,
                        request,
                        breaks,
                        kept,
                        endpoints,
                        always,
                    });
                }
            }
        }
    }
    cases
}

/// The proxy had no whole response for the client.
fn has_failed(response: &Response) -> bool {
    response.status >= 500 || response.status == 0 || !response.body.is_whole
}

/// Every attempt that an endpoint broke is counted, and nothing else is. So whatever fails at the
/// client is counted, and so is what a retry saved.
#[track_caller]
fn check_all(client: Http) {
    let mut wrong = Vec::new();
    for case in cases(client) {
        let (line, outcome) = case.outcome();
        let seen: usize = outcome.seen.iter().sum();
        let good = outcome.stats.iter().map(|(_, one)| one.responses.total());
        let broken = seen as u64 - good.sum::<u64>();
        let failed = outcome.responses.iter().filter(|one| has_failed(one));
        let failed = failed.count() as u64;
        // What is sent once has failed once.
        let agrees = match case.request.method {
            "POST" => failed == outcome.failures(),
            _ => failed <= outcome.failures(),
        };
        if outcome.failures() != broken || !agrees || outcome.in_flight > 0 {
            wrong.push(format!("{}\n    {line}", case.name()));
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} are wrong:\n{}", wrong.join("\n"));
}

#[test]
fn every_broken_attempt_of_a_client_over_http1_is_counted() {
    check_all(Http::One);
}

#[test]
fn every_broken_attempt_of_a_client_over_http2_is_counted() {
    check_all(Http::Two);
}

#[test]
fn an_attempt_that_was_not_looked_at_is_excused_only_if_it_is_sent_again() {
    let went_away: &[Step] = &[Take, GoAway(false), Close];
    for client in [Http::One, Http::Two] {
        for request in [GET, POST, GRPC] {
            let check = |name: &str, script: &[&[Step]], want: &str| {
                Row::new(&format!("{} {name}", request.method))
                    .client(client)
                    .endpoints(1, Http2)
                    .sends(&[request])
                    .script(script)
                    .check(want);
            };
            check("saved", &[went_away, &GOOD], "200; seen 2; 2xx 1");
            check(
                "never saved",
                &[went_away],
                "502 error=connection_terminated; seen 3; reset 1",
            );
        }
    }
}

#[test]
fn a_request_that_a_drain_cuts_is_a_failure_of_its_version() {
    for (client, speaks) in [(Http::One, Http1), (Http::Two, Http2)] {
        let (line, endpoint) = run(async {
            let silent: &[Step] = &[Take, Stall];
            let script = Script::new(&[silent], &[]);
            let rig = Rig::new("", SERVICE, &[("1", speaks)], script).await;
            let mut sender = rig.client(client).await;
            let table = rig.table();
            let endpoint = table.services()[0].endpoints().next().unwrap().clone();
            let cut = async {
                while rig.script.seen().is_empty() {
                    tokio::task::yield_now().await;
                }
                rig.worker().upstream(&endpoint).cut(Kind::Request);
            };
            let ((response, _), ()) = tokio::join!(sender.send(&GET), cut);
            rig.settle().await;
            (rig.outcome(vec![response], 1).line(), endpoint)
        });
        let want = "504 error=connection_terminated; details=\"drained\"; seen 1; timeout 1";
        assert_eq!(line, want, "{client:?}");
        let outcomes = endpoint.claims.outcomes();
        assert_eq!(
            (outcomes.good, outcomes.bad),
            (0, 0),
            "no endpoint is ejected for it"
        );
    }
}

#[test]
fn an_upgrade_that_the_endpoints_protocol_has_not_is_a_failure_of_its_version() {
    let upgrade = GET.fields(&[("connection", "upgrade"), ("upgrade", "websocket")]);
    Row::new("over HTTP/2")
        .endpoints(2, Http2)
        .sends(&[upgrade])
        .check("501 error=http_request_error; seen 0+0; protocol 1");
}
