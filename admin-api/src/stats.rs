//! The figures by which a version is judged. All are cumulative since the version came into
//! the table, so a reader subtracts two readings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::MirrorStats;

/// The response to `GET /v1/services/{name}/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// The service.
    pub service: String,
    /// The number of the table that was read.
    pub generation: u64,
    /// The figures of each version.
    pub versions: BTreeMap<String, VersionStats>,
    /// What came of copies of its requests, where some are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStats>,
    /// Its requests that found no endpoint up.
    #[serde(default)]
    pub waits: WaitStats,
}

/// Requests that waited for an endpoint to come up, or wait (`timeouts.wait_for_endpoint`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitStats {
    /// Those that wait now.
    pub waiting: u64,
    /// All that began to wait.
    pub waited: u64,
    /// Of these, those that got the proxy's own response: they waited too long, or there was no
    /// place.
    pub refused: u64,
}

/// The figures of one version.
///
/// An attempt is one sending of a request to an endpoint. It ends in exactly one of these: a
/// response that was passed on whole (`responses`), a failure (`failed_tries`), or a client that
/// went away (`client_gone`). A retried request has several attempts, so retries hide nothing. For a
/// verdict the request counts once, by its first attempt ([`VersionStats::requests`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionStats {
    /// Requests in flight.
    pub in_flight: u64,
    /// Of these, the streams: their responses have begun and go on without a length (server-sent
    /// events, gRPC).
    #[serde(default)]
    pub streams: u64,
    /// Upgraded (WebSocket) connections that are open.
    pub upgraded: u64,
    /// Responses that were passed on whole, by status class.
    pub responses: Responses,
    /// Attempts that failed, by cause, whether a retry then saved the request or not.
    pub failed_tries: FailedAttempts,
    /// Requests whose client went away before the response was whole. They count against no
    /// version.
    pub client_gone: u64,
    /// New requests that the split gave to this version and that went to another, since nothing
    /// of this one was up.
    #[serde(default)]
    pub diverted: u64,
    /// Attempts that were sent to an endpoint that was down, since nothing of the service was up.
    #[serde(default)]
    pub panicked: u64,
    /// From an attempt's start to the head of its response.
    pub latency: Vec<Bucket>,
    /// Of the counts above, those of further attempts: their requests were counted by an attempt
    /// before, at this version or another. Older proxies do not send it.
    #[serde(default)]
    pub repeated: OutcomeStats,
    /// Attempts of requests whose clients named this version (`force`), and failures of clients
    /// that keep theirs (`sticky`) after each one's first. They are in none of the counts above: a
    /// version is not judged by requests that clients aim at it.
    #[serde(default)]
    pub forced: OutcomeStats,
}

/// What came of some attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeStats {
    /// Responses that were passed on whole, by status class.
    pub responses: Responses,
    /// Attempts that failed, by cause.
    pub failed_tries: FailedAttempts,
    /// Requests whose client went away before the response was whole.
    pub client_gone: u64,
}

impl VersionStats {
    /// Attempts that count for or against the version: all but those whose client went away, and
    /// those that are counted apart ([`VersionStats::forced`]).
    pub fn attempts(&self) -> u64 {
        self.responses.total() + self.failed_tries.total()
    }

    /// Attempts that count against the version: responses of class 5xx and failed attempts.
    pub fn failures(&self) -> u64 {
        self.responses.server_error + self.failed_tries.total()
    }

    /// Requests that the split gave to this version, each once: what it is judged by.
    pub fn requests(&self) -> u64 {
        self.attempts().saturating_sub(self.repeated.attempts())
    }

    /// Of these, those whose first attempt failed, whether a retry then saved them or not.
    pub fn failed_requests(&self) -> u64 {
        self.failures().saturating_sub(self.repeated.failures())
    }
}

impl OutcomeStats {
    /// All but those whose client went away.
    pub fn attempts(&self) -> u64 {
        self.responses.total() + self.failed_tries.total()
    }

    /// Responses of class 5xx and failed attempts.
    pub fn failures(&self) -> u64 {
        self.responses.server_error + self.failed_tries.total()
    }

    /// Adds what another process or another group of attempts came to.
    pub fn add(&mut self, other: &Self) {
        self.responses.add(&other.responses);
        self.failed_tries.add(&other.failed_tries);
        self.client_gone += other.client_gone;
    }
}

/// Responses by status class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responses {
    /// 101: upgraded connections that have begun.
    #[serde(rename = "1xx")]
    pub informational: u64,
    /// 200 to 299.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// 300 to 399.
    #[serde(rename = "3xx")]
    pub redirection: u64,
    /// 400 to 499.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// 500 to 999.
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

impl Responses {
    /// Adds other responses.
    pub fn add(&mut self, other: &Self) {
        let Self {
            informational,
            success,
            redirection,
            client_error,
            server_error,
        } = other;
        self.informational += informational;
        self.success += success;
        self.redirection += redirection;
        self.client_error += client_error;
        self.server_error += server_error;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.informational + self.success + self.redirection + self.client_error + self.server_error
    }
}

/// Failed attempts by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempts {
    /// No connection could be made: refused, unreachable, or `timeouts.connect` ran out.
    pub connect: u64,
    /// The connection broke before the head of a response was there.
    pub reset: u64,
    /// No head of a response within `timeouts.first_byte`, or before `timeouts.request` ran out.
    pub timeout: u64,
    /// The response was not HTTP.
    pub protocol: u64,
    /// The response began and then broke off or stood still.
    pub body: u64,
}

impl FailedAttempts {
    /// Adds other attempts.
    pub fn add(&mut self, other: &Self) {
        let Self {
            connect,
            reset,
            timeout,
            protocol,
            body,
        } = other;
        self.connect += connect;
        self.reset += reset;
        self.timeout += timeout;
        self.protocol += protocol;
        self.body += body;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.timeout + self.protocol + self.body
    }
}

/// One bucket of a latency histogram: how many attempts took at most `le` seconds, and more than
/// the bucket before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper bound in seconds, inclusive.
    pub le: f64,
    /// Attempts in this bucket alone (not cumulative). Buckets of 0 are left out.
    pub count: u64,
}
