//! What the client is told on its command line and in its environment.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::target::Target;

/// The exit code for a command line or an environment that makes no sense (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// Sends requests at a steady pace, retries none, and counts what went wrong.
///
/// Prints a line per answer and per failure. Ends with code 0 when every request had a complete
/// answer with a status below 500, and else with 1. Failures are `connect` (no connection),
/// `reset` (it broke before the head of an answer), `cut` (the body broke off), `stall` (timeout),
/// `protocol` (not HTTP) and `http_5xx`. A keep-alive connection that the server closes between
/// two requests is no failure; the summary counts it as closed idle.
#[derive(Debug, Clone, Parser)]
#[command(name = "crossfade-sample-client", version)]
pub struct Options {
    /// What to ask for
    #[arg(long, env = "URL", default_value = "http://crossfade:8080/")]
    url: Target,

    /// Requests a second in total, with --websocket messages a second of each WebSocket; 0 is as
    /// fast as the connections can
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = rate)]
    rate: f64,

    /// Keep-alive connections, or WebSockets, each with a request of its own in flight
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Stop after so long a time, such as 30s [default: at Ctrl-C or SIGTERM]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// How long a request may take, its connection included
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,

    /// The Host header, where it is not that of the URL
    #[arg(long, value_parser = host)]
    host: Option<HeaderValue>,

    /// A header of every request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Print no line per answer, only failures
    #[arg(long)]
    quiet: bool,

    /// Sum up at the end: counts by version and status, failures by cause, latency
    #[arg(long)]
    summary: bool,

    /// How lines look
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Answers with a status of 500 or more leave the exit code at 0; they are counted all the
    /// same
    #[arg(long)]
    allow_5xx: bool,

    /// Open WebSockets, send messages on them and expect each back
    #[arg(long)]
    websocket: bool,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// As a Python program would print them.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// GET requests.
    Http,
    /// Messages that are expected back.
    WebSocket,
}

/// What to send, how fast, and what to say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where requests go, its `Host` header included.
    pub target: Target,
    /// Headers beside `Host`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent.
    pub mode: Mode,
    /// The time between two requests, or between two messages of a WebSocket; none for as fast
    /// as can be.
    pub interval: Option<Duration>,
    /// How many connections there are.
    pub connections: u32,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// After how many requests to stop by itself.
    pub count: Option<u64>,
    /// How long one request may take, its connection included.
    pub timeout: Duration,
    /// How lines look.
    pub output: Output,
    /// No line per answer.
    pub quiet: bool,
    /// Whether the summary is printed.
    pub summary: bool,
    /// Whether an answer of 500 or more is let pass.
    pub allow_5xx: bool,
}

impl Config {
    /// One request after the other to `target`, as fast as can be.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            headers: Vec::new(),
            mode: Mode::Http,
            interval: None,
            connections: 1,
            duration: None,
            count: None,
            timeout: Duration::from_secs(10),
            output: Output::Text,
            quiet: false,
            summary: false,
            allow_5xx: false,
        }
    }
}

impl Options {
    /// What to do.
    pub fn config(self) -> Config {
        let mut target = self.url;
        if let Some(host) = self.host {
            target.host_header = host;
        }
        Config {
            target,
            headers: self.headers,
            mode: if self.websocket {
                Mode::WebSocket
            } else {
                Mode::Http
            },
            interval: (self.rate > 0.0).then(|| Duration::from_secs_f64(1.0 / self.rate)),
            connections: self.connections,
            duration: self.duration,
            count: self.count,
            timeout: self.timeout,
            output: self.output,
            quiet: self.quiet,
            summary: self.summary,
            allow_5xx: self.allow_5xx,
        }
    }
}

fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        // Below, the time between two requests would be no time that a clock can count.
        Ok(rate) if rate == 0.0 || (0.0001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0.0001 to 1000000, or 0 for no limit"),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no request can be answered in no time".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(error.to_string()),
    }
}

fn host(text: &str) -> Result<HeaderValue, &'static str> {
    HeaderValue::from_str(text.trim()).map_err(|_| "not a host name")
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| "not the name of a header")?;
    if name == http::header::HOST {
        return Err("use --host for that");
    }
    let value = value
        .trim()
        .parse()
        .map_err(|_| "not the value of a header")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let program = std::iter::once(&"crossfade-sample-client");
        Options::try_parse_from(program.chain(arguments))
            .map(Options::config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_it_asks_the_proxy_ten_times_a_second() {
        let config = parse(&["--url", "http://crossfade:8080/"]).unwrap();
        assert_eq!(config.interval, Some(Duration::from_millis(100)));
        assert_eq!(
            (config.connections, config.count, config.duration),
            (1, None, None)
        );
    }

    #[test]
    fn a_rate_of_zero_has_no_interval() {
        assert_eq!(parse(&["--rate", "0"]).unwrap().interval, None);
    }

    #[test]
    fn host_and_headers_are_taken_as_they_are() {
        let config = parse(&[
            "--host",
            "a.example",
            "--header",
            "X-A: 1:2",
            "--header",
            "x-b:",
        ])
        .unwrap();
        assert_eq!(config.target.host_header, "a.example");
        let headers: Vec<_> = config
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v))
            .collect();
        assert_eq!(
            headers,
            [
                ("x-a", &HeaderValue::from_static("1:2")),
                ("x-b", &"".parse().unwrap())
            ]
        );
    }

    #[test]
    fn a_flag_that_makes_no_sense_is_named() {
        for [flag, value] in [
            ["--url", "https://x/"],
            ["--rate", "-1"],
            ["--rate", "NaN"],
            ["--connections", "0"],
            ["--timeout", "0"],
            ["--timeout", "5"],
            ["--header", "no colon"],
            ["--header", "Host: x"],
            ["--output", "xml"],
        ] {
            let error = parse(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(error.contains(flag), "{error}");
        }
    }
}
