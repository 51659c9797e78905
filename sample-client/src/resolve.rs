//! From a host's name to its addresses.
//!
//! Done in Rust all the way, by `/etc/resolv.conf` and `/etc/hosts`: a static program has no
//! resolver of the C library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// The names that this machine can look up.
pub(crate) struct Names {
    resolver: TokioResolver,
}

impl Names {
    /// As the machine is configured; without a resolv.conf, `/etc/hosts` alone is read.
    pub(crate) fn from_system() -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
        });
        // A container that was replaced has another address under the same name.
        builder.options_mut().cache_size = 0;
        // One question for most names, and none for those in /etc/hosts: asked for both at once,
        // a name with an IPv4 address there would still wait for an answer about IPv6.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        Ok(Self {
            resolver: builder.build()?,
        })
    }

    /// The addresses to try, in this order.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NetError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        // RFC 6761, section 6.3: needs no one to be asked.
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
    fn nobody_to_ask() -> Names {
        let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let builder = TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default());
        Names {
            resolver: builder.build().unwrap(),
        }
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_one_to_be_asked() {
        let names = nobody_to_ask();
        for (host, want) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::1", "::1"),
            ("LocalHost", "127.0.0.1"),
        ] {
            let addresses = names.addresses(host).await.unwrap();
            assert_eq!(addresses[0], want.parse::<IpAddr>().unwrap());
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_an_error() {
        nobody_to_ask()
            .addresses("nobody.invalid")
            .await
            .unwrap_err();
    }
}
