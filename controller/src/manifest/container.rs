//! What a service's containers are given besides their image: secrets, volumes, limits, labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use admin_api::strict::{InputError, push_key};
use admin_api::{Period, VersionSpec};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::runtime::{Confinement, Relabel, ResourceLimits, variable_of};

/// The kernel's limit is 108 bytes, the final zero included.
pub(crate) const MAX_SOCKET_PATH: usize = 107;
/// Podman refuses less.
const MIN_MEMORY: ByteSize = ByteSize::mib(6);
/// Labels of this beginning are the controller's own.
const OURS: &str = "io.crossfade";

/// How the containers of one version are made, but for their image. A rollout brings another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerTemplate {
    /// Arguments; empty: the image's own.
    pub command: Vec<String>,
    /// Environment, beside the image's own.
    pub env: BTreeMap<String, String>,
    /// The port on which they serve; 0: they serve nothing, unless there is a socket.
    pub port: u16,
    /// The unix socket on which they serve, in place of the port, as they see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// By name, which content of [`Secrets`](crate::project::secrets::Secrets) it is.
    pub secrets: BTreeMap<String, String>,
    /// Folders and files of the host, by absolute paths.
    pub volumes: Vec<Volume>,
    /// What each may use of the host.
    pub limits: ResourceLimits,
    /// Whether their programs may gain privileges, as by `sudo`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_privileges: bool,
    /// What narrows what their programs may do.
    #[serde(skip_serializing_if = "Confinement::is_default")]
    pub confinement: Confinement,
    /// From SIGTERM to SIGKILL; `None`: as long as the requests of one may take to end, and a little
    /// more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Period>,
    /// Labels, beside ours.
    pub labels: BTreeMap<String, String>,
    /// What they speak. Paths are as the proxy sees them.
    #[serde(rename = "reach")]
    pub transport: VersionSpec,
}

impl ContainerTemplate {
    /// Whether the containers serve nothing.
    pub fn is_worker(&self) -> bool {
        self.port == 0 && self.socket.is_none()
    }
}

/// An entry of `volumes`: `./data:/var/lib/data:ro`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Volume {
    /// What the host has.
    pub host: PathBuf,
    /// Where the container sees it.
    pub container: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// Whether podman lets containers at it where SELinux is on.
    pub relabel: Relabel,
}

impl Volume {
    /// The same with a relative path meant as seen from `folder`.
    pub(crate) fn seen_from(&self, folder: &Path) -> Self {
        Self {
            host: folder.join(&self.host),
            ..self.clone()
        }
    }
}

