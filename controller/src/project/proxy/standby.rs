//! The standby: another process of the proxy, which has copies of its sockets and waits to take its
//! place. It is the next proxy by its name and by its number: where the proxy in force dies, it serves
//! at once, and is the proxy in force once the journal has that.

use super::{PROXY, ProxyHost, has_role, number_of};
use crate::error::{Error, Result};
use crate::manifest::ProxySettings;
use crate::runtime::{Container, ContainerSpec, ContainerState, RuntimeError, label};

/// Names of containers that are tried beyond the first.
const MOST_NAMES: u32 = 8;

/// A standby that serves by now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Succeeded<'c> {
    /// Its number.
    pub(crate) number: u32,
    /// The standby.
    pub(crate) standby: &'c Container,
    /// The proxy before, if it is there still.
    pub(crate) dead: Option<&'c Container>,
}

impl ProxyHost<'_> {
    /// The standby that serves, where the proxy in force has ended and some process responds.
    pub(crate) fn succeeded<'c>(&'c self, containers: &'c [Container]) -> Option<Succeeded<'c>> {
        let current = self.proxy_name();
        let proxies = || containers.iter().filter(|one| has_role(one, PROXY));
        let dead = proxies().find(|one| one.name == current);
        if dead.is_some_and(|one| one.state == ContainerState::Running) {
            return None;
        }
        let running = self.standbys(containers).filter(|one| runs(one));
        let numbered =
            running.filter_map(|one| Some((number_of(&self.project.name, &one.name)?, one)));
        let (number, standby) = numbered.max_by_key(|(number, _)| *number)?;
        Some(Succeeded {
            number,
            standby,
            dead,
        })
    }

    /// Whether a standby runs.
    pub(crate) fn has_standby(&self, containers: &[Container]) -> bool {
        self.standbys(containers).any(runs)
    }

    /// Takes away the standbys that are not as this proxy is, and those that have ended. Gives whether
    /// one is left.
    pub(crate) async fn clear_standbys(
        &self,
        settings: &ProxySettings,
        containers: &[Container],
    ) -> Result<bool> {
        let wanted = self.settings_label(settings)?;
        let mut is_left = false;
        for one in self.standbys(containers) {
            let is_same = one.labels.get(label::SETTINGS) == Some(&wanted);
            if settings.standby && is_same && runs(one) && !is_left {
                is_left = true;
                continue;
            }
            if matches!(one.state, ContainerState::Exited(_)) {
                tracing::warn!("the standby: {}", self.project.exit_of(one).await);
            }
            self.project.runtime.stop(&one.id).await?;
        }
        Ok(is_left)
    }

    /// Takes all standbys away: another proxy is about to take over, or none is to serve.
    pub(crate) async fn stop_standbys(&self) -> Result<()> {
        let containers = self.project.runtime.list().await?;
        for one in self.standbys(&containers) {
            self.project.runtime.stop(&one.id).await?;
        }
        Ok(())
    }

    /// Starts a standby. A name that a stranger has is stepped around.
    pub(crate) async fn start_standby(
        &self,
        settings: &ProxySettings,
        containers: &[Container],
    ) -> Result<Container> {
        let numbers = containers.iter().filter(|one| has_role(one, PROXY));
        let numbers = numbers.filter_map(|one| number_of(&self.project.name, &one.name));
        let number = numbers.chain([self.record.number]).max();
        let mut number = number.unwrap_or_default() + 1;
        let last = number + MOST_NAMES;
        loop {
            match self.start(self.standby_spec(settings, number)?).await {
                Err(Error::Runtime(
                    RuntimeError::NotOurs { .. } | RuntimeError::NameTaken { .. },
                )) if number < last => number += 1,
                started => return started,
            }
        }
    }

    fn standby_spec(&self, settings: &ProxySettings, number: u32) -> Result<ContainerSpec> {
        let mut spec = self.proxy_spec(settings)?;
        spec.command.push("--standby".into());
        spec.labels.insert(label::STANDBY.into(), "true".into());
        spec.name = self.name_of(number);
        Ok(spec)
    }

    /// Those that were started as standbys of the proxy in force: one that was before it is none.
    fn standbys<'c>(&'c self, containers: &'c [Container]) -> impl Iterator<Item = &'c Container> {
        let (project, current) = (&*self.project.name, self.record.number);
        waiting(project, containers, Some(current))
    }
}

/// The standbys of the proxy that serves, as far as the containers show which one does.
pub(crate) fn standbys<'c>(
    project: &'c str,
    containers: &'c [Container],
) -> impl Iterator<Item = &'c Container> {
    waiting(project, containers, serving_number(project, containers))
}

fn waiting<'c>(
    project: &'c str,
    containers: &'c [Container],
    current: Option<u32>,
) -> impl Iterator<Item = &'c Container> {
    let is_later = move |one: &Container| number_of(project, &one.name) > current;
    let standbys = containers.iter().filter(|one| is_standby(one));
    standbys.filter(move |one| is_later(one))
}

/// Whether a container was started as a standby.
fn is_standby(container: &Container) -> bool {
    container.labels.contains_key(label::STANDBY)
}

/// The number of the proxy that serves, as far as the containers show it: the newest that runs, and
/// not the one that waits to take its place.
pub(crate) fn serving_number(project: &str, containers: &[Container]) -> Option<u32> {
    let proxies = containers
        .iter()
        .filter(|one| has_role(one, PROXY) && runs(one));
    let mut numbers: Vec<(u32, bool)> = proxies
        .filter_map(|one| Some((number_of(project, &one.name)?, is_standby(one))))
        .collect();
    numbers.sort_unstable();
    match numbers.as_slice() {
        [.., (before, _), (_, true)] => Some(*before),
        [.., (newest, _)] => Some(*newest),
        [] => None,
    }
}

fn runs(container: &Container) -> bool {
    container.state == ContainerState::Running
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(name: &str, is_standby: bool, state: ContainerState) -> Container {
        let mut labels = vec![(label::ROLE.to_owned(), PROXY.to_owned())];
        if is_standby {
            labels.push((label::STANDBY.to_owned(), "true".to_owned()));
        }
        Container {
            id: name.into(),
            name: name.into(),
            image: String::new(),
            labels: labels.into_iter().collect(),
            state,
            address: None,
        }
    }

    #[test]
    fn the_proxy_that_serves_is_the_newest_that_runs_and_no_standby_that_waits() {
        let running = ContainerState::Running;
        let dead = ContainerState::Exited(Some(137));
        for (proxies, want) in [
            (vec![], None),
            (vec![("shop-proxy", false, running)], Some(0)),
            (
                vec![
                    ("shop-proxy", false, running),
                    ("shop-proxy-1", true, running),
                ],
                Some(0),
            ),
            (
                vec![("shop-proxy", false, dead), ("shop-proxy-1", true, running)],
                Some(1),
            ),
            (
                vec![
                    ("shop-proxy-1", true, running),
                    ("shop-proxy-2", true, running),
                ],
                Some(1),
            ),
            (
                vec![
                    ("shop-proxy-9", false, running),
                    ("shop-proxy-10", false, running),
                ],
                Some(10),
            ),
        ] {
            let containers: Vec<Container> = proxies
                .iter()
                .map(|(name, is_standby, state)| proxy(name, *is_standby, *state))
                .collect();
            assert_eq!(serving_number("shop", &containers), want, "{proxies:?}");
        }
    }
}
