//! The workloads.

use crate::mixed;
use crate::plan::{Closing, Pace};

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
    /// 1 GiB requests.
    Upload,
    /// A new connection for each request, which the proxy closes.
    Connect,
    /// 10,000 connections a second, which the client opens and closes.
    Churn,
    /// A fixed rate; latency counts from when each request was due.
    Rate,
    /// Sizes and think times of web users.
    Mixed,
    /// Small JSON over TLS.
    Tls,
    /// A new TLS connection for each request.
    Handshake,
    /// The same, with resumption of an earlier session.
    Resume,
    /// Small JSON over HTTP/2 and TLS.
    H2,
    /// Unary calls of gRPC.
    Grpc,
    /// Small JSON from an endpoint behind a unix socket.
    Unix,
    /// Small JSON through header rules, a redirect that is not for it, a rate limit and an access list.
    Filters,
    /// Small JSON while the table is swapped.
    Swap,
    /// Tables of many services and endpoints.
    Table,
    /// One and two workers.
    Cores,
    /// 16 busy connections on two workers.
    Skew,
    /// Memory of idle connections.
    Memory,
    /// Memory of idle TLS connections.
    IdleTls,
    /// Memory of idle HTTP/2 connections over TLS.
    IdleH2,
    /// Memory of HTTP/2 connections whose clients take nothing of their responses.
    Stalled,
    /// A rollout, against config reloads.
    Race,
    /// Each proxy as a process and in a container.
    Container,
}

/// The unit of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    /// Microseconds per request.
    Request,
    /// Seconds per gigabyte.
    Gigabyte,
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
            Self::Upload => "1 GiB POST, 2 connections",
            Self::Connect => "small JSON, a new connection for each request",
            Self::Churn => {
                "small JSON, 10,000 connections opened and closed a second, by the client"
            }
            Self::Rate => "small JSON at 5,000 requests a second, latency from when each was due",
            Self::Mixed => "1 KB to 1 MiB, sizes and think times of web users, 128 connections",
            Self::Tls => "small JSON over TLS 1.3, 64 keep-alive connections",
            Self::Handshake => "small JSON, a new TLS 1.3 connection for each request",
            Self::Resume => "small JSON, a new TLS 1.3 connection for each request, resumed",
            Self::H2 => "small JSON over HTTP/2 and TLS 1.3, 16 streams on each of 64 connections",
            Self::Grpc => "unary gRPC calls over HTTP/2, 64 streams on each of 4 connections",
            Self::Unix => "small JSON from a unix socket, 64 keep-alive connections",
            Self::Filters => {
                "small JSON with header rules, a rate limit, an access list and a redirect"
            }
            Self::Swap => "small JSON while the table is swapped",
            Self::Table => "small JSON by size of the table",
            Self::Cores => "small JSON by number of workers",
            Self::Skew => "small JSON, 16 busy connections on 2 workers",
            Self::Memory => "memory (PSS, MiB) by idle keep-alive connections",
            Self::IdleTls => "memory (PSS, MiB) by idle TLS 1.3 connections",
            Self::IdleH2 => "memory (PSS, MiB) by idle HTTP/2 connections over TLS 1.3",
            Self::Stalled => {
                "memory (PSS, MiB) by HTTP/2 connections that take nothing of 100 responses of 1 MiB"
            }
            Self::Race => "a rollout under load: canary, 50/50, 100%, the old version removed",
            Self::Container => "small JSON, 64 keep-alive connections, in containers of podman",
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
            Self::Upload => "upload",
            Self::Connect => "connect",
            Self::Churn => "churn",
            Self::Rate => "rate",
            Self::Mixed => "mixed",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Resume => "resume",
            Self::H2 => "h2",
            Self::Grpc => "grpc",
            Self::Unix => "unix",
            Self::Filters => "filters",
            Self::Swap => "swap",
            Self::Table => "table",
            Self::Cores => "cores",
            Self::Skew => "skew",
            Self::Memory => "memory",
            Self::IdleTls => "idle-tls",
            Self::IdleH2 => "idle-h2",
            Self::Stalled => "stalled",
            Self::Race => "race",
            Self::Container => "container",
        }
    }

    /// The unit of its CPU time.
    pub(crate) const fn per(self) -> Per {
        match self {
            Self::Large | Self::Upload => Per::Gigabyte,
            _ => Per::Request,
        }
    }

    /// The number of connections.
    pub(crate) const fn connections(self) -> usize {
        match self {
            Self::Small512 => 512,
            Self::Large | Self::Skew => 16,
            Self::Upload => 2,
            // As many as may be open at once: a slow proxy keeps them longer.
            Self::Churn => 1_024,
            Self::Grpc => 4,
            Self::Mixed => mixed::USERS,
            _ => 64,
        }
    }

    /// The number of streams on each HTTP/2 connection.
    pub(crate) const fn streams(self) -> usize {
        match self {
            Self::Grpc => 64,
            Self::Stalled => 100,
            _ => 16,
        }
    }

    /// The numbers of connections whose memory is measured.
    pub(crate) const fn held_connections(self) -> [usize; 2] {
        match self {
            Self::Stalled => [100, 1_000],
            _ => [1_000, 8_000],
        }
    }

    /// The bytes of body in each request.
    pub(crate) const fn request_body(self) -> u64 {
        match self {
            Self::Post => 16 * 1024,
            Self::Upload => 1024 * 1024 * 1024,
            _ => 0,
        }
    }

    /// The pace of requests.
    pub(crate) fn pace(self) -> Pace {
        match self {
            // A rate that the slowest peer can carry.
            Self::Rate => Pace::Rate(5_000.0),
            Self::Churn => Pace::Rate(10_000.0),
            Self::Mixed => {
                let steps = mixed::script();
                Pace::Think(steps.iter().map(|step| step.think).collect())
            }
            _ => Pace::Closed,
        }
    }

    /// Whether all contenders have the same rate of requests.
    pub(crate) const fn has_fixed_rate(self) -> bool {
        matches!(self, Self::Rate | Self::Churn | Self::Mixed)
    }

    /// Whether contenders are compared by latency though their rate is not fixed.
    pub(crate) const fn compares_latency(self) -> bool {
        matches!(self, Self::Skew)
    }

    /// Whether a round must hold enough requests for tails of latency, or one that is long.
    pub(crate) const fn needs_long_rounds(self) -> bool {
        self.has_fixed_rate() || self.compares_latency() || matches!(self, Self::Upload)
    }

    /// Which side closes connections.
    pub(crate) const fn closing(self) -> Closing {
        match self {
            Self::Connect | Self::Handshake | Self::Resume => Closing::ByServer,
            Self::Churn => Closing::ByClient,
            _ => Closing::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn a_fixed_rate_is_one_that_the_pace_sets() {
        for work in Work::value_variants() {
            let is_closed = work.pace() == Pace::Closed;
            assert_eq!(work.has_fixed_rate(), !is_closed, "{}", work.name());
        }
    }

    #[test]
    fn names_and_titles_are_different() {
        let all = Work::value_variants();
        for of in [Work::name, Work::title] {
            let different: std::collections::HashSet<_> =
                all.iter().map(|work| of(*work)).collect();
            assert_eq!(different.len(), all.len());
        }
    }
}
