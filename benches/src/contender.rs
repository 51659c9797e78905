//! The contenders of a workload: peers, each in a certain configuration.

use crate::peers::{Installed, Peer, Variant, host};
use crate::tls::HOST;
use crate::work::Work;

/// The hosts that requests are spread over, if there are many services.
const HOSTS: usize = 64;

/// What a proxy runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// A process of the host.
    Process,
    /// A container of podman that root runs.
    Rootful,
    /// A container of podman that an ordinary user runs.
    Rootless,
}

impl Runtime {
    const ALL: [Self; 3] = [Self::Process, Self::Rootful, Self::Rootless];

    /// Its name in labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Rootful => "rootful",
            Self::Rootless => "rootless",
        }
    }
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
    /// What it runs in.
    pub(crate) runtime: Runtime,
    /// The variant of its config.
    pub(crate) variant: Variant,
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
            runtime: Runtime::Process,
            variant: Variant::default(),
            keeps_heap: true,
        }
    }

    /// The hosts that requests are spread over.
    pub(crate) fn hosts(&self) -> Vec<String> {
        match self.services {
            1 => vec![HOST.into()],
            // Spread over the table.
            many => (0..HOSTS.min(many))
                .map(|number| host(number * many / HOSTS.min(many)))
                .collect(),
        }
    }

    /// The number of endpoints that requests go to.
    #[cfg(test)]
    fn endpoints_in_use(&self) -> usize {
        self.hosts().len() * usize::from(self.endpoints)
    }
}

impl Work {
    /// The contenders. Ratios are relative to one of them: see [`base`](Self::base).
    pub(crate) fn contenders(self, installed: &[Installed]) -> Vec<Contender> {
        let each = installed.iter().map(Contender::of);
        let with = |can: fn(Peer) -> bool, variant: Variant| {
            each.clone()
                .filter(|contender| can(contender.installed.peer))
                .map(|contender| Contender {
                    variant,
                    ..contender
                })
                .collect::<Vec<_>>()
        };
        let tls = Variant {
            tls: true,
            ..Variant::default()
        };
        match self {
            Self::Swap => by_swaps(each),
            Self::Table => by_size(each),
            // TCP mode and no proxy at all would show nothing here.
            Self::Cores => each
                .filter(|contender| contender.installed.peer.is_rival())
                .flat_map(|contender| {
                    [1, 2].map(|workers| Contender {
                        label: format!("{} × {workers}", contender.label),
                        workers,
                        ..contender.clone()
                    })
                })
                .collect(),
            Self::Skew => each
                .filter(|contender| contender.installed.peer.is_rival())
                .map(|contender| Contender {
                    workers: 2,
                    ..contender
                })
                .collect(),
            Self::Tls | Self::Handshake | Self::Resume | Self::H2 => with(Peer::speaks_tls, tls),
            Self::Grpc => {
                let grpc = Variant {
                    grpc: true,
                    ..Variant::default()
                };
                with(Peer::speaks_grpc, grpc)
            }
            Self::Unix => {
                let unix = Variant {
                    unix: true,
                    ..Variant::default()
                };
                with(Peer::connects_to_unix_sockets, unix)
            }
            Self::Filters => {
                let filters = Variant {
                    filters: true,
                    ..Variant::default()
                };
                with(Peer::has_filters, filters)
            }
            Self::Container => each
                .filter(|contender| contender.installed.peer.is_rival())
                .flat_map(in_each_runtime)
                .collect(),
            Self::Upload => {
                let upload = Variant {
                    upload: true,
                    ..Variant::default()
                };
                with(|_| true, upload)
            }
            Self::Memory => without_kept_heap(with(Peer::is_proxy, Variant::default())),
            Self::IdleTls | Self::IdleH2 | Self::Stalled => {
                without_kept_heap(with(Peer::speaks_tls, tls))
            }
            Self::Race => with(
                |peer| matches!(peer, Peer::Crossfade | Peer::Nginx | Peer::Haproxy),
                Variant::default(),
            ),
            _ => each.collect(),
        }
    }

    /// The index of the contender that ratios are relative to: nginx, for tables the one with as
    /// many endpoints in use, otherwise the first.
    pub(crate) fn base(contenders: &[Contender]) -> usize {
        let is_base = |contender: &Contender| {
            contender.installed.peer == Peer::Nginx
                || (contender.services == 1 && contender.endpoints == IN_USE)
        };
        contenders.iter().position(is_base).unwrap_or(0)
    }
}

/// The endpoints in use in a table of many services with four endpoints each.
const IN_USE: u16 = 4 * HOSTS as u16;

/// A process has the name of its peer, as in other workloads.
fn in_each_runtime(contender: Contender) -> impl Iterator<Item = Contender> {
    Runtime::ALL.into_iter().map(move |runtime| Contender {
        label: match runtime {
            Runtime::Process => contender.label.clone(),
            Runtime::Rootful | Runtime::Rootless => {
                format!("{} {}", contender.label, runtime.name())
            }
        },
        runtime,
        variant: Variant {
            container: runtime != Runtime::Process,
            ..contender.variant
        },
        ..contender.clone()
    })
}

