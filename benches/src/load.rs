//! The load generator: one thread and many connections, either in a closed loop (each connection
//! sends its next request when the response to the one before is complete) or at a fixed rate.
//!
//! At a fixed rate the latency of a request counts from the moment it was due. So a stall of the
//! proxy counts for every request that had to wait.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::connection::{Connection, State};
use crate::error::{Context, Error, Result};
use crate::plan::{End, Exchange, Failure, Pace, Plan, Requests};
use crate::poll::Poll;

/// The size of one read. The kernel discards the rest of a large body unread.
const READ: usize = 256 * 1024;
/// The longest wait for events.
const TICK: Duration = Duration::from_millis(10);
/// The pause before a failed connection is opened again.
const RETRY: Duration = Duration::from_millis(20);

/// The load generator with its connections.
pub(crate) struct Load<'a> {
    plan: Plan,
    poll: Poll,
    connections: Vec<Connection>,
    /// Connections that can carry another request; each as often as it can.
    idle: Vec<usize>,
    /// Connections with queued requests.
    unsent: Vec<usize>,
    /// The due times of requests that wait for a free connection.
    waiting: VecDeque<Instant>,
    /// Failed connections, with the time to open them again.
    broken: Vec<(Instant, usize)>,
    /// Requests that are complete; a buffer that is reused.
    done: Vec<Exchange>,
    buffer: Vec<u8>,
    interrupted: &'a AtomicBool,
}

impl<'a> Load<'a> {
    /// Prepares the connections. Each opens with its first request.
    pub(crate) fn new(plan: Plan, interrupted: &'a AtomicBool) -> Result<Self> {
        let (kinds, streams) = match &plan.requests {
            Requests::Http1(requests) => (requests.len(), 1),
            Requests::Http2 { streams, .. } => (1, *streams),
        };
        if kinds == 0 || streams == 0 || plan.connections == 0 {
            return Err(Error::Usage("a load needs requests and connections".into()));
        }
        // Connections start with different requests, so that all requests are in use at once.
        let connections = (0..plan.connections)
            .map(|number| Connection::starting_at(number % kinds))
            .collect();
        let all = (0..plan.connections).rev();
        Ok(Self {
            poll: Poll::new()?,
            idle: all
                .flat_map(|number| std::iter::repeat_n(number, streams))
                .collect(),
            connections,
            unsent: Vec::new(),
            waiting: VecDeque::new(),
            broken: Vec::new(),
            done: Vec::new(),
            buffer: vec![0; READ],
            plan,
            interrupted,
        })
    }

    /// Sends requests until `end`, and calls `observe` with each that is complete. Connections, and
    /// the requests in flight on them, carry over to the next run.
    pub(crate) fn run(&mut self, end: End, observe: &mut dyn FnMut(&Exchange)) -> Result<Instant> {
        let start = Instant::now();
        let mut scheduled: u64 = 0;
        let mut ended: u64 = 0;
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            let over = match end {
                End::After(time) => now >= start + time,
                End::Requests(count) => ended >= count,
            };
            if over {
                return Ok(now);
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            self.reopen(now);
            let mut count = |request: &Exchange| {
                ended += 1;
                observe(request);
            };
            let wait = match self.plan.pace {
                Pace::Closed => {
                    while let Some(number) = self.idle.pop() {
                        self.begin(number, Instant::now(), &mut count)?;
                    }
                    TICK
                }
                Pace::Rate(rate) => {
                    let due = |n: u64| start + Duration::from_secs_f64(n as f64 / rate);
                    while due(scheduled) <= now {
                        self.waiting.push_back(due(scheduled));
                        scheduled += 1;
                    }
                    while let (Some(&due), Some(&number)) = (self.waiting.front(), self.idle.last())
                    {
                        self.waiting.pop_front();
                        self.idle.pop();
                        self.begin(number, due, &mut count)?;
                    }
                    due(scheduled)
                        .saturating_duration_since(Instant::now())
                        .min(TICK)
                }
            };
            while let Some(number) = self.unsent.pop() {
                self.send(number, &mut count)?;
            }
            self.poll.wait(Some(wait), &mut ready)?;
            for &number in &ready {
                self.step(number, &mut count)?;
            }
        }
    }

    /// Waits for the outstanding responses, for at most `within`, and sends nothing more. Returns how
    /// many are still missing.
    pub(crate) fn finish(
        &mut self,
        within: Duration,
        observe: &mut dyn FnMut(&Exchange),
    ) -> Result<usize> {
        let deadline = Instant::now() + within;
        let mut ready = Vec::new();
        loop {
            let left = self.in_flight().count();
            if left == 0 || Instant::now() > deadline {
                return Ok(left);
            }
            self.poll.wait(Some(TICK), &mut ready)?;
            for &number in &ready {
                self.step(number, observe)?;
            }
        }
    }

