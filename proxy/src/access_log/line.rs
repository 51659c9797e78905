//! A request's line, in either form.

use std::io::Write;
use std::time::{Duration, Instant};

use admin_api::{LogFormat, LogVariable as Variable, Piece};

use super::clock::Moment;
use super::escape;
use super::record::{Record, Text};

/// What a line looks like.
#[derive(Debug)]
pub(super) enum Line {
    Json,
    Text(Box<[Part]>),
}

/// A part of a text.
#[derive(Debug)]
pub(super) enum Part {
    Literal(Box<str>),
    Variable(Variable),
    /// A field that every record has.
    Text(Text),
    /// The field with this place among those that are wanted.
    Field(usize),
}

impl Line {
    /// As the config asks for it, and the fields of requests that it needs.
    pub(super) fn of(format: &LogFormat) -> (Self, Box<[String]>) {
        let LogFormat::Text { pieces, .. } = format else {
            return (Self::Json, Box::default());
        };
        let mut fields: Vec<String> = Vec::new();
        let part = |piece: &Piece| match piece {
            Piece::Literal(text) => Part::Literal(text.as_str().into()),
            Piece::Variable(variable) => Part::Variable(*variable),
            Piece::Field(name) => match name.as_str() {
                "host" => Part::Text(Text::Host),
                "referer" => Part::Text(Text::Referer),
                "user-agent" => Part::Text(Text::UserAgent),
                "x-request-id" => Part::Text(Text::RequestId),
                name => {
                    let known = fields.iter().position(|known| known == name);
                    Part::Field(known.unwrap_or_else(|| {
                        fields.push(name.to_owned());
                        fields.len() - 1
                    }))
                }
            },
        };
        let parts = pieces.iter().map(part).collect();
        (Self::Text(parts), fields.into())
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self, Self::Json)
    }

    /// Adds the line of a request that ended at `now`, which is `moment`.
    pub(super) fn write(
        &self,
        record: &Record,
        now: Instant,
        moment: Moment<'_>,
        to: &mut Vec<u8>,
    ) {
        match self {
            Self::Json => json(record, now, moment, to),
            Self::Text(parts) => {
                for part in parts {
                    match part {
                        Part::Literal(text) => to.extend_from_slice(text.as_bytes()),
                        Part::Variable(name) => variable(*name, record, now, moment, to),
                        Part::Text(text) => escape::text(record.text(*text), to),
                        Part::Field(at) => escape::text(record.field(*at), to),
                    }
                }
            }
        }
        to.push(b'\n');
    }
}

/// Adds an object. Members without a value are left out.
fn json(record: &Record, now: Instant, moment: Moment<'_>, to: &mut Vec<u8>) {
    to.extend_from_slice(b"{\"time\":\"");
    time(moment, to);
    to.push(b'"');
    to.extend_from_slice(record.members());
    to.extend_from_slice(b",\"protocol\":\"");
    to.extend_from_slice(record.protocol().as_bytes());
    if record.has_tls {
        to.extend_from_slice(b"\",\"tls\":\"");
        to.extend_from_slice(record.tls().as_bytes());
    }
    to.extend_from_slice(b"\",\"status\":");
    number(record.status.into(), to);
    to.extend_from_slice(b",\"bytes_in\":");
    number(record.bytes_in, to);
    to.extend_from_slice(b",\"bytes_out\":");
    number(record.bytes_out, to);
    to.extend_from_slice(b",\"attempts\":");
    number(record.attempts.into(), to);
    let micros = |name: &[u8], time: Duration, to: &mut Vec<u8>| {
        to.extend_from_slice(name);
        number(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), to);
    };
    if !record.waited.is_zero() {
        micros(b",\"wait_us\":", record.waited, to);
    }
    if !record.connecting.is_zero() {
        micros(b",\"connect_us\":", record.connecting, to);
    }
    if let Some(responded) = record.responded {
        let first_byte = responded.saturating_duration_since(record.began);
        micros(b",\"first_byte_us\":", first_byte, to);
    }
    let total = now.saturating_duration_since(record.began);
    micros(b",\"total_us\":", total, to);
    to.extend_from_slice(b",\"termination\":\"");
    to.extend_from_slice(&record.termination.letters());
    to.extend_from_slice(b"\"}");
}

