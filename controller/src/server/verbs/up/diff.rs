//! What an `up` changes of a service that is there already: what the manifest asks for now against
//! what the last `up` asked for whose rollout came to its end. What was done by hand since (`deploy`,
//! `scale`, `rollback`) stays, unless the manifest has changed just there. Decisions only.

use std::collections::BTreeMap;

use crate::journal::{
    NewVersion, Phase, RequestedService, RolloutRecord, ServiceRecord, VersionRecord,
};
use crate::manifest::without_revision;
use crate::server::verbs::revision::{Labels, with_a_free_label};

/// What is to be done about one service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Diff {
    /// Another number of containers.
    pub(super) replicas: Option<u32>,
    /// Another version, by a rollout.
    pub(super) version: Option<NewVersion>,
    /// The rollout that brings just this version already.
    pub(super) under_way: Option<String>,
}

impl Diff {
    /// Begins no rollout for what one brings that runs already.
    pub(super) fn leave_to(&mut self, running: Option<&RolloutRecord>) {
        let brings = |rollout: &&RolloutRecord| {
            rollout.phase != Phase::RollingBack
                && self.version.as_ref().is_some_and(|version| {
                    (&rollout.to.resolved, &rollout.to.template)
                        == (&version.resolved, &version.template)
                })
        };
        if let Some(rollout) = running.filter(brings) {
            self.under_way = Some(rollout.title());
            self.version = None;
        }
    }
}

/// What is to be done. `before` and `now` are what the manifest asked for and asks for, `fresh`
/// what the latter is as a version, and `labels` what the service's versions have been called.
pub(super) fn diff(
    service: &ServiceRecord,
    before: &RequestedService,
    now: &RequestedService,
    fresh: &NewVersion,
    labels: &Labels,
) -> Diff {
    Diff {
        replicas: Some(now.replicas)
            .filter(|_| now.replicas != before.replicas && now.replicas != service.replicas),
        version: another_version(service, before, now, fresh)
            .map(|version| with_a_free_label(version, service, labels)),
        under_way: None,
    }
}

