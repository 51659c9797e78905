//! Resolves host names.
//!
//! Reads `/etc/resolv.conf` and `/etc/hosts` without the C library, whose resolver a static program
//! cannot use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Looks up names as this machine is configured to.
pub(crate) struct Resolver {
    resolver: TokioResolver,
}

impl Resolver {
    /// Uses the machine's configuration. Without a resolv.conf, only `/etc/hosts` is read.
    pub(crate) fn from_system() -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            let no_servers = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(no_servers, TokioRuntimeProvider::default())
        });
        // A container that replaces another has the same name and a different address.
        builder.options_mut().cache_size = 0;
        // One query for most names, and none for names in /etc/hosts. With both families in one
        // lookup, a name that /etc/hosts gives an IPv4 address would still wait for the IPv6 query.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        Ok(Self {
            resolver: builder.build()?,
        })
    }

    /// The addresses of a host, in the order in which to try them.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NetError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        // RFC 6761, section 6.3: resolved without a query.
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        Ok(self.resolver.lookup_ip(host).await?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn without_name_servers() -> Resolver {
        let no_servers = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let builder =
            TokioResolver::builder_with_config(no_servers, TokioRuntimeProvider::default());
        Resolver {
            resolver: builder.build().unwrap(),
        }
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_query() {
        let resolver = without_name_servers();
        for (host, want) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::1", "::1"),
            ("LocalHost", "127.0.0.1"),
        ] {
            let addresses = resolver.addresses(host).await.unwrap();
            assert_eq!(addresses[0], want.parse::<IpAddr>().unwrap());
        }
    }

    #[tokio::test]
    async fn an_unknown_name_is_an_error() {
        without_name_servers()
            .addresses("unknown.invalid")
            .await
            .unwrap_err();
    }
}
