//! One keep-alive connection after the other, and the requests that are sent on them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::Empty;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::connection::{Connection, IdleEnd, connect};
use crate::exchange::{Broken, Deadline, exchange};
use crate::failure::{Cause, Failure};
use crate::options::Config;
use crate::schedule::Ticket;
use crate::shared::{Shared, Stop};

/// Where no pace is set, a server that refuses connections is asked again after this.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(100);

const OUR_NAME: &str = concat!("crossfade-sample-client/", env!("CARGO_PKG_VERSION"));

/// Sends requests, one at a time, until the stop or until no ticket is left.
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
            stop.or_pause(REFUSED_PAUSE).await;
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    request: Request<Empty<Bytes>>,
    /// The connection that the last request left behind.
    connection: Option<Connection>,
}

impl Worker<'_> {
    /// Waits until the ticket is due, with an eye on the idle connection. Tells from when on the
    /// request's latency counts; none at the stop.
    async fn wait(&mut self, ticket: Ticket, stop: &mut Stop) -> Option<Instant> {
        let now = Instant::now();
        let due = ticket.due.unwrap_or(now);
        // Due while every connection was busy: the time that it waited for one counts.
        if due <= now {
            return Some(due);
        }
        loop {
            tokio::select! {
                biased;
                // The timer's own delay is none of the server's doing, so it does not count.
                () = sleep_until(due) => return Some(Instant::now()),
                () = stop.wait() => return None,
                end = idle_end(&mut self.connection) => {
                    self.connection = None;
                    self.shared.report.idle_end(end);
                }
            }
        }
    }

    /// Sends one request, once, and tells how it went. Whether there was a connection for it.
    async fn request(&mut self, since: Instant) -> bool {
        let report = &self.shared.report;
        report.request();
        let deadline = Deadline::after(self.shared.config.timeout);
        if let Some(reused) = self.connection.take() {
            match self.send(reused, since, deadline).await {
                None => return true,
                // Nothing was written, so the first sending is still to come.
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
            // A connection made for this request broke before an answer's head, as seen from here.
            Some(IdleEnd::Closed) => {
                let detail = "the server closed a new connection before a request was sent";
                report.failure(&Failure::new(Cause::Reset, detail));
            }
            Some(IdleEnd::Unasked(failure)) => report.failure(&failure),
        }
        true
    }

    /// Tells how the connection ended if it did so before the request was written.
    async fn send(
        &mut self,
        mut connection: Connection,
        since: Instant,
        deadline: Deadline,
    ) -> Option<IdleEnd> {
        match exchange(&mut connection, self.request.clone(), deadline).await {
            Ok((answer, keeps_alive)) => {
                self.shared.report.answer(&answer, since.elapsed());
                self.connection = keeps_alive.then_some(connection);
                None
            }
            Err(Broken::Failed(failure)) => {
                self.shared.report.failure(&failure);
                None
            }
            Err(Broken::Unsent(end)) => Some(end),
        }
    }
}

async fn open(shared: &Shared) -> Result<Connection, Failure> {
    let stream = connect(&shared.names, &shared.config.target).await?;
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

/// What every request says, WebSocket or not.
pub(crate) fn headers(config: &Config) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, config.target.host_header.clone());
    for (name, value) in &config.headers {
        headers.append(name, value.clone());
    }
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(OUR_NAME));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    headers
}
