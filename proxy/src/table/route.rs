//! Which service a request is for, by host and path prefix.
//!
//! The most specific match wins: an exact host before `*.suffix` (the longest first) before
//! any host, and within a host the longest prefix. Where a host has no prefix that matches,
//! the next less specific host is asked.

use std::collections::HashMap;
use std::sync::Arc;

use crate::table::definition::{Definition, HostPattern};

/// The routes of a table, to indices of its services.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    exact: HashMap<Box<[u8]>, Prefixes>,
    /// By suffix, which begins with a dot.
    suffixes: HashMap<Box<[u8]>, Prefixes>,
    any: Prefixes,
}

/// Path prefixes of one host, the longest first.
type Prefixes = Vec<(Arc<str>, usize)>;

/// Two services that want the same requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) host: HostPattern,
    pub(crate) prefix: Arc<str>,
    pub(crate) services: [Arc<str>; 2],
    /// The place of the second one.
    pub(crate) place: usize,
}

impl Conflict {
    /// The error message for the author of `service`.
    pub(crate) fn message(&self, service: &str) -> String {
        let host = self.host.text().unwrap_or_else(|| "every host".into());
        let Self {
            prefix,
            services: [first, second],
            ..
        } = self;
        let other = if **first == *service { second } else { first };
        format!(
            "serves the same requests as service `{other}` ({host}, path prefix `{prefix}`): change its hosts or its path_prefix"
        )
    }
}

impl Routes {
    /// The routes of these services, whose indices are their places in the iterator.
    pub(crate) fn new<'a>(
        services: impl IntoIterator<Item = &'a Definition>,
    ) -> Result<Self, Conflict> {
        let mut routes = Self::default();
        let services: Vec<&Definition> = services.into_iter().collect();
        for (index, service) in services.iter().enumerate() {
            for host in &service.hosts {
                let prefixes = match host {
                    HostPattern::Any => &mut routes.any,
                    HostPattern::Suffix(suffix) => {
                        routes.suffixes.entry(suffix.as_bytes().into()).or_default()
                    }
                    HostPattern::Exact(name) => {
                        routes.exact.entry(name.as_bytes().into()).or_default()
                    }
                };
                insert(prefixes, &service.path_prefix, index).map_err(|first| Conflict {
                    host: host.clone(),
                    prefix: service.prefix_text().into(),
                    services: [services[first].name.clone(), service.name.clone()],
                    place: index,
                })?;
            }
        }
        Ok(routes)
    }

    /// The service for a host (without port, in any case) and a path.
    pub(crate) fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return longest(&self.any, path);
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            return self.find_lower(&host.to_ascii_lowercase(), path);
        }
        self.find_lower(host, path)
    }

    fn find_lower(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        let exact = self
            .exact
            .get(host)
            .and_then(|prefixes| longest(prefixes, path));
        if exact.is_some() {
            return exact;
        }
        if !self.suffixes.is_empty() {
            // From the longest suffix to the shortest; a host is not its own suffix.
            let dots = memchr::memchr_iter(b'.', host);
            for at in dots.filter(|at| *at > 0) {
                let found = self
                    .suffixes
                    .get(&host[at..])
                    .and_then(|p| longest(p, path));
                if found.is_some() {
                    return found;
                }
            }
        }
        longest(&self.any, path)
    }
}

/// Puts a prefix where it belongs, or gives the service that has it already.
fn insert(prefixes: &mut Prefixes, prefix: &Arc<str>, service: usize) -> Result<(), usize> {
    let found = prefixes.binary_search_by(|(other, _)| {
        let longest_first = prefix.len().cmp(&other.len());
        longest_first.then_with(|| other.cmp(prefix))
    });
    match found {
        Ok(at) => Err(prefixes[at].1),
        Err(at) => {
            prefixes.insert(at, (prefix.clone(), service));
            Ok(())
        }
    }
}

fn longest(prefixes: &Prefixes, path: &[u8]) -> Option<usize> {
    let (_, service) = prefixes.iter().find(|(prefix, _)| is_below(path, prefix))?;
    Some(*service)
}

/// Whether `path` is `prefix` or goes on after it with a `/`.
pub(crate) fn is_below(path: &[u8], prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        // `*`, the target of a server-wide OPTIONS (RFC 9110, 7.1), is for the service that has
        // `/`.
        || prefix.is_empty()
}

#[cfg(test)]
mod tests {
    use admin_api::ServiceSpec;
    use admin_api::strict::from_json;

    use super::*;

    fn definitions(services: &[(&[&str], &str)]) -> Vec<Definition> {
        let definition = |(i, (hosts, prefix)): (usize, &(&[&str], &str))| {
            let json =
                serde_json::json!({"name": format!("s{i}"), "hosts": hosts, "path_prefix": prefix});
            Definition::check(&from_json::<ServiceSpec>(json.to_string().as_bytes()).unwrap())
                .unwrap()
        };
        services.iter().enumerate().map(definition).collect()
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = Routes::new(&definitions(&[
            (&[], "/"),
            (&["*.example.com"], "/"),
            (&["*.eu.example.com"], "/"),
            (&["app.example.com"], "/"),
            (&["app.example.com"], "/api"),
            (&["app.example.com"], "/api/v2/"),
            (&["only.example.com"], "/x"),
        ]))
        .unwrap();
        #[track_caller]
        fn check(routes: &Routes, host: &str, path: &str, want: usize) {
            let found = routes.find(host.as_bytes(), path.as_bytes());
            assert_eq!(found, Some(want), "{host} {path}");
        }
        check(&routes, "other", "/", 0);
        check(&routes, "", "*", 0);
        check(&routes, "example.com", "/", 0);
        check(&routes, "a.example.com", "/", 1);
        check(&routes, "a.b.example.com", "/", 1);
        check(&routes, "a.eu.example.com", "/", 2);
        check(&routes, "APP.example.COM", "/apix", 3);
        check(&routes, "app.example.com", "/api", 4);
        check(&routes, "app.example.com", "/api/v1", 4);
        check(&routes, "app.example.com", "/api/v2", 5);
        check(&routes, "app.example.com", "/api/v2/x", 5);
        check(&routes, "only.example.com", "/x/y", 6);
        check(&routes, "only.example.com", "/y", 1);
    }

    #[test]
    fn where_nothing_matches_there_is_no_service() {
        let routes = Routes::new(&definitions(&[(&["a.b"], "/x")])).unwrap();
        assert_eq!(routes.find(b"a.b", b"/"), None);
        assert_eq!(routes.find(b"c.d", b"/x"), None);
    }

    #[test]
    fn two_services_with_the_same_route_are_a_conflict() {
        let error = Routes::new(&definitions(&[(&["a.b"], "/x"), (&["c", "A.B"], "/x/")]));
        let conflict = error.expect_err("the same route");
        assert_eq!(conflict.place, 1);
        assert!(
            conflict
                .message("s1")
                .contains("`s0` (a.b, path prefix `/x`)"),
            "{conflict:?}"
        );
        assert!(
            conflict
                .message("s0")
                .contains("`s1` (a.b, path prefix `/x`)"),
            "{conflict:?}"
        );
    }
}
