//! The config file: as it is written ([`RawConfig`]), and as it was checked ([`Config`]).

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use admin_api::strict::{InputError, from_toml};
use admin_api::{Period, ServiceSpec};
use bytesize::ByteSize;
use ipnet::IpNet;
use serde::Deserialize;

use crate::file::read_file;
use crate::table::definition::Definition;
use crate::table::route::Routes;
use crate::table::timeouts::Timeouts;
use crate::wire::h1::head::MAX_FIELDS;
use crate::wire::tls::{ClientAuth, KeyPair, ListenerSettings, ListenerTls, Version};

/// Less would refuse what browsers send.
const MIN_HEADER_BYTES: u64 = 8 * 1024;
const MAX_HEADER_BYTES: u64 = 1024 * 1024;
const MIN_TOKEN: usize = 16;
/// The kernel's 108 bytes, without the zero at the end.
const MAX_SOCKET_PATH: usize = 107;
/// Of one listener. Every process has fewer files.
const MAX_CONNECTIONS: usize = 10_000_000;
/// Of a config file.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A config that was checked: nothing in it can be wrong any more.
#[derive(Debug, Clone)]
pub struct Config {
    /// The admin port; without it there is none.
    pub admin: Option<Admin>,
    /// The unix socket on which a successor takes over; without it there is none.
    pub handover: Option<PathBuf>,
    /// Where clients connect. At least one.
    pub listeners: Vec<Listener>,
    /// Limits on what clients send.
    pub limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) services: Vec<ServiceSpec>,
}

/// Where the admin API is served.
#[derive(Debug, Clone)]
pub struct Admin {
    /// A TCP address or a unix socket.
    pub listen: AdminAddress,
    /// Where what the admin API has set is kept for the next start.
    pub state_file: Option<PathBuf>,
    pub(crate) token: Option<Token>,
}

/// A TCP address or the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// `127.0.0.1:9900`
    Tcp(SocketAddr),
    /// `unix:/run/crossfade/admin.sock`
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A secret; its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl Token {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// TLS, where it is spoken.
    pub tls: Option<ListenerSettings>,
}

/// TLS of a config's listeners, ready for handshakes.
#[derive(Debug)]
pub struct ListenersTls(pub(crate) Vec<Option<Arc<ListenerTls>>>);

/// Limits on what clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's target.
    pub request_line: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Bytes of a request's body; `u64::MAX`: as many as come.
    pub body: u64,
    /// Connections of clients to one listener at once.
    pub connections: usize,
    /// Those of one address, or of one /64 of IPv6; `usize::MAX`: as many as come.
    pub connections_per_address: usize,
    /// Requests of one connection; `u64::MAX`: as many as come.
    pub requests_per_connection: u64,
}

