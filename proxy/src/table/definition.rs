//! A service that was checked: what an admin call or the config file asked for, in types that
//! cannot be wrong any more.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use admin_api::route::{self, Host};
use admin_api::strict::{InputError, push_key};
use admin_api::{
    BasicAuthSpec, HealthSpec, MirrorSpec, PathSpec, Pattern, Probe, ServiceSpec, TrafficSettings,
    User, VersionSpec, WhenSpec,
};

use crate::file::read_file;
use crate::table::balance::Balance;
use crate::table::force::Force;
use crate::table::mirror;
use crate::table::sticky::Sticky;
use crate::table::transport::Transport;
use crate::wire::address::{Address, check_address};
use crate::wire::path;

const MAX_NAME: usize = 63;
const MAX_LABEL: usize = 128;
/// Of one service.
const MAX_HOSTS: usize = 1_000;
const MAX_ENDPOINTS: usize = 10_000;
/// In bytes: of a file with users.
const MAX_USERS_FILE: u64 = 4 << 20;

/// A checked [`ServiceSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) name: Arc<str>,
    pub(crate) hosts: Vec<HostPattern>,
    /// In the normal form of paths, without a `/` at its end; empty for `/`.
    pub(crate) path_prefix: Arc<str>,
    /// The same as it was written, for people and browsers.
    prefix_written: Arc<str>,
    /// Which paths it serves.
    pub(crate) path: PathMatch,
    /// What its requests have to be like beside that.
    pub(crate) when: Option<Arc<WhenSpec>>,
    /// Every version that has endpoints, those at 0 included.
    pub(crate) split: BTreeMap<Arc<str>, u32>,
    /// As they were asked for, and checked.
    pub(crate) traffic: TrafficSettings,
    /// Those whose passwords it wants.
    pub(crate) users: Option<Arc<Vec<User>>>,
    /// What routing reads of `traffic` for each request, made ready for that.
    pub(crate) sticky: Option<Sticky>,
    pub(crate) force: Option<Force>,
    pub(crate) balance: Balance,
    pub(crate) mirror: Option<MirrorSpec>,
    /// How versions are reached that are not reached as most are.
    pub(crate) transport: BTreeMap<Arc<str>, Arc<Transport>>,
    pub(crate) endpoints: Vec<EndpointDefinition>,
}

/// A checked endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointDefinition {
    pub(crate) version: Arc<str>,
    pub(crate) address: Address,
    pub(crate) weight: u32,
}

/// A host that a service serves, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HostPattern {
    /// Every host.
    Any,
    /// Every name that ends in this, which begins with a dot.
    Suffix(Box<str>),
    /// Every name that matches.
    Pattern(Pattern),
    /// This name alone.
    Exact(Box<str>),
}

/// Which paths a service serves, in their normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathMatch {
    /// Those with its prefix.
    Prefix,
    /// This path alone.
    Exact(Arc<str>),
    /// Those that match.
    Pattern(Pattern),
}

