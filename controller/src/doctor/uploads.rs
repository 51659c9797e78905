//! Programs that lose an upload which says no length. The proxy passes a body on as it came, in chunks
//! where its length is not known, unless the service has `buffer`; nginx reads it first, and sends it with
//! a length.

use super::Finding;
use crate::manifest::{Manifest, ServiceSettings};

/// What images and commands of programs have in their names that read only as much of a body as
/// `Content-Length` says.
const NAMES: [&str; 4] = ["uwsgi", "django", "manage.py", "gunicorn"];

/// A warning for each service that looks like one of these.
pub(super) fn examine(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let streams = |service: &&ServiceSettings| service.traffic.buffer.request.is_none();
    for service in manifest.services.iter().filter(streams) {
        if let Some(name) = name_in(&service.image, &service.command) {
            let text = format!(
                "service `{}` looks like {name}: Django and uWSGI take an upload without Content-Length for an empty one",
                service.name
            );
            let fix = "set `buffer = { request = \"1MiB\" }` in the service, or have clients send Content-Length; docs/operations.md, \"Uploads without a length\"";
            findings.push(Finding::warning("uploads", text, fix));
        }
    }
}

/// Which of these names an image or a command has.
fn name_in(image: &str, command: &[String]) -> Option<&'static str> {
    let words = std::iter::once(image).chain(command.iter().map(String::as_str));
    let words: Vec<String> = words.map(str::to_ascii_lowercase).collect();
    let is_named = |name: &&str| words.iter().any(|word| word.contains(name));
    NAMES.into_iter().find(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_need_a_length_are_known_by_their_names() {
        let of = |image: &str, command: &[&str]| {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            name_in(image, &command)
        };
        assert_eq!(of("docker.io/tiangolo/uWSGI-nginx:1", &[]), Some("uwsgi"));
        assert_eq!(
            of("localhost/shop:1", &["gunicorn", "shop.wsgi"]),
            Some("gunicorn")
        );
        let command = ["python3", "./manage.py", "runserver"];
        assert_eq!(of("python:3", &command), Some("manage.py"));
        assert_eq!(of("docker.io/library/node:22", &["server.js"]), None);
    }
}
