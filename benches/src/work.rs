//! The workloads.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::error::Result;
use crate::h2::Blocks;
use crate::peers::{Installed, Peer, host};
use crate::plan::{Pace, Plan, Requests};
use crate::tls::{self, HOST, Handshakes};

/// The number of streams on each HTTP/2 connection.
const STREAMS: usize = 16;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Work {
    /// Small JSON on 64 keep-alive connections.
    Small,
    /// Small JSON on 512 keep-alive connections.
    Small512,
    /// 10 KiB responses.
    Medium,
    /// 1 MiB responses.
    Large,
    /// 16 KiB requests.
    Post,
    /// A new connection for each request.
    Connect,
    /// A fixed rate; latency counts from when each request was due.
    Rate,
    /// Small JSON over TLS.
    Tls,
    /// A new TLS connection for each request.
    Handshake,
    /// The same, with resumption of an earlier session.
    Resume,
    /// Small JSON over HTTP/2 and TLS.
    H2,
    /// Small JSON while the table is swapped.
    Swap,
    /// Tables of many services and endpoints.
    Table,
    /// One and two workers.
    Cores,
    /// Memory of idle connections.
    Memory,
    /// A rollout, against config reloads.
    Race,
}

/// The unit of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    /// Microseconds per request.
    Request,
    /// Seconds per gigabyte.
    Gigabyte,
}

/// A peer in a certain configuration.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// Its label in the table.
    pub(crate) label: String,
    /// The proxy.
    pub(crate) installed: Installed,
    /// The number of threads or processes that carry traffic.
    pub(crate) workers: usize,
    /// The number of services in its table.
    pub(crate) services: usize,
    /// The number of endpoints of each service; 0: the origin's one address.
    pub(crate) endpoints: u16,
    /// The number of swaps of its table a second.
    pub(crate) swaps: u32,
    /// Whether its clients use TLS.
    pub(crate) tls: bool,
    /// Whether it may keep freed memory, which makes some peers faster.
    pub(crate) keeps_heap: bool,
}

impl Contender {
    fn of(installed: &Installed) -> Self {
        Self {
            label: installed.peer.name().to_owned(),
            installed: installed.clone(),
            workers: 1,
            services: 1,
            endpoints: 0,
            swaps: 0,
            tls: false,
            keeps_heap: true,
        }
    }

    /// The hosts that requests are spread over.
    fn hosts(&self) -> Vec<String> {
        match self.services {
            1 => vec![HOST.into()],
            // Spread over the table.
            many => (0..64.min(many))
                .map(|n| host(n * many / 64.min(many)))
                .collect(),
        }
    }
}

