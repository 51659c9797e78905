//! What an `up` says that it has done.

use crate::journal::{NewVersion, RequestedService};
use crate::manifest::{Listener, Manifest, ServiceSettings};

/// What the first `up` has started. `why`: why it runs on what it runs on, where that is worth a
/// word.
pub(super) fn first(manifest: &Manifest, why: Option<&str>) -> String {
    let own = manifest.services.iter();
    let own = own.map(|s| format!("{} {} × {}", s.name, s.version, s.replicas));
    let external = manifest.external.iter().map(|one| one.name.clone());
    let services: Vec<String> = own.chain(external).collect();
    let project = &manifest.project;
    let listen = listen_text(manifest);
    let text = format!("{project} up: {}, on {listen}", services.join(", "));
    match why {
        Some(why) => format!("{project} {why}\n{text}"),
        None => text,
    }
}

/// What was done, as the event says it; `None` where that is nothing.
pub(super) fn event(is_changed: bool, done: &[String]) -> Option<String> {
    match (is_changed, done.join("; ")) {
        (false, _) if done.is_empty() => None,
        (false, what) => Some(what),
        (true, what) if what.is_empty() => Some("the manifest has changed".to_owned()),
        (true, what) => Some(format!("the manifest has changed: {what}")),
    }
}

/// What was done, as the response says it, a line each; and which services run on.
pub(super) fn again(
    project: &str,
    is_changed: bool,
    mut done: Vec<String>,
    kept: &[ServiceSettings],
) -> String {
    if done.is_empty() {
        done.push(match is_changed {
            true => format!("{project} is up, with the manifest's changes"),
            false => format!("{project} is already up: nothing to do"),
        });
    }
    for one in kept {
        done.push(format!(
            "{} is no longer in the manifest and keeps running: `crossfade up --prune` removes it",
            one.name
        ));
    }
    done.join("\n")
}

/// What was started: new services, and what was missing of others.
pub(super) fn started(fresh: &[(NewVersion, RequestedService)], started: usize) -> Vec<String> {
    let mut said = Vec::new();
    let mut of_fresh = 0;
    for (version, requested) in fresh {
        of_fresh += requested.replicas as usize;
        said.push(format!(
            "{} {} × {} is up",
            version.service, version.version, requested.replicas
        ));
    }
    let replaced = started.saturating_sub(of_fresh);
    if replaced > 0 {
        said.push(format!("replaced missing containers: {replaced}"));
    }
    said
}

fn listen_text(manifest: &Manifest) -> String {
    let listen: Vec<String> = manifest.proxy.listeners.iter().map(Listener::url).collect();
    listen.join(" and ")
}
