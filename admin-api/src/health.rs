//! How the proxy learns whether an endpoint can be used: by probing it, and by what its responses
//! come to.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Period;
use crate::strict::InputError;
use crate::traffic::Setting;

/// A health check, which the proxy runs on every endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// How an endpoint is asked. Default `"http"`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Probe,
    /// HTTP: what is asked for. Begins with `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// HTTP and gRPC: the host that is asked for, with a port if it has one. Default: the service's
    /// first host without a `*`, or else the endpoint's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP: which status the response has to have, such as 204 or `"200-399"`. Default 200 to 299.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: StatusRange,
    /// HTTP: a text that the response's body has to contain, within its first 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// gRPC: the name of the service to ask about. Default: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// From the start of one probe to the start of the next. Default 1 s.
    #[serde(default = "HealthSpec::default_interval")]
    pub interval: Period,
    /// Each pause is longer than `interval` by a random time up to this, so that probes do not
    /// come all at once. Default: a tenth of `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Period>,
    /// How long the whole response may take. Default 500 ms.
    #[serde(default = "HealthSpec::default_timeout")]
    pub timeout: Period,
    /// Successes in a row that bring an endpoint up. Default 2.
    #[serde(default = "HealthSpec::default_rise")]
    pub rise: u32,
    /// Failures in a row that take an endpoint down. Default 3.
    #[serde(default = "HealthSpec::default_fall")]
    pub fall: u32,
    /// How long the successes have to last until the endpoint is up. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_healthy_time: Period,
    /// How long an endpoint that comes up takes until it has its whole weight, growing evenly.
    /// Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slow_start: Period,
    /// What becomes of requests that wait for a response of an endpoint that is down since its
    /// last probes got nothing back. Default `"cut"`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_silence: OnSilence,
}

/// What becomes of requests that wait for a response of an endpoint that has become silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSilence {
    /// Those that may be sent twice go to another endpoint; the others get a 504 at once.
    #[default]
    Cut,
    /// They wait for as long as their timeouts say. For endpoints that do one thing at a time: one
    /// that works on a long request does not respond to a probe meanwhile.
    Wait,
}

/// How an endpoint is asked whether it is well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A `GET` over HTTP/1.1.
    #[default]
    Http,
    /// A connection is opened and closed again.
    Tcp,
    /// `grpc.health.v1.Health/Check` over cleartext HTTP/2.
    Grpc,
}

/// The statuses from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

impl HealthSpec {
    const fn default_interval() -> Period {
        Period::from_secs(1)
    }

    const fn default_timeout() -> Period {
        Period::from_millis(500)
    }

    const fn default_rise() -> u32 {
        2
    }

    const fn default_fall() -> u32 {
        3
    }

    /// A check of `path` with every other setting at its default.
    pub fn of_path(path: impl Into<String>) -> Self {
        Self {
            protocol: Probe::Http,
            path: path.into(),
            host: None,
            status: StatusRange::default(),
            body: None,
            service: None,
            interval: Self::default_interval(),
            jitter: None,
            timeout: Self::default_timeout(),
            rise: Self::default_rise(),
            fall: Self::default_fall(),
            min_healthy_time: Period::default(),
            slow_start: Period::default(),
            on_silence: OnSilence::default(),
        }
    }

    /// Whether every key belongs to the protocol.
    fn check_protocol(&self) -> Result<(), InputError> {
        let of_http = [
            ("path", !self.path.is_empty()),
            ("status", self.status != StatusRange::default()),
            ("body", self.body.is_some()),
        ];
        if self.protocol == Probe::Http {
            let allowed = |c: char| c.is_ascii_graphic() && c != '#';
            if !self.path.starts_with('/') || !self.path.chars().all(allowed) {
                let message = format!(
                    "`{}` is not a path: begin with `/`, without `#` or spaces",
                    self.path
                );
                return Err(InputError::of_field("path", message));
            }
        } else if let Some((field, _)) = of_http.into_iter().find(|(_, is_set)| *is_set) {
            let message = "belongs to a check with protocol = \"http\": remove one of the two";
            return Err(InputError::of_field(field, message));
        }
        self.check_host()?;
        if self.protocol != Probe::Grpc && self.service.is_some() {
            let message = "belongs to a check with protocol = \"grpc\": remove one of the two";
            return Err(InputError::of_field("service", message));
        }
        Ok(())
    }
}

