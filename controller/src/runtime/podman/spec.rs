//! Between our words and the API's: pure conversions.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, EndpointSettings,
    HostConfig, NetworkingConfig, PortBinding, PortMap,
};

use super::greet::NAME;
use crate::runtime::address::SOCKET;
use crate::runtime::secret_files::variable_of;
use crate::runtime::{
    Confinement, Container, ContainerSpec, ContainerState, EndpointAddress, Mount, Network,
    Privileges, Relabel, RuntimeError, label,
};

/// What podman itself waits between SIGTERM and SIGKILL where nothing else was said.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Where containers find secrets, as with podman's own.
const SECRETS: &str = "/run/secrets";

/// The request that makes a container of `spec`.
pub(super) fn create_body(
    spec: &ContainerSpec,
    project: &str,
    network: &str,
) -> Result<ContainerCreateBody, RuntimeError> {
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.insert(label::PROJECT.to_owned(), project.to_owned());
    if let Some(serves_on) = serves_on(spec) {
        labels.insert(label::PORT.to_owned(), serves_on);
    }
    let (network_mode, networking_config) = match &spec.network {
        Network::Project { aliases } => {
            let here = EndpointSettings {
                aliases: Some(aliases.clone()),
                ..EndpointSettings::default()
            };
            let endpoints = HashMap::from([(network.to_owned(), here)]);
            let config = NetworkingConfig {
                endpoints_config: Some(endpoints),
            };
            (network.to_owned(), Some(config))
        }
        Network::Container(owner) => (format!("container:{owner}"), None),
    };
    let host_config = HostConfig {
        network_mode: Some(network_mode),
        port_bindings: Some(port_bindings(spec)),
        binds: Some(binds(spec)?),
        memory: spec.limits.memory.and_then(|bytes| bytes.try_into().ok()),
        nano_cpus: spec
            .limits
            .millicpus
            .map(|part| i64::from(part) * 1_000_000),
        pids_limit: spec.limits.pids.map(i64::from),
        ..restricted(spec)
    };
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: Some(spec.command.clone()).filter(|command| !command.is_empty()),
        env: Some(env(spec)),
        labels: Some(labels),
        exposed_ports: Some(port_bindings(spec).into_keys().collect()),
        // Whole seconds, rounded up: to be killed early is what must not happen.
        stop_timeout: Some(spec.stop_timeout.as_millis().div_ceil(1000).min(1 << 31) as i64),
        tty: Some(false),
        user: spec.confinement.user.clone(),
        host_config: Some(host_config),
        networking_config,
        ..ContainerCreateBody::default()
    })
}

fn restricted(spec: &ContainerSpec) -> HostConfig {
    let own = privileged(spec.privileges);
    let Confinement {
        user: _,
        cap_drop,
        read_only,
        tmpfs,
    } = &spec.confinement;
    let folders = tmpfs.iter().map(|folder| {
        let (path, options) = folder.split_once(':').unwrap_or((folder, ""));
        (path.to_owned(), options.to_owned())
    });
    let folders: HashMap<String, String> = folders.collect();
    HostConfig {
        cap_drop: own
            .cap_drop
            .or_else(|| Some(cap_drop.clone()).filter(|list| !list.is_empty())),
        readonly_rootfs: own.readonly_rootfs.or(read_only.then_some(true)),
        tmpfs: Some(folders).filter(|folders| !folders.is_empty()),
        ..own
    }
}

fn privileged(privileges: Privileges) -> HostConfig {
    let list = |text: &str| Some(vec![text.to_owned()]);
    let kept = HostConfig {
        security_opt: list("no-new-privileges"),
        ..HostConfig::default()
    };
    match privileges {
        Privileges::Gained => HostConfig::default(),
        Privileges::Kept => kept,
        Privileges::FilesAlone | Privileges::None => HostConfig {
            cap_drop: list("ALL"),
            cap_add: list("DAC_OVERRIDE").filter(|_| privileges == Privileges::FilesAlone),
            readonly_rootfs: Some(true),
            ..kept
        },
    }
}

/// Where it serves, as its label says it.
fn serves_on(spec: &ContainerSpec) -> Option<String> {
    let socket = spec.socket.as_ref();
    let socket = socket.map(|socket| socket.address().to_string());
    socket.or_else(|| spec.port.map(|port| port.to_string()))
}