/// Why a config was refused: the file, the line, the field and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it is wrong.
    #[error("{}", error.in_file(path))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: InputError,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    admin: Option<RawAdmin>,
    handover: Option<RawHandover>,
    #[serde(default)]
    listeners: Vec<RawListener>,
    #[serde(default)]
    timeouts: RawTimeouts,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    services: Vec<ServiceSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdmin {
    listen: Option<String>,
    token_file: Option<PathBuf>,
    state_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHandover {
    socket: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListener {
    address: String,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    tls: Option<Vec<RawKeyPair>>,
    tls_min_version: Option<String>,
    client_ca: Option<PathBuf>,
    client_auth: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeyPair {
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTimeouts {
    header: Option<Period>,
    keep_alive: Option<Period>,
    connect: Option<Period>,
    first_byte: Option<Period>,
    request: Option<Period>,
    body_idle: Option<Period>,
    drain: Option<Period>,
    stream: Option<Period>,
    upgraded: Option<Period>,
    resolve: Option<Period>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    request_line: Option<ByteSize>,
    header_bytes: Option<ByteSize>,
    header_count: Option<usize>,
    body: Option<ByteSize>,
    connections: Option<usize>,
    connections_per_address: Option<usize>,
    requests_per_connection: Option<u64>,
}

impl Config {
    /// Reads and checks a config file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = Self::read(path)?;
        Self::parse(&text).map_err(|error| ConfigError::Wrong {
            path: path.into(),
            error,
        })
    }

    /// Reads the certificates of its listeners; `None` for those without TLS. `path` is where
    /// the config came from. With `strict`, certificates that clients refuse today are errors.
    pub fn load_tls(&self, path: &Path, strict: bool) -> Result<ListenersTls, ConfigError> {
        let now = SystemTime::now();
        let load = |(i, listener): (usize, &Listener)| {
            let Some(settings) = &listener.tls else {
                return Ok(None);
            };
            let place = format!("listeners[{i}]");
            let tls = ListenerTls::load(settings, &place)?;
            match tls.outdated(now).into_iter().next() {
                Some((at, message)) if strict => {
                    let field = format!("{place}.tls[{at}].cert");
                    Err(InputError::of_field(field, message))
                }
                _ => Ok(Some(Arc::new(tls))),
            }
        };
        let loaded: Result<Vec<_>, InputError> =
            self.listeners.iter().enumerate().map(load).collect();
        loaded.map(ListenersTls).map_err(|error| {
            // The line is looked for only where something is wrong.
            let text = Self::read(path).unwrap_or_default();
            ConfigError::Wrong {
                path: path.into(),
                error: error.located_in(&text),
            }
        })
    }

    /// The text of a config file.
    pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.into(),
            source,
        };
        read_text(path).map_err(unreadable)
    }

    /// Checks a config. Files that it names are read.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let raw: RawConfig = from_toml(text)?;
        Self::check(raw).map_err(|error| error.located_in(text))
    }

    /// Whether everything that takes effect at a start only is the same.
    pub(crate) fn same_sockets(&self, other: &Self) -> bool {
        let admin = |config: &Self| {
            let admin = config.admin.as_ref()?;
            let token = admin.token.as_ref().map(|token| token.as_bytes().to_vec());
            Some((admin.listen.clone(), admin.state_file.clone(), token))
        };
        self.listeners == other.listeners
            && self.limits == other.limits
            && self.handover == other.handover
            && admin(self) == admin(other)
    }

    fn check(raw: RawConfig) -> Result<Self, InputError> {
        if raw.listeners.is_empty() {
            return Err(InputError::of_field(
                "listeners",
                "is missing: say where clients connect, such as [[listeners]] address = \"0.0.0.0:8080\"",
            ));
        }
        let listeners = raw
            .listeners
            .iter()
            .enumerate()
            .map(|(i, raw)| {
                check_listener(raw).map_err(|error| inside(&format!("listeners[{i}]"), error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            admin: raw.admin.map(check_admin).transpose()?,
            handover: raw.handover.map(check_handover).transpose()?,
            listeners,
            timeouts: check_timeouts(&raw.timeouts)?,
            limits: check_limits(&raw.limits)?,
            services: check_services(raw.services)?,
        })
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path, MAX_FILE)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

/// The same error, its field seen from outside of `place`.
fn inside(place: &str, mut error: InputError) -> InputError {
    error.field = Some(match error.field {
        Some(field) => format!("{place}.{field}"),
        None => place.to_owned(),
    });
    error
}

fn check_listener(raw: &RawListener) -> Result<Listener, InputError> {
    let address = raw.address.parse().map_err(|_| {
        InputError::of_field(
            "address",
            format!(
                "`{}` is not an address: write `ip:port`, such as `0.0.0.0:8080`",
                raw.address
            ),
        )
    })?;
    let check_net = |(i, text): (usize, &String)| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| {
                InputError::of_field(
                    format!("trusted_proxies[{i}]"),
                    format!("`{text}` is not a network: write it as `10.0.0.0/8` or `10.1.2.3`"),
                )
            })
    };
    let trusted_proxies = raw
        .trusted_proxies
        .iter()
        .enumerate()
        .map(check_net)
        .collect::<Result<_, _>>()?;
    Ok(Listener {
        address,
        trusted_proxies,
        tls: check_tls(raw)?,
    })
}

fn check_tls(raw: &RawListener) -> Result<Option<ListenerSettings>, InputError> {
    let Some(pairs) = &raw.tls else {
        for (field, set) in [
            ("tls_min_version", raw.tls_min_version.is_some()),
            ("client_ca", raw.client_ca.is_some()),
            ("client_auth", raw.client_auth.is_some()),
        ] {
            if set {
                return Err(InputError::of_field(
                    field,
                    "has no effect without `tls`: give this listener a certificate, such as tls = [{ cert = \"a.pem\", key = \"a.key\" }]",
                ));
            }
        }
        return Ok(None);
    };
    if pairs.is_empty() {
        return Err(InputError::of_field(
            "tls",
            "names no certificate: write [{ cert = \"a.pem\", key = \"a.key\" }], or leave it out for plain HTTP",
        ));
    }
    let client_auth = match (&raw.client_ca, raw.client_auth.as_deref()) {
        (None, Some(_)) => {
            return Err(InputError::of_field(
                "client_auth",
                "needs `client_ca`: the certificates of those who sign the clients'",
            ));
        }
        (_, None | Some("required")) => ClientAuth::Required,
        (_, Some("optional")) => ClientAuth::Optional,
        (_, Some(other)) => {
            return Err(InputError::of_field(
                "client_auth",
                format!("`{other}` is neither `required` nor `optional`"),
            ));
        }
    };
    let min_version = match raw.tls_min_version.as_deref() {
        None | Some("1.2") => Version::Tls12,
        Some("1.3") => Version::Tls13,
        Some(other) => {
            return Err(InputError::of_field(
                "tls_min_version",
                format!("`{other}` is neither `1.2` nor `1.3`; older ones are not spoken"),
            ));
        }
    };
    let certificates = pairs.iter().map(|pair| KeyPair {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
    });
    Ok(Some(ListenerSettings {
        certificates: certificates.collect(),
        client_ca: raw.client_ca.clone(),
        client_auth,
        min_version,
    }))
}

fn check_admin(raw: RawAdmin) -> Result<Admin, InputError> {
    let text = raw.listen.as_deref().unwrap_or("127.0.0.1:9900");
    let listen = match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => AdminAddress::Unix(path.into()),
        _ => AdminAddress::Tcp(text.parse().map_err(|_| {
            InputError::of_field(
                "admin.listen",
                format!(
                    "`{text}` is not an address: write `127.0.0.1:9900` or `unix:/path/to/socket`"
                ),
            )
        })?),
    };
    let token = raw.token_file.as_deref().map(read_token).transpose()?;
    if let (AdminAddress::Tcp(address), None) = (&listen, &token)
        && !address.ip().is_loopback()
    {
        return Err(InputError::of_field(
            "admin.token_file",
            format!(
                "is missing: {address} can be reached from other machines, so the admin port needs a token (or listen on 127.0.0.1 or a unix socket)"
            ),
        ));
    }
    Ok(Admin {
        listen,
        token,
        state_file: raw.state_file,
    })
}

