//! What holds for all of a proxy's clients: keys that its config file and the manifest share.

use serde::{Deserialize, Deserializer, Serialize};

use crate::flat::Flat;
use crate::size::Size;
use crate::strict::InputError;
use crate::{NonZeroPeriod, Period, TimeoutsSpec};

/// Less would refuse what browsers send.
const MIN_HEADER_BYTES: u64 = 8 * 1024;
const MAX_HEADER_BYTES: u64 = 1024 * 1024;
/// Header fields of a message that are read at most.
pub const MAX_FIELDS: usize = 256;
/// Of one listener. Every process has fewer files.
const MAX_CONNECTIONS: usize = 10_000_000;

/// `[timeouts]`. What is absent has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ProxyTimeouts {
    /// From a request's first byte until its head is whole. Default 10 s.
    pub header: Option<NonZeroPeriod>,
    /// From a response's end until the first byte of the client's next request. Default 75 s.
    pub keep_alive: Option<NonZeroPeriod>,
    /// From one look-up of an endpoint's name to the next. Default 5 s.
    pub resolve: Option<NonZeroPeriod>,
    /// What a service may have of its own. Its keys stand among the others.
    #[serde(skip)]
    pub of_services: TimeoutsSpec,
}

impl<'de> Deserialize<'de> for ProxyTimeouts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut of_services = TimeoutsSpec::default();
        let timeouts = Self::deserialize(Flat::new(deserializer, &mut of_services))?;
        Ok(Self {
            of_services,
            ..timeouts
        })
    }
}

impl ProxyTimeouts {
    /// These, with the defaults of those that are absent.
    pub fn in_force(&self) -> Self {
        let secs = |own: Option<NonZeroPeriod>, secs| own.or(NonZeroPeriod::from_secs(secs));
        let or = |own: Option<Period>, default| own.or(Some(default));
        let of_services = &self.of_services;
        Self {
            header: secs(self.header, 10),
            keep_alive: secs(self.keep_alive, 75),
            resolve: secs(self.resolve, 5),
            of_services: TimeoutsSpec {
                connect: secs(of_services.connect, 5),
                connect_failover: secs(of_services.connect_failover, 1),
                connect_hedge: or(of_services.connect_hedge, Period::from_millis(250)),
                wait_for_endpoint: or(of_services.wait_for_endpoint, Period::from_secs(5)),
                first_byte: secs(of_services.first_byte, 60),
                request: or(of_services.request, Period::from_secs(0)),
                body_idle: secs(of_services.body_idle, 60),
                drain: or(of_services.drain, Period::from_secs(30)),
                stream: or(of_services.stream, Period::from_secs(300)),
                upgraded: or(of_services.upgraded, Period::from_secs(3600)),
            },
        }
    }

    /// The keys that are set, as lines of the config file.
    pub fn lines(&self) -> String {
        let Self {
            header,
            keep_alive,
            resolve,
            of_services,
        } = self;
        let own = serde_json::json!({
            "header": header, "keep_alive": keep_alive, "resolve": resolve,
        });
        let of_services = serde_json::to_value(of_services).unwrap_or_default();
        lines_of(&own) + &lines_of(&of_services)
    }
}

/// `[limits]`. What is absent has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyLimits {
    /// Bytes of a request's target. Default 16 KiB.
    pub request_line: Option<Size>,
    /// Bytes of a request's head. Default 64 KiB.
    pub header_bytes: Option<Size>,
    /// Header fields of a request. Default 100.
    pub header_count: Option<usize>,
    /// Bytes of a request's body. Default: no limit.
    pub body: Option<Size>,
    /// Connections of clients to one listener at once. Default 100,000.
    pub connections: Option<usize>,
    /// Those of one address, or of one /64 of IPv6. Default: no limit.
    pub connections_per_address: Option<usize>,
    /// Requests of one connection. Default: no limit.
    pub requests_per_connection: Option<u64>,
}