fn port_bindings(spec: &ContainerSpec) -> PortMap {
    let mut map = PortMap::new();
    for publish in &spec.publish {
        let binding = PortBinding {
            host_ip: Some(publish.host.ip().to_string()),
            host_port: Some(publish.host.port().to_string()),
        };
        map.entry(format!("{}/tcp", publish.container_port))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    map
}

fn env(spec: &ContainerSpec) -> Vec<String> {
    let mut env = spec.env.clone();
    for name in spec.secrets.keys() {
        env.entry(variable_of(name))
            .or_insert_with(|| format!("{SECRETS}/{name}"));
    }
    if let Some(socket) = &spec.socket {
        env.entry(SOCKET.to_owned())
            .or_insert_with(|| socket.path.display().to_string());
    }
    let pairs = env.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect()
}

fn binds(spec: &ContainerSpec) -> Result<Vec<String>, RuntimeError> {
    let secrets = spec.secrets.iter().map(|(name, file)| Mount {
        host: file.clone(),
        container: Path::new(SECRETS).join(name),
        read_only: true,
        relabel: Relabel::Shared,
    });
    let socket = spec.socket.iter().filter_map(|socket| {
        Some(Mount {
            host: socket.folder.clone(),
            container: socket.path.parent()?.to_owned(),
            read_only: false,
            relabel: Relabel::Shared,
        })
    });
    secrets
        .chain(socket)
        .chain(spec.mounts.iter().cloned())
        .map(|mount| bind(&mount))
        .collect()
}

/// `host:container:options`.
fn bind(mount: &Mount) -> Result<String, RuntimeError> {
    let text = |path: &Path| {
        path.to_str()
            .filter(|path| !path.contains(':'))
            .map(str::to_owned)
            .ok_or_else(|| RuntimeError::Refused {
                runtime: NAME,
                action: "mount a folder",
                reason: format!("{} has a colon or is not UTF-8", path.display()),
            })
    };
    let access = if mount.read_only { "ro" } else { "rw" };
    let relabel = match mount.relabel {
        Relabel::No => "",
        Relabel::Shared => ",z",
        Relabel::Private => ",Z",
    };
    Ok(format!(
        "{}:{}:{access}{relabel}",
        text(&mount.host)?,
        text(&mount.container)?
    ))
}

/// The container as the trait has it; `ip` is where it is reached.
pub(super) fn container(found: &ContainerInspectResponse, ip: Option<IpAddr>) -> Container {
    let labels: BTreeMap<String, String> = found
        .config
        .as_ref()
        .and_then(|config| config.labels.clone())
        .unwrap_or_default()
        .into_iter()
        .collect();
    let state = state_of(found);
    let serves_on = labels.get(label::PORT);
    let address = serves_on
        .filter(|_| state == ContainerState::Running)
        .and_then(|serves_on| match serves_on.parse() {
            Ok(port) => Some(EndpointAddress::Ip(SocketAddr::new(ip?, port))),
            Err(_) => serves_on.parse().ok(),
        });
    Container {
        id: found.id.clone().unwrap_or_default(),
        name: name_of(found).to_owned(),
        image: found.image.clone().unwrap_or_default(),
        labels,
        state,
        address,
    }
}

/// The API puts a slash before names.
pub(super) fn name_of(found: &ContainerInspectResponse) -> &str {
    found
        .name
        .as_deref()
        .unwrap_or_default()
        .trim_start_matches('/')
}

/// Whether it runs. One that is being stopped runs until it has ended.
pub(super) fn state_of(found: &ContainerInspectResponse) -> ContainerState {
    use ContainerStateStatusEnum as Status;
    let state = found.state.as_ref();
    match state.and_then(|state| state.status) {
        // What is being removed has an end that says nothing: it is not wanted any more.
        Some(Status::CREATED | Status::REMOVING) => ContainerState::Created,
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING) => {
            ContainerState::Running
        }
        _ => ContainerState::Exited(state.and_then(|state| state.exit_code)),
    }
}

/// Whether it has been told to end, which it will.
pub(super) fn is_stopping(found: &ContainerInspectResponse) -> bool {
    let status = found.state.as_ref().and_then(|state| state.status);
    status == Some(ContainerStateStatusEnum::STOPPING)
}

/// The container whose network namespace it lives in, if not its own.
pub(super) fn namespace_of(found: &ContainerInspectResponse) -> Option<&str> {
    found
        .host_config
        .as_ref()?
        .network_mode
        .as_deref()?
        .strip_prefix("container:")
}

