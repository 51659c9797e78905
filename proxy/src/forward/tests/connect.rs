//! An endpoint that cannot be connected to costs its clients a moment, and no request.

use std::io;

use rustix::io::Errno;

use crate::forward::attempt::{Blame, Failed};
use crate::table::counts::stats::Failure;
use crate::testing::hot_path::endpoint::Speaks;
use crate::testing::hot_path::{GRPC, Http, POST, Row};

use Speaks::{Http1, Http2, Silence};

/// On both wires to the endpoint, and from the client.
fn one_of_two_is_silent(service: &'static str, says: impl Fn(Row<'static>)) {
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            let row = Row::new(service).client(client).service(service);
            says(row.versions(&[("1", Silence), ("1", speaks)]));
        }
    }
}

#[test]
fn another_endpoint_is_connected_to_beside_a_silent_one() {
    // Longer than any test may take: nothing but a second connection helps.
    let patient = r#"{"name":"web","timeouts":{"connect":"48h","connect_failover":"48h"}}"#;
    one_of_two_is_silent(patient, |row| {
        let (_, outcome) = row.sends(&[POST; 4]).outcome();
        let statuses = outcome.responses.iter().map(|response| response.status);
        assert_eq!(statuses.collect::<Vec<_>>(), [200; 4], "{outcome:?}");
        assert_eq!(outcome.seen, [4, 0], "{outcome:?}");
        assert_eq!(outcome.failures(), 0, "the slower one is no failure");
    });
}

#[test]
fn without_a_second_connection_it_is_given_up_for_another_endpoint() {
    let service = r#"{"name":"web","timeouts":{"connect":"48h","connect_hedge":"0s"}}"#;
    one_of_two_is_silent(service, |row| {
        let (_, outcome) = row.sends(&[GRPC; 4]).outcome();
        let statuses = outcome.responses.iter().map(|response| response.status);
        assert_eq!(statuses.collect::<Vec<_>>(), [200; 4], "{outcome:?}");
        assert!(outcome.failures() > 0, "{outcome:?}");
    });
}

#[test]
fn the_last_endpoint_has_the_whole_time_to_connect() {
    Row::new("it is alone")
        .endpoints(1, Silence)
        .sends(&[POST])
        .check("504 error=connection_timeout; seen 0; connect 1");
}

#[test]
fn what_this_machine_has_run_out_of_is_no_versions_doing() {
    for (errno, want) in [
        (Errno::MFILE, Blame::Excused),
        (Errno::NFILE, Blame::Excused),
        (Errno::ADDRNOTAVAIL, Blame::Excused),
        (Errno::NOMEM, Blame::Excused),
        (Errno::CONNREFUSED, Blame::Endpoint(Failure::Connect)),
        (Errno::HOSTUNREACH, Blame::Endpoint(Failure::Connect)),
    ] {
        for is_sent_again in [true, false] {
            let failed = Failed::connecting(&io::Error::from(errno));
            assert_eq!(failed.blame(false, is_sent_again), want, "{errno}");
        }
    }
}
