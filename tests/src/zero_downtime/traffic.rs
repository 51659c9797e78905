//! Many clients at once, all of one run: some keep their connections, some have a new one for
//! each request, some ask for what takes long, some hold WebSockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Client, GoodResponse, echo};
use super::request::{Kind, Request};
use super::witness::{Failure, Finding, Witness};

/// What slow requests ask for, at most.
const SLOW: u64 = 400;
/// From one message of a WebSocket to the next.
const MESSAGE: Duration = Duration::from_millis(50);

/// Who the clients are.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where they connect.
    pub target: SocketAddr,
    /// Connections that are kept, and how many requests a second they carry together.
    pub kept: usize,
    /// See `kept`.
    pub rate: f64,
    /// Requests a second that have a connection each.
    pub short_rate: f64,
    /// Clients that request slow responses, one after the other.
    pub slow: usize,
    /// Open WebSockets.
    pub websockets: usize,
}

/// Clients that ask until they are told to stop.
pub struct Traffic {
    clients: JoinSet<Seen>,
    stop: watch::Sender<bool>,
    began: Instant,
}

/// What the clients of one run saw that is not trouble.
#[derive(Debug)]
pub struct Seen {
    /// Good responses.
    pub responses: u64,
    /// Echoes on WebSockets.
    pub echoes: u64,
    /// From a request to its response, without what slow ones asked for, in microseconds.
    pub latency: Histogram<u64>,
    /// By how much the clients themselves were late at the worst: a machine that is too busy.
    pub own_delay: Duration,
    /// For how long they asked.
    pub elapsed: Duration,
}

/// Gets each good response.
pub type Observer = Arc<dyn Fn(GoodResponse) + Send + Sync>;

impl Plan {
    /// The usual mix, at this many requests a second.
    pub fn usual(target: SocketAddr, rate: f64) -> Self {
        Self {
            target,
            kept: 64,
            rate: rate * 0.95,
            short_rate: rate * 0.05,
            slow: 16,
            websockets: 8,
        }
    }
}

impl Traffic {
    /// Starts the clients. `observer` gets every good response.
    pub fn start(plan: &Plan, witness: &Arc<Witness>, observer: Option<&Observer>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut clients = JoinSet::new();
        let client = || One {
            client: Client::new(plan.target),
            witness: witness.clone(),
            observer: observer.cloned(),
            stopping: stopping.clone(),
            seen: Seen::default(),
        };
        for number in 0..plan.kept {
            let pace = Pace::new(plan.kept, plan.rate, number);
            clients.spawn(client().keep_asking(pace));
        }
        // Enough of them that one which waits for its response does not hold up the others.
        let short = (plan.short_rate / 10.0).ceil() as usize;
        for number in 0..short {
            let pace = Pace::new(short, plan.short_rate, number);
            clients.spawn(client().send_once_each(pace));
        }
        for _ in 0..plan.slow {
            clients.spawn(client().send_slow());
        }
        for _ in 0..plan.websockets {
            clients.spawn(client().hold_websocket());
        }
        Self {
            clients,
            stop,
            began: Instant::now(),
        }
    }

    /// Has every client finish what it is doing.
    pub async fn stop(mut self) -> Seen {
        let elapsed = self.began.elapsed();
        // Every client has a receiver.
        let _ = self.stop.send(true);
        let mut all = Seen::default();
        while let Some(seen) = self.clients.join_next().await {
            let seen = seen.expect("a client does not panic");
            all.responses += seen.responses;
            all.echoes += seen.echoes;
            all.latency += seen.latency;
            all.own_delay = all.own_delay.max(seen.own_delay);
        }
        Seen { elapsed, ..all }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            responses: 0,
            echoes: 0,
            latency: microseconds(),
            own_delay: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }
}

impl Seen {
    /// Good responses a second.
    pub fn rate(&self) -> f64 {
        self.responses as f64 / self.elapsed.as_secs_f64()
    }
}

/// A histogram of microseconds, up to an hour.
pub(super) fn microseconds() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3).expect("these bounds are allowed")
}