fn variable(
    variable: Variable,
    record: &Record,
    now: Instant,
    moment: Moment<'_>,
    to: &mut Vec<u8>,
) {
    let text = |text: Text, to: &mut Vec<u8>| escape::text(record.text(text), to);
    // What came before the first attempt is not the endpoint's.
    let of_endpoint = |until: Option<Instant>| {
        let until = until.filter(|_| record.attempts > 0)?;
        let all = until.saturating_duration_since(record.began);
        Some(all.saturating_sub(record.waited))
    };
    match variable {
        Variable::Attempts => number(record.attempts.into(), to),
        Variable::Args | Variable::QueryString => escape::text(target(record).1, to),
        Variable::BodyBytesSent => number(record.bytes_out, to),
        Variable::BytesIn => number(record.bytes_in, to),
        Variable::Host => text(Text::Host, to),
        Variable::Msec => {
            // Writing to memory does not fail.
            let _ = write!(to, "{}.{:03}", moment.second, moment.millis);
        }
        Variable::RealipRemoteAddr => text(Text::Peer, to),
        Variable::RemoteAddr => text(Text::Client, to),
        Variable::RemoteUser => to.push(b'-'),
        Variable::Request => record.write_request(escape::text, to),
        Variable::RequestId => text(Text::RequestId, to),
        Variable::RequestLength => number(record.head + record.bytes_in, to),
        Variable::RequestMethod => text(Text::Method, to),
        Variable::RequestTime => {
            seconds(Some(now.saturating_duration_since(record.began)), to);
        }
        Variable::RequestUri => text(Text::Target, to),
        Variable::Scheme => {
            to.extend_from_slice(if record.has_tls { b"https" } else { b"http" });
        }
        Variable::ServerProtocol => to.extend_from_slice(record.protocol().as_bytes()),
        Variable::Service => text(Text::Service, to),
        Variable::SslProtocol => escape::text(record.tls().as_bytes(), to),
        Variable::Status => number(record.status.into(), to),
        Variable::Termination => to.extend_from_slice(&record.termination.letters()),
        Variable::TimeIso8601 => time(moment, to),
        Variable::TimeLocal => to.extend_from_slice(moment.local),
        Variable::TraceId => text(Text::TraceId, to),
        Variable::UpstreamAddr => text(Text::Endpoint, to),
        Variable::UpstreamConnectTime => {
            seconds(Some(record.connecting).filter(|_| record.attempts > 0), to);
        }
        Variable::UpstreamHeaderTime => seconds(of_endpoint(record.responded), to),
        Variable::UpstreamResponseTime => seconds(of_endpoint(Some(now)), to),
        Variable::UpstreamStatus => match record.responded {
            Some(_) => number(record.status.into(), to),
            None => to.push(b'-'),
        },
        Variable::Uri => escape::text(target(record).0, to),
        Variable::Version => text(Text::Version, to),
        Variable::WaitTime => seconds(Some(record.waited), to),
    }
}

/// Path and query of a request's target.
fn target(record: &Record) -> (&[u8], &[u8]) {
    let target = record.text(Text::Target);
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

fn time(moment: Moment<'_>, to: &mut Vec<u8>) {
    to.extend_from_slice(moment.iso);
    let digit = |at: u32| b'0' + (moment.millis / at % 10) as u8;
    to.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
}

fn number(number: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Adds seconds with milliseconds, as nginx does.
fn seconds(time: Option<Duration>, to: &mut Vec<u8>) {
    let Some(time) = time else {
        return to.push(b'-');
    };
    // Writing to memory does not fail.
    let _ = write!(to, "{}.{:03}", time.as_secs(), time.subsec_millis());
}

#[cfg(test)]
mod tests;
