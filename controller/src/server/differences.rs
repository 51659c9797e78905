//! How what runs of a service differs from what the manifest has. Decisions only.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::ServiceRecord;
use crate::manifest::{ServiceSettings, without_revision};

/// A sentence for each difference. Values of the environment are left out: they may be secrets.
pub(super) fn differences(settings: &ServiceSettings, service: &ServiceRecord) -> Vec<String> {
    let stable = &service.stable;
    let template = &stable.template;
    let mut found = Vec::new();
    if without_revision(&stable.version) != settings.version {
        found.push(format!(
            "{} runs, and the manifest has {}",
            stable.version, settings.version
        ));
    }
    if service.replicas != settings.replicas {
        found.push(format!(
            "replicas are {}, and {} in the manifest",
            service.replicas, settings.replicas
        ));
    }
    if service.maintenance.is_some() {
        let name = &service.name;
        found.push(format!(
            "it is under maintenance until `crossfade maintenance {name} --off`"
        ));
    }
    let none = BTreeMap::new();
    let by_hand = stable.by_hand.as_ref().unwrap_or(&none);
    let names = template.env.keys().chain(settings.env.keys());
    for name in names.collect::<BTreeSet<_>>() {
        if by_hand.contains_key(name) {
            found.push(format!("env.{name} was set by `deploy --env`"));
        } else if template.env.get(name) != settings.env.get(name) {
            found.push(format!("env.{name} is another one"));
        }
    }
    for (key, is_same) in [
        ("command", template.command == settings.command),
        ("port", template.port == settings.port),
        ("labels", template.labels == settings.labels),
        ("memory, cpus or pids", template.limits == settings.limits),
        (
            "new_privileges",
            template.new_privileges == settings.new_privileges,
        ),
        (
            "user, cap_drop, read_only or tmpfs",
            template.confinement == settings.confinement,
        ),
        (
            "stop_timeout",
            template.stop_timeout == settings.stop_timeout,
        ),
    ] {
        if !is_same {
            found.push(format!("{key} is another one"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Split, VersionRecord};
    use crate::manifest::{ContainerTemplate, Manifest};

    #[test]
    fn each_difference_is_named_and_no_value_of_the_environment() {
        let text = "[[services]]\nname = \"web\"\nimage = \"web:1.0.0\"\nenv = { A = \"secret\", B = \"1\" }\n";
        let settings = Manifest::parse(text)
            .expect("a manifest")
            .services
            .remove(0);
        let mut service = ServiceRecord {
            name: "web".into(),
            stable: VersionRecord {
                id: 1,
                service: "web".into(),
                version: "1.0.0+2".into(),
                image: "web:1.0.0".into(),
                resolved: "id".into(),
                pull_name: None,
                template: ContainerTemplate {
                    port: settings.port,
                    env: settings.env.clone(),
                    ..ContainerTemplate::default()
                },
                by_hand: None,
            },
            previous: None,
            replicas: 1,
            split: Split::new(),
            requested: None,
            maintenance: None,
        };
        assert_eq!(
            differences(&settings, &service),
            [""; 0],
            "a revision is none"
        );
        service.replicas = 3;
        service.stable.version = "2.0.0".into();
        service.stable.template.command = vec!["--fast".into()];
        let env = &mut service.stable.template.env;
        env.insert("A".into(), "another".into());
        env.insert("C".into(), "3".into());
        service.stable.by_hand = Some([("C".to_owned(), "3".to_owned())].into());
        assert_eq!(
            differences(&settings, &service),
            [
                "2.0.0 runs, and the manifest has 1.0.0",
                "replicas are 3, and 1 in the manifest",
                "env.A is another one",
                "env.C was set by `deploy --env`",
                "command is another one",
            ]
        );
    }
}
