//! The proxy that is gone is started again, and what became of it is in the history.

use std::sync::atomic::Ordering;

use admin_api::ServiceView;

use crate::error::Result;
use crate::journal::ProxyRecord;
use crate::project::Project;
use crate::project::proxy::{INFRA, PROXY};
use crate::runtime::{Container, ContainerState, label};
use crate::server::controller::{Controller, Up, lock};

impl Controller {
    pub(super) async fn reconcile_proxy(&self, up: &Up) -> Result<()> {
        if self.journal.proxy()?.upgrade.is_some() {
            // The controller was killed in the middle of it.
            self.finish_proxy_upgrade(up).await?;
        }
        self.clear_old_proxies(up).await?;
        let status = up.project.admin.status().await;
        if let Ok(status) = &status
            && self.has_network(up).await?
        {
            self.note_another_proxy(up, &status.process).await?;
            self.proxy_host(up)?.keep_sockets().await?;
            return self.keep_standby(up, status.standby).await;
        }
        let lost = self.lost_parts(up).await?;
        let mut started = Vec::new();
        let done = self.proxy_host(up)?.ensure(&mut started).await;
        if !started.is_empty() {
            // Which process it is now is no news.
            *lock(&up.proxy_process) = None;
            let text = format!("{lost}; started again: {}", names(&started));
            self.note("proxy", None, &text)?;
        }
        done?;
        // It may have come back with nothing.
        up.changed.notify_one();
        Ok(())
    }

    /// Whether the proxy that responds reaches anything: its host sockets serve clients even when its
    /// infra container is gone.
    async fn has_network(&self, up: &Up) -> Result<bool> {
        let containers = up.project.runtime.last_list().await?;
        Ok(self.proxy_host(up)?.has_network(&containers))
    }

    /// Tells of a proxy that is another process than at the look before, without the controller's
    /// doing. Where it is the standby, that is the proxy in force from here on.
    async fn note_another_proxy(&self, up: &Up, process: &str) -> Result<()> {
        let before = lock(&up.proxy_process).clone();
        let is_another = before.is_some_and(|before| before != process);
        let runtime = &up.project.runtime;
        let containers = match is_another {
            true => runtime.list().await?,
            false => runtime.last_list().await?,
        };
        let host = self.proxy_host(up)?;
        if let Some(succeeded) = host.succeeded(&containers) {
            let ended = match succeeded.dead {
                Some(dead) => up.project.exit_of(dead).await.to_string(),
                None => format!("{} is gone", host.proxy_name()),
            };
            let name = &succeeded.standby.name;
            let text = format!("{ended}; {name}, its standby, serves in its place");
            let number = succeeded.number;
            self.journal.set_proxy(&ProxyRecord {
                number,
                ..host.record
            })?;
            self.note("proxy", None, &text)?;
        } else if is_another {
            if host.has_standby(&containers) {
                // The runtime has yet to notice that the proxy has ended.
                return Ok(());
            }
            let text = "the proxy is another process than before: it has ended, and was started \
                        again by another program, or an older one serves in its place";
            self.note("proxy", None, text)?;
        }
        *lock(&up.proxy_process) = Some(process.to_owned());
        Ok(())
    }

    /// Sees to it that a process waits to take the proxy's place. `knows_standby`: whether one does
    /// already; `None` from a proxy of a release that knows none.
    async fn keep_standby(&self, up: &Up, knows_standby: Option<bool>) -> Result<()> {
        let host = self.proxy_host(up)?;
        let settings = &up.project.manifest().proxy;
        let lacks = settings.standby && knows_standby == Some(false);
        up.lacks_standby.store(lacks, Ordering::Relaxed);
        let containers = up.project.runtime.last_list().await?;
        let is_there = host.clear_standbys(settings, &containers).await?;
        if is_there || !settings.standby || knows_standby.is_none() {
            return Ok(());
        }
        if !lock(&up.standby_backoff).may(PROXY, false) {
            return Ok(());
        }
        lock(&up.standby_backoff).healed(PROXY);
        let started = host.start_standby(settings, &containers).await?;
        tracing::info!("{} is started: the proxy's standby", started.name);
        Ok(())
    }

    /// What is wrong with the proxy's containers, and what they said last.
    async fn lost_parts(&self, up: &Up) -> Result<String> {
        let project = &up.project;
        let current = self.proxy_host(up)?.proxy_name();
        let containers = project.runtime.list().await?;
        let is =
            |one: &&Container, role: &str| one.labels.get(label::ROLE).is_some_and(|r| r == role);
        let infra = containers.iter().find(|one| is(one, INFRA));
        let proxy = containers
            .iter()
            .find(|one| is(one, PROXY) && one.name == current);
        let mut lost = Vec::new();
        for part in [infra, proxy].into_iter().flatten() {
            if matches!(part.state, ContainerState::Exited(_)) {
                lost.push(project.exit_of(part).await.to_string());
            }
        }
        if proxy.is_none() {
            lost.push(format!("{current} is gone"));
        }
        if lost.is_empty() {
            lost.push("the proxy does not respond".to_owned());
        }
        Ok(lost.join("; "))
    }

    /// Takes services out of the proxy that are in no journal: who began with them did not come to
    /// their end. The table is the controller's alone.
    pub(super) async fn clear_table(&self, project: &Project) -> Result<()> {
        let in_proxy = project.admin.services().await?.services;
        let known = self.journal.services()?;
        let manifest = project.manifest();
        let is_known = |name: &str| {
            known.iter().any(|service| service.name == name)
                || manifest.external.iter().any(|one| one.name == name)
        };
        for ServiceView { name, .. } in in_proxy {
            if !is_known(&name) {
                tracing::info!("{name} is in the proxy and not in the journal: removing it");
                project.take_out(&name).await?;
            }
        }
        Ok(())
    }
}

fn names(containers: &[Container]) -> String {
    let names: Vec<&str> = containers.iter().map(|one| one.name.as_str()).collect();
    names.join(", ")
}