#[cfg(test)]
thread_local! {
    /// How many services were checked.
    pub(crate) static CHECKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Definition {
    /// Checks a service. The error's field is relative to the service.
    pub(crate) fn check(spec: &ServiceSpec) -> Result<Self, InputError> {
        #[cfg(test)]
        CHECKS.set(CHECKS.get() + 1);
        check_name(&spec.name)?;
        let hosts = check_hosts(&spec.hosts)?;
        let path_prefix = check_prefix(&spec.path_prefix)?;
        check_cookie_path(spec)?;
        let prefix_written = match spec.path_prefix.trim_end_matches('/') {
            "" => "/",
            written => written,
        };
        let traffic = spec.traffic.clone();
        traffic.check()?;
        route::check(&spec.hosts, &spec.path_prefix, &traffic)?;
        let sticky = traffic.sticky.as_ref();
        let sticky = sticky.map(|sticky| Sticky::new(sticky, &spec.name, prefix_written));
        let endpoints = check_endpoints(spec)?;
        let split = check_split(&spec.split, &endpoints)?;
        if let Some(spec) = &spec.mirror {
            mirror::check(spec, |label| split.contains_key(label))?;
        }
        Ok(Self {
            name: spec.name.as_str().into(),
            hosts,
            path_prefix,
            prefix_written: prefix_written.into(),
            path: check_path(traffic.path.as_ref())?,
            users: users(traffic.basic_auth.as_ref())?,
            when: traffic.when.as_ref().map(lower_case).map(Arc::new),
            sticky: sticky.transpose()?,
            force: traffic.force.as_ref().map(Force::new).transpose()?,
            balance: Balance::new(&traffic.balance)?,
            traffic,
            mirror: spec.mirror.clone(),
            transport: check_versions(&spec.versions, &split)?,
            split,
            endpoints,
        })
    }

    /// The same service with another split.
    pub(crate) fn with_split(&self, split: &BTreeMap<String, u32>) -> Result<Self, InputError> {
        if split.is_empty() {
            return Err(InputError::of_field("split", "names no version"));
        }
        let split = check_split(split, &self.endpoints)?;
        Ok(Self {
            split,
            ..self.clone()
        })
    }

    /// How the endpoints of this version are reached.
    pub(crate) fn transport(&self, version: &str) -> Arc<Transport> {
        static MOST: LazyLock<Arc<Transport>> = LazyLock::new(Arc::default);
        self.transport.get(version).unwrap_or(&MOST).clone()
    }

    /// Whether both serve the same requests.
    pub(crate) fn same_routes(&self, other: &Self) -> bool {
        self.hosts == other.hosts
            && self.path_prefix == other.path_prefix
            && self.path == other.path
            && self.when == other.when
    }

    /// What is taken off a path before an endpoint gets it.
    pub(crate) fn strip(&self) -> Option<&str> {
        self.traffic.strip_prefix.then_some(&*self.path_prefix)
    }

    /// Whether a request for `path` asks for what the health check asks for.
    pub(crate) fn is_health_path(&self, path: &[u8]) -> bool {
        let Some(HealthSpec {
            protocol: Probe::Http,
            path: wanted,
            ..
        }) = &self.traffic.health
        else {
            return false;
        };
        let rest = self
            .strip()
            .and_then(|prefix| path.strip_prefix(prefix.as_bytes()));
        let path = rest.unwrap_or(path);
        wanted.split('?').next().map(str::as_bytes) == Some(path)
    }

    /// Whether it tells its clients apart by a cookie of the proxy.
    pub(crate) fn sets_cookie(&self) -> bool {
        let sticky = self.sticky.as_ref();
        sticky.and_then(Sticky::cookie).is_some()
    }

    /// Its paths, in the words of its keys.
    pub(crate) fn path_text(&self) -> String {
        match &self.path {
            PathMatch::Prefix => format!("path prefix `{}`", self.prefix_text()),
            PathMatch::Exact(path) => format!("path `{path}`"),
            PathMatch::Pattern(pattern) => format!("path regex `{pattern}`"),
        }
    }

    /// What the group of this name has of a request for this host, in lower case, and this path.
    pub(crate) fn group<'t>(&self, name: &str, host: &'t [u8], path: &'t [u8]) -> Option<&'t [u8]> {
        let of = |pattern: &Pattern, text: &'t [u8]| {
            let captures = pattern.captures(text)?;
            captures.name(name).map(|group| group.as_bytes())
        };
        let of_path = match &self.path {
            PathMatch::Pattern(pattern) => of(pattern, path),
            PathMatch::Prefix | PathMatch::Exact(_) => None,
        };
        of_path.or_else(|| {
            self.hosts.iter().find_map(|one| match one {
                HostPattern::Pattern(pattern) => of(pattern, host),
                _ => None,
            })
        })
    }

    /// The path prefix as people write it.
    pub(crate) fn prefix_text(&self) -> &str {
        &self.prefix_written
    }
}

impl HostPattern {
    /// As people write it; `None` for every host.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Suffix(suffix) => Some(format!("*{suffix}")),
            Self::Pattern(pattern) => Some(format!("~{pattern}")),
            Self::Exact(name) => Some(name.to_string()),
        }
    }
}

fn check_name(name: &str) -> Result<(), InputError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(InputError::of_field(
            "name",
            format!(
                "`{name}` is not a service name: use 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`"
            ),
        ));
    }
    Ok(())
}