/// Its address on `network`.
pub(super) fn address_on(found: &ContainerInspectResponse, network: &str) -> Option<IpAddr> {
    let networks = found.network_settings.as_ref()?.networks.as_ref()?;
    let here = networks.get(network)?;
    [&here.ip_address, &here.global_ipv6_address]
        .into_iter()
        .flatten()
        .find_map(|address| address.parse().ok())
}

/// From SIGTERM to SIGKILL, as it was made.
pub(super) fn stop_timeout_of(found: &ContainerInspectResponse) -> Duration {
    found
        .config
        .as_ref()
        .and_then(|config| config.stop_timeout)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DEFAULT_STOP_TIMEOUT, Duration::from_secs)
}

/// Which published address was taken, if that is why the container did not start. Podman has
/// several ways to say so, rootful and rootless, and most of them name the address.
pub(super) fn port_taken(spec: &ContainerSpec, error: &ApiError) -> Option<SocketAddr> {
    let ApiError::DockerResponseServerError { message, .. } = error else {
        return None;
    };
    let taken = ["address already in use", "port is already allocated"];
    if !taken.iter().any(|words| message.contains(words)) {
        return None;
    }
    let mut addresses = spec.publish.iter().map(|publish| publish.host);
    addresses
        .clone()
        .find(|address| names_port(message, address.port()))
        .or_else(|| addresses.next())
}

