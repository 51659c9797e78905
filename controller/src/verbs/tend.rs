//! What nobody has to ask for: a proxy that is gone is started again, a table that was lost is
//! told again, a container that died is replaced, and retired ones are seen to their end.

use std::time::Duration;

use super::{Controller, Up};
use crate::endpoints::Dead;
use crate::error::Result;
use crate::store::ServiceRecord;

const DRAIN_WAIT: Duration = Duration::from_millis(500);

impl Controller {
    pub(super) async fn tend(&self) {
        let Some(up) = self.get_up() else { return };
        // Whoever changes something now sees to all this, too.
        let Ok(_alone) = self.changing.try_lock() else {
            return;
        };
        let answers = up.site.admin.status().await.is_ok();
        let proxy = self.proxy_host(&up);
        let there = if answers {
            Ok(())
        } else {
            proxy.ensure(&mut Vec::new()).await
        };
        if let Err(error) = there {
            return tracing::warn!("the proxy cannot be started: {error}");
        }
        let services = match self.store.services() {
            Ok(services) => services,
            Err(error) => return tracing::warn!("{error}"),
        };
        for service in services {
            if let Err(error) = tend_service(&up, &service).await {
                tracing::warn!("{}: {error}", service.name);
            }
        }
    }
}

async fn tend_service(up: &Up, service: &ServiceRecord) -> Result<()> {
    up.site.sweep(&service.name, DRAIN_WAIT).await?;
    // A running rollout looks after its service itself.
    if up.rollout(&service.name).is_some() {
        return Ok(());
    }
    let mut started = Vec::new();
    let site = &up.site;
    site.start_missing(
        &service.stable,
        service.replicas,
        Dead::Replace,
        &mut started,
    )
    .await?;
    if !started.is_empty() {
        let text = match started.len() {
            1 => "a container was missing and was started again".to_owned(),
            n => format!("{n} containers were missing and were started again"),
        };
        site.note(&service.name, None, "healed", &text, None)?;
    }
    site.check_table(&service.name).await?;
    Ok(())
}
