//! A client that sends requests all the time and sees every failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::Running;

/// A running `crossfade-sample-client`.
pub struct Load {
    running: Running,
}

/// What a client saw, from its first request to its last.
#[derive(Debug)]
pub struct Seen {
    /// Requests that were begun.
    pub requests: u64,
    /// Responses by version and status.
    pub responses: BTreeMap<(String, u64), u64>,
    /// Failures by cause.
    pub failures: BTreeMap<String, u64>,
    /// Connections that the server closed between two requests.
    pub closed_idle: u64,
    /// Connections that were opened.
    pub connections_opened: u64,
    /// Lines about failures, as the client printed them.
    pub failure_lines: Vec<String>,
}

impl Load {
    /// Starts asking for `/`.
    pub fn start(address: SocketAddr, flags: &[&str]) -> Self {
        let url = format!("http://{address}/");
        Self::at(&url, flags)
    }

    /// Starts asking for a URL.
    pub fn at(url: &str, flags: &[&str]) -> Self {
        let mut args = vec!["--url", url, "--quiet", "--summary", "--output", "json"];
        args.extend(flags);
        Self {
            running: Running::start("crossfade-sample-client", &args, &[]),
        }
    }

    /// Stops, and gives what was seen.
    pub async fn stop(self) -> Seen {
        self.running.until_it_catches(Signal::INT).await;
        self.running.signal(Signal::INT);
        self.finished().await
    }

    /// Waits until it has stopped by itself, and gives what was seen.
    pub async fn finished(self) -> Seen {
        let finished = self.running.finished().await;
        let lines: Vec<&str> = finished.stdout.lines().collect();
        let summary = lines
            .last()
            .and_then(|line| serde_json::from_str::<Value>(line).ok());
        let summary = summary.unwrap_or_else(|| panic!("no summary in {finished:?}"));
        let summary = &summary["summary"];
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{summary}"));
        let responses = summary["responses"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|response| {
                let version = response["version"].as_str().unwrap_or("").to_owned();
                (
                    (version, number(&response["status"])),
                    number(&response["count"]),
                )
            });
        let failures = summary["failures"].as_object().into_iter().flatten();
        Seen {
            requests: number(&summary["requests"]),
            responses: responses.collect(),
            failures: failures
                .map(|(cause, n)| (cause.clone(), number(n)))
                .collect(),
            closed_idle: number(&summary["closed_idle"]),
            connections_opened: number(&summary["connections_opened"]),
            failure_lines: lines
                .iter()
                .filter(|line| line.contains("\"error\""))
                .map(|line| (*line).to_owned())
                .collect(),
        }
    }
}

impl Seen {
    /// Responses with status 200 of a version.
    pub fn ok(&self, version: &str) -> u64 {
        self.responses
            .get(&(version.to_owned(), 200))
            .copied()
            .unwrap_or(0)
    }

    /// Responses with this status, by whatever made them.
    pub fn with_status(&self, status: u64) -> u64 {
        let with = self.responses.iter().filter(|((_, one), _)| *one == status);
        with.map(|(_, count)| count).sum()
    }

    /// The sum of all failures.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Fails unless every request had a good response.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        assert!(self.requests > 0, "nothing was asked");
        assert_eq!(self.failed(), 0, "{self:#?}");
    }
}
