//! Waiting until the proxy sees a version's containers healthy.

use std::time::Duration;

use admin_api::{EndpointView, HealthState};
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::journal::VersionRecord;
use crate::project::Site;
use crate::project::containers::of_version;
use crate::runtime::ContainerState;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it may take where the manifest does not say.
const LIMIT: Duration = Duration::from_secs(60);

impl Site {
    /// Waits until the proxy sees so many containers of the version healthy.
    pub(crate) async fn until_healthy(&self, version: &VersionRecord, replicas: u32) -> Result<()> {
        let manifest = self.manifest();
        let service = manifest.service(&version.service);
        let limit = service.map_or(LIMIT, |service| service.rollout.start_timeout.get());
        let began = Instant::now();
        loop {
            let table = self.check_table(&version.service).await?;
            let ours = of_version(&table.containers, version);
            let exited = |state| matches!(state, ContainerState::Exited(_));
            if let Some(dead) = ours.into_iter().find(|container| exited(container.state)) {
                return Err(self.exit_of(dead).await);
            }
            let endpoints = table.view.versions.get(&version.version);
            let endpoints = endpoints.map_or(&[][..], |version| &version.endpoints);
            let is_up = |one: &&EndpointView| one.health == HealthState::Up;
            let up = endpoints.iter().filter(is_up).count();
            if up >= replicas as usize {
                return Ok(());
            }
            if began.elapsed() >= limit {
                let reason = reason_of_one_down(endpoints);
                return Err(Error::refused(format!(
                    "{up} of {replicas} containers of {} {} were healthy within {} s{reason}",
                    version.service,
                    version.version,
                    limit.as_secs()
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// `: 10.0.0.1:8080 is down: connection refused`.
fn reason_of_one_down(endpoints: &[EndpointView]) -> String {
    let down = endpoints.iter().find(|one| one.health != HealthState::Up);
    down.map_or_else(String::new, |one| {
        let reason = one.reason.as_deref().unwrap_or("not checked yet");
        format!(": {} is {}: {reason}", one.address, one.health)
    })
}
