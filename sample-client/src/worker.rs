//! A worker: one keep-alive connection at a time, and the requests on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::Empty;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::connection::{Connection, IdleEnd, connect};
use crate::exchange::{Deadline, ExchangeError, exchange};
use crate::failure::{Cause, Failure};
use crate::options::Config;
use crate::schedule::Ticket;
use crate::shared::{Shared, Stop};

/// The pause after a refused connection if no rate is set.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(100);

const DEFAULT_USER_AGENT: &str = concat!("crossfade-sample-client/", env!("CARGO_PKG_VERSION"));

/// Sends requests, one at a time, until the stop or until all tickets are taken.
pub(crate) async fn work(shared: Arc<Shared>, mut stop: Stop) {
    let mut worker = Worker {
        connection: None,
        request: head(&shared.config),
        shared: &shared,
    };
    while !stop.is_set() {
        let Some(ticket) = shared.schedule.take() else {
            break;
        };
        let Some(since) = worker.wait(ticket, &mut stop).await else {
            break;
        };
        let connected = worker.request(since).await;
        if !connected && ticket.due.is_none() {
            stop.sleep_or_stop(REFUSED_PAUSE).await;
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    request: Request<Empty<Bytes>>,
    /// The connection of the last request, if it can take another.
    connection: Option<Connection>,
}

impl Worker<'_> {
    /// Waits until the ticket is due, and watches the idle connection meanwhile. Returns the time
    /// from which the request's latency counts, or `None` at the stop.
    async fn wait(&mut self, ticket: Ticket, stop: &mut Stop) -> Option<Instant> {
        let now = Instant::now();
        let due = ticket.due.unwrap_or(now);
        // It was due while every connection was busy: its wait for one counts as latency.
        if due <= now {
            return Some(due);
        }
        loop {
            tokio::select! {
                biased;
                // The timer's own delay is not the server's latency.
                () = sleep_until(due) => return Some(Instant::now()),
                () = stop.wait() => return None,
                end = idle_end(&mut self.connection) => {
                    self.connection = None;
                    self.shared.report.idle_end(end);
                }
            }
        }
    }

    /// Sends one request, once, and reports the result. Returns whether it had a connection.
    async fn request(&mut self, since: Instant) -> bool {
        let report = &self.shared.report;
        report.request();
        let deadline = Deadline::after(self.shared.config.timeout);
        if let Some(reused) = self.connection.take() {
            match self.send(reused, since, deadline).await {
                None => return true,
                // Nothing was written: the request goes out on a new connection.
                Some(end) => report.idle_end(end),
            }
        }
        let connection = match timeout_at(deadline.at, open(self.shared)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(failure)) => {
                report.failure(&failure);
                return false;
            }
            Err(_) => {
                report.failure(&deadline.missed(Cause::Connect, "no connection"));
                return false;
            }
        };
        match self.send(connection, since, deadline).await {
            None => {}
            // The connection that was opened for this request broke before the request was sent.
            Some(IdleEnd::Closed) => {
                let detail = "the server closed a new connection before a request was sent";
                report.failure(&Failure::new(Cause::Reset, detail));
            }
            Some(IdleEnd::Unsolicited(failure)) => report.failure(&failure),
        }
        true
    }

    /// Returns how the connection ended, if it ended before the request was written.
    async fn send(
        &mut self,
        mut connection: Connection,
        since: Instant,
        deadline: Deadline,
    ) -> Option<IdleEnd> {
        match exchange(&mut connection, self.request.clone(), deadline).await {
            Ok((response, keeps_alive)) => {
                self.shared.report.response(&response, since.elapsed());
                self.connection = keeps_alive.then_some(connection);
                None
            }
            Err(ExchangeError::Failed(failure)) => {
                self.shared.report.failure(&failure);
                None
            }
            Err(ExchangeError::Unsent(end)) => Some(end),
        }
    }
}

async fn open(shared: &Shared) -> Result<Connection, Failure> {
    let stream = connect(&shared.resolver, &shared.config.target).await?;
    shared.report.opened();
    Connection::new(stream).await
}

async fn idle_end(connection: &mut Option<Connection>) -> IdleEnd {
    match connection {
        Some(connection) => connection.idle_end().await,
        None => std::future::pending().await,
    }
}

fn head(config: &Config) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(config.target.path.clone());
    *request.headers_mut() = headers(config);
    request
}

/// The headers of every request and of every WebSocket handshake.
pub(crate) fn headers(config: &Config) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, config.target.host_header.clone());
    for (name, value) in &config.headers {
        headers.append(name, value.clone());
    }
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(DEFAULT_USER_AGENT));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    headers
}