impl TryFrom<String> for Volume {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}`: {why}");
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, options) = match parts.as_slice() {
            [host, container] => (host, container, ""),
            [host, container, options] => (host, container, *options),
            _ => {
                return Err(wrong(
                    "write it as HOST:CONTAINER or HOST:CONTAINER:ro, such as ./data:/var/lib/data",
                ));
            }
        };
        if !["/", "./", "../"].iter().any(|from| host.starts_with(from)) {
            return Err(wrong(
                "the host's path begins with `/`, `./` or `../`, such as ./data",
            ));
        }
        if !container.starts_with('/') || container.trim_end_matches('/').is_empty() {
            return Err(wrong(
                "the container's path is an absolute path other than `/`",
            ));
        }
        let mut volume = Self {
            host: host.into(),
            container: container.into(),
            read_only: false,
            relabel: Relabel::No,
        };
        for option in options.split(',').filter(|_| !options.is_empty()) {
            match option {
                "ro" => volume.read_only = true,
                "rw" => volume.read_only = false,
                "z" => volume.relabel = Relabel::Shared,
                "Z" => volume.relabel = Relabel::Private,
                other => return Err(wrong(&format!("`{other}` is none of ro, rw, z and Z"))),
            }
        }
        Ok(volume)
    }
}

impl From<Volume> for String {
    fn from(volume: Volume) -> Self {
        let access = if volume.read_only { "ro" } else { "rw" };
        let relabel = match volume.relabel {
            Relabel::No => "",
            Relabel::Shared => ",z",
            Relabel::Private => ",Z",
        };
        format!(
            "{}:{}:{access}{relabel}",
            volume.host.display(),
            volume.container.display()
        )
    }
}

/// Checks the names of secrets.
pub(super) fn check_secrets(
    secrets: &BTreeMap<String, PathBuf>,
    at: &dyn Fn(&str) -> String,
) -> Result<(), InputError> {
    let mut variables = BTreeSet::new();
    for (name, file) in secrets {
        let wrong =
            |message: String| Err(InputError::of_field(key_of(at("secrets"), name), message));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !begins || name.len() > 63 || !name.chars().all(allowed) {
            return wrong("use 1 to 63 letters, digits, `-`, `_` or `.`, a letter first".into());
        }
        if file.as_os_str().is_empty() {
            return wrong("write the path of the file that contains the secret".into());
        }
        let variable = variable_of(name);
        if !variables.insert(variable.clone()) {
            return wrong(format!("another secret has `{variable}` already"));
        }
    }
    Ok(())
}

/// Checks that no two volumes are at one place.
pub(super) fn check_volumes(
    volumes: &[Volume],
    at: &dyn Fn(&str) -> String,
) -> Result<(), InputError> {
    for (index, volume) in volumes.iter().enumerate() {
        if volumes[..index]
            .iter()
            .any(|other| other.container == volume.container)
        {
            let message = format!(
                "another volume has the path {} already",
                volume.container.display()
            );
            return Err(InputError::of_field(
                at(&format!("volumes[{index}]")),
                message,
            ));
        }
    }
    Ok(())
}

/// Checks what narrows what containers may do.
pub(super) fn check_confinement(
    confinement: &Confinement,
    volumes: &[Volume],
    at: &dyn Fn(&str) -> String,
) -> Result<(), InputError> {
    let wrong = |key: &str, message: String| Err(InputError::of_field(at(key), message));
    if let Some(user) = &confinement.user {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if user.is_empty() || !user.chars().all(allowed) {
            return wrong(
                "user",
                format!("`{user}`: write a name or a number, such as app, 1000 or 1000:1000"),
            );
        }
    }
    for (index, name) in confinement.cap_drop.iter().enumerate() {
        let allowed = |c: char| c.is_ascii_uppercase() || c == '_';
        if name.is_empty() || !name.chars().all(allowed) {
            let message = format!("`{name}`: write a capability such as NET_RAW, or ALL");
            return wrong(&format!("cap_drop[{index}]"), message);
        }
    }
    let path_of = |folder: &str| folder.split(':').next().unwrap_or_default().to_owned();
    for (index, folder) in confinement.tmpfs.iter().enumerate() {
        let key = format!("tmpfs[{index}]");
        let path = path_of(folder);
        if !path.starts_with('/') || path.trim_end_matches('/').is_empty() {
            let message = format!(
                "`{folder}`: write an absolute path other than `/`, and options after `:`, such as \
                 /tmp or /run:size=64m"
            );
            return wrong(&key, message);
        }
        let same = |other: &String| path_of(other) == path;
        if confinement.tmpfs[..index].iter().any(same)
            || volumes
                .iter()
                .any(|volume| volume.container == Path::new(&path))
        {
            return wrong(&key, format!("something else has the path {path} already"));
        }
    }
    Ok(())
}

/// Checks the path of the unix socket on which containers serve. Its folder is the container's alone:
/// it hides what the image, or a volume, has there.
pub(super) fn check_socket(
    socket: &Path,
    volumes: &[Volume],
    at: &dyn Fn(&str) -> String,
) -> Result<(), InputError> {
    let text = socket.display();
    let wrong = |message: String| Err(InputError::of_field(at("socket"), message));
    let is_plain = socket
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let has_fine_name = socket
        .to_str()
        .is_some_and(|path| !path.ends_with('/') && !path.contains([':', '\0']));
    if !socket.is_absolute() || !is_plain || !has_fine_name {
        return wrong(format!(
            "`{text}` is not the absolute path of a socket: write it as /run/app/app.sock, without `:`"
        ));
    }
    let folder = socket.parent().unwrap_or(Path::new("/"));
    if folder == Path::new("/") {
        return wrong(format!(
            "`{text}`: the socket needs a folder of its own, as in /run/app/app.sock"
        ));
    }
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return wrong(format!(
            "has {length} bytes, and the path of a socket may have {MAX_SOCKET_PATH}"
        ));
    }
    if volumes.iter().any(|volume| volume.container == folder) {
        return wrong(format!(
            "a volume has the path {} already: choose another folder",
            folder.display()
        ));
    }
    Ok(())
}

/// Checks labels: any but ours.
pub(super) fn check_labels(
    labels: &BTreeMap<String, String>,
    at: &dyn Fn(&str) -> String,
) -> Result<(), InputError> {
    for name in labels.keys() {
        let ours = name
            .strip_prefix(OURS)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let message = if ours {
            format!(
                "labels that begin with `{OURS}.` are reserved for the controller: choose another name"
            )
        } else if name.is_empty() || name.contains(['=', '\0']) {
            "not a valid label name".to_owned()
        } else {
            continue;
        };
        return Err(InputError::of_field(key_of(at("labels"), name), message));
    }
    Ok(())
}

/// Checks limits, and brings them into the runtime's units.
pub(super) fn check_limits(
    memory: Option<ByteSize>,
    cpus: Option<f64>,
    pids: Option<u32>,
    at: &dyn Fn(&str) -> String,
) -> Result<ResourceLimits, InputError> {
    let wrong = |key: &str, message: &str| Err(InputError::of_field(at(key), message));
    if memory.is_some_and(|memory| memory < MIN_MEMORY || memory.as_u64() > i64::MAX as u64) {
        return wrong("memory", "at least 6MiB are needed, such as \"512MiB\"");
    }
    if cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
        return wrong("cpus", "a number from 0.01 to 1024 is needed, such as 1.5");
    }
    if pids.is_some_and(|pids| pids == 0) {
        return wrong(
            "pids",
            "a whole number of processes from 1 on is needed, such as 200",
        );
    }
    Ok(ResourceLimits {
        memory: memory.map(|memory| memory.as_u64()),
        millicpus: cpus.map(|cpus| (cpus * 1000.0).round() as u32),
        pids,
    })
}

fn key_of(mut field: String, key: &str) -> String {
    push_key(&mut field, key);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&str, &str>) {
        match (Volume::try_from(text.to_owned()), want) {
            (Ok(volume), Ok(want)) => assert_eq!(String::from(volume), want),
            (Err(error), Err(says)) => assert!(error.contains(says), "{error}"),
            (got, want) => panic!("{text}: {got:?}, not {want:?}"),
        }
    }

    #[test]
    fn a_volume_is_written_as_podman_has_it() {
        check("./data:/data", Ok("./data:/data:rw"));
        check("/srv/a:/a:ro,Z", Ok("/srv/a:/a:ro,Z"));
        check("../b:/b:z", Ok("../b:/b:rw,z"));
        check("data:/data", Err("begins with `/`, `./` or `../`"));
        check("./data", Err("write it as HOST:CONTAINER"));
        check("./data:data", Err("an absolute path"));
        check("./data:/", Err("other than `/`"));
        check("./a:/a:rx", Err("`rx` is none of ro, rw, z and Z"));
    }
}