fn check_hosts(hosts: &[String]) -> Result<Vec<HostPattern>, InputError> {
    if hosts.is_empty() {
        return Ok(vec![HostPattern::Any]);
    }
    at_most("hosts", hosts.len(), MAX_HOSTS)?;
    let mut patterns = Vec::with_capacity(hosts.len());
    for (i, host) in hosts.iter().enumerate() {
        let read = route::host(host);
        let read = read.map_err(|m| InputError::of_field(format!("hosts[{i}]"), m))?;
        let pattern = match read {
            Host::Pattern(pattern) => HostPattern::Pattern(pattern),
            Host::Name(name) => match name.strip_prefix('*') {
                Some(suffix) => HostPattern::Suffix(suffix.into()),
                None => HostPattern::Exact(name.into()),
            },
        };
        if patterns.contains(&pattern) {
            return Err(InputError::of_field(
                format!("hosts[{i}]"),
                format!("`{host}` is listed twice"),
            ));
        }
        patterns.push(pattern);
    }
    Ok(patterns)
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), InputError> {
    if count > most {
        let message = format!("has {count} entries: at most {most}");
        return Err(InputError::of_field(field, message));
    }
    Ok(())
}

/// The prefix in the normal form of paths, without a `/` at its end.
fn check_prefix(prefix: &str) -> Result<Arc<str>, InputError> {
    let normal = normal_form(prefix).map_err(|error| error.inside("path_prefix"))?;
    Ok(normal.trim_end_matches('/').into())
}

/// A path that people have written in its normal form.
fn normal_form(written: &str) -> Result<String, InputError> {
    route::check_path(written)?;
    path::normal_of(written).ok_or_else(|| {
        InputError::of_whole(format!(
            "`{written}` has `.` or `..` as a segment, or a `%` without two digits after it"
        ))
    })
}

fn check_path(path: Option<&PathSpec>) -> Result<PathMatch, InputError> {
    Ok(match path {
        None => PathMatch::Prefix,
        Some(PathSpec::Matches(pattern)) => PathMatch::Pattern(pattern.clone()),
        Some(PathSpec::Is(path)) => {
            let normal = normal_form(path).map_err(|error| error.inside("path"))?;
            PathMatch::Exact(normal.into())
        }
    })
}

/// The users of a service, from its settings or from the file that they name.
fn users(spec: Option<&BasicAuthSpec>) -> Result<Option<Arc<Vec<User>>>, InputError> {
    let Some(spec) = spec else { return Ok(None) };
    let of = |key: &str, text: &str| {
        let read = admin_api::read_users(text);
        read.map_err(|error| error.inside(key).inside("basic_auth"))
    };
    let users = match (&spec.users, &spec.file) {
        (Some(text), _) => of("users", text)?,
        (None, Some(file)) => {
            let wrong = |why: String| {
                let message = format!("{}: {why}", file.display());
                InputError::of_field("basic_auth.file", message)
            };
            let bytes = read_file(file, MAX_USERS_FILE);
            let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
            let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
            of("file", &text)?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Arc::new(users)))
}

/// Names of header fields have no case.
fn lower_case(when: &WhenSpec) -> WhenSpec {
    let headers = when.headers.clone().into_iter();
    let headers = headers.map(|(name, test)| (name.to_ascii_lowercase(), test));
    WhenSpec {
        headers: headers.collect(),
        ..when.clone()
    }
}

/// A cookie's path goes as far as the next `;` (RFC 6265, 5.2.4): what follows would be attributes of
/// the cookie.
fn check_cookie_path(spec: &ServiceSpec) -> Result<(), InputError> {
    let sticky = spec.traffic.sticky.as_ref();
    let has_cookie = sticky.is_some_and(|sticky| sticky.cookie.is_some());
    if has_cookie && spec.path_prefix.contains(';') {
        let message = "has a `;`, which the path of the cookie in `sticky` cannot have: use `sticky.header`, or another prefix";
        return Err(InputError::of_field("path_prefix", message));
    }
    Ok(())
}

