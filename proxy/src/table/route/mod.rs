//! Which service a request is for, by host and path, and by what else the service wants of it.
//!
//! The most specific match wins. Of hosts: an exact name, then `*.suffix` (the longest first), then
//! regular expressions (the longest first), then every host. Within a host, of paths: an exact one,
//! then regular expressions (the longest first), then the longest prefix. For one path: who wants most
//! of a request. Where nothing of a host matches, the next less specific host is asked.

mod paths;
mod when;

use std::collections::HashMap;
use std::sync::Arc;

use admin_api::Pattern;

use crate::table::definition::{Definition, HostPattern};
use crate::table::route::paths::Paths;

pub(crate) use crate::table::route::paths::is_below;
pub(crate) use crate::table::route::when::Rest;

/// The routes of a table, to indices of its services.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    exact: HashMap<Box<[u8]>, Paths>,
    /// By suffix, which begins with a dot.
    suffixes: HashMap<Box<[u8]>, Paths>,
    /// In the order in which they are tried.
    patterns: Vec<(Pattern, Paths)>,
    any: Paths,
}

/// Two services that want the same requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) host: HostPattern,
    /// As it is to be read.
    pub(crate) path: String,
    pub(crate) services: [Arc<str>; 2],
    /// The place of the second one.
    pub(crate) place: usize,
}

