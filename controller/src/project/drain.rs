//! The way out of a container: retired, drained, stopped, in that order. Nothing is stopped
//! before the proxy has given a receipt that nothing is in flight to it, and nothing will be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use admin_api::{DrainReceipt, DrainRequest};

use crate::error::Result;
use crate::journal::Retired;
use crate::project::Project;
use crate::runtime::{Container, ContainerState, label};

/// How long one call of the proxy waits for a drain, where nothing says otherwise.
pub(crate) const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// What retired containers of a service still have to finish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Containers that are not drained yet.
    pub(crate) containers: usize,
    /// Their requests, streams aside.
    pub(crate) requests: u64,
    /// Their streams and upgraded connections. These may stay for an hour, and hold up nothing
    /// but their own container.
    pub(crate) lasting: u64,
}

impl Left {
    /// Whether a rollout that retired them can end.
    pub(crate) fn only_lasting(self) -> bool {
        self.containers == 0 || (self.requests == 0 && self.lasting > 0)
    }
}

impl Project {
    /// Records that these containers get no new requests. Whatever is pushed from now on
    /// leaves them out; [`Project::sweep`] does the rest.
    pub(crate) fn retire(&self, service: &str, containers: &[Container]) -> Result<()> {
        let retired: Vec<Retired> = containers
            .iter()
            .map(|container| Retired {
                name: container.name.clone(),
                service: service.to_owned(),
                version: container
                    .labels
                    .get(label::VERSION)
                    .cloned()
                    .unwrap_or_default(),
                address: container.address.as_ref().map(ToString::to_string),
            })
            .collect();
        self.journal.retire(&retired)
    }

    /// Gives those of the containers that are not stopped yet their place back.
    pub(crate) async fn keep_after_all(
        &self,
        service: &str,
        containers: &[Container],
    ) -> Result<()> {
        {
            // No other task is stopping one of them.
            let _alone = self.sweeping.of(service).lock_owned().await;
            for container in containers {
                self.journal.forget_retired(&container.name)?;
            }
        }
        self.push(service).await
    }

    /// Drains the service's retired containers, waiting for at most `wait`, and stops those
    /// that are drained. Says what is left; call again until nothing is.
    pub(crate) async fn sweep(&self, service: &str, wait: Duration) -> Result<Left> {
        let _alone = self.sweeping.of(service).lock_owned().await;
        let mut retired = self.journal.retired()?;
        retired.retain(|one| one.service == service);
        if retired.is_empty() {
            return Ok(Left::default());
        }
        let mut left = Left::default();
        let mut drained: Vec<&Retired> = Vec::new();
        for (request, covered) in self.drain_requests(service, &retired).await? {
            let Some(request) = request else {
                drained.extend(covered);
                continue;
            };
            let receipt = match self.admin.drain(service, &request, wait).await {
                Ok(receipt) => receipt,
                // A proxy that does not know them sends them nothing.
                Err(error) if error.is_unknown() => {
                    drained.extend(covered);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for one in covered {
                if is_drained(&receipt, one, &mut left) {
                    drained.push(one);
                }
            }
            self.note_cuts(service, &receipt)?;
        }
        if drained.is_empty() {
            return Ok(left);
        }
        // Out of the table first: the proxy does not probe what is about to be stopped.
        self.push(service).await?;
        self.stop_drained(&drained).await?;
        Ok(left)
    }

    /// One turn of sweeping: whether another one is needed. What lasts, such as streams, needs none
    /// here: the reconciler sees it to its end.
    pub(crate) async fn sweep_on(&self, service: &str) -> Result<bool> {
        let left = self.sweep(service, DRAIN_WAIT).await?;
        Ok(!left.only_lasting())
    }

    /// Sweeps until nothing is left but what lasts.
    pub(crate) async fn sweep_out(&self, service: &str) -> Result<()> {
        while self.sweep_on(service).await? {}
        Ok(())
    }

    /// Takes a service out of the proxy, and its containers away, drained. Those that have only
    /// streams left may stay for as long as these do.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let containers = self.live_containers(name).await?;
        self.retire(name, &containers)?;
        // Out of the table as a whole: the proxy drains no service down to nothing. It gives
        // receipts for what it has taken out.
        self.take_out(name).await?;
        self.sweep_out(name).await?;
        self.journal.remove_service(name)
    }

    /// One request for each version that is retired as a whole, else one for each endpoint; none
    /// for a container that does not run any more: nothing can be in flight to it, and podman may
    /// have given its address to another one since.
    async fn drain_requests<'a>(
        &self,
        service: &str,
        retired: &'a [Retired],
    ) -> Result<Vec<(Option<DrainRequest>, Vec<&'a Retired>)>> {
        let live = self.live_containers(service).await?;
        let in_use: BTreeSet<&str> = live
            .iter()
            .filter_map(|container| container.labels.get(label::VERSION))
            .map(String::as_str)
            .collect();
        let containers = self.runtime.last_list().await?;
        let running: BTreeSet<&str> = containers
            .iter()
            .filter(|container| container.state == ContainerState::Running)
            .map(|container| container.name.as_str())
            .collect();
        let mut of_version: BTreeMap<&str, Vec<&Retired>> = BTreeMap::new();
        let mut requests = Vec::new();
        for one in retired {
            let whole = !in_use.contains(one.version.as_str());
            // One without an address serves nothing.
            if !running.contains(one.name.as_str()) || one.address.is_none() {
                requests.push((None, vec![one]));
            } else if whole {
                of_version.entry(&one.version).or_default().push(one);
            } else {
                let request = one.address.clone().map(|address| DrainRequest {
                    version: Some(one.version.clone()),
                    endpoint: Some(address),
                });
                requests.push((request, vec![one]));
            }
        }
        for (version, covered) in of_version {
            let request = DrainRequest {
                version: Some(version.to_owned()),
                endpoint: None,
            };
            requests.push((Some(request), covered));
        }
        Ok(requests)
    }

