//! What an `up` changes of a service that is there already: what the manifest asks for now against
//! what the last `up` asked for. What was done by hand since (`deploy`, `scale`, `rollback`) stays,
//! unless the manifest has changed just there. Decisions only.

use crate::journal::{NewVersion, RequestedService, ServiceRecord};

/// What is to be done about one service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Diff {
    /// Another number of containers.
    pub(super) replicas: Option<u32>,
    /// Another version, by a rollout.
    pub(super) version: Option<NewVersion>,
}

/// What is to be done. `before` and `now` are what the manifest asked for and asks for, `fresh`
/// what the latter is as a version, and `labels` those that the service has ever had.
pub(super) fn diff(
    service: &ServiceRecord,
    before: &RequestedService,
    now: &RequestedService,
    fresh: &NewVersion,
    labels: &[String],
) -> Diff {
    Diff {
        replicas: Some(now.replicas)
            .filter(|_| now.replicas != before.replicas && now.replicas != service.replicas),
        version: another_version(service, before, now, fresh)
            .map(|version| with_a_free_label(version, service, labels)),
    }
}

fn another_version(
    service: &ServiceRecord,
    before: &RequestedService,
    now: &RequestedService,
    fresh: &NewVersion,
) -> Option<NewVersion> {
    let stable = &service.stable;
    if (&before.image, &before.version) != (&now.image, &now.version) {
        let runs = base(&stable.version) == now.version
            && (&stable.resolved, &stable.template) == (&fresh.resolved, &fresh.template);
        return (!runs).then(|| fresh.clone());
    }
    if before.template == now.template {
        return None;
    }
    // Only the template has changed: the image stays, also one that was deployed by hand, and so
    // does what `deploy --env` gave it.
    let mut template = now.template.clone();
    for (name, value) in &stable.template.env {
        if before.template.env.get(name) != Some(value) {
            template.env.insert(name.clone(), value.clone());
        }
    }
    (template != stable.template).then(|| NewVersion {
        service: service.name.clone(),
        version: stable.version.clone(),
        image: stable.image.clone(),
        resolved: stable.resolved.clone(),
        pull_name: stable.pull_name.clone(),
        template,
    })
}

/// A version whose label is taken by another gets a revision: `1.0.0+2`, `1.0.0+3`.
fn with_a_free_label(
    mut version: NewVersion,
    service: &ServiceRecord,
    labels: &[String],
) -> NewVersion {
    if version.version != service.stable.version {
        return version;
    }
    let base = base(&version.version).to_owned();
    let free = (2_u32..)
        .map(|n| format!("{base}+{n}"))
        .find(|label| !labels.contains(label));
    if let Some(free) = free {
        version.version = free;
    }
    version
}

/// A label without its revision.
fn base(label: &str) -> &str {
    match label.rsplit_once('+') {
        Some((base, n)) if !base.is_empty() && n.parse::<u32>().is_ok() => base,
        _ => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Split, VersionRecord};
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
        }
    }

    fn running(version: &str, env: &[(&str, &str)]) -> ServiceRecord {
        let image = format!("web:{}", base(version));
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
            },
            previous: None,
            replicas: 2,
            split: Split::new(),
            requested: None,
        }
    }

    #[track_caller]
    fn check(
        service: &ServiceRecord,
        before: &RequestedService,
        now: &RequestedService,
    ) -> (Option<u32>, Option<String>) {
        let fresh = NewVersion {
            service: "web".into(),
            version: now.version.clone(),
            resolved: format!("id of {}", now.image),
            pull_name: None,
            image: now.image.clone(),
            template: now.template.clone(),
        };
        let labels = ["1.0.0".to_owned(), "1.0.0+2".to_owned(), "2.0.0".to_owned()];
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
            assert_eq!(base(label), want);
        }
    }
}
