//! Clients that go away while their response is awaited, or in the middle of one that is silent. The
//! work at the endpoint ends with them, and is no failure of the version.

use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Row, times_a_second, two_origins};
use crate::TestProxy;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::request::{Kind, Request};
use crate::zero_downtime::test_env::TestEnv;
use crate::zero_downtime::traffic::{Plan, Traffic};

/// How many clients go away a second.
const RATE: u32 = 50;
/// What they would have had to wait for, in milliseconds.
const SLOW: u16 = 20_000;
/// Before that, they have gone away.
const STAY: u64 = 150;
/// So soon after it, nothing is left of their requests.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let _origins = two_origins(&proxy, &witness).await;

    let plan = Plan::usual(proxy.address, limits.rate);
    let traffic = Traffic::start(&plan, &witness, None);
    let mut clients = JoinSet::new();
    let (began, mut clock) = (Instant::now(), times_a_second(RATE));
    while began.elapsed() < time {
        clock.tick().await;
        let id = witness.next_id();
        let kind = Kind::Slow(SLOW);
        clients.spawn(leave(proxy.address, Request { id, kind }));
    }
    let left = clients.join_all().await.len();
    let seen = traffic.stop().await;
    let ended = Instant::now();
    let mut in_flight = u64::MAX;
    while in_flight > 0 && ended.elapsed() < ENDS_WITHIN {
        in_flight = proxy.stats().await.versions["1"].in_flight;
    }
    let stats = &proxy.stats().await.versions["1"];
    let findings = witness.judge(|_| false);
    Outcome::new(Row::Leaves.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with("went away", left as f64, "", Limit::AtLeast(1.0))
        .with(
            "counted as gone",
            stats.client_gone as f64,
            "",
            // One whose request was not read yet is counted nowhere.
            Limit::AtLeast(left as f64 * 0.9),
        )
        .with(
            "failures counted",
            stats.failures() as f64,
            "",
            Limit::Is(0.0),
        )
        .with(
            "in flight a second later",
            in_flight as f64,
            "",
            Limit::Is(0.0),
        )
}

/// Sends a request and goes away a moment later: with a FIN of one side or of both, or a reset.
async fn leave(proxy: std::net::SocketAddr, request: Request) {
    let Ok(mut stream) = TcpStream::connect(proxy).await else {
        return;
    };
    if stream.write_all(&request.bytes(false)).await.is_err() {
        return;
    }
    tokio::time::sleep(Duration::from_millis(20 + request.id % STAY)).await;
    match request.id / 3 % 3 {
        0 => drop(stream),
        1 => {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        _ => {
            let _ = stream.shutdown().await;
            tokio::time::sleep(ENDS_WITHIN).await;
        }
    }
}