fn check_endpoints(spec: &ServiceSpec) -> Result<Vec<EndpointDefinition>, InputError> {
    let mut endpoints: Vec<EndpointDefinition> = Vec::with_capacity(spec.endpoints.len());
    at_most("endpoints", spec.endpoints.len(), MAX_ENDPOINTS)?;
    let mut seen = HashSet::new();
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let of_field = |field: &str, message: String| {
            InputError::of_field(format!("endpoints[{i}].{field}"), message)
        };
        let label = endpoint.version.as_str();
        if label.is_empty()
            || label.len() > MAX_LABEL
            || !label.chars().all(|c| c.is_ascii_graphic())
        {
            return Err(of_field(
                "version",
                format!(
                    "`{label}` is not a version: use 1 to {MAX_LABEL} printable characters without spaces"
                ),
            ));
        }
        let address = check_address(&endpoint.address).map_err(|m| of_field("address", m))?;
        if !seen.insert((label, address.clone())) {
            return Err(of_field(
                "address",
                format!("`{address}` is listed twice for version {label}"),
            ));
        }
        endpoints.push(EndpointDefinition {
            version: label.into(),
            address,
            weight: endpoint.weight,
        });
    }
    Ok(endpoints)
}

/// Completes the split: every version with endpoints has its weight, those not named have 0.
fn check_split(
    requested: &BTreeMap<String, u32>,
    endpoints: &[EndpointDefinition],
) -> Result<BTreeMap<Arc<str>, u32>, InputError> {
    let mut split: BTreeMap<Arc<str>, u32> = endpoints
        .iter()
        .map(|endpoint| (endpoint.version.clone(), 0))
        .collect();
    if requested.is_empty() {
        if split.len() > 1 {
            let versions = split
                .keys()
                .map(AsRef::as_ref)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(InputError::of_field(
                "split",
                format!("is missing: it divides requests over the versions {versions}"),
            ));
        }
        split.values_mut().for_each(|weight| *weight = 1);
        return Ok(split);
    }
    for (version, weight) in requested {
        let Some(slot) = split.get_mut(version.as_str()) else {
            let mut field = "split".to_owned();
            push_key(&mut field, version);
            return Err(InputError::of_field(
                field,
                unknown_version(version, &split),
            ));
        };
        *slot = *weight;
    }
    if split.values().all(|weight| *weight == 0) {
        return Err(InputError::of_field(
            "split",
            "every weight is 0: no version would get requests; give at least one of them 1 or more",
        ));
    }
    Ok(split)
}

fn check_versions(
    requested: &BTreeMap<String, VersionSpec>,
    split: &BTreeMap<Arc<str>, u32>,
) -> Result<BTreeMap<Arc<str>, Arc<Transport>>, InputError> {
    let check = |(version, spec): (&String, &VersionSpec)| {
        let mut field = "versions".to_owned();
        push_key(&mut field, version);
        let Some((label, _)) = split.get_key_value(version.as_str()) else {
            return Err(InputError::of_field(field, unknown_version(version, split)));
        };
        let transport = Transport::check(spec).map_err(|error| error.inside(&field))?;
        Ok((label.clone(), Arc::new(transport)))
    };
    requested.iter().map(check).collect()
}

/// A sentence that names the versions there are. They are named alike, so none is suggested.
pub(crate) fn unknown_version(version: &str, known: &BTreeMap<Arc<str>, u32>) -> String {
    if known.is_empty() {
        return format!("there is no version `{version}`: the service has no endpoints");
    }
    let names: Vec<&str> = known.keys().map(AsRef::as_ref).collect();
    let list = names.join(", ");
    format!("there is no version `{version}`, only {list}")
}

#[cfg(test)]
mod tests {
    use admin_api::strict;

    use super::*;
    use crate::table::cookie_key::CookieKey;

    fn definition(json: &str) -> Result<Definition, InputError> {
        Definition::check(&strict::from_json::<ServiceSpec>(json.as_bytes())?)
    }