impl Conflict {
    /// The error message for the author of `service`.
    pub(crate) fn message(&self, service: &str) -> String {
        let host = self.host.text().unwrap_or_else(|| "every host".into());
        let Self {
            path,
            services: [first, second],
            ..
        } = self;
        let other = if **first == *service { second } else { first };
        format!(
            "serves the same requests as service `{other}` ({host}, {path}): change its hosts, its path or its `when`"
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
                let inserted = routes.paths_of(host).insert(service, index);
                inserted.map_err(|first| Conflict {
                    host: host.clone(),
                    path: service.path_text(),
                    services: [services[first].name.clone(), service.name.clone()],
                    place: index,
                })?;
            }
        }
        Ok(routes)
    }

    fn paths_of(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Suffix(suffix) => {
                self.suffixes.entry(suffix.as_bytes().into()).or_default()
            }
            HostPattern::Exact(name) => self.exact.entry(name.as_bytes().into()).or_default(),
            HostPattern::Pattern(pattern) => {
                let found = self.patterns.binary_search_by(|(one, _)| one.cmp(pattern));
                let at = found.unwrap_or_else(|at| {
                    let new = (pattern.clone(), Paths::default());
                    self.patterns.insert(at, new);
                    at
                });
                &mut self.patterns[at].1
            }
        }
    }

    /// The service for a host (without port, in any case), a path, and what else a request has.
    /// Without that, it is none of a service that wants more.
    pub(crate) fn find(&self, host: &[u8], path: &[u8], rest: Option<Rest<'_>>) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.patterns.is_empty() {
            return self.any.find(path, rest);
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            return self.find_lower(&host.to_ascii_lowercase(), path, rest);
        }
        self.find_lower(host, path, rest)
    }

    fn find_lower(&self, host: &[u8], path: &[u8], rest: Option<Rest<'_>>) -> Option<usize> {
        let exact = self.exact.get(host);
        let exact = exact.and_then(|paths| paths.find(path, rest));
        if exact.is_some() {
            return exact;
        }
        if !self.suffixes.is_empty() {
            // From the longest suffix to the shortest; a host is not its own suffix.
            let dots = memchr::memchr_iter(b'.', host);
            for at in dots.filter(|at| *at > 0) {
                let found = self.suffixes.get(&host[at..]);
                let found = found.and_then(|paths| paths.find(path, rest));
                if found.is_some() {
                    return found;
                }
            }
        }
        for (pattern, paths) in &self.patterns {
            if pattern.matches(host)
                && let Some(found) = paths.find(path, rest)
            {
                return Some(found);
            }
        }
        self.any.find(path, rest)
    }
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
            let found = routes.find(host.as_bytes(), path.as_bytes(), None);
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
        assert_eq!(routes.find(b"a.b", b"/", None), None);
        assert_eq!(routes.find(b"c.d", b"/x", None), None);
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

    /// The routes of services whose names are their places, `s0` and so on, with these keys.
    fn routes(services: &[&str]) -> Result<Routes, Conflict> {
        let definition = |(i, keys): (usize, &&str)| {
            let json = format!(r#"{{"name":"s{i}",{keys}}}"#);
            Definition::check(&from_json::<ServiceSpec>(json.as_bytes()).unwrap()).unwrap()
        };
        let definitions: Vec<_> = services.iter().enumerate().map(definition).collect();
        Routes::new(&definitions)
    }

    #[test]
    fn exact_paths_come_before_expressions_and_those_before_prefixes() {
        let routes = routes(&[
            r#""path_prefix":"/""#,
            r#""path_prefix":"/items""#,
            r#""path":{"regex":"/items/[0-9]+"}"#,
            r#""path":{"regex":"/items/[0-9]+/.*"}"#,
            r#""path":"/items/7""#,
            r#""path":"/items/""#,
            r#""hosts":["~[a-z]+\\.a\\.test"],"path_prefix":"/x""#,
            r#""hosts":["*.b.a.test"],"path_prefix":"/x""#,
        ])
        .unwrap();
        for (host, path, want) in [
            ("h", "/", 0),
            ("h", "*", 0),
            ("h", "/items", 1),
            ("h", "/items/", 5),
            ("h", "/items/x", 1),
            ("h", "/items/12", 2),
            ("h", "/items/7", 4),
            ("h", "/items/7/", 3),
            ("h", "/items/12/x", 3),
            ("C.A.test", "/x/y", 6),
            ("c.a.test", "/y", 0),
            ("c.d.a.test", "/x", 0),
            ("c.b.a.test", "/x", 7),
        ] {
            let found = routes.find(host.as_bytes(), path.as_bytes(), None);
            assert_eq!(found, Some(want), "{host} {path}");
        }
    }

    #[test]
    fn who_wants_most_of_a_request_gets_it() {
        let routes = routes(&[
            r#""path_prefix":"/a""#,
            r#""path_prefix":"/a","when":{"query":{"q":"1"}}"#,
            r#""path_prefix":"/a","when":{"headers":{"x-a":true}}"#,
            r#""path_prefix":"/a","when":{"headers":{"x-a":"1"},"query":{"q":"1"}}"#,
            r#""path_prefix":"/a","when":{"methods":["PUT"]}"#,
            r#""path_prefix":"/a","when":{"query":{"q":true}}"#,
            r#""path_prefix":"/","when":{"headers":{"x-a":"1"}}"#,
        ])
        .unwrap();
        for (lines, path, query, want) in [
            ("", "/a", "", Some(0)),
            ("", "/a", "?q=1", Some(1)),
            ("", "/a", "?q=2", Some(5)),
            ("x-a: 2\r\n", "/a", "?q=1", Some(2)),
            ("x-a: 1\r\n", "/a", "?q=1", Some(3)),
            ("x-a: 1\r\n", "/b", "", Some(6)),
            ("x-a: 2\r\n", "/b", "", None),
        ] {
            crate::testing::with_request(lines, |request| {
                let query = query.as_bytes();
                let rest = Some(Rest { request, query });
                let found = routes.find(b"h", path.as_bytes(), rest);
                assert_eq!(found, want, "{lines} {path} {query:?}");
            });
        }
    }

    #[test]
    fn many_prefixes_are_found_as_few_are() {
        let keys: Vec<String> = (0..100)
            .map(|n| format!(r#""path_prefix":"/{}""#, "a/".repeat(n)))
            .collect();
        let many = routes(&keys.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let find = |path: &str| many.find(b"h", path.as_bytes(), None);
        for n in 0..100 {
            let path = format!("/{}", "a/".repeat(n));
            assert_eq!(find(&path), Some(n), "{path}");
            assert_eq!(find(path.trim_end_matches('/')), Some(n), "{path}");
            assert_eq!(find(&format!("{path}b")), Some(n), "{path}");
        }
        assert_eq!(find("*"), Some(0));
        assert_eq!(find(&format!("/{}", "a/".repeat(200))), Some(99));
        assert_eq!(find(&"/".repeat(1000)), Some(0));
        let without_root = &keys[1..];
        let some: Vec<_> = without_root.iter().map(String::as_str).collect();
        assert_eq!(routes(&some).unwrap().find(b"h", b"/b", None), None);
    }

    #[test]
    fn what_differs_in_what_it_wants_is_no_conflict() {
        let same = [r#""path":"/a","when":{"methods":["GET"]}"#; 2];
        let conflict = routes(&same).expect_err("the same requests");
        let message = conflict.message("s1");
        assert!(
            message.contains("`s0` (every host, path `/a`)"),
            "{message}"
        );
        let same = [r#""path":{"regex":"/a"}"#; 2];
        let message = routes(&same).expect_err("the same").message("s0");
        assert!(
            message.contains("`s1` (every host, path regex `/a`)"),
            "{message}"
        );
        let others = [
            same[0],
            r#""path":"/a""#,
            r#""path_prefix":"/a""#,
            r#""path":"/a","when":{"methods":["GET"]}"#,
        ];
        assert!(routes(&others).is_ok());
    }
}
