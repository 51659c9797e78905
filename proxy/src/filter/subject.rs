//! A request, as the filters of its service see it: what the variables of templates stand for.

use std::io::Write;
use std::net::IpAddr;

use admin_api::{SendPath, Template, Variable};

use crate::filter::request_id::Id;
use crate::filter::template::fill;
use crate::table::definition::{Definition, HostPattern};
use crate::wire::fields::cookie;
use crate::wire::head::{Known, Message};
use crate::wire::path::{normal_of, write_escaped};
use crate::wire::peer::{Peer, scheme_and_port};
use crate::wire::target::Target;
use crate::wire::tls::ClientIdentity;

/// A request with what is known of it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'r> {
    pub(super) request: Message<'r>,
    target: &'r Target<'r>,
    pub(super) peer: &'r Peer,
    definition: &'r Definition,
}

/// What filters find of a request by themselves.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) id: Option<Id>,
    /// The name whose password it has; empty where none is asked for.
    pub(super) user: Vec<u8>,
    /// What its response says to the page that it comes from, if that may use the service.
    pub(super) origin: Option<Vec<u8>>,
}

impl<'r> Subject<'r> {
    /// A request of this peer, for the service that is defined so.
    pub(crate) fn new(
        request: Message<'r>,
        target: &'r Target<'r>,
        peer: &'r Peer,
        definition: &'r Definition,
    ) -> Self {
        Self {
            request,
            target,
            peer,
            definition,
        }
    }

    /// Writes what a variable stands for; nothing where the request has no such thing.
    pub(super) fn write(&self, variable: &Variable, found: &Found, to: &mut Vec<u8>) {
        let identity = self.peer.identity.as_deref();
        let of = |text: fn(&ClientIdentity) -> &String| -> &[u8] {
            identity.map_or(&[], |one| text(one).as_bytes())
        };
        match variable {
            Variable::CertSan => to.extend_from_slice(of(|one| &one.san)),
            Variable::CertSerial => to.extend_from_slice(of(|one| &one.serial)),
            Variable::CertSha256 => to.extend_from_slice(of(|one| &one.sha256)),
            Variable::CertSubject => to.extend_from_slice(of(|one| &one.subject)),
            Variable::Cookie(name) => {
                to.extend_from_slice(cookie(self.request, name).unwrap_or_default());
            }
            Variable::Host => self.write_host(to),
            Variable::Http(name) => {
                let mut separator: &[u8] = b"";
                for value in self.request.named(name.as_str()) {
                    to.extend_from_slice(separator);
                    to.extend_from_slice(value);
                    separator = b", ";
                }
            }
            Variable::Match(group) => self.write_group(group, to),
            Variable::Path => self.write_path(None, to),
            Variable::Query => write_escaped(self.query(), to),
            Variable::RemoteAddr => {
                if let Some(client) = self.client() {
                    // Memory takes whatever is written.
                    let _ = write!(to, "{client}");
                }
            }
            Variable::RemoteUser => to.extend_from_slice(&found.user),
            Variable::RequestId => {
                to.extend_from_slice(found.id.as_ref().map_or(b"", Id::as_bytes));
            }
            Variable::RequestMethod => to.extend_from_slice(self.request.method()),
            Variable::RequestUri => self.write_request_uri(to),
            Variable::Rest => self.write_path(Some(&self.definition.path_prefix), to),
            Variable::Scheme => to.extend_from_slice(self.scheme().as_bytes()),
            Variable::Service => to.extend_from_slice(self.definition.name.as_bytes()),
            // Not known yet.
            Variable::Endpoint | Variable::Version => {}
        }
    }

    /// Writes what a group of the service's expressions has.
    fn write_group(&self, group: &str, to: &mut Vec<u8>) {
        let host = self.target.host.to_ascii_lowercase();
        let path = self.target.path.normal();
        let has = self.definition.group(group, &host, path);
        write_escaped(has.unwrap_or_default(), to);
    }

    /// Writes the path in its normal form, and the query.
    pub(super) fn write_request_uri(&self, to: &mut Vec<u8>) {
        self.write_path(None, to);
        write_escaped(self.target.query(), to);
    }

    /// The client's address, where it is known.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.peer.client(self.request)
    }

    /// Writes the request's target with another path, if it has one.
    pub(super) fn write_target(&self, path: &Template, to: &mut Vec<u8>) -> bool {
        if self.target.path.normal() == b"*" {
            return false;
        }
        self.fill_path(path, to);
        write_escaped(self.target.query(), to);
        true
    }

    /// Writes a path, which has nothing of what is found.
    fn fill_path(&self, path: &Template, to: &mut Vec<u8>) {
        let found = Found::default();
        fill(path, |variable, to| self.write(variable, &found, to), to);
    }

    /// Whether this makes a path without dot segments.
    pub(super) fn makes_path(&self, path: &Template) -> bool {
        let mut made = Vec::new();
        self.fill_path(path, &mut made);
        let made = String::from_utf8(made);
        made.is_ok_and(|made| normal_of(&made).is_some())
    }

    /// The first name that the service has, where a client of HTTP/1.0 says none.
    pub(super) fn write_host(&self, to: &mut Vec<u8>) {
        let hosts = self.definition.hosts.iter();
        let mut names = hosts.filter_map(|host| match host {
            HostPattern::Exact(name) => Some(name.as_bytes()),
            HostPattern::Any | HostPattern::Pattern(_) | HostPattern::Suffix(_) => None,
        });
        let host = match self.target.host {
            b"" => names.next().unwrap_or_default(),
            host => host,
        };
        to.extend(host.iter().map(u8::to_ascii_lowercase));
    }

    /// Writes the path in its normal form, which begins with one `/`, without this prefix.
    fn write_path(&self, strip: Option<&str>, to: &mut Vec<u8>) {
        match self.target.path.normal() {
            // Of a request for no path at all (RFC 9110, 7.1).
            b"*" => to.push(b'/'),
            _ => self.target.path.write(SendPath::Normalised, strip, to),
        }
    }

    /// The query without its `?`.
    fn query(&self) -> &'r [u8] {
        let query = self.target.query();
        query.strip_prefix(b"?").unwrap_or(query)
    }

    /// The scheme by which the client sent the request: a trusted proxy may have taken it off.
    pub(super) fn scheme(&self) -> &'static str {
        let said = self.request.values(Known::XForwardedProto).next();
        match said.filter(|_| self.peer.is_trusted()) {
            Some(said) if said.eq_ignore_ascii_case(b"https") => "https",
            Some(said) if said.eq_ignore_ascii_case(b"http") => "http",
            _ => scheme_and_port(self.peer.tls).0,
        }
    }
}