/// What `deploy --env` has set of a version. Where an older release has not written it down, it is
/// what differs from the manifest then.
pub(super) fn by_hand(
    version: &VersionRecord,
    before: &RequestedService,
) -> BTreeMap<String, String> {
    if let Some(by_hand) = &version.by_hand {
        return by_hand.clone();
    }
    let env = version.template.env.iter();
    env.filter(|(name, value)| before.template.env.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn another_version(
    service: &ServiceRecord,
    before: &RequestedService,
    now: &RequestedService,
    fresh: &NewVersion,
) -> Option<NewVersion> {
    let stable = &service.stable;
    if (&before.image, &before.version) != (&now.image, &now.version) {
        let runs = without_revision(&stable.version) == now.version
            && (&stable.resolved, &stable.template) == (&fresh.resolved, &fresh.template);
        return (!runs).then(|| fresh.clone());
    }
    if is_rebuilt(stable, before, fresh) {
        return rebuilt(stable, before, now, fresh);
    }
    if before.template == now.template {
        return None;
    }
    // Only the template has changed: the image stays, also one that was deployed by hand, and so
    // does what `deploy --env` gave it.
    let by_hand = by_hand(stable, before);
    let mut template = now.template.clone();
    template.env.extend(by_hand.clone());
    (template != stable.template).then(|| NewVersion {
        service: service.name.clone(),
        version: stable.version.clone(),
        image: stable.image.clone(),
        resolved: stable.resolved.clone(),
        pull_name: stable.pull_name.clone(),
        template,
        by_hand: Some(by_hand),
    })
}

/// Whether the manifest's image is another one by now, though its name is the same.
fn is_rebuilt(stable: &VersionRecord, before: &RequestedService, fresh: &NewVersion) -> bool {
    match &before.resolved {
        Some(was) => *was != fresh.resolved,
        // An older release has not written it down: then what runs tells, if it is of that name.
        None => stable.image == fresh.image && stable.resolved != fresh.resolved,
    }
}

/// The image as it is by now. Where stable is of the same name, what `deploy --env` set of it stays.
fn rebuilt(
    stable: &VersionRecord,
    before: &RequestedService,
    now: &RequestedService,
    fresh: &NewVersion,
) -> Option<NewVersion> {
    let mut by_hand = BTreeMap::new();
    if stable.image == fresh.image {
        by_hand = self::by_hand(stable, before);
    }
    let mut template = now.template.clone();
    template.env.extend(by_hand.clone());
    let runs = without_revision(&stable.version) == now.version
        && (&stable.resolved, &stable.template) == (&fresh.resolved, &template);
    (!runs).then(|| NewVersion {
        template,
        by_hand: Some(by_hand),
        ..fresh.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Split;
    use crate::manifest::ContainerTemplate;

    fn template(env: &[(&str, &str)]) -> ContainerTemplate {
        ContainerTemplate {
            env: env
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..ContainerTemplate::default()
        }
    }

    fn requested(version: &str, replicas: u32, env: &[(&str, &str)]) -> RequestedService {
        RequestedService {
            image: format!("web:{version}"),
            version: version.into(),
            replicas,
            template: template(env),
            resolved: Some(format!("id of web:{version}")),
        }
    }

    fn running(version: &str, env: &[(&str, &str)]) -> ServiceRecord {
        let image = format!("web:{}", without_revision(version));
        ServiceRecord {
            name: "web".into(),
            stable: VersionRecord {
                id: 1,
                service: "web".into(),
                version: version.into(),
                resolved: format!("id of {image}"),
                pull_name: None,
                image,
                template: template(env),
                by_hand: None,
            },
            previous: None,
            replicas: 2,
            split: Split::new(),
            requested: None,
            maintenance: None,
        }
    }

    /// Scales to so many, and what it rolls out: `1.0.0+2 of web:1.0.0 A=1`.
    #[track_caller]
    fn check(
        service: &ServiceRecord,
        before: &RequestedService,
        now: &RequestedService,
    ) -> (Option<u32>, Option<String>) {
        let fresh = NewVersion {
            service: "web".into(),
            version: now.version.clone(),
            resolved: now.resolved.clone().expect("looked up"),
            pull_name: None,
            image: now.image.clone(),
            template: now.template.clone(),
            by_hand: Some(BTreeMap::new()),
        };
        let earlier = running(&now.version, &[]).stable;
        let labels = Labels {
            all: ["1.0.0", "1.0.0+2", "2.0.0"].map(str::to_owned).into(),
            earlier: Some(earlier).filter(|earlier| earlier.version != "3.0.0"),
        };
        let change = diff(service, before, now, &fresh, &labels);
        let version = change.version.map(|version| {
            let env: Vec<String> = version
                .template
                .env
                .iter()
                .map(|(name, value)| format!(" {name}={value}"))
                .collect();
            format!("{} of {}{}", version.version, version.image, env.concat())
        });
        (change.replicas, version)
    }

    #[test]
    fn the_same_again_changes_nothing_whatever_was_done_by_hand() {
        let same = requested("1.0.0", 4, &[]);
        for version in ["1.0.0", "2.0.0", "1.0.0+2"] {
            assert_eq!(check(&running(version, &[]), &same, &same), (None, None));
        }
    }

    #[test]
    fn another_image_is_a_rollout_unless_it_runs_already() {
        let (before, now) = (requested("1.0.0", 2, &[]), requested("3.0.0", 2, &[]));
        let to = Some("3.0.0 of web:3.0.0".to_owned());
        assert_eq!(check(&running("1.0.0", &[]), &before, &now), (None, to));
        assert_eq!(check(&running("3.0.0", &[]), &before, &now), (None, None));
    }

    #[test]
    fn another_environment_is_a_revision_of_what_runs() {
        let (before, now) = (
            requested("1.0.0", 2, &[]),
            requested("1.0.0", 2, &[("A", "1")]),
        );
        let to = |text: &str| (None, Some(text.to_owned()));
        assert_eq!(
            check(&running("1.0.0", &[]), &before, &now),
            to("1.0.0+3 of web:1.0.0 A=1"),
            "1.0.0+2 has been there"
        );
        assert_eq!(
            check(&running("2.0.0", &[("B", "2")]), &before, &now),
            to("2.0.0+2 of web:2.0.0 A=1 B=2"),
            "what was deployed by hand keeps its image and its own environment"
        );
        // A `deploy` by hand has read the new one already.
        let runs = running("2.0.0", &[("A", "1")]);
        assert_eq!(check(&runs, &before, &now), (None, None));
        let gone = check(&running("1.0.0", &[("A", "1")]), &now, &before);
        assert_eq!(gone, to("1.0.0+3 of web:1.0.0"));
    }

    #[test]
    fn an_image_that_was_built_again_is_a_revision_whatever_runs() {
        let before = requested("1.0.0", 2, &[]);
        let now = RequestedService {
            resolved: Some("another id".into()),
            ..before.clone()
        };
        let to = |text: &str| (None, Some(text.to_owned()));
        let runs = running("1.0.0", &[("B", "2")]);
        assert_eq!(check(&runs, &before, &now), to("1.0.0+3 of web:1.0.0 B=2"));
        // `1.0.0` is the image before, which `rollback --to` is to find by that.
        for version in ["2.0.0", "1.0.0+2"] {
            let runs = running(version, &[]);
            let want = to("1.0.0+3 of web:1.0.0");
            assert_eq!(check(&runs, &before, &now), want, "{version}");
        }
        // It was deployed meanwhile.
        let mut deployed = running("1.0.0+2", &[]);
        deployed.stable.resolved = "another id".into();
        assert_eq!(check(&deployed, &before, &now), (None, None));
        // The `up` before was of a release that has not written down what the image was.
        let unknown = RequestedService {
            resolved: None,
            ..before
        };
        let runs = running("1.0.0", &[]);
        assert_eq!(check(&runs, &unknown, &now), to("1.0.0+3 of web:1.0.0"));
        let by_hand = running("2.0.0", &[]);
        assert_eq!(check(&by_hand, &unknown, &now), (None, None));
    }

    #[test]
    fn only_what_was_set_by_hand_outlives_an_edit_of_the_manifest() {
        let before = requested("1.0.0", 2, &[("A", "1")]);
        let now = requested("1.0.0", 2, &[("A", "2")]);
        // What runs is older than what the manifest had: a rollback, or an `up` that was aborted.
        let mut service = running("1.0.0", &[("A", "0"), ("B", "2")]);
        service.stable.by_hand = Some([("B".to_owned(), "2".to_owned())].into());
        let to = Some("1.0.0+3 of web:1.0.0 A=2 B=2".to_owned());
        assert_eq!(check(&service, &before, &now), (None, to));
    }

    #[test]
    fn what_a_rollout_brings_already_is_left_to_it() {
        let (before, now) = (requested("1.0.0", 2, &[]), requested("3.0.0", 2, &[]));
        let to = |version: &str| VersionRecord {
            id: 2,
            ..running(version, &[]).stable
        };
        let mut rollout = crate::testing::rollout(running("1.0.0", &[]).stable, to("3.0.0"));
        let diff_with = |rollout: &RolloutRecord| {
            let fresh = NewVersion {
                service: "web".into(),
                version: now.version.clone(),
                image: now.image.clone(),
                resolved: "id of web:3.0.0".into(),
                pull_name: None,
                template: now.template.clone(),
                by_hand: None,
            };
            let mut change = diff(
                &running("1.0.0", &[]),
                &before,
                &now,
                &fresh,
                &Labels::default(),
            );
            change.leave_to(Some(rollout));
            (change.version.is_some(), change.under_way.is_some())
        };
        assert_eq!(diff_with(&rollout), (false, true));
        rollout.phase = Phase::RollingBack;
        assert_eq!(diff_with(&rollout), (true, false));
        rollout.phase = Phase::Shifting;
        rollout.to = to("2.0.0");
        assert_eq!(diff_with(&rollout), (true, false));
    }

    #[test]
    fn another_number_is_a_scale() {
        let (before, now) = (requested("1.0.0", 4, &[]), requested("1.0.0", 3, &[]));
        assert_eq!(
            check(&running("1.0.0", &[]), &before, &now),
            (Some(3), None)
        );
        let now = requested("1.0.0", 2, &[]);
        let scaled = check(&running("1.0.0", &[]), &before, &now);
        assert_eq!(scaled, (None, None), "it has that many by hand");
    }

    #[test]
    fn only_a_number_after_the_last_plus_is_a_revision() {
        for (label, want) in [
            ("1.0.0+12", "1.0.0"),
            ("1.0.0+beta", "1.0.0+beta"),
            ("+2", "+2"),
        ] {
            assert_eq!(without_revision(label), want);
        }
    }
}