fn check_handover(raw: RawHandover) -> Result<PathBuf, InputError> {
    let RawHandover { socket } = raw;
    let wrong = |message: String| Err(InputError::of_field("handover.socket", message));
    if !socket.is_absolute() {
        return wrong(format!(
            "`{}` is not an absolute path: write it as `/run/crossfade/handover.sock`",
            socket.display()
        ));
    }
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        return wrong(format!(
            "`{}` is longer than the {MAX_SOCKET_PATH} bytes that the path of a socket may have",
            socket.display()
        ));
    }
    Ok(socket)
}

fn read_token(path: &Path) -> Result<Token, InputError> {
    let wrong = |message: String| InputError::of_field("admin.token_file", message);
    let text = read_text(path)
        .map_err(|error| wrong(format!("`{}` cannot be read: {error}", path.display())))?;
    let token = text.trim();
    if token.len() < MIN_TOKEN || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong(format!(
            "`{}` has to hold one line of at least {MIN_TOKEN} printable characters",
            path.display()
        )));
    }
    Ok(Token(token.into()))
}

fn check_timeouts(raw: &RawTimeouts) -> Result<Timeouts, InputError> {
    let positive = |field: &str, period: Option<Period>, default: Duration| {
        let period = period.map_or(default, Period::get);
        if period.is_zero() {
            return Err(InputError::of_field(
                format!("timeouts.{field}"),
                "has to be above 0",
            ));
        }
        Ok(period)
    };
    let or_never = |period: Duration| (!period.is_zero()).then_some(period);
    let stream = raw.stream.map_or(Duration::from_secs(300), Period::get);
    let upgraded = raw.upgraded.map_or(Duration::from_secs(3600), Period::get);
    Ok(Timeouts {
        header: positive("header", raw.header, Duration::from_secs(10))?,
        keep_alive: positive("keep_alive", raw.keep_alive, Duration::from_secs(75))?,
        connect: positive("connect", raw.connect, Duration::from_secs(5))?,
        first_byte: positive("first_byte", raw.first_byte, Duration::from_secs(60))?,
        request: raw.request.map(Period::get).and_then(or_never),
        body_idle: positive("body_idle", raw.body_idle, Duration::from_secs(60))?,
        drain: raw.drain.map_or(Duration::from_secs(30), Period::get),
        stream: or_never(stream),
        upgraded: or_never(upgraded),
        resolve: positive("resolve", raw.resolve, Duration::from_secs(5))?,
    })
}