    async fn stop_drained(&self, drained: &[&Retired]) -> Result<()> {
        let containers = self.runtime.list().await?;
        let mut stopping = tokio::task::JoinSet::new();
        for one in drained {
            let found = containers
                .iter()
                .find(|container| container.name == one.name);
            let found = found.cloned();
            let (runtime, sockets) = (self.runtime.clone(), self.sockets.clone());
            let name = one.name.clone();
            stopping.spawn(async move {
                if let Some(container) = found {
                    runtime.stop(&container.id).await?;
                    sockets.forget(&container);
                }
                Ok::<_, crate::error::Error>(name)
            });
        }
        let mut failed = None;
        while let Some(stopped) = stopping.join_next().await {
            match stopped {
                Ok(Ok(name)) => self.journal.forget_retired(&name)?,
                Ok(Err(error)) => failed = Some(error),
                Err(error) => tracing::error!(%error, "stopping a container was interrupted"),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn note_cuts(&self, service: &str, receipt: &DrainReceipt) -> Result<()> {
        if !(receipt.drained && receipt.forced) {
            return Ok(());
        }
        let cut: u64 = receipt
            .endpoints
            .iter()
            .map(|endpoint| endpoint.cut.total())
            .sum();
        let text = format!("the drain timed out: {cut} requests were cut");
        let stats = serde_json::to_value(receipt).ok();
        self.note(service, None, "drained", &text, stats.as_ref())
    }
}

/// Whether the receipt says that nothing is in flight to this one.
fn is_drained(receipt: &DrainReceipt, one: &Retired, left: &mut Left) -> bool {
    let mut drained = true;
    for endpoint in &receipt.endpoints {
        if Some(&endpoint.address) == one.address.as_ref() && !endpoint.drained {
            drained = false;
            left.requests += endpoint.in_flight.saturating_sub(endpoint.streams);
            left.lasting += endpoint.streams + endpoint.upgraded;
        }
    }
    if !drained {
        left.containers += 1;
    }
    drained
}

#[cfg(test)]
mod tests {
    use admin_api::EndpointReceipt;

    use super::*;

    #[test]
    fn streams_and_upgraded_connections_hold_their_container_and_nothing_else() {
        let left = |in_flight, streams, upgraded| {
            let receipt = EndpointReceipt {
                address: "10.0.0.1:80".into(),
                version: "1".into(),
                drained: in_flight + upgraded == 0,
                in_flight,
                streams,
                upgraded,
                oldest: admin_api::Oldest::default(),
                cut: admin_api::Cut::default(),
            };
            let receipt = DrainReceipt {
                service: "web".into(),
                drained: receipt.drained,
                forced: false,
                endpoints: vec![receipt],
            };
            let one = Retired {
                name: "web-1".into(),
                service: "web".into(),
                version: "1".into(),
                address: Some("10.0.0.1:80".into()),
            };
            let mut left = Left::default();
            (is_drained(&receipt, &one, &mut left), left.only_lasting())
        };
        assert_eq!(left(0, 0, 0), (true, true));
        assert_eq!(left(2, 1, 1), (false, false));
        assert_eq!(left(2, 2, 0), (false, true));
        assert_eq!(left(0, 0, 1), (false, true));
    }
}
