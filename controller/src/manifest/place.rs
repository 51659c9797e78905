//! What a manifest names on the host that it is for: whether it is there, and whether the runtime
//! can give it to a container.

use std::path::Path;

use admin_api::strict::{InputError, push_key};
use admin_api::{AccessLogSpec, LogTarget};

use super::{Manifest, RuntimeChoice, ServiceSettings};
use crate::runtime::{Confinement, ResourceLimits};

impl Manifest {
    /// Checks what can only be known where it is to run: seen from `folder`, on a runtime that is
    /// never `Auto`. The error names the field.
    pub(crate) fn check_on_host(
        &self,
        folder: &Path,
        kind: RuntimeChoice,
    ) -> Result<(), InputError> {
        for (index, listener) in self.proxy.listeners.iter().enumerate() {
            let Some(tls) = &listener.tls else { continue };
            let field = |key: String| format!("proxy.listeners[{index}].{key}");
            for (n, pair) in tls.pairs.iter().enumerate() {
                must_be_file(&folder.join(&pair.cert), || field(format!("tls[{n}].cert")))?;
                must_be_file(&folder.join(&pair.key), || field(format!("tls[{n}].key")))?;
            }
            if let Some(ca) = &tls.client_ca {
                must_be_file(&folder.join(ca), || field("client_ca".into()))?;
            }
        }
        if let Some(AccessLogSpec {
            to: LogTarget::File(_) | LogTarget::Syslog(_),
            ..
        }) = &self.proxy.access_log
            && kind != RuntimeChoice::Process
        {
            return Err(InputError::of_field(
                "proxy.access_log.to",
                "the proxy runs in a container, which has no files of this host: remove it, and the lines are in the container's log",
            ));
        }
        for (index, service) in self.services.iter().enumerate() {
            service.check_on_host(folder, kind, &|key| format!("services[{index}].{key}"))?;
        }
        Ok(())
    }
}

impl ServiceSettings {
    fn check_on_host(
        &self,
        folder: &Path,
        kind: RuntimeChoice,
        at: &dyn Fn(&str) -> String,
    ) -> Result<(), InputError> {
        if kind == RuntimeChoice::Process
            && let Some((key, what)) = self.only_for_containers()
        {
            let message = format!(
                "{what}, and this project runs on processes: remove it, or set `runtime = \"podman\"`"
            );
            return Err(InputError::of_field(at(key), message));
        }
        for (name, file) in &self.secrets {
            must_be_file(&folder.join(file), || {
                let mut field = at("secrets");
                push_key(&mut field, name);
                field
            })?;
        }
        if let Some(ca) = self.transport.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            must_be_file(&folder.join(ca), || at("tls.ca"))?;
        }
        let auth = self.traffic.basic_auth.as_ref();
        if let Some(file) = auth.and_then(|auth| auth.file.as_ref()) {
            check_users(&folder.join(file), || at("basic_auth.file"))?;
        }
        for (index, volume) in self.volumes.iter().enumerate() {
            let host = volume.seen_from(folder).host;
            if !host.exists() {
                let message = format!("{} does not exist: create it first", host.display());
                return Err(InputError::of_field(
                    at(&format!("volumes[{index}]")),
                    message,
                ));
            }
        }
        Ok(())
    }

    /// The first key that only containers can have, and why.
    fn only_for_containers(&self) -> Option<(&'static str, &'static str)> {
        let ResourceLimits {
            memory,
            millicpus,
            pids,
        } = self.limits;
        let limited = "only containers can be limited";
        let Confinement {
            user,
            cap_drop,
            read_only,
            tmpfs,
        } = &self.confinement;
        let confined = "only containers can be confined";
        [
            (
                "volumes",
                !self.volumes.is_empty(),
                "only containers have volumes",
            ),
            ("memory", memory.is_some(), limited),
            ("cpus", millicpus.is_some(), limited),
            ("pids", pids.is_some(), limited),
            ("user", user.is_some(), confined),
            ("cap_drop", !cap_drop.is_empty(), confined),
            ("read_only", *read_only, confined),
            ("tmpfs", !tmpfs.is_empty(), confined),
        ]
        .into_iter()
        .find_map(|(key, there, why)| there.then_some((key, why)))
    }
}