    /// The due times of requests without a response: those in flight, and those that wait for a
    /// free connection.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = Instant> {
        self.in_flight().chain(self.waiting.iter().copied())
    }

    fn in_flight(&self) -> impl Iterator<Item = Instant> {
        self.connections.iter().flat_map(Connection::due)
    }

    fn reopen(&mut self, now: Instant) {
        while let Some(&(at, number)) = self.broken.first() {
            if at > now {
                break;
            }
            self.broken.remove(0);
            self.idle.push(number);
        }
    }

    /// Begins the next request of a connection. Over HTTP/1.1 it is sent at once; over HTTP/2
    /// together with the others of the same turn, since they share a packet.
    fn begin(
        &mut self,
        number: usize,
        due: Instant,
        observe: &mut dyn FnMut(&Exchange),
    ) -> Result<()> {
        let connection = &mut self.connections[number];
        if let Err(error) = connection.begin(&self.plan, &self.poll, number, due)? {
            if is_local_limit(&error) {
                return Err(error).context(|| format!("connect to {}", self.plan.target));
            }
            self.fail(number, Failure::Connect, observe);
            return Ok(());
        }
        if self.plan.requests.is_multiplexed() {
            if self.unsent.last() != Some(&number) {
                self.unsent.push(number);
            }
            return Ok(());
        }
        self.send(number, observe)
    }

    fn send(&mut self, number: usize, observe: &mut dyn FnMut(&Exchange)) -> Result<()> {
        let state = self.connections[number].send(&self.poll, number)?;
        self.follow(number, state, observe);
        Ok(())
    }

    /// Continues a connection that is ready.
    fn step(&mut self, number: usize, observe: &mut dyn FnMut(&Exchange)) -> Result<()> {
        let connection = &mut self.connections[number];
        if connection.waits_for_room() {
            return self.send(number, observe);
        }
        let state = connection.receive(self.plan.reconnect, &mut self.buffer, &mut self.done);
        let ending = connection.is_ending();
        let has_to_send = connection.has_to_send();
        for request in self.done.drain(..) {
            observe(&request);
            if !ending {
                self.idle.push(number);
            }
        }
        self.follow(number, state, observe);
        if has_to_send && state == State::Open {
            return self.send(number, observe);
        }
        Ok(())
    }

    fn follow(&mut self, number: usize, state: State, observe: &mut dyn FnMut(&Exchange)) {
        match state {
            State::Open => {}
            State::Failed(failure) => self.fail(number, failure, observe),
            State::Closed => {
                let connection = &mut self.connections[number];
                // An idle connection is in the list already; it opens with its next request.
                if connection.is_ending() {
                    self.idle.push(number);
                }
                connection.close();
            }
        }
    }

    fn fail(&mut self, number: usize, failure: Failure, observe: &mut dyn FnMut(&Exchange)) {
        self.connections[number].fail(failure, &mut self.done);
        for request in self.done.drain(..) {
            observe(&request);
            // After a pause: a proxy that refuses everything must not get a million requests.
            self.broken.push((Instant::now() + RETRY, number));
        }
    }
}

/// Whether a limit of this machine was hit, which is no failure of the proxy.
fn is_local_limit(error: &io::Error) -> bool {
    let limits = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    limits
        .iter()
        .any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Outcome;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::rc::Rc;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A server that sends this many responses on each connection, then closes it.
    fn server(responses: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    for _ in 0..responses {
                        if stream.read(&mut buffer).unwrap_or(0) == 0 {
                            return;
                        }
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    }
                    let _ = stream.read(&mut buffer);
                });
            }
        });
        address
    }

    fn run(target: SocketAddr, pace: Pace, end: End) -> Vec<Exchange> {
        let plan = Plan {
            target,
            connections: 2,
            requests: Requests::Http1(Rc::new([REQUEST.to_vec()])),
            tls: None,
            pace,
            reconnect: false,
        };
        let interrupted = AtomicBool::new(false);
        let mut requests = Vec::new();
        let mut load = Load::new(plan, &interrupted).unwrap();
        load.run(end, &mut |request| requests.push(*request))
            .unwrap();
        requests
    }

    #[test]
    fn a_closed_loop_ends_after_its_count() {
        let requests = run(server(usize::MAX), Pace::Closed, End::Requests(100));
        assert!(requests.len() >= 100);
        let succeeded = |request: &Exchange| matches!(request.outcome, Outcome::Response(response) if response.status == 200);
        assert!(requests.iter().all(succeeded));
    }

    #[test]
    fn a_fixed_rate_sends_only_what_is_due() {
        let time = Duration::from_millis(500);
        let requests = run(server(usize::MAX), Pace::Rate(100.0), End::After(time));
        assert!((10..=51).contains(&requests.len()), "{}", requests.len());
        assert!(requests.iter().all(|request| request.due <= request.sent));
    }

    #[test]
    fn a_connection_that_closes_with_a_request_in_flight_is_a_failure_and_opens_again() {
        let requests = run(server(3), Pace::Closed, End::Requests(20));
        let closed = |request: &&Exchange| {
            matches!(
                request.outcome,
                Outcome::Failed(Failure::Closed { reused: true })
            )
        };
        assert!((4..=6).contains(&requests.iter().filter(closed).count()));
    }

    #[test]
    fn finish_waits_for_responses_and_sends_nothing_more() {
        let plan = Plan {
            target: server(usize::MAX),
            connections: 2,
            requests: Requests::Http1(Rc::new([REQUEST.to_vec()])),
            tls: None,
            pace: Pace::Closed,
            reconnect: false,
        };
        let interrupted = AtomicBool::new(false);
        let mut load = Load::new(plan, &interrupted).unwrap();
        load.run(End::Requests(10), &mut |_| {}).unwrap();
        let mut more = 0;
        let left = load.finish(Duration::from_secs(5), &mut |_| more += 1);
        assert_eq!(left.unwrap(), 0);
        assert!(more <= 2);
        assert_eq!(load.outstanding().count(), 0);
    }

    #[test]
    fn a_refused_connection_is_a_failure_to_connect() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let requests = run(address, Pace::Closed, End::Requests(2));
        let refused =
            |request: &Exchange| matches!(request.outcome, Outcome::Failed(Failure::Connect));
        assert!(requests.iter().all(refused));
    }
}
