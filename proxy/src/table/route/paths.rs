//! The services of one host, by the paths that they serve.

use std::collections::HashMap;
use std::sync::Arc;

use admin_api::{Pattern, WhenSpec};

use crate::table::definition::{Definition, PathMatch};
use crate::table::route::when::{self, Rest};

/// So many prefixes are looked at one after the other; where there are more, each part of a path is
/// looked up.
const FEW: usize = 16;

/// The services of one host.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Box<[u8]>, Candidates>,
    /// In the order in which they are tried.
    patterns: Vec<(Pattern, Candidates)>,
    prefixes: Prefixes,
}

/// Path prefixes, each without a `/` at its end.
#[derive(Debug)]
enum Prefixes {
    /// The longest first.
    Few(Vec<(Arc<str>, Candidates)>),
    Many {
        by_text: HashMap<Box<[u8]>, Candidates>,
        longest: usize,
    },
}

/// The services for one path.
#[derive(Debug, Default)]
struct Candidates {
    /// Those that want more of a request, the ones that want most first.
    conditional: Vec<(Arc<WhenSpec>, usize)>,
    plain: Option<usize>,
}

impl Paths {
    /// Adds the paths of a service, or gives the service that has them already.
    pub(super) fn insert(&mut self, service: &Definition, index: usize) -> Result<(), usize> {
        let candidates = match &service.path {
            PathMatch::Prefix => self.prefixes.entry(&service.path_prefix),
            PathMatch::Exact(path) => self.exact.entry(path.as_bytes().into()).or_default(),
            PathMatch::Pattern(pattern) => {
                let found = self.patterns.binary_search_by(|(one, _)| one.cmp(pattern));
                let at = found.unwrap_or_else(|at| {
                    let new = (pattern.clone(), Candidates::default());
                    self.patterns.insert(at, new);
                    at
                });
                &mut self.patterns[at].1
            }
        };
        candidates.insert(service.when.as_ref(), index)
    }

    /// The service for a path in its normal form.
    pub(super) fn find(&self, path: &[u8], rest: Option<Rest<'_>>) -> Option<usize> {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(path).and_then(|one| one.find(rest))
        {
            return Some(found);
        }
        for (pattern, candidates) in &self.patterns {
            if pattern.matches(path)
                && let Some(found) = candidates.find(rest)
            {
                return Some(found);
            }
        }
        self.prefixes.find(path, rest)
    }
}

impl Default for Prefixes {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Prefixes {
    fn entry(&mut self, prefix: &Arc<str>) -> &mut Candidates {
        if let Self::Few(list) = self
            && list.len() >= FEW
        {
            let all = std::mem::take(list).into_iter();
            let by_text: HashMap<Box<[u8]>, _> = all
                .map(|(prefix, one)| (prefix.as_bytes().into(), one))
                .collect();
            let longest = by_text.keys().map(|prefix| prefix.len()).max();
            let longest = longest.unwrap_or_default();
            *self = Self::Many { by_text, longest };
        }
        match self {
            Self::Many { by_text, longest } => {
                *longest = prefix.len().max(*longest);
                by_text.entry(prefix.as_bytes().into()).or_default()
            }
            Self::Few(list) => {
                let found = list.binary_search_by(|(other, _)| {
                    let longest_first = prefix.len().cmp(&other.len());
                    longest_first.then_with(|| other.cmp(prefix))
                });
                let at = found.unwrap_or_else(|at| {
                    list.insert(at, (prefix.clone(), Candidates::default()));
                    at
                });
                &mut list[at].1
            }
        }
    }

    fn find(&self, path: &[u8], rest: Option<Rest<'_>>) -> Option<usize> {
        match self {
            Self::Few(list) => list.iter().find_map(|(prefix, candidates)| {
                let is_it = is_below(path, prefix);
                is_it.then(|| candidates.find(rest)).flatten()
            }),
            Self::Many { by_text, longest } => {
                let mut part = path;
                loop {
                    if part.len() <= *longest
                        && let Some(found) = by_text.get(part).and_then(|one| one.find(rest))
                    {
                        return Some(found);
                    }
                    // What begins with no `/` is `*`.
                    let end = memchr::memrchr(b'/', part).unwrap_or(0);
                    if part.is_empty() {
                        return None;
                    }
                    part = &part[..end];
                }
            }
        }
    }
}

impl Candidates {
    fn insert(&mut self, when: Option<&Arc<WhenSpec>>, service: usize) -> Result<(), usize> {
        let Some(when) = when else {
            return match self.plain.replace(service) {
                Some(other) => Err(other),
                None => Ok(()),
            };
        };
        let mut others = self.conditional.iter();
        if let Some((_, other)) = others.find(|(other, _)| other == when) {
            return Err(*other);
        }
        let wants = when::specificity(when);
        // Among those that want as much, the names of services decide, in whose order they come.
        let is_before = |(other, _): &(Arc<WhenSpec>, usize)| when::specificity(other) >= wants;
        let at = self.conditional.partition_point(is_before);
        self.conditional.insert(at, (when.clone(), service));
        Ok(())
    }

    fn find(&self, rest: Option<Rest<'_>>) -> Option<usize> {
        if !self.conditional.is_empty()
            && let Some(rest) = rest
        {
            let mut all = self.conditional.iter();
            if let Some((_, found)) = all.find(|(wanted, _)| when::passes(wanted, rest)) {
                return Some(*found);
            }
        }
        self.plain
    }
}

/// Whether `path` is `prefix` or goes on after it with a `/`.
pub(crate) fn is_below(path: &[u8], prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        // `*`, the target of a server-wide OPTIONS (RFC 9110, 7.1), is for the service that has
        // `/`.
        || prefix.is_empty()
}