/// Checks a file of users, whose lines the proxy gets.
fn check_users(file: &Path, field: impl Fn() -> String) -> Result<(), InputError> {
    must_be_file(file, &field)?;
    let wrong = |why: String| InputError::of_field(field(), format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let read = admin_api::read_users(&text);
    read.map(drop).map_err(|error| wrong(error.message))
}

fn must_be_file(file: &Path, field: impl FnOnce() -> String) -> Result<(), InputError> {
    let why = match std::fs::File::open(file).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(_) => "is not a file".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(InputError::of_field(
        field(),
        format!("{} {why}", file.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "[[services]]\nname = \"web\"\nimage = \"localhost/web:1\"\n";

    #[track_caller]
    fn check(text: &str, kind: RuntimeChoice, field: &str, says: &str) {
        let folder = tempfile::TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("there"), "x").expect("written");
        let manifest = Manifest::parse(text).expect("well-formed");
        let error = manifest.check_on_host(folder.path(), kind).expect_err(text);
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    #[test]
    fn the_access_log_of_a_proxy_in_a_container_is_in_the_containers_log() {
        let with = |to: &str| format!("[proxy.access_log]\nto = {to:?}\n{SERVICE}");
        let field = "proxy.access_log.to";
        for to in ["logs/access.log", "unix:/dev/log"] {
            check(
                &with(to),
                RuntimeChoice::Podman,
                field,
                "in the container's log",
            );
            let manifest = Manifest::parse(&with(to)).expect("well-formed");
            let folder = Path::new("/");
            let on_processes = manifest.check_on_host(folder, RuntimeChoice::Process);
            on_processes.expect("a process has files");
        }
        let manifest = Manifest::parse(&with("stdout")).expect("well-formed");
        let on_podman = manifest.check_on_host(Path::new("/"), RuntimeChoice::Podman);
        on_podman.expect("a container has standard output");
    }

    #[test]
    fn what_is_not_there_is_named_by_its_field() {
        let podman = RuntimeChoice::Podman;
        let with = |keys: &str| format!("{SERVICE}{keys}\n");
        check(
            &with("secrets = { a = \"there\", b = \"gone\" }"),
            podman,
            "services[0].secrets.b",
            "gone cannot be read",
        );
        check(
            &with("volumes = [\"./there:/a\", \"./gone:/b\"]"),
            podman,
            "services[0].volumes[1]",
            "create it first",
        );
        check(
            &with("basic_auth = { file = \"gone\" }"),
            podman,
            "services[0].basic_auth.file",
            "gone cannot be read",
        );
        check(
            &with("basic_auth = { file = \"there\" }"),
            podman,
            "services[0].basic_auth.file",
            "there: line 1: has no `:`",
        );
        check(
            &with("tls = { ca = \"gone\" }"),
            podman,
            "services[0].tls.ca",
            "gone cannot be read",
        );
        let tls = "tls = [{ cert = \"there\", key = \"gone\" }]";
        let listener = format!("[[proxy.listeners]]\naddress = \"127.0.0.1:8443\"\n{tls}\n");
        check(
            &format!("{listener}{SERVICE}"),
            podman,
            "proxy.listeners[0].tls[0].key",
            "gone cannot be read",
        );
    }

    #[test]
    fn what_processes_cannot_have_is_refused_for_them() {
        let process = RuntimeChoice::Process;
        for (keys, field) in [
            ("volumes = [\"./there:/a\"]", "services[0].volumes"),
            ("memory = \"64MiB\"", "services[0].memory"),
            ("cpus = 0.5", "services[0].cpus"),
            ("pids = 10", "services[0].pids"),
            ("user = \"1000\"", "services[0].user"),
            ("cap_drop = [\"ALL\"]", "services[0].cap_drop"),
            ("read_only = true", "services[0].read_only"),
            ("tmpfs = [\"/tmp\"]", "services[0].tmpfs"),
        ] {
            let text = format!("{SERVICE}{keys}\n");
            check(&text, process, field, "this project runs on processes");
            let manifest = Manifest::parse(&text).expect("well-formed");
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
            if field != "services[0].volumes" {
                manifest
                    .check_on_host(folder, RuntimeChoice::Podman)
                    .expect("containers can");
            }
        }
    }
}