impl HealthSpec {
    fn check_host(&self) -> Result<(), InputError> {
        let Some(host) = &self.host else {
            return Ok(());
        };
        if self.protocol == Probe::Tcp {
            let message = "belongs to a check with protocol = \"http\" or \"grpc\"";
            return Err(InputError::of_field("host", message));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || host.starts_with(':') || !host.chars().all(allowed) {
            let message =
                format!("`{host}` is not a host: such as app.example.com, or with a port");
            return Err(InputError::of_field("host", message));
        }
        Ok(())
    }
}

impl Setting for HealthSpec {
    fn check(&self) -> Result<(), InputError> {
        self.check_protocol()?;
        for (field, n) in [("rise", self.rise), ("fall", self.fall)] {
            if n == 0 {
                return Err(InputError::of_field(field, "has to be at least 1"));
            }
        }
        for (field, period) in [("interval", self.interval), ("timeout", self.timeout)] {
            if period.get().as_millis() < 10 {
                let message = format!("`{period}` is too short: at least 10ms");
                return Err(InputError::of_field(field, message));
            }
        }
        Ok(())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for StatusRange {
    fn default() -> Self {
        Self { from: 200, to: 299 }
    }
}

impl StatusRange {
    /// Whether a status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }

    fn between(from: u16, to: u16) -> Option<Self> {
        (100 <= from && from <= to && to <= 599).then_some(Self { from, to })
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else {
            write!(f, "{}-{}", self.from, self.to)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.from == self.to {
            serializer.serialize_u16(self.from)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RangeVisitor;

        impl Visitor<'_> for RangeVisitor {
            type Value = StatusRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status from 100 to 599, such as 204, or a range such as \"200-399\"")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<StatusRange, E> {
                let status = u16::try_from(n).ok();
                let range = status.and_then(|status| StatusRange::between(status, status));
                range.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<StatusRange, E> {
                match u64::try_from(n) {
                    Ok(n) => self.visit_u64(n),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
                let (from, to) = text.split_once('-').unwrap_or((text, text));
                let range = match (from.trim().parse(), to.trim().parse()) {
                    (Ok(from), Ok(to)) => StatusRange::between(from, to),
                    _ => None,
                };
                range.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(RangeVisitor)
    }
}

/// When the proxy stops using an endpoint for a while because of its responses.
///
/// A failure is an attempt that the endpoint failed, or a response of class 5xx. What the endpoints
/// of a version fail at alike is the version's doing, and ejects none of them; and the last
/// one that is left is never ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EjectionSpec {
    /// Failures in a row that eject an endpoint. 0: none do. Default 5.
    pub consecutive: u32,
    /// Failures in percent of an endpoint's attempts within `window` that eject it, if they are at
    /// least twice what its siblings have. 0: none do. Default 50.
    pub failure_rate: u32,
    /// How many attempts within `window` it takes to judge their rate. Default 20.
    pub min_tries: u32,
    /// Over how long the rate is taken. Default 10 s.
    pub window: Period,
    /// How long the first ejection lasts; each one that follows soon lasts twice as long as the
    /// one before. Default 10 s.
    pub duration: Period,
    /// How long any ejection lasts at most. Default 5 min.
    pub max_duration: Period,
    /// How many of a version's endpoints may be ejected at the same time, in percent; one of
    /// two is 50. Default 50.
    pub max_share: u32,
}

impl Default for EjectionSpec {
    fn default() -> Self {
        Self {
            consecutive: 5,
            failure_rate: 50,
            min_tries: 20,
            window: Period::from_secs(10),
            duration: Period::from_secs(10),
            max_duration: Period::from_secs(300),
            max_share: 50,
        }
    }
}

impl Setting for EjectionSpec {
    fn check(&self) -> Result<(), InputError> {
        for (field, percent) in [
            ("failure_rate", self.failure_rate),
            ("max_share", self.max_share),
        ] {
            if percent > 100 {
                let message = format!("{percent} is out of range: from 0 to 100 percent");
                return Err(InputError::of_field(field, message));
            }
        }
        for (field, period) in [("window", self.window), ("duration", self.duration)] {
            if period.get().as_millis() < 100 {
                let message = format!("`{period}` is too short: at least 100ms");
                return Err(InputError::of_field(field, message));
            }
        }
        if self.max_duration < self.duration {
            let message = format!("has to be at least `duration`, which is {}", self.duration);
            return Err(InputError::of_field("max_duration", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::from_json;

    #[track_caller]
    fn check(json: &str, field: &str, says: &str) {
        let error = from_json::<HealthSpec>(json.as_bytes())
            .and_then(|spec| spec.check())
            .expect_err("this check is wrong");
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    #[test]
    fn every_key_belongs_to_its_protocol() {
        check(r#"{}"#, "path", "begin with `/`");
        check(r#"{"path":"x"}"#, "path", "begin with `/`");
        check(
            r#"{"protocol":"tcp","path":"/"}"#,
            "path",
            "protocol = \"http\"",
        );
        check(
            r#"{"protocol":"grpc","body":"ok"}"#,
            "body",
            "protocol = \"http\"",
        );
        check(
            r#"{"path":"/","service":"a.B"}"#,
            "service",
            "protocol = \"grpc\"",
        );
        check(r#"{"protocol":"tcp","host":"a"}"#, "host", "or \"grpc\"");
        for host in ["", ":80", "http://a", "a b", "a/", "u@a"] {
            let json = format!(r#"{{"path":"/","host":"{host}"}}"#);
            check(&json, "host", "is not a host");
        }
        for host in ["a", "app.example.com:8080", "[::1]:80"] {
            let json = format!(r#"{{"path":"/","host":"{host}"}}"#);
            let spec = from_json::<HealthSpec>(json.as_bytes()).and_then(|spec| spec.check());
            assert_eq!(spec, Ok(()), "{host}");
        }
        check(r#"{"protocol":"grcp"}"#, "protocol", "did you mean `grpc`?");
        check(r#"{"path":"/","status":99}"#, "status", "from 100 to 599");
        check(r#"{"path":"/","status":"400-200"}"#, "status", "200-399");
        check(r#"{"path":"/","rise":0}"#, "rise", "at least 1");
        check(
            r#"{"path":"/","interval":"1ms"}"#,
            "interval",
            "at least 10ms",
        );
    }

    #[test]
    fn a_status_is_one_number_or_a_range() {
        for (json, want) in [
            ("204", "204"),
            ("\"204\"", "204"),
            ("\"200-399\"", "200-399"),
        ] {
            let range: StatusRange = from_json(json.as_bytes()).expect("a range");
            assert_eq!(range.to_string(), want);
            let written = serde_json::to_string(&range).expect("JSON");
            assert_eq!(from_json::<StatusRange>(written.as_bytes()), Ok(range));
        }
    }

    #[test]
    fn an_ejection_is_checked() {
        let check = |json: &str, field: &str| {
            let spec: EjectionSpec = from_json(json.as_bytes()).expect("it is well-formed");
            let error = spec.check().expect_err("it is wrong");
            assert_eq!(error.field.as_deref(), Some(field), "{error}");
        };
        check(r#"{"failure_rate":101}"#, "failure_rate");
        check(r#"{"duration":"1ms"}"#, "duration");
        check(r#"{"duration":"10m"}"#, "max_duration");
        assert_eq!(EjectionSpec::default().check(), Ok(()));
    }
}
