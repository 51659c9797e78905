//! The command line and the environment variables.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::target::Target;

/// The exit code for an invalid command line or environment (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// Sends requests at a steady rate, retries none, and counts failures by cause.
///
/// Prints a line for each response and for each failure. Exits with 0 if every request got a
/// complete response with a status below 500, otherwise with 1. Failures are `connect` (no
/// connection), `reset` (the connection broke before the response's head), `cut` (the body is
/// incomplete), `stall` (timeout), `protocol` (not HTTP) and `http_5xx`. A keep-alive connection
/// that the server closes between two requests is no failure; the summary counts it as closed
/// idle. In the JSON summary, `answers` is the old name of `responses`; the next release removes
/// it.
#[derive(Debug, Clone, Parser)]
#[command(name = "crossfade-sample-client", version)]
pub struct Options {
    /// The URL to request
    #[arg(long, env = "URL", default_value = "http://crossfade:8080/")]
    url: Target,

    /// Requests a second in total; with --websocket, messages a second on each WebSocket. 0: as
    /// many as the connections carry
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = rate)]
    rate: f64,

    /// The number of keep-alive connections, or of WebSockets
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Stop after this time, such as 30s [default: at Ctrl-C or SIGTERM]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// Stop after this many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// How long a request may take, including opening its connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,

    /// The Host header [default: that of the URL]
    #[arg(long, value_parser = host)]
    host: Option<HeaderValue>,

    /// A header to send with every request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Print failures only, no line for each response
    #[arg(long)]
    quiet: bool,

    /// Print a summary at the end: counts by version and status, failures by cause, latency
    #[arg(long)]
    summary: bool,

    /// The format of lines
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Exit with 0 even if responses have a status of 500 or more; the summary still counts them
    #[arg(long)]
    allow_5xx: bool,

    /// Open WebSockets, send messages and expect each message back
    #[arg(long)]
    websocket: bool,
}

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Python dict literals.
    Text,
    /// JSON objects.
    Json,
}

/// What the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// GET requests.
    Http,
    /// WebSocket messages that are expected back.
    WebSocket,
}

/// The checked options.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where requests go, including the `Host` header.
    pub target: Target,
    /// Headers other than `Host`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Requests or WebSocket messages.
    pub mode: Mode,
    /// The time between two requests, or between two messages on a WebSocket. `None`: no pause.
    pub interval: Option<Duration>,
    /// The number of connections.
    pub connections: u32,
    /// The time after which the run stops.
    pub duration: Option<Duration>,
    /// The number of requests after which the run stops.
    pub count: Option<u64>,
    /// How long a request may take, including opening its connection.
    pub timeout: Duration,
    /// The format of lines.
    pub output: Output,
    /// Failures only: no line for each response.
    pub quiet: bool,
    /// Whether the summary is printed.
    pub summary: bool,
    /// Whether responses of 500 or more leave the exit code at 0.
    pub allow_5xx: bool,
}

impl Config {
    /// One connection to `target` that sends each request as soon as the one before is complete.
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
    /// Checks the options.
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
        // Below 0.0001 the interval would be hours; above 1e6 it is less than a microsecond.
        Ok(rate) if rate == 0.0 || (0.0001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0.0001 to 1000000, or 0 for no limit"),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a timeout of 0 fails every request".to_owned()),
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
    fn without_flags_it_sends_ten_requests_a_second_to_the_proxy() {
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
    fn an_invalid_flag_is_named() {
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
