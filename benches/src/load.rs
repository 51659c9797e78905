//! The load generator: one thread, many connections, either as fast as answers come (closed
//! loop) or at a fixed rate whatever the answers do.
//!
//! At a fixed rate the latency of a request counts from the moment it was due, so that a proxy
//! which stalls is charged for every request that had to wait meanwhile.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::connection::{Connection, State};
use crate::error::{Context, Error, Result};
use crate::plan::{End, Exchange, Failure, Pace, Plan, Requests};
use crate::poll::Poll;

/// What is read of an answer with one call; bodies past it are dropped by the kernel unread.
const READ: usize = 256 * 1024;
/// The longest wait without a look at the clock.
const TICK: Duration = Duration::from_millis(10);
/// How soon a connection that could not be opened is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// The load generator with its connections.
pub(crate) struct Load<'a> {
    plan: Plan,
    poll: Poll,
    connections: Vec<Connection>,
    /// Those that could carry a request more; each as often as it could.
    idle: Vec<usize>,
    /// Those with requests that are not sent yet.
    unsent: Vec<usize>,
    /// When the requests that no connection was free for were due.
    waiting: VecDeque<Instant>,
    /// Connections that are opened again later.
    broken: Vec<(Instant, usize)>,
    /// Requests that have come to their end; here to be used again.
    done: Vec<Exchange>,
    buffer: Vec<u8>,
    interrupted: &'a AtomicBool,
}

impl<'a> Load<'a> {
    /// Prepares the connections. They open with their first requests.
    pub(crate) fn new(plan: Plan, interrupted: &'a AtomicBool) -> Result<Self> {
        let (kinds, streams) = match &plan.requests {
            Requests::Http1(requests) => (requests.len(), 1),
            Requests::Http2 { streams, .. } => (1, *streams),
        };
        if kinds == 0 || streams == 0 || plan.connections == 0 {
            return Err(Error::Usage("a load needs requests and connections".into()));
        }
        // Connections begin at different requests, so that all of them are asked at once.
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

    /// Asks until the end, telling `observe` of each request that has come to its own.
    /// Connections, and what is in flight on them, carry over to the next run.
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

    /// Waits for the answers that are still to come, and asks nothing more. What has no answer
    /// by then never will have one.
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

    /// When the requests that have no answer yet were due: those on their way, and those that
    /// no connection was free for.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = Instant> {
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

    /// Takes the next request of a connection. Over HTTP/1.1 it is sent at once; over HTTP/2 with
    /// all others that the connection is asked to carry, since they share a packet.
    fn begin(
        &mut self,
        number: usize,
        due: Instant,
        observe: &mut dyn FnMut(&Exchange),
    ) -> Result<()> {
        let connection = &mut self.connections[number];
        if let Err(error) = connection.begin(&self.plan, &self.poll, number, due)? {
            if is_our_own_shortage(&error) {
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

    /// Goes on with a connection that is ready.
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
                // One that was idle is in the list already, and is opened anew with its next
                // request.
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
            // Not at once: a proxy that refuses everything must not be asked a million times.
            self.broken.push((Instant::now() + RETRY, number));
        }
    }
}

/// Not the proxy's failure.
fn is_our_own_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    shortages
        .iter()
        .any(|shortage| error.raw_os_error() == Some(shortage.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Outcome;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::rc::Rc;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A server that answers each connection so often, then closes it.
    fn server(answers: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    for _ in 0..answers {
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
    fn a_closed_loop_asks_until_it_has_its_count() {
        let requests = run(server(usize::MAX), Pace::Closed, End::Requests(100));
        assert!(requests.len() >= 100);
        let answered = |request: &Exchange| matches!(request.outcome, Outcome::Response(response) if response.status == 200);
        assert!(requests.iter().all(answered));
    }

    #[test]
    fn a_fixed_rate_sends_what_is_due_and_no_more() {
        let time = Duration::from_millis(500);
        let requests = run(server(usize::MAX), Pace::Rate(100.0), End::After(time));
        assert!((10..=51).contains(&requests.len()), "{}", requests.len());
        assert!(requests.iter().all(|request| request.due <= request.sent));
    }

    #[test]
    fn a_connection_that_closes_on_a_request_is_a_failure_and_is_opened_again() {
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
    fn what_was_asked_is_waited_for_and_nothing_more_is_asked() {
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
        assert_eq!(load.unanswered().count(), 0);
    }

    #[test]
    fn nobody_listening_is_a_failure_to_connect() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let requests = run(address, Pace::Closed, End::Requests(2));
        let refused =
            |request: &Exchange| matches!(request.outcome, Outcome::Failed(Failure::Connect));
        assert!(requests.iter().all(refused));
    }
}
