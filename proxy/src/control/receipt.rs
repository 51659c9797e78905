//! Draining what a call names, and the receipt for it.

use std::sync::Arc;

use admin_api::DrainReceipt;

use super::error::{ChangeError, unknown_service};
use super::{Control, ProcessRole};
use crate::control::drain::DrainTarget;
use crate::table::definition::unknown_version;
use crate::table::endpoint::Endpoint;
use crate::table::service::{Drained, Service};
use crate::wire::address::Address;

impl Control {
    /// Retires the endpoints that `target` covers, and says how far they are.
    pub(crate) fn drain(
        &self,
        name: &str,
        target: &DrainTarget,
    ) -> Result<DrainReceipt, ChangeError> {
        let mut wanted = self.own()?;
        let table = self.table();
        let service = table.service(name);
        let endpoints: Vec<Arc<Endpoint>> = service
            .into_iter()
            .flat_map(|service| service.endpoints())
            .filter(|endpoint| target.covers(endpoint))
            .cloned()
            .collect();
        let survives = |service: &Arc<Service>| service.survives_without(|e| target.covers(e));
        if !endpoints.is_empty() && !service.is_none_or(survives) {
            return Err(ChangeError::Conflict(
                "the drain would leave the service without endpoints: first set a split that gives another version a share".into(),
            ));
        }
        let addresses = service
            .into_iter()
            .flat_map(|service| &service.definition.endpoints);
        let covered: Drained = addresses
            .map(|endpoint| (endpoint.version.clone(), endpoint.address.clone()))
            .filter(|(version, address)| target.names(version, address))
            .collect();
        if !covered.is_empty() {
            wanted
                .drained
                .entry(name.to_owned())
                .or_default()
                .extend(covered);
        }
        if let Some(service) = service {
            self.drains.retire(name, &endpoints, &service.timeouts);
        }
        drop(wanted);
        self.receipt(name, target)
    }

    /// How far the drain of what `target` covers is.
    pub(crate) fn receipt(
        &self,
        name: &str,
        target: &DrainTarget,
    ) -> Result<DrainReceipt, ChangeError> {
        if self.process_role() == ProcessRole::Draining {
            return Err(ChangeError::HandedOver);
        }
        let table = self.table();
        let in_table = table.service(name).into_iter();
        let is_live = |e: &Arc<Endpoint>| target.covers(e) && !e.claims.is_retired();
        if in_table
            .flat_map(|service| service.endpoints())
            .any(is_live)
        {
            return Err(ChangeError::Conflict(
                "a newer change uses the drained endpoints again".into(),
            ));
        }
        if let Some(receipt) = self.drains.receipt(name, target) {
            return Ok(receipt);
        }
        let names = |(version, address): &(Arc<str>, Address)| target.names(version, address);
        if self
            .wanted()
            .drained
            .get(name)
            .is_some_and(|drained| drained.iter().any(names))
        {
            // Names without an address: nothing was ever sent there.
            let (drained, forced, endpoints) = (true, false, Vec::new());
            return Ok(DrainReceipt {
                service: name.to_owned(),
                drained,
                forced,
                endpoints,
            });
        }
        let service = table.service(name).ok_or_else(|| unknown_service(name))?;
        let split = &service.definition.split;
        Err(match target {
            DrainTarget {
                version: Some(version),
                ..
            } if !split.contains_key(version.as_str()) => {
                let message = unknown_version(version, split);
                ChangeError::UnknownVersion {
                    field: "version",
                    message,
                }
            }
            DrainTarget { endpoint, .. } => {
                let address = endpoint.as_deref().unwrap_or("with an address");
                let message = format!("service `{name}` has no endpoint `{address}`");
                ChangeError::UnknownVersion {
                    field: "endpoint",
                    message,
                }
            }
        })
    }
}
