//! What clients and origins saw of one run, brought together: that is how a request that was sent
//! twice, or to an endpoint that had its receipt, is known from one that was not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::request::Request;

/// Findings that are kept whole. Of what comes after them only the number is known.
const KEEP: usize = 10_000;

/// What can go wrong for a client, or against a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// No connection could be made.
    Refused,
    /// A response that is not 200.
    Status,
    /// The connection ended before anything of the response came.
    Reset,
    /// The response broke off.
    Cut,
    /// A response more than a second late.
    Stalled,
    /// A response that is not the one to this request.
    WrongBody,
    /// Bytes after the end of the response, or without a request.
    Unasked,
    /// A kept connection was closed, or a response said that it would be.
    Closed,
    /// A WebSocket ended, or could not be opened.
    WebSocket,
    /// A request at an endpoint after its receipt.
    AfterReceipt,
    /// A POST that came to origins twice.
    PostTwice,
    /// An upload that did not come to the origin as it was sent.
    BadUpload,
    /// A connection to an endpoint that stayed open long after its receipt.
    LeftOpen,
}

/// One thing that went wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What.
    pub failure: Failure,
    /// With which request, if it was one.
    pub request: Option<Request>,
    /// At which origin, where that is known.
    pub endpoint: Option<u32>,
    /// When the request was sent.
    pub sent: Instant,
    /// When it was found.
    pub at: Instant,
    /// The rest of it, in words.
    pub detail: String,
}

/// What an origin has to say. Origins may be processes of their own.
#[derive(Debug, Clone)]
pub enum Sight {
    /// A request came.
    Came(Request),
    /// A request came after the endpoint's receipt.
    AfterReceipt(Request),
    /// An upload was not what was sent.
    BadUpload(Request, String),
}

/// What was seen in one run.
#[derive(Debug)]
pub struct Witness {
    began: Instant,
    next_id: AtomicU64,
    requests: AtomicU64,
    found: AtomicU64,
    /// A bit for each POST that came to an origin.
    came: Mutex<Vec<u64>>,
    findings: Mutex<Vec<Finding>>,
}

impl Default for Witness {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            next_id: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            found: AtomicU64::new(0),
            came: Mutex::default(),
            findings: Mutex::default(),
        }
    }
}

impl Witness {
    /// A number that no other request has.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A client's request has ended, well or not.
    pub(super) fn ended(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// An origin says what it saw.
    pub fn saw(&self, endpoint: u32, sight: Sight) {
        let (failure, request, detail) = match sight {
            Sight::Came(request) => {
                // Anything else may be sent again while nothing of its response has come.
                if !request.is_post() || !self.came_before(request.id) {
                    return;
                }
                (Failure::PostTwice, request, String::new())
            }
            Sight::AfterReceipt(request) => (Failure::AfterReceipt, request, String::new()),
            Sight::BadUpload(request, why) => (Failure::BadUpload, request, why),
        };
        let now = Instant::now();
        self.found(Finding {
            failure,
            request: Some(request),
            endpoint: Some(endpoint),
            sent: now,
            at: now,
            detail,
        });
    }

    fn came_before(&self, id: u64) -> bool {
        let mut came = lock(&self.came);
        let (place, bit) = ((id / 64) as usize, 1 << (id % 64));
        if came.len() <= place {
            came.resize(place + 1, 0);
        }
        let before = came[place] & bit != 0;
        came[place] |= bit;
        before
    }

    /// Something went wrong.
    pub(super) fn found(&self, finding: Finding) {
        self.found.fetch_add(1, Ordering::Relaxed);
        let mut findings = lock(&self.findings);
        if findings.len() < KEEP {
            findings.push(finding);
        }
    }

    /// Requests that have ended so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What has gone wrong so far.
    pub fn troubles(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// How many of the findings that were kept are of a kind.
    pub(super) fn count(&self, is_of_kind: impl Fn(&Finding) -> bool) -> u64 {
        let findings = lock(&self.findings);
        findings
            .iter()
            .filter(|finding| is_of_kind(finding))
            .count() as u64
    }

    /// Judges what was found: `excused` says what was to be expected.
    pub fn judge(&self, excused: impl Fn(&Finding) -> bool) -> Findings {
        let findings = lock(&self.findings);
        let mut judged = Findings {
            failed: self.troubles() - findings.len() as u64,
            ..Findings::default()
        };
        for finding in findings.iter() {
            if excused(finding) {
                judged.excused += 1;
                continue;
            }
            judged.failed += 1;
            *judged.troubles.entry(finding.failure).or_default() += 1;
            if judged.examples.len() < 20 {
                judged.examples.push(self.tell(finding));
            }
        }
        judged
    }

    fn tell(&self, finding: &Finding) -> String {
        let Finding {
            failure,
            request,
            endpoint,
            sent,
            at,
            detail,
        } = finding;
        let at_second = at.duration_since(self.began).as_secs_f64();
        let after = at.duration_since(*sent).as_secs_f64() * 1e3;
        let endpoint = endpoint.map_or(String::new(), |number| format!(" at endpoint {number}"));
        let path = request.map_or(String::new(), |request| format!(" {}", request.path()));
        format!("{at_second:.3} s: {failure}:{path}{endpoint} after {after:.1} ms {detail}")
            .trim_end()
            .to_owned()
    }
}

/// What went wrong, judged.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// What must not have happened.
    pub failed: u64,
    /// What was to be expected.
    pub excused: u64,
    /// The first of these by what they are.
    pub troubles: BTreeMap<Failure, u64>,
    /// The first few, in words.
    pub examples: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "no connection",
            Self::Status => "response is not 200",
            Self::Reset => "connection ended before the response",
            Self::Cut => "response broke off",
            Self::Stalled => "response more than a second late",
            Self::WrongBody => "wrong response",
            Self::Unasked => "bytes without a request",
            Self::Closed => "kept connection closed",
            Self::WebSocket => "WebSocket ended",
            Self::AfterReceipt => "request after the receipt",
            Self::PostTwice => "POST sent twice",
            Self::BadUpload => "upload not as it was sent",
            Self::LeftOpen => "connection open long after the receipt",
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