/// Crossfade, with its table swapped at different rates.
fn by_swaps(each: impl Iterator<Item = Contender>) -> Vec<Contender> {
    ours(each)
        .into_iter()
        .flat_map(|ours| {
            [0, 10, 100, 1000].map(|swaps| Contender {
                label: format!("{swaps} swaps/s"),
                swaps,
                ..ours.clone()
            })
        })
        .collect()
}

/// Crossfade, with tables of different sizes. Requests to many services use 64 of them, so those
/// are compared with one service that has as many endpoints as these 64.
fn by_size(each: impl Iterator<Item = Contender>) -> Vec<Contender> {
    let sizes = [(1, IN_USE), (100, 4), (10_000, 4), (1, 4), (1, 1000)];
    ours(each)
        .into_iter()
        .flat_map(|ours| {
            sizes.map(|(services, endpoints)| Contender {
                label: format!("{services} × {endpoints}"),
                services,
                endpoints,
                ..ours.clone()
            })
        })
        .collect()
}

fn ours(mut each: impl Iterator<Item = Contender>) -> Option<Contender> {
    each.find(|contender| contender.installed.peer == Peer::Crossfade)
}

/// As delivered: where memory is measured, freed memory is not kept.
fn without_kept_heap(contenders: Vec<Contender>) -> Vec<Contender> {
    contenders
        .into_iter()
        .map(|contender| Contender {
            keeps_heap: false,
            ..contender
        })
        .collect()
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

    fn labels(work: Work, peers: &[Peer]) -> Vec<String> {
        let contenders = work.contenders(&installed(peers));
        contenders
            .into_iter()
            .map(|contender| contender.label)
            .collect()
    }

    #[test]
    fn ratios_are_relative_to_nginx_and_otherwise_to_the_first() {
        let base = |work: Work, peers| Work::base(&work.contenders(&installed(peers)));
        assert_eq!(base(Work::Small, &[Peer::Crossfade, Peer::Nginx]), 1);
        assert_eq!(base(Work::Small, &[Peer::Crossfade, Peer::Haproxy]), 0);
        assert_eq!(base(Work::Cores, &[Peer::Crossfade, Peer::Nginx]), 2);
        assert_eq!(base(Work::Swap, &[Peer::Nginx, Peer::Crossfade]), 0);
        assert_eq!(base(Work::Table, &[Peer::Nginx, Peer::Crossfade]), 0);
    }

    #[test]
    fn only_crossfade_has_a_table_to_swap() {
        assert!(Work::Swap.contenders(&installed(&[Peer::Nginx])).is_empty());
        assert_eq!(Work::Table.contenders(&installed(&Peer::ALL)).len(), 5);
    }

    #[test]
    fn tables_of_many_services_are_compared_with_one_service_of_as_many_endpoints_in_use() {
        let table = Work::Table.contenders(&installed(&[Peer::Crossfade]));
        let base = &table[Work::base(&table)];
        assert_eq!(
            (base.label.as_str(), base.endpoints_in_use()),
            ("1 × 256", 256)
        );
        for many in table.iter().filter(|contender| contender.services > 1) {
            assert_eq!(many.endpoints_in_use(), 256, "{}", many.label);
        }
    }

    #[test]
    fn requests_to_many_services_are_spread_over_the_table() {
        let table = Work::Table.contenders(&installed(&[Peer::Crossfade]));
        assert_eq!(Work::Table.requests(&table[0]).len(), 1);
        let hosts = table[2].hosts();
        assert_eq!(hosts.len(), 64);
        assert_eq!(hosts[63], host(63 * 10_000 / 64));
    }

    #[test]
    fn peers_take_part_in_what_they_support() {
        let grpc = ["crossfade", "nginx", "haproxy", "envoy", "traefik", "caddy"];
        assert_eq!(labels(Work::Grpc, &Peer::ALL), grpc);
        assert_eq!(labels(Work::IdleH2, &Peer::ALL), grpc);
        let unix = [
            "crossfade",
            "nginx",
            "haproxy",
            "haproxy-tcp",
            "envoy",
            "caddy",
        ];
        assert_eq!(labels(Work::Unix, &Peer::ALL), unix);
        assert_eq!(labels(Work::Upload, &Peer::ALL).len(), Peer::ALL.len());
        assert!(!labels(Work::Memory, &Peer::ALL).contains(&"origin".to_owned()));
        assert_eq!(labels(Work::Filters, &Peer::ALL), ["crossfade", "nginx"]);
        let container = labels(Work::Container, &[Peer::Crossfade, Peer::HaproxyTcp]);
        let want = ["crossfade", "crossfade rootful", "crossfade rootless"];
        assert_eq!(container, want);
        let skew = Work::Skew.contenders(&installed(&Peer::ALL));
        assert!(skew.iter().all(|contender| contender.workers == 2));
    }
}