/// Whether `:port` is in the text, and not as the beginning of a longer number.
fn names_port(text: &str, port: u16) -> bool {
    let needle = format!(":{port}");
    text.match_indices(&needle)
        .any(|(at, _)| !text[at + needle.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

/// What podman says of a name that it keeps, if that is why the container was not made. It was
/// looked for before: podman's storage has one that podman itself does not know.
pub(super) fn name_taken(error: &ApiError) -> Option<String> {
    match error {
        ApiError::DockerResponseServerError { message, .. }
            if message.contains("name is already in use") =>
        {
            Some(message.clone())
        }
        _ => None,
    }
}

/// Whether a network was kept because containers are on it.
pub(super) fn network_in_use(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { message, .. }
        if message.contains("being used") || message.contains("active endpoints"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::runtime::{EndpointSocket, Publish, ResourceLimits};

    pub(in crate::runtime::podman) fn spec(publish: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: "web-1".to_owned(),
            image: "localhost/web:1".to_owned(),
            command: Vec::new(),
            env: BTreeMap::from([("A".to_owned(), "b=c".to_owned())]),
            labels: BTreeMap::new(),
            network: Network::Project {
                aliases: vec!["web".to_owned()],
            },
            publish: publish
                .iter()
                .map(|host| Publish {
                    host: host.parse().unwrap(),
                    container_port: 80,
                })
                .collect(),
            mounts: Vec::new(),
            secrets: BTreeMap::new(),
            limits: ResourceLimits::default(),
            privileges: Privileges::Kept,
            confinement: Confinement::default(),
            port: Some(8080),
            socket: None,
            stop_timeout: Duration::from_millis(1500),
        }
    }

    #[test]
    fn a_container_gains_no_privileges_and_the_proxys_have_next_to_none() {
        let host = |privileges| {
            let spec = ContainerSpec {
                privileges,
                ..spec(&[])
            };
            let host = create_body(&spec, "shop", "shop-net").unwrap().host_config;
            let host = host.unwrap();
            (
                host.security_opt,
                host.cap_drop,
                host.cap_add,
                host.readonly_rootfs,
            )
        };
        let list = |text: &str| Some(vec![text.to_owned()]);
        let kept = list("no-new-privileges");
        assert_eq!(host(Privileges::Gained), (None, None, None, None));
        assert_eq!(host(Privileges::Kept), (kept.clone(), None, None, None));
        let files = (kept.clone(), list("ALL"), list("DAC_OVERRIDE"), Some(true));
        assert_eq!(host(Privileges::FilesAlone), files);
        assert_eq!(
            host(Privileges::None),
            (kept, list("ALL"), None, Some(true))
        );
    }

    #[test]
    fn a_container_is_confined_as_its_spec_says() {
        let mut spec = spec(&[]);
        spec.confinement = Confinement {
            user: Some("1000:app".into()),
            cap_drop: vec!["NET_RAW".into(), "CHOWN".into()],
            read_only: true,
            tmpfs: vec!["/tmp".into(), "/run:size=8m,mode=755".into()],
        };
        let body = create_body(&spec, "shop", "shop-net").unwrap();
        assert_eq!(body.user.as_deref(), Some("1000:app"));
        let host = body.host_config.unwrap();
        let dropped = ["NET_RAW", "CHOWN"].map(str::to_owned).to_vec();
        assert_eq!(host.cap_drop, Some(dropped));
        assert_eq!(host.readonly_rootfs, Some(true));
        let tmpfs = host.tmpfs.unwrap();
        assert_eq!((&*tmpfs["/tmp"], &*tmpfs["/run"]), ("", "size=8m,mode=755"));
        let kept = Some(vec!["no-new-privileges".to_owned()]);
        assert_eq!(host.security_opt, kept, "beside that");
    }

    fn why(message: &str) -> ApiError {
        ApiError::DockerResponseServerError {
            status_code: 500,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_container_carries_its_project_its_port_and_a_stop_timeout_that_is_not_shorter() {
        let body = create_body(&spec(&["127.0.0.1:8001"]), "shop", "shop-net").unwrap();
        let labels = body.labels.unwrap();
        assert_eq!(labels[label::PROJECT], "shop");
        assert_eq!(labels[label::PORT], "8080");
        assert_eq!(body.stop_timeout, Some(2));
        assert_eq!(body.env.unwrap(), ["A=b=c"]);
        assert_eq!(
            body.host_config.unwrap().network_mode.as_deref(),
            Some("shop-net")
        );
    }

    #[test]
    fn secrets_are_files_and_only_their_paths_are_in_the_environment() {
        let mut spec = spec(&[]);
        spec.secrets = BTreeMap::from([("db-password".to_owned(), "/state/0af".into())]);
        spec.limits = ResourceLimits {
            memory: Some(64 << 20),
            millicpus: Some(1500),
            pids: Some(50),
        };
        let body = create_body(&spec, "shop", "shop-net").unwrap();
        let env = body.env.unwrap();
        assert!(
            env.contains(&"DB_PASSWORD_FILE=/run/secrets/db-password".to_owned()),
            "{env:?}"
        );
        let host = body.host_config.unwrap();
        assert_eq!(
            host.binds.unwrap(),
            ["/state/0af:/run/secrets/db-password:ro,z"]
        );
        let limits = (host.memory, host.nano_cpus, host.pids_limit);
        assert_eq!(limits, (Some(64 << 20), Some(1_500_000_000), Some(50)));
    }

    #[test]
    fn a_socket_is_in_a_folder_of_the_container_and_its_label_says_where_the_proxy_sees_it() {
        let mut spec = spec(&[]);
        spec.port = None;
        spec.socket = Some(EndpointSocket {
            folder: "/state/5".into(),
            path: "/run/app/app.sock".into(),
            seen_as: "/proxy/5/app.sock".into(),
        });
        let body = create_body(&spec, "shop", "shop-net").unwrap();
        assert_eq!(body.labels.unwrap()[label::PORT], "unix:/proxy/5/app.sock");
        let env = body.env.unwrap();
        assert!(env.contains(&"SOCKET=/run/app/app.sock".to_owned()));
        let binds = body.host_config.unwrap().binds.unwrap();
        assert_eq!(binds, ["/state/5:/run/app:rw,z"]);
    }

    #[test]
    fn one_port_can_be_published_at_several_addresses() {
        let map = port_bindings(&spec(&["127.0.0.1:8001", "127.0.0.2:8002"]));
        assert_eq!(map["80/tcp"].as_ref().unwrap().len(), 2);
    }

    #[test]
    fn a_path_with_a_colon_is_refused_instead_of_misread() {
        let mount = Mount {
            host: "/a:b".into(),
            container: "/c".into(),
            read_only: true,
            relabel: Relabel::No,
        };
        assert!(matches!(bind(&mount), Err(RuntimeError::Refused { .. })));
    }

    #[test]
    fn the_taken_port_is_named_in_rootful_and_rootless_words() {
        let spec = spec(&["127.0.0.1:80", "127.0.0.1:8099"]);
        #[track_caller]
        fn check(spec: &ContainerSpec, message: &str, want: Option<&str>) {
            let want = want.map(|address| address.parse().unwrap());
            assert_eq!(port_taken(spec, &why(message)), want, "{message}");
        }
        check(
            &spec,
            "cannot listen on the TCP port: listen tcp4 127.0.0.1:8099: bind: address already in use",
            Some("127.0.0.1:8099"),
        );
        check(
            &spec,
            "rootlessport listen tcp 127.0.0.1:8099: bind: address already in use",
            Some("127.0.0.1:8099"),
        );
        check(&spec, "address already in use", Some("127.0.0.1:80"));
        check(&spec, "the container name is already in use", None);
    }
}
