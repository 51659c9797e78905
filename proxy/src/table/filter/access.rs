//! Whose requests a service takes.

use std::net::IpAddr;

use admin_api::AccessSpec;

use crate::table::filter::networks::Networks;

/// Whose requests a service takes, by the client's address.
#[derive(Debug)]
pub(crate) struct Access {
    allow: Option<Networks>,
    deny: Networks,
}

impl Access {
    /// Of a setting that was checked.
    pub(super) fn of(spec: &AccessSpec) -> Option<Self> {
        let (allow, deny) = spec.networks().ok()?;
        Some(Self {
            allow: allow.as_deref().map(Networks::new),
            deny: Networks::new(&deny),
        })
    }

    /// Whether requests of this client are taken. One that is not known is none of those that may.
    pub(crate) fn takes(&self, client: Option<IpAddr>) -> bool {
        let Some(ip) = client else { return false };
        let is_allowed = self.allow.as_ref().is_none_or(|allow| allow.contain(ip));
        is_allowed && !self.deny.contain(ip)
    }
}
