//! Networks in which an address is looked for, however many they are.

use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses of some networks: ranges in order, of which none touches another.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self {
            v4: without_overlap(v4),
            v6: without_overlap(v6),
        }
    }

    /// Whether an address is in one of them.
    pub(crate) fn contain(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => has(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => has(&self.v6, u128::from(ip)),
        }
    }
}

/// One range in place of those that overlap. Two networks overlap only where one is in the other.
fn without_overlap<N: Copy + Ord>(mut ranges: Vec<(N, N)>) -> Vec<(N, N)> {
    // Of those that begin alike, the largest first.
    ranges.sort_unstable_by(|(start, end), (other, until)| (start, until).cmp(&(other, end)));
    let mut kept: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        if kept.last().is_none_or(|(_, before)| *before < start) {
            kept.push((start, end));
        }
    }
    kept
}

fn has<N: Copy + Ord>(ranges: &[(N, N)], number: N) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= number);
    let range = after.checked_sub(1).map(|at| ranges[at]);
    range.is_some_and(|(_, end)| number <= end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_in_a_network_or_not() {
        let list = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.1/32",
            "fd00::/8",
            "10.0.0.0/9",
        ];
        let networks = Networks::new(&list.map(|net| net.parse().unwrap()));
        for (ip, want) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::", false),
        ] {
            assert_eq!(networks.contain(ip.parse().unwrap()), want, "{ip}");
        }
        assert!(!Networks::default().contain("10.0.0.1".parse().unwrap()));
        let all = Networks::new(&["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        assert!(all.contain("255.255.255.255".parse().unwrap()));
        assert!(all.contain("::".parse().unwrap()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn it_is_as_if_each_network_were_looked_at(
            nets in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            ips in prop::collection::vec(any::<u32>(), 1..20),
            near in prop::collection::vec((0usize..20, -1i64..=1, any::<bool>()), 0..20),
        ) {
            let nets: Vec<IpNet> = nets
                .into_iter()
                .map(|(ip, bits)| IpNet::new(IpAddr::V4(ip.into()), bits).unwrap().trunc())
                .collect();
            let networks = Networks::new(&nets);
            let edges = near.into_iter().filter_map(|(at, by, at_end)| {
                let net = nets.get(at)?;
                let edge = if at_end { net.broadcast() } else { net.network() };
                let IpAddr::V4(edge) = edge else { return None };
                u32::try_from(i64::from(u32::from(edge)) + by).ok()
            });
            for ip in ips.into_iter().chain(edges) {
                let ip = IpAddr::V4(ip.into());
                prop_assert_eq!(networks.contain(ip), nets.iter().any(|net| net.contains(&ip)));
            }
        }
    }
}