impl Work {
    /// Its description.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Small => "small JSON, 64 keep-alive connections",
            Self::Small512 => "small JSON, 512 keep-alive connections",
            Self::Medium => "10 KiB responses, 64 keep-alive connections",
            Self::Large => "1 MiB responses, 16 keep-alive connections",
            Self::Post => "16 KiB POST, 64 keep-alive connections",
            Self::Connect => "small JSON, a new connection for each request",
            Self::Rate => "small JSON at 5,000 requests a second, latency from when each was due",
            Self::Tls => "small JSON over TLS 1.3, 64 keep-alive connections",
            Self::Handshake => "small JSON, a new TLS 1.3 connection for each request",
            Self::Resume => "small JSON, a new TLS 1.3 connection for each request, resumed",
            Self::H2 => "small JSON over HTTP/2 and TLS 1.3, 16 streams on each of 64 connections",
            Self::Swap => "small JSON while the table is swapped",
            Self::Table => "small JSON by size of the table",
            Self::Cores => "small JSON by number of workers",
            Self::Memory => "memory (PSS, MiB) by idle keep-alive connections",
            Self::Race => "a rollout under load: canary, 50/50, 100%, the old version removed",
        }
    }

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Small512 => "small512",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::Post => "post",
            Self::Connect => "connect",
            Self::Rate => "rate",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Resume => "resume",
            Self::H2 => "h2",
            Self::Swap => "swap",
            Self::Table => "table",
            Self::Cores => "cores",
            Self::Memory => "memory",
            Self::Race => "race",
        }
    }

    /// The unit of its CPU time.
    pub(crate) const fn per(self) -> Per {
        match self {
            Self::Large => Per::Gigabyte,
            _ => Per::Request,
        }
    }

    /// The number of connections.
    pub(crate) const fn connections(self) -> usize {
        match self {
            Self::Small512 => 512,
            Self::Large => 16,
            _ => 64,
        }
    }

    /// The pace of requests.
    pub(crate) const fn pace(self) -> Pace {
        match self {
            // A rate that the slowest peer can carry.
            Self::Rate => Pace::Rate(5_000.0),
            _ => Pace::Closed,
        }
    }

    /// Whether all contenders have the same rate of requests.
    pub(crate) fn has_fixed_rate(self) -> bool {
        matches!(self.pace(), Pace::Rate(_))
    }

    /// Whether contenders are compared by latency though their rate is not fixed.
    pub(crate) const fn compares_latency(self) -> bool {
        false
    }

    /// Whether each request has a connection of its own.
    pub(crate) const fn reconnects(self) -> bool {
        matches!(self, Self::Connect | Self::Handshake | Self::Resume)
    }

    /// The contenders. Ratios are relative to one of them: see [`base`](Self::base).
    pub(crate) fn contenders(self, installed: &[Installed]) -> Vec<Contender> {
        let each = installed.iter().map(Contender::of);
        let ours = each
            .clone()
            .find(|contender| contender.installed.peer == Peer::Crossfade);
        match self {
            Self::Swap => ours.map_or_else(Vec::new, |ours| {
                [0, 10, 100, 1000]
                    .map(|swaps| Contender {
                        label: format!("{swaps} swaps/s"),
                        swaps,
                        ..ours.clone()
                    })
                    .into()
            }),
            Self::Table => ours.map_or_else(Vec::new, |ours| {
                [(1, 4), (1, 1000), (100, 4), (10_000, 4)]
                    .map(|(services, endpoints)| Contender {
                        label: format!("{services} × {endpoints}"),
                        services,
                        endpoints,
                        ..ours.clone()
                    })
                    .into()
            }),
            // TCP mode and no proxy at all would show nothing here.
            Self::Cores => each
                .filter(|one| {
                    one.installed.peer.is_rival() || one.installed.peer == Peer::Crossfade
                })
                .flat_map(|contender| {
                    [1, 2].map(|workers| Contender {
                        label: format!("{} × {workers}", contender.label),
                        workers,
                        ..contender.clone()
                    })
                })
                .collect(),
            Self::Tls | Self::Handshake | Self::Resume | Self::H2 => each
                .filter(|contender| contender.installed.peer.speaks_tls())
                .map(|contender| Contender {
                    tls: true,
                    ..contender
                })
                .collect(),
            Self::Memory => each
                .filter(|contender| contender.installed.peer != Peer::Origin)
                .map(|contender| Contender {
                    keeps_heap: false,
                    ..contender
                })
                .collect(),
            _ => each.collect(),
        }
    }

    /// The index of the contender that ratios are relative to: nginx, otherwise the first.
    pub(crate) fn base(contenders: &[Contender]) -> usize {
        contenders
            .iter()
            .position(|contender| contender.installed.peer == Peer::Nginx)
            .unwrap_or(0)
    }

    /// The plan of the load generator.
    pub(crate) fn plan(self, contender: &Contender, target: SocketAddr) -> Result<Plan> {
        let requests = match self {
            Self::H2 => Requests::Http2 {
                blocks: Rc::new(Blocks::get(HOST, "/small")),
                streams: STREAMS,
            },
            _ => Requests::Http1(self.requests(contender)),
        };
        let tls = match self {
            Self::Tls | Self::Handshake => Some(tls::client("http/1.1", Handshakes::Full)?),
            Self::Resume => Some(tls::client("http/1.1", Handshakes::Resumed)?),
            Self::H2 => Some(tls::client("h2", Handshakes::Full)?),
            _ => None,
        };
        Ok(Plan {
            target,
            connections: self.connections(),
            requests,
            tls,
            pace: self.pace(),
            reconnect: self.reconnects(),
        })
    }

    /// The requests over HTTP/1.1.
    pub(crate) fn requests(self, contender: &Contender) -> Rc<[Vec<u8>]> {
        contender
            .hosts()
            .iter()
            .map(|host| self.request(host))
            .collect()
    }

    fn request(self, host: &str) -> Vec<u8> {
        let (line, more) = match self {
            Self::Medium => ("GET /10k", ""),
            Self::Large => ("GET /1m", ""),
            Self::Post => (
                "POST /sink",
                "Content-Type: application/octet-stream\r\nContent-Length: 16384\r\n",
            ),
            Self::Connect | Self::Handshake | Self::Resume => {
                ("GET /small", "Connection: close\r\n")
            }
            _ => ("GET /small", ""),
        };
        let mut request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: crossfade-bench\r\nAccept: */*\r\n{more}\r\n"
        )
        .into_bytes();
        if self == Self::Post {
            request.resize(request.len() + 16_384, b'x');
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(peers: &[Peer]) -> Vec<Installed> {
        peers
            .iter()
            .map(|&peer| Installed {
                peer,
                program: None,
                version: String::new(),
            })
            .collect()
    }

    #[test]
    fn ratios_are_relative_to_nginx_and_otherwise_to_the_first() {
        let base = |work: Work, peers| Work::base(&work.contenders(&installed(peers)));
        assert_eq!(base(Work::Small, &[Peer::Crossfade, Peer::Nginx]), 1);
        assert_eq!(base(Work::Small, &[Peer::Crossfade, Peer::Haproxy]), 0);
        assert_eq!(base(Work::Cores, &[Peer::Crossfade, Peer::Nginx]), 2);
        assert_eq!(base(Work::Swap, &[Peer::Nginx, Peer::Crossfade]), 0);
    }

    #[test]
    fn only_crossfade_has_a_table_to_swap() {
        assert!(Work::Swap.contenders(&installed(&[Peer::Nginx])).is_empty());
        assert_eq!(Work::Table.contenders(&installed(&Peer::ALL)).len(), 4);
    }

    #[test]
    fn requests_to_many_services_are_spread_over_the_table() {
        let table = Work::Table.contenders(&installed(&[Peer::Crossfade]));
        assert_eq!(Work::Table.requests(&table[0]).len(), 1);
        let hosts = table[3].hosts();
        assert_eq!(hosts.len(), 64);
        assert_eq!(hosts[63], host(63 * 10_000 / 64));
    }

    #[test]
    fn a_post_has_a_body_of_its_content_length() {
        let post = Work::Post.request("a");
        let head = post
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        assert_eq!(post.len() - head - 4, 16_384);
    }
}
