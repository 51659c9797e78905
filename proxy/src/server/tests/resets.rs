//! Clients of HTTP/2 that give up requests: what they may, and what others notice of it.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Connection, ResponseFuture, SendRequest};
use tokio::time::Instant;

use crate::testing::hot_path::clock::Watched;
use crate::testing::hot_path::endpoint::{ProxyEnd, Script, Speaks, Step};
use crate::testing::hot_path::{Rig, SERVICE, run};

use Step::{Respond, Stall, Take, Wait};

/// How often other tasks have their turn until what was sent has arrived.
const TURNS: usize = 20;
/// How long an endpoint takes that is slow.
const SLOW: Duration = Duration::from_secs(2);
/// Gives every request time to be given up.
const SLOWLY: [Step; 3] = [Take, Wait(SLOW), Respond(200, "ok")];

/// A client, and how its connection has ended.
struct Client {
    sender: SendRequest<Bytes>,
    connection: Connection<Watched, Bytes>,
    ended: Option<Result<(), h2::Error>>,
    /// Requests that it waits for.
    open: Vec<(ResponseFuture, h2::SendStream<Bytes>)>,
}

impl Client {
    async fn new(rig: &Rig) -> Self {
        let (sender, connection) = h2::client::handshake(Watched(rig.connect().await))
            .await
            .unwrap();
        let mut client = Self {
            sender,
            connection,
            ended: None,
            open: Vec::new(),
        };
        client.turn().await;
        client
    }

    fn begin(&mut self) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let head = http::Request::get("http://a/").body(()).unwrap();
        self.sender.send_request(head, true)
    }

    /// Lets what was sent arrive.
    async fn turn(&mut self) {
        let turns = async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        };
        self.until(turns).await;
    }

    /// Moves the connection's bytes until this is there.
    async fn until<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        if self.ended.is_none() {
            tokio::select! {
                biased;
                ended = &mut self.connection => self.ended = Some(ended),
                output = &mut future => return output,
            }
        }
        future.await
    }

    /// Gives so many requests up, and stops when it is told to go. Gives how many it gave up.
    async fn give_up(&mut self, count: usize) -> usize {
        for given_up in 0..count {
            let Ok((response, mut send)) = self.begin() else {
                return given_up;
            };
            send.send_reset(Reason::CANCEL);
            drop(response);
            self.turn().await;
        }
        count
    }

    /// Gives so many requests up, each when an endpoint has seen it.
    async fn give_up_seen(&mut self, rig: &Rig, count: usize) {
        for _ in 0..count {
            let seen = rig.script.seen().len();
            let (response, mut send) = self.begin().unwrap();
            while rig.script.seen().len() == seen {
                self.turn().await;
            }
            send.send_reset(Reason::CANCEL);
            drop(response);
            self.turn().await;
        }
    }

    /// Begins a request that it waits for, and gives the connection on which an endpoint sees it.
    async fn connection_of_next(&mut self, rig: &Rig) -> usize {
        let seen = rig.script.seen().len();
        let request = self.begin().unwrap();
        self.open.push(request);
        let limit = Instant::now() + Duration::from_secs(60);
        while rig.script.seen().len() == seen && Instant::now() < limit {
            self.turn().await;
            self.until(tokio::time::sleep(Duration::from_millis(1)))
                .await;
        }
        rig.script.seen().last().unwrap().connection
    }

    async fn is_told_to_go(&mut self) -> bool {
        self.turn().await;
        let ready = std::future::poll_fn(|cx| self.sender.poll_ready(cx));
        ready.await.is_err()
    }
}

async fn rig(speaks: Speaks, script: &[&[Step]]) -> Rig {
    Rig::new("", SERVICE, &[("1", speaks)], Script::new(script, &[])).await
}