fn check_limits(raw: &RawLimits) -> Result<Limits, InputError> {
    let out_of_range =
        |field: &str, message: String| InputError::of_field(format!("limits.{field}"), message);
    let bytes = raw.header_bytes.map_or(64 * 1024, |size| size.as_u64());
    if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&bytes) {
        let message = format!("{} is out of range: from 8KiB to 1MiB", ByteSize(bytes));
        return Err(out_of_range("header_bytes", message));
    }
    let line = raw.request_line.map_or(16 * 1024, |size| size.as_u64());
    if !(1..=bytes).contains(&line) {
        let message = format!(
            "{} is out of range: from 1B to limits.header_bytes ({})",
            ByteSize(line),
            ByteSize(bytes)
        );
        return Err(out_of_range("request_line", message));
    }
    let count = raw.header_count.unwrap_or(100);
    if !(1..=MAX_FIELDS).contains(&count) {
        let message = format!("{count} is out of range: from 1 to {MAX_FIELDS}");
        return Err(out_of_range("header_count", message));
    }
    let connections = raw.connections.unwrap_or(100_000);
    if !(1..=MAX_CONNECTIONS).contains(&connections) {
        let message = format!("{connections} is out of range: from 1 to {MAX_CONNECTIONS}");
        return Err(out_of_range("connections", message));
    }
    let per_address = raw.connections_per_address.unwrap_or(usize::MAX);
    if per_address == 0 {
        let message = "has to be above 0".to_owned();
        return Err(out_of_range("connections_per_address", message));
    }
    let requests = raw.requests_per_connection.unwrap_or(u64::MAX);
    if requests == 0 {
        let message = "has to be above 0".to_owned();
        return Err(out_of_range("requests_per_connection", message));
    }
    Ok(Limits {
        request_line: line as usize,
        header_bytes: bytes as usize,
        header_count: count,
        body: raw.body.map_or(u64::MAX, |size| size.as_u64()),
        connections,
        connections_per_address: per_address,
        requests_per_connection: requests,
    })
}