/// When a client asks: its share of a rate, and its place among those who share it.
struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    fn new(clients: usize, rate: f64, number: usize) -> Self {
        let every = Duration::from_secs_f64(clients as f64 / rate.max(0.001));
        Self {
            every,
            next: Instant::now() + every.mul_f64(number as f64 / clients as f64),
        }
    }

    /// When the next one is due. One that took long is caught up with.
    fn next(&mut self) -> Instant {
        let due = self.next;
        self.next += self.every;
        due
    }
}

/// One client.
struct One {
    client: Client,
    witness: Arc<Witness>,
    observer: Option<Observer>,
    stopping: watch::Receiver<bool>,
    seen: Seen,
}

impl One {
    async fn keep_asking(mut self, mut pace: Pace) -> Seen {
        while self.wait(pace.next()).await {
            let request = Request::of_mix(self.witness.next_id());
            self.send(request, false).await;
        }
        self.seen
    }

    async fn send_once_each(mut self, mut pace: Pace) -> Seen {
        while self.wait(pace.next()).await {
            let request = Request::of_mix(self.witness.next_id());
            // Half of them leave it to the proxy to close the connection.
            self.send(request, request.id.is_multiple_of(2)).await;
            self.client.hang_up();
        }
        self.seen
    }

    async fn send_slow(mut self) -> Seen {
        while !*self.stopping.borrow() {
            let id = self.witness.next_id();
            let milliseconds = (SLOW / 4 + id % (SLOW * 3 / 4)) as u16;
            let kind = Kind::Slow(milliseconds);
            if !self.send(Request { id, kind }, false).await {
                // Not to become a storm against a proxy that is gone.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.seen
    }

    async fn hold_websocket(mut self) -> Seen {
        let mut wait = Instant::now();
        while !*self.stopping.borrow() {
            let id = self.witness.next_id();
            let request = Request {
                id,
                kind: Kind::WebSocket,
            };
            let (mut wire, endpoint) = match self.client.upgrade(request).await {
                Ok(opened) => opened,
                Err(finding) => {
                    self.witness.found(finding);
                    wait += MESSAGE;
                    tokio::time::sleep_until(wait.into()).await;
                    continue;
                }
            };
            let opened = Instant::now();
            for number in 0u64.. {
                wait = Instant::now() + MESSAGE;
                tokio::select! {
                    () = tokio::time::sleep_until(wait.into()) => {}
                    _ = self.stopping.changed() => return self.seen,
                }
                if let Err(detail) = echo(&mut wire, &format!("{id:x}-{number}")).await {
                    self.witness.found(Finding {
                        failure: Failure::WebSocket,
                        request: Some(request),
                        endpoint: Some(endpoint),
                        sent: opened,
                        at: Instant::now(),
                        detail,
                    });
                    break;
                }
                self.seen.echoes += 1;
            }
        }
        self.seen
    }

    /// Waits until then, with the connection idle. Gives false when it is time to stop.
    async fn wait(&mut self, due: Instant) -> bool {
        let in_time = Instant::now() < due;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    // One that is being caught up with is late for another reason.
                    if in_time {
                        self.seen.own_delay = self.seen.own_delay.max(due.elapsed());
                    }
                    return !*self.stopping.borrow();
                }
                finding = self.client.disturbed() => self.witness.found(finding),
                _ = self.stopping.changed() => return false,
            }
        }
    }

    async fn send(&mut self, request: Request, close: bool) -> bool {
        let outcome = self.client.exchange(request, close).await;
        self.witness.ended();
        match outcome {
            Ok(response) => {
                let took = response.done.duration_since(response.sent);
                let own = took.saturating_sub(request.pause());
                self.seen.latency.saturating_record(own.as_micros() as u64);
                self.seen.responses += 1;
                if let Some(observer) = &self.observer {
                    observer(response);
                }
                true
            }
            Err(finding) => {
                self.witness.found(finding);
                false
            }
        }
    }
}
