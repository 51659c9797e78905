//! Reads a config file, and checks it.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use admin_api::names;
use admin_api::strict::{InputError, from_toml};
use admin_api::{ProxyLimits, ServiceSpec};
use ipnet::IpNet;

use super::raw::{RawAdmin, RawConfig, RawHandover, RawListener, RawSticky};
use super::{
    AdminAddress, AdminSettings, Config, ConfigError, Limits, Listener, ListenersTls, Token,
};
use crate::file::read_file;
use crate::table::cookie_key::CookieKey;
use crate::table::definition::Definition;
use crate::table::route::Routes;
use crate::table::timeouts::Timeouts;
use crate::wire::socket::HalfClose;
use crate::wire::tls::{ClientAuth, KeyPair, ListenerSettings, ListenerTls, Version};

const MIN_TOKEN: usize = 16;
/// Bytes of the file with the key of sticky cookies.
const MIN_COOKIE_KEY: usize = 32;
const MAX_COOKIE_KEY: u64 = 64 * 1024;
/// The kernel's 108 bytes, without the zero at the end.
const MAX_SOCKET_PATH: usize = 107;
/// Of a listener's name.
const MAX_NAME: usize = 255;
/// Of a config file.
const MAX_FILE: u64 = 64 * 1024 * 1024;

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

    fn check(raw: RawConfig) -> Result<Self, InputError> {
        if raw.listeners.is_empty() {
            return Err(InputError::of_field(
                "listeners",
                "is missing: add the address where clients connect, such as [[listeners]] address = \"0.0.0.0:8080\"",
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
        let handover = raw.handover.map(check_handover).transpose()?;
        let (handover, keeper) = handover.unzip();
        let keeper = keeper.flatten();
        check_names(&listeners, keeper.is_some())?;
        Ok(Self {
            admin: raw.admin.map(check_admin).transpose()?,
            handover,
            keeper,
            access_log: raw.access_log,
            cookie_key: raw.sticky.as_ref().map(read_cookie_key).transpose()?,
            listeners,
            timeouts: Timeouts::of(&raw.timeouts),
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
    let nets = |list: &[String], key: &str| {
        let read = names::networks(list).map_err(|error| error.inside(key))?;
        Ok::<Arc<[IpNet]>, InputError>(read.into())
    };
    Ok(Listener {
        address,
        name: raw.name.as_deref().map(Arc::from),
        trusted_proxies: nets(&raw.trusted_proxies, "trusted_proxies")?,
        proxy_protocol: nets(&raw.proxy_protocol, "proxy_protocol")?,
        tls: check_tls(raw)?,
        half_close: check_half_close(raw)?,
    })
}

fn check_half_close(raw: &RawListener) -> Result<HalfClose, InputError> {
    match raw.half_close.as_deref() {
        None | Some("abort") => Ok(HalfClose::Abort),
        Some("serve") => Ok(HalfClose::Serve),
        Some(other) => Err(InputError::of_field(
            "half_close",
            format!("`{other}` is neither `abort` nor `serve`"),
        )),
    }
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
            "has no certificate: write [{ cert = \"a.pem\", key = \"a.key\" }], or leave it out for plain HTTP",
        ));
    }
    let client_auth = match (&raw.client_ca, raw.client_auth.as_deref()) {
        (None, Some(_)) => {
            return Err(InputError::of_field(
                "client_auth",
                "needs `client_ca`: the CA certificates that sign the clients' certificates",
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
                format!("`{other}` is neither `1.2` nor `1.3`; older versions are not supported"),
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

fn check_admin(raw: RawAdmin) -> Result<AdminSettings, InputError> {
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
    Ok(AdminSettings {
        listen,
        token,
        state_file: raw.state_file,
    })
}

/// Named listeners have their sockets from a keeper, by that name.
fn check_names(listeners: &[Listener], has_keeper: bool) -> Result<(), InputError> {
    let mut seen = BTreeSet::new();
    for (i, listener) in listeners.iter().enumerate() {
        let Some(name) = &listener.name else { continue };
        let wrong = |message: String| {
            let field = format!("listeners[{i}].name");
            Err(InputError::of_field(field, message))
        };
        if !has_keeper {
            return wrong(format!(
                "`{name}`: a named listener has its sockets from another process: name that \
                 process's socket in `handover.keeper`, or leave out the name"
            ));
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return wrong(format!("has 1 to {MAX_NAME} bytes, not {}", name.len()));
        }
        if !seen.insert(name.clone()) {
            return wrong(format!("`{name}` is the name of two listeners"));
        }
    }
    Ok(())
}

/// The socket, and the keeper's.
fn check_handover(raw: RawHandover) -> Result<(PathBuf, Option<PathBuf>), InputError> {
    let RawHandover { socket, keeper } = raw;
    let keeper = keeper.map(|keeper| check_socket("handover.keeper", keeper));
    Ok((
        check_socket("handover.socket", socket)?,
        keeper.transpose()?,
    ))
}

fn check_socket(field: &str, socket: PathBuf) -> Result<PathBuf, InputError> {
    let wrong = |message: String| Err(InputError::of_field(field, message));
    if !socket.is_absolute() {
        return wrong(format!(
            "`{}` is not an absolute path: write it as `/run/crossfade/{}.sock`",
            socket.display(),
            field
                .trim_start_matches("handover.")
                .replace("socket", "handover"),
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

fn check_limits(raw: &ProxyLimits) -> Result<Limits, InputError> {
    raw.check().map_err(|error| inside("limits", error))?;
    Ok(Limits {
        request_line: raw.request_line() as usize,
        header_bytes: raw.header_bytes() as usize,
        header_count: raw.header_count(),
        body: raw.body.map_or(u64::MAX, |size| size.0),
        connections: raw.connections(),
        connections_per_address: raw.connections_per_address.unwrap_or(usize::MAX),
        requests_per_connection: raw.requests_per_connection.unwrap_or(u64::MAX),
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
                format!("two services have the name `{}`", definition.name),
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

fn read_cookie_key(raw: &RawSticky) -> Result<CookieKey, InputError> {
    let path = raw.key_file.display();
    let wrong = |message: String| InputError::of_field("sticky.key_file", message);
    let content = read_file(&raw.key_file, MAX_COOKIE_KEY)
        .map_err(|error| wrong(format!("`{path}` cannot be read: {error}")))?;
    if content.len() < MIN_COOKIE_KEY {
        return Err(wrong(format!(
            "`{path}` has {} bytes: a key has at least {MIN_COOKIE_KEY} random bytes, such as those of `head -c {MIN_COOKIE_KEY} /dev/urandom`",
            content.len()
        )));
    }
    Ok(CookieKey::of_file(&content))
}

fn read_token(path: &Path) -> Result<Token, InputError> {
    let wrong = |message: String| InputError::of_field("admin.token_file", message);
    let text = read_text(path)
        .map_err(|error| wrong(format!("`{}` cannot be read: {error}", path.display())))?;
    let token = text.trim();
    if token.len() < MIN_TOKEN || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong(format!(
            "`{}` must contain one line of at least {MIN_TOKEN} printable characters",
            path.display()
        )));
    }
    Ok(Token(token.into()))
}