    #[track_caller]
    fn check(json: &str, field: &str, says: &str) {
        let error = definition(json).expect_err("this service is wrong");
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_route_is_named_with_its_field() {
        check(r#"{"name":"a b"}"#, "name", "not a service name");
        check(
            r#"{"name":"web","hosts":["http://x"]}"#,
            "hosts[0]",
            "without scheme",
        );
        check(r#"{"name":"web","path":"/a/../b"}"#, "path", "as a segment");
        check(
            r#"{"name":"web","path":"/a","path_prefix":"/b"}"#,
            "path",
            "leave one of the two out",
        );
        check(
            r#"{"name":"web","hosts":["a.b","A.b"]}"#,
            "hosts[1]",
            "twice",
        );
        check(
            r#"{"name":"web","path_prefix":"api"}"#,
            "path_prefix",
            "begin with `/`",
        );
        for wrong in ["/a/../b", "/a/.", "/a/%2e%2e", "/..", "/%4"] {
            let json = format!(r#"{{"name":"web","path_prefix":"{wrong}"}}"#);
            check(&json, "path_prefix", "as a segment");
        }
    }

    #[test]
    fn what_is_wrong_with_a_setting_is_named_with_its_field() {
        check(
            r#"{"name":"web","ejection":{"max_share":101}}"#,
            "ejection.max_share",
            "0 to 100",
        );
        check(
            r#"{"name":"web","health":{"path":"/","rise":0}}"#,
            "health.rise",
            "at least 1",
        );
        check(
            r#"{"name":"web","health":{"path":"x"}}"#,
            "health.path",
            "begin with `/`",
        );
        check(
            r#"{"name":"web","balance":{"hash":{"cookie":"a b"}}}"#,
            "balance.hash.cookie",
            "not the name of a cookie",
        );
        check(
            r#"{"name":"web","balance":"least_in_flght"}"#,
            "balance",
            "did you mean `least_in_flight`?",
        );
        check(
            r#"{"name":"web","balance":{"hash":{"header":"a b"}}}"#,
            "balance.hash.header",
            "not the name of a header field",
        );
    }

    #[test]
    fn what_is_wrong_with_sticky_or_force_is_named_with_its_field() {
        check(r#"{"name":"web","sticky":{}}"#, "sticky", "either `cookie`");
        check(
            r#"{"name":"web","sticky":{"cookie":"a;b"}}"#,
            "sticky.cookie",
            "not the name of a cookie",
        );
        check(
            r#"{"name":"web","sticky":{"header":"x","secure":true}}"#,
            "sticky.secure",
            "belongs to a cookie",
        );
        check(
            r#"{"name":"web","force":{"header":"x-version","from":[]}}"#,
            "force.from",
            "list the networks",
        );
        check(
            r#"{"name":"web","force":{"cookie":"v","from":["10.0.0.0/8","all"]}}"#,
            "force.from[1]",
            "not a network",
        );
    }

    #[test]
    fn what_is_wrong_with_a_version_is_named_with_its_field() {
        let versions = |settings: &str| {
            format!(
                r#"{{"name":"web","versions":{settings},"endpoints":[{{"address":"10.0.0.1:80","version":"1"}}]}}"#
            )
        };
        check(
            &versions(r#"{"1":{"protocol":"http2"}}"#),
            "versions.1.protocol",
            "expected `http/1.1` or `h2`",
        );
        check(&versions(r#"{"2":{}}"#), "versions.2", "only 1");
        check(
            &versions(r#"{"1":{"tls":{"ca":"/no/such"}}}"#),
            "versions.1.tls.ca",
            "cannot be read",
        );
        check(
            &versions(r#"{"1":{"tls":{"verify":false,"server_name":"a b"}}}"#),
            "versions.1.tls.server_name",
            "neither a host name nor",
        );
        check(
            &versions(r#"{"1":{"tls":{"verify":false,"ca":"ca.pem"}}}"#),
            "versions.1.tls.ca",
            "no effect",
        );
    }

    #[test]
    fn what_is_wrong_with_endpoints_or_their_split_is_named_with_its_field() {
        let two = r#""endpoints":[{"address":"10.0.0.1:80","version":"1"},{"address":"10.0.0.2:80","version":"2"}]"#;
        check(
            r#"{"name":"web","endpoints":[{"address":"10.0.0.1","version":"1"}]}"#,
            "endpoints[0].address",
            "`name:port`",
        );
        check(
            r#"{"name":"web","endpoints":[{"address":"10.0.0.300:80","version":"1"}]}"#,
            "endpoints[0].address",
            "not an address",
        );
        check(&format!(r#"{{"name":"web",{two}}}"#), "split", "1, 2");
        check(
            &format!(r#"{{"name":"web","split":{{"1":0,"2":0}},{two}}}"#),
            "split",
            "every weight is 0",
        );
        check(
            &format!(r#"{{"name":"web","split":{{"3":1}},{two}}}"#),
            "split.3",
            "only 1, 2",
        );
    }

    #[test]
    fn a_prefix_and_hosts_are_in_the_form_in_which_requests_are_matched() {
        for (written, normal, shown) in [
            ("/", "", "/"),
            ("/api/", "/api", "/api"),
            ("//api//v1//", "/api/v1", "//api//v1"),
            ("/%7euser/%c3%a9", "/~user/%C3%A9", "/%7euser/%c3%a9"),
        ] {
            let json = format!(r#"{{"name":"web","path_prefix":"{written}"}}"#);
            let definition = definition(&json).unwrap();
            assert_eq!(&*definition.path_prefix, normal);
            assert_eq!(definition.prefix_text(), shown);
        }
        let hosts = r#"{"name":"web","hosts":["App.example.com.","*.münchen.example","::1"]}"#;
        let hosts = definition(hosts).unwrap().hosts;
        let hosts: Vec<_> = hosts.iter().filter_map(HostPattern::text).collect();
        assert_eq!(
            hosts,
            ["app.example.com", "*.xn--mnchen-3ya.example", "[::1]"]
        );
        check(
            r#"{"name":"web","hosts":["münchen.example","XN--MNCHEN-3YA.example."]}"#,
            "hosts[1]",
            "twice",
        );
    }

    #[test]
    fn a_cookie_for_a_path_has_nothing_else_in_it() {
        let of = |prefix: &str, sticky: &str| {
            definition(&format!(
                r#"{{"name":"web","path_prefix":"{prefix}","sticky":{sticky}}}"#
            ))
        };
        let error = of("/a;Domain=evil.test", r#"{"cookie":"seat"}"#).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("path_prefix"), "{error}");
        assert!(of("/a;b", r#"{"header":"x-user"}"#).is_ok());
        let cookie = |prefix: &str| {
            let definition = of(prefix, r#"{"cookie":"seat"}"#).unwrap();
            let key = CookieKey::random();
            let cookie = definition.sticky.unwrap().set_cookie(1, &key).unwrap();
            let (_, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            attributes.to_owned()
        };
        let attributes = "HttpOnly; SameSite=Lax";
        for (prefix, path) in [("/", "/"), ("/a/", "/a"), ("/a,b=c", "/a,b=c")] {
            let want = format!(" Path={path}; {attributes}");
            assert_eq!(cookie(prefix), want);
        }
        for control in ["\\r\\nx: y", "\\u0000", "\\t", "\\u007f", " "] {
            assert!(of(&format!("/a{control}"), r#"{"cookie":"seat"}"#).is_err());
        }
    }

    #[test]
    fn the_health_path_is_known_from_outside() {
        let of = |json: &str, path: &str| {
            let definition = definition(json).unwrap();
            definition.is_health_path(path.as_bytes())
        };
        let plain = r#"{"name":"web","health":{"path":"/healthz?full"}}"#;
        assert!(of(plain, "/healthz") && !of(plain, "/healthz/x") && !of(plain, "/"));
        let stripped = r#"{"name":"web","path_prefix":"/api","strip_prefix":true,"health":{"path":"/healthz"}}"#;
        assert!(of(stripped, "/api/healthz"));
        assert!(!of(r#"{"name":"web"}"#, "/healthz"));
        assert!(!of(r#"{"name":"web","health":{"protocol":"tcp"}}"#, ""));
    }

    #[test]
    fn a_single_version_needs_no_split_and_an_unnamed_one_gets_0() {
        let one = definition(r#"{"name":"web","endpoints":[{"address":"a:80","version":"1"}]}"#);
        assert_eq!(one.unwrap().split, BTreeMap::from([("1".into(), 1)]));
        let two = definition(
            r#"{"name":"web","split":{"1":5},"endpoints":[{"address":"a:80","version":"1"},{"address":"b:80","version":"2"}]}"#,
        );
        assert_eq!(
            two.unwrap().split,
            BTreeMap::from([("1".into(), 5), ("2".into(), 0)])
        );
    }
}