fn check_services(services: Vec<ServiceSpec>) -> Result<Vec<ServiceSpec>, InputError> {
    let mut definitions: Vec<Definition> = Vec::with_capacity(services.len());
    let mut names = HashSet::new();
    for (i, spec) in services.iter().enumerate() {
        let place = format!("services[{i}]");
        let definition = Definition::check(spec).map_err(|error| inside(&place, error))?;
        if !names.insert(definition.name.clone()) {
            return Err(InputError::of_field(
                format!("{place}.name"),
                format!("there are two services named `{}`", definition.name),
            ));
        }
        definitions.push(definition);
    }
    Routes::new(&definitions).map_err(|conflict| {
        let message = conflict.message(&conflict.services[1]);
        InputError::of_field(format!("services[{}]", conflict.place), message)
    })?;
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, line: usize, field: &str, says: &str) {
        let error = Config::parse(text).expect_err("this config is wrong");
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_field() {
        check(
            "[[listeners]]\naddress = \"8080\"",
            2,
            "listeners[0].address",
            "`ip:port`",
        );
        check(
            &format!("{LISTENER}trusted_proxies = [\"10.0.0.0/8\", \"x\"]"),
            3,
            "listeners[0].trusted_proxies[1]",
            "10.0.0.0/8",
        );
        check(
            &format!("[admin]\nlisten = \"9900\"\n{LISTENER}"),
            2,
            "admin.listen",
            "unix:/",
        );
        check(
            &format!("[admin]\nlisten = \"0.0.0.0:9900\"\n{LISTENER}"),
            1,
            "admin.token_file",
            "needs a token",
        );
        check(
            &format!("{LISTENER}[timeouts]\nconnect = \"0s\""),
            4,
            "timeouts.connect",
            "above 0",
        );
        check(
            &format!("{LISTENER}[timeouts]\nconect = \"1s\""),
            4,
            "timeouts.conect",
            "did you mean `connect`?",
        );
        check(
            &format!("{LISTENER}[limits]\nheader_bytes = \"1KiB\""),
            4,
            "limits.header_bytes",
            "8KiB",
        );
        check(
            &format!("{LISTENER}[limits]\nconnections = 0"),
            4,
            "limits.connections",
            "from 1 to",
        );
        check(
            &format!("{LISTENER}[limits]\nconnections_per_address = 0"),
            4,
            "limits.connections_per_address",
            "above 0",
        );
        let service = "[[services]]\nname = \"web\"\n";
        check(
            &format!("{LISTENER}{service}{service}"),
            6,
            "services[1].name",
            "two services",
        );
        check(
            &format!("{LISTENER}{service}[[services]]\nname = \"api\"\n"),
            5,
            "services[1]",
            "same requests as service `web`",
        );
    }

    #[test]
    fn a_config_without_listeners_says_so() {
        let error = Config::parse("").expect_err("nothing to listen on");
        assert_eq!(error.field.as_deref(), Some("listeners"));
    }

    /// Wherever a file breaks off, what is left is refused, or is a whole config: each service
    /// in it is as it was meant to the end of its own table.
    #[test]
    fn a_file_cut_off_anywhere_is_refused_or_whole_as_far_as_it_goes() {
        let service = |n: u32| {
            format!(
                "[[services]]\nname = \"s{n}\"\nhosts = [\"s{n}.test\"]\nsplit = {{ \"1\" = 90, \"2\" = 10 }}\n\
                 endpoints = [{{ address = \"10.0.0.1:8{n}\", version = \"1\" }}, {{ address = \"10.0.0.2:8{n}\", version = \"2\" }}]\n"
            )
        };
        let whole = format!("{LISTENER}{}{}{}", service(1), service(2), service(3));
        let all = Config::parse(&whole).unwrap().services;
        let (mut refused, mut read) = (0, 0);
        for length in 0..whole.len() {
            let Ok(config) = Config::parse(&whole[..length]) else {
                refused += 1;
                continue;
            };
            read += 1;
            let (last, before) = match config.services.split_last() {
                Some((last, before)) => (Some(last), before),
                None => (None, &[][..]),
            };
            assert_eq!(before, &all[..before.len()], "{length} bytes");
            // A table that was cut between two lines has lost keys, never a part of one.
            let Some(last) = last.filter(|last| **last != all[before.len()]) else {
                continue;
            };
            assert!(last.endpoints.is_empty(), "{length} bytes: {last:?}");
            assert!(last.split.is_empty(), "{length} bytes: {last:?}");
        }
        assert!(refused > 300 && read > 3, "{refused} refused, {read} read");
    }

    #[test]
    fn the_commented_example_is_a_config() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/proxy.toml");
        let text = std::fs::read_to_string(example).unwrap();
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert_eq!(config.services.len(), 1);
        let defaults = Config::parse(LISTENER).unwrap();
        assert_eq!(
            config.timeouts, defaults.timeouts,
            "the example shows the defaults"
        );
        assert_eq!(
            config.limits, defaults.limits,
            "the example shows the defaults"
        );
    }
}