impl ProxyLimits {
    /// These, with the defaults of those that are absent; what has no limit stays absent.
    pub fn in_force(&self) -> Self {
        Self {
            request_line: Some(Size(self.request_line())),
            header_bytes: Some(Size(self.header_bytes())),
            header_count: Some(self.header_count()),
            connections: Some(self.connections()),
            ..self.clone()
        }
    }

    /// Bytes of a request's head.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes.map_or(64 * 1024, |size| size.0)
    }

    /// Bytes of a request's target.
    pub fn request_line(&self) -> u64 {
        self.request_line.map_or(16 * 1024, |size| size.0)
    }

    /// Header fields of a request.
    pub fn header_count(&self) -> usize {
        self.header_count.unwrap_or(100)
    }

    /// Connections of clients to one listener at once.
    pub fn connections(&self) -> usize {
        self.connections.unwrap_or(100_000)
    }

    /// Checks each against its range. The error's field is relative to the table.
    pub fn check(&self) -> Result<(), InputError> {
        let wrong = |field: &str, message: String| Err(InputError::of_field(field, message));
        let bytes = self.header_bytes();
        if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&bytes) {
            let message = format!(
                "{} is out of range: from 8KiB to 1MiB, such as \"64KiB\"",
                Size(bytes)
            );
            return wrong("header_bytes", message);
        }
        let line = self.request_line();
        if !(1..=bytes).contains(&line) {
            let message = format!(
                "{} is out of range: from 1B to limits.header_bytes ({}), such as \"16KiB\"",
                Size(line),
                Size(bytes)
            );
            return wrong("request_line", message);
        }
        let count = self.header_count();
        if !(1..=MAX_FIELDS).contains(&count) {
            let message =
                format!("{count} is out of range: from 1 to {MAX_FIELDS} fields, such as 100");
            return wrong("header_count", message);
        }
        let connections = self.connections();
        if !(1..=MAX_CONNECTIONS).contains(&connections) {
            let message = format!(
                "{connections} is out of range: from 1 to {MAX_CONNECTIONS} connections, such as \
                 100000"
            );
            return wrong("connections", message);
        }
        if self.connections_per_address == Some(0) {
            let message = "has to be above 0 connections, such as 200";
            return wrong("connections_per_address", message.to_owned());
        }
        if self.requests_per_connection == Some(0) {
            let message = "has to be above 0 requests, such as 1000";
            return wrong("requests_per_connection", message.to_owned());
        }
        Ok(())
    }

    /// The keys that are set, as lines of the config file.
    pub fn lines(&self) -> String {
        lines_of(&serde_json::to_value(self).unwrap_or_default())
    }
}

/// `key = value` for each key that is not null. JSON's numbers and quotes are TOML's.
fn lines_of(table: &serde_json::Value) -> String {
    let keys = table.as_object().into_iter().flatten();
    let set = keys.filter(|(_, value)| !value.is_null());
    set.map(|(key, value)| format!("{key} = {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::from_toml;

    #[test]
    fn what_is_set_is_written_as_it_is_read() {
        let text = "header = \"3s\"\nresolve = \"1m\"\nconnect = \"2s\"\nrequest = \"0s\"\n";
        let timeouts: ProxyTimeouts = from_toml(text).expect("timeouts");
        let again: ProxyTimeouts = from_toml(&timeouts.lines()).expect("timeouts");
        assert_eq!(again, timeouts);
        assert_eq!(timeouts.lines().lines().count(), 4);
        let text = "body = \"10MiB\"\nconnections = 200\nrequests_per_connection = 9\n";
        let limits: ProxyLimits = from_toml(text).expect("limits");
        let again: ProxyLimits = from_toml(&limits.lines()).expect("limits");
        assert_eq!(again, limits);
        assert_eq!(limits.lines().lines().count(), 3);
        assert_eq!(ProxyLimits::default().lines(), "");
    }
}