#[test]
fn a_client_that_gives_up_the_requests_of_a_page_is_slowed_down_and_keeps_its_connection() {
    run(async {
        let rig = rig(Speaks::Http1, &[&SLOWLY]).await;
        let mut client = Client::new(&rig).await;
        assert_eq!(client.give_up(290).await, 290);
        assert!(!client.is_told_to_go().await);
        let began = Instant::now();
        let (response, _send) = client.begin().unwrap();
        assert_eq!(client.until(response).await.unwrap().status(), 200);
        // 90 more than it may; 50 come back in a second, of which some have passed on a busy machine.
        let waited = began.elapsed() - SLOW;
        assert!(waited > Duration::from_millis(200), "{waited:?}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        assert!(!client.is_told_to_go().await);
    });
}

#[test]
fn many_that_are_given_up_in_one_write_are_no_attack() {
    run(async {
        let rig = rig(Speaks::Http1, &[&SLOWLY]).await;
        let mut client = Client::new(&rig).await;
        let mut given_up = Vec::new();
        for _ in 0..90 {
            given_up.push(client.begin().unwrap());
        }
        for (_, send) in &mut given_up {
            send.send_reset(Reason::CANCEL);
        }
        drop(given_up);
        client.turn().await;
        let (response, _send) = client.begin().unwrap();
        assert_eq!(client.until(response).await.unwrap().status(), 200);
        assert!(!client.is_told_to_go().await);
    });
}

#[test]
fn responses_and_time_refill_what_a_client_may_give_up() {
    run(async {
        let rig = rig(Speaks::Http1, &[&SLOWLY]).await;
        let mut client = Client::new(&rig).await;
        for _ in 0..4 {
            assert_eq!(client.give_up(190).await, 190);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let (response, _send) = client.begin().unwrap();
        let began = Instant::now();
        assert_eq!(client.until(response).await.unwrap().status(), 200);
        let waited = began.elapsed() - SLOW;
        assert!(waited < Duration::from_millis(500), "{waited:?}");
    });
}

#[test]
fn a_client_that_goes_on_giving_up_is_told_to_go_and_what_it_waits_for_comes() {
    run(async {
        let rig = rig(Speaks::Http1, &[&SLOWLY]).await;
        let mut client = Client::new(&rig).await;
        let (response, _send) = client.begin().unwrap();
        let given_up = client.give_up(1_000).await;
        // The budget, and half as many again, with what time has given back.
        assert!((300..1_000).contains(&given_up), "{given_up}");
        assert_eq!(client.until(response).await.unwrap().status(), 200);
        let ended = match client.ended.take() {
            Some(ended) => ended,
            None => (&mut client.connection).await,
        };
        assert!(ended.is_ok(), "{ended:?}");
        rig.settle().await;
        let stats = rig.stats("1");
        assert_eq!((stats.failures(), stats.responses.success), (0, 1));
        // What waited was given up before it began.
        let begun = stats.client_gone as usize;
        assert!(begun + 90 <= given_up, "{begun} of {given_up}");
    });
}

#[test]
fn past_its_budget_a_client_has_a_connection_to_the_endpoint_for_itself() {
    run(async {
        let rig = rig(Speaks::Http2, &[&[Stall]]).await;
        let (mut one, mut other) = (Client::new(&rig).await, Client::new(&rig).await);
        assert_eq!(other.connection_of_next(&rig).await, 0);
        one.give_up_seen(&rig, 200).await;
        // More than time gives back until the next one may begin.
        assert_eq!(one.give_up(90).await, 90);
        // Connections may have been begun for requests that were given up before they were there.
        let own = one.connection_of_next(&rig).await;
        assert_ne!(own, 0);
        assert_eq!(other.connection_of_next(&rig).await, 0);
        assert_eq!(one.connection_of_next(&rig).await, own, "it is kept");
    });
}

#[test]
fn past_its_budget_a_connection_to_an_endpoint_has_no_more_resets_and_gets_no_more_streams() {
    run(async {
        let rig = rig(Speaks::Http2, &[&[Stall]]).await;
        let mut other = Client::new(&rig).await;
        assert_eq!(other.connection_of_next(&rig).await, 0);
        for _ in 0..4 {
            Client::new(&rig).await.give_up_seen(&rig, 160).await;
        }
        assert_eq!(
            resets(&rig),
            500 + 40,
            "with those of the second connection"
        );
        assert_eq!(other.connection_of_next(&rig).await, 1);
        // With nothing on it that is waited for, the first one is closed.
        drop(other);
        rig.settle().await;
        rig.worker().tidy();
        let limit = Instant::now() + Duration::from_secs(60);
        while resets(&rig) < 642 && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(resets(&rig), 642);
    });
}

/// Streams to endpoints that were reset, with CANCEL.
fn resets(rig: &Rig) -> usize {
    let ends = rig.script.ends();
    let is_reset = |end: &&ProxyEnd| **end == ProxyEnd::Stream(8);
    ends.iter().filter(is_reset).count()
}
