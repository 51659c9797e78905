//! The load generator: one thread and many connections, either in a closed loop (each connection
//! sends its next request when the response to the one before is complete) or at a fixed rate.
//!
//! At a fixed rate the latency of a request counts from the moment it was due. So a stall of the
//! proxy counts for every request that had to wait.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::connection::{Connection, State};
use crate::error::{Context, Error, Result};
use crate::plan::{Closing, End, Exchange, Failure, Pace, Plan, Requests};
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
    /// Connections that think, with the due times of their next requests.
    thinking: BinaryHeap<Reverse<(Instant, usize)>>,
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
            .map(|number| Connection::starting_at(number * kinds / plan.connections))
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
            thinking: BinaryHeap::new(),
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
        let mut run = Run::starting_now();
        let mut ready = Vec::new();
        let mut ended: u64 = 0;
        loop {
            let now = Instant::now();
            let over = match end {
                End::After(time) => now >= run.start + time,
                End::Requests(count) | End::Exactly(count) => ended >= count,
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
            if let End::Exactly(most) = end {
                run.most = most;
            }
            let wait = self.begin_due(&mut run, now, &mut count)?;
            while let Some(number) = self.unsent.pop() {
                self.send(number, &mut count)?;
            }
            self.poll.wait(Some(wait), &mut ready)?;
            for &number in &ready {
                self.step(number, &mut count)?;
            }
        }
    }

    /// Begins the requests that are due. Returns how long there are none.
    fn begin_due(
        &mut self,
        run: &mut Run,
        now: Instant,
        observe: &mut dyn FnMut(&Exchange),
    ) -> Result<Duration> {
        match self.plan.pace.clone() {
            Pace::Closed => {
                while run.begun < run.most
                    && let Some(number) = self.idle.pop()
                {
                    run.begun += 1;
                    self.begin(number, Instant::now(), observe)?;
                }
                Ok(TICK)
            }
            Pace::Rate(rate) => {
                let due = |n: u64| run.start + Duration::from_secs_f64(n as f64 / rate);
                while due(run.begun) <= now {
                    self.waiting.push_back(due(run.begun));
                    run.begun += 1;
                }
                while let (Some(&due), Some(&number)) = (self.waiting.front(), self.idle.last()) {
                    self.waiting.pop_front();
                    self.idle.pop();
                    self.begin(number, due, observe)?;
                }
                Ok(until(due(run.begun)))
            }
            Pace::Think(times) => {
                while let Some(number) = self.idle.pop() {
                    let next = self.connections.get(number).map_or(0, Connection::next);
                    let time = times.get(next % times.len().max(1)).copied();
                    let due = now + time.unwrap_or_default();
                    self.thinking.push(Reverse((due, number)));
                }
                while let Some(&Reverse((due, number))) = self.thinking.peek() {
                    if due > now {
                        return Ok(until(due));
                    }
                    self.thinking.pop();
                    self.begin(number, due, observe)?;
                }
                Ok(TICK)
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
        let by_server = self.plan.closing == Closing::ByServer;
        let state = connection.receive(by_server, &mut self.buffer, &mut self.done);
        let ending = connection.is_ending();
        let has_to_send = connection.has_to_send();
        let closes = self.plan.closing == Closing::ByClient && !self.done.is_empty();
        for request in self.done.drain(..) {
            observe(&request);
            if !ending {
                self.idle.push(number);
            }
        }
        if closes && state == State::Open {
            self.connections[number].close();
            return Ok(());
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

/// The state of one run.
struct Run {
    start: Instant,
    /// The requests that were begun, or are due at a fixed rate.
    begun: u64,
    /// The most requests to begin.
    most: u64,
}

impl Run {
    fn starting_now() -> Self {
        Self {
            start: Instant::now(),
            begun: 0,
            most: u64::MAX,
        }
    }
}

/// How long to wait for events: until then, but no longer than a tick.
fn until(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now()).min(TICK)
}

/// Whether a limit of this machine was hit, which is no failure of the proxy.
fn is_local_limit(error: &io::Error) -> bool {
    let limits = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    limits
        .iter()
        .any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

#[cfg(test)]
mod tests;
