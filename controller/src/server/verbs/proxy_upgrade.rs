//! `proxy upgrade`: another proxy takes over from the one that runs, and no client notices.
//!
//! What is to take over is in the journal before it is started, so a controller that was killed
//! on the way goes on where it was. Whatever goes wrong before the new one has taken over, the
//! old one serves on.

use crate::api::{Done, ProxyUpgradeRequest};
use crate::error::Result;
use crate::journal::{ProxyRecord, ProxyUpgrade};
use crate::project::caller::Caller;
use crate::project::proxy::PROXY;
use crate::runtime::{ContainerState, label};
use crate::server::controller::{Controller, Up, lock};
use crate::server::engine;

impl Controller {
    /// `proxy upgrade`.
    pub(crate) async fn upgrade_proxy(
        &self,
        request: ProxyUpgradeRequest,
        caller: &Caller,
    ) -> Result<Done> {
        let up = self.up()?;
        let _alone = self.alone(&up).await?;
        let _undisturbed = self.reconciling.lock().await;
        let image = match &request.image {
            Some(image) => Some(engine::image_from(up.kind, &request.dir, image)),
            None => self.journal.proxy()?.image,
        };
        let done = self.upgrade_proxy_to(&up, image, caller).await?;
        Ok(Done::say(done))
    }

    /// Upgrades the proxy to this image, or to the manifest's.
    pub(super) async fn upgrade_proxy_to(
        &self,
        up: &Up,
        image: Option<String>,
        caller: &Caller,
    ) -> Result<String> {
        let project = &up.project;
        let record = self.journal.proxy()?;
        let before = project.admin.status().await?.process;
        let upgrade = ProxyUpgrade { image, before };
        let host = self.proxy_host(up)?.after(&upgrade);
        host.check(&project.manifest().proxy).await?;
        let image = host.image_text(&project.manifest().proxy)?;
        // The next one has their number.
        self.proxy_host(up)?.stop_standbys().await?;
        let record = ProxyRecord {
            upgrade: Some(upgrade),
            ..record
        };
        self.journal.set_proxy(&record)?;
        let text = format!("{image} takes over from the proxy that runs");
        project.note_of(caller, None, "proxy", &text)?;
        self.finish_proxy_upgrade(up).await
    }

    /// Goes on with an upgrade that the journal has, to its end.
    pub(in crate::server) async fn finish_proxy_upgrade(&self, up: &Up) -> Result<String> {
        let record = self.journal.proxy()?;
        let Some(upgrade) = record.upgrade.clone() else {
            return Ok("the proxy is unchanged".into());
        };
        let host = self.proxy_host(up)?.after(&upgrade);
        let settings = &up.project.manifest().proxy;
        let image = host.image_text(settings)?;
        let (next, text, done) = match host.take_over(settings, &upgrade.before).await {
            Ok(()) => {
                let next = ProxyRecord {
                    number: record.number + 1,
                    image: upgrade.image,
                    published: record.published,
                    upgrade: None,
                };
                let text = format!("{image} is the proxy now; the old one finishes its requests");
                (next, text, Ok(()))
            }
            Err(error) => {
                let next = ProxyRecord {
                    upgrade: None,
                    ..record
                };
                let text = format!("{image} could not take over; the proxy is unchanged: {error}");
                (next, text, Err(error))
            }
        };
        self.journal.set_proxy(&next)?;
        // The process that responds from now on is the one that was asked for. It has no standby yet.
        *lock(&up.proxy_process) = None;
        up.changed.notify_one();
        self.note("proxy", None, &text)?;
        done.map(|()| text)
    }

    /// Takes proxies away that have finished what they had.
    pub(in crate::server) async fn clear_old_proxies(&self, up: &Up) -> Result<()> {
        let current = self.proxy_host(up)?.proxy_name();
        for container in up.project.runtime.last_list().await? {
            let role = container.labels.get(label::ROLE);
            let is_old = role.is_some_and(|role| role == PROXY) && container.name != current;
            if is_old && container.state != ContainerState::Running {
                up.project.runtime.stop(&container.id).await?;
            }
        }
        Ok(())
    }
}
