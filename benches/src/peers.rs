//! The proxies, and how each is started. Their configs, with the reason for each setting, are in
//! `benches/peers`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// A program that is measured.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// crossfade-proxy.
    Crossfade,
    /// nginx, the base of the ratios.
    Nginx,
    /// HAProxy in HTTP mode.
    Haproxy,
    /// HAProxy in TCP mode: a lower bound.
    HaproxyTcp,
    /// Envoy.
    Envoy,
    /// traefik.
    Traefik,
    /// Caddy.
    Caddy,
    /// A minimal proxy on the pingora crate.
    Pingora,
    /// No proxy at all.
    Origin,
}

impl Peer {
    /// All, in the order of the tables.
    pub(crate) const ALL: [Self; 9] = [
        Self::Crossfade,
        Self::Nginx,
        Self::Haproxy,
        Self::HaproxyTcp,
        Self::Envoy,
        Self::Traefik,
        Self::Caddy,
        Self::Pingora,
        Self::Origin,
    ];

    /// Its name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Crossfade => "crossfade",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
            Self::Pingora => "pingora",
            Self::Origin => "origin",
        }
    }

    /// Whether it routes HTTP requests. The others only show a lower bound.
    pub(crate) const fn is_rival(self) -> bool {
        !matches!(self, Self::HaproxyTcp | Self::Origin)
    }

    /// Whether it is a proxy at all.
    pub(crate) const fn is_proxy(self) -> bool {
        !matches!(self, Self::Origin)
    }

    /// Whether it terminates TLS and HTTP/2.
    pub(crate) const fn speaks_tls(self) -> bool {
        !matches!(self, Self::HaproxyTcp | Self::Pingora | Self::Origin)
    }

    /// Whether it forwards gRPC: HTTP/2 on both sides.
    pub(crate) const fn speaks_grpc(self) -> bool {
        self.speaks_tls()
    }

    /// Whether its config has the same filters as Crossfade's.
    pub(crate) const fn has_filters(self) -> bool {
        matches!(self, Self::Crossfade | Self::Nginx)
    }

    /// Whether it can have an endpoint behind a unix socket. Crossfade's config check tells
    /// whether it can.
    pub(crate) const fn connects_to_unix_sockets(self) -> bool {
        !matches!(self, Self::Traefik | Self::Pingora | Self::Origin)
    }

    /// Whether it allocates buffers for each request with glibc's `malloc`. Envoy, traefik and Caddy
    /// have allocators of their own. Crossfade runs as it is delivered.
    const fn frees_through_glibc(self) -> bool {
        matches!(
            self,
            Self::Nginx | Self::Haproxy | Self::HaproxyTcp | Self::Pingora
        )
    }

    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Crossfade => Some("crossfade-proxy"),
            Self::Nginx => Some("nginx"),
            Self::Haproxy | Self::HaproxyTcp => Some("haproxy"),
            Self::Envoy => Some("envoy"),
            Self::Traefik => Some("traefik"),
            Self::Caddy => Some("caddy"),
            Self::Pingora => Some("crossfade-bench-pingora"),
            Self::Origin => None,
        }
    }
}

/// Makes glibc keep freed memory, up to 256 MiB. By default it returns the end of the heap to the
/// system as soon as 128 KiB of it are free. Then a 64 KiB buffer may cost two system calls and a
/// page fault for each 4 KiB, for every request. Whether it does depends on what lies at the end of
/// the heap, and so on the start of the process: the same HAProxy had from 0.05 to 3.4 faults for a
/// 16 KiB POST, and took from 21 to 33 µs.
const KEEPS_HEAP: &str = "GLIBC_TUNABLES=glibc.malloc.trim_threshold=268435456";

/// The variant of a proxy's config. Some lines of its template belong to some variants only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Clients use TLS: `@tls@`, otherwise `@plain@`.
    pub(crate) tls: bool,
    /// HTTP/2 without TLS on both sides: `@grpc@`, otherwise `@http@`.
    pub(crate) grpc: bool,
    /// The endpoint is behind a unix socket: `@unix@`, otherwise `@tcp@`.
    pub(crate) unix: bool,
    /// Requests have large bodies: `@upload@`, otherwise `@small@`.
    pub(crate) upload: bool,
    /// Its service has filters: `@filters@`, otherwise `@bare@`.
    pub(crate) filters: bool,
    /// It runs in a container, where limits are lower: `@container@`, otherwise `@process@`.
    pub(crate) container: bool,
}

impl Variant {
    /// The text of a line without its conditions, or `None` if one of them is not met.
    fn line(self, mut line: &str) -> Option<&str> {
        let conditions = [
            (self.tls, "@tls@", "@plain@"),
            (self.grpc, "@grpc@", "@http@"),
            (self.unix, "@unix@", "@tcp@"),
            (self.upload, "@upload@", "@small@"),
            (self.filters, "@filters@", "@bare@"),
            (self.container, "@container@", "@process@"),
        ];
        let mut has_more = true;
        while has_more {
            has_more = false;
            for (is_set, yes, no) in conditions {
                let (keep, drop) = if is_set { (yes, no) } else { (no, yes) };
                if line.starts_with(drop) {
                    return None;
                }
                if let Some(rest) = line.strip_prefix(keep) {
                    line = rest;
                    has_more = true;
                }
            }
        }
        Some(line)
    }
}

/// The parameters of a proxy's config.
#[derive(Debug, Clone)]
pub(crate) struct Setup<'a> {
    /// Its port.
    pub(crate) port: u16,
    /// The address that it listens on.
    pub(crate) listen: Ipv4Addr,
    /// The port of crossfade's admin API.
    pub(crate) admin: u16,
    /// The address of the origin.
    pub(crate) origin: SocketAddr,
    /// The number of threads or processes that carry traffic.
    pub(crate) workers: usize,
    /// The services of crossfade's config.
    pub(crate) services: String,
    /// The path of the origin's unix socket.
    pub(crate) origin_path: PathBuf,
    /// The variant.
    pub(crate) variant: Variant,
    /// Whether glibc's `malloc` keeps freed memory: see [`KEEPS_HEAP`].
    pub(crate) keeps_heap: bool,
    /// The folder of configs and logs.
    pub(crate) folder: &'a Path,
}

impl Setup<'_> {
    /// Fills in the names of a template, for this variant.
    fn fill(&self, template: &str) -> String {
        let lines = template.lines().filter_map(|line| self.variant.line(line));
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let values = [
            ("@port@", self.port.to_string()),
            ("@listen@", self.listen.to_string()),
            ("@admin@", self.admin.to_string()),
            ("@origin@", self.origin.to_string()),
            ("@origin_path@", self.origin_path.display().to_string()),
            ("@origin_ip@", self.origin.ip().to_string()),
            ("@origin_port@", self.origin.port().to_string()),
            ("@workers@", self.workers.to_string()),
            ("@folder@", self.folder.display().to_string()),
            ("@services@", self.services.clone()),
        ];
        for (name, value) in values {
            text = text.replace(name, &value);
        }
        text
    }

    /// Writes a config into the folder.
    pub(crate) fn write(&self, name: &str, template: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, self.fill(template)).context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// A peer that is installed.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    /// Which.
    pub(crate) peer: Peer,
    /// Its program; `None` for the origin.
    pub(crate) program: Option<PathBuf>,
    /// The version that it reports.
    pub(crate) version: String,
}

impl Installed {
    /// Finds its program in these folders, then in `PATH`, then in the folders of root's programs.
    pub(crate) fn find(peer: Peer, folders: &[PathBuf]) -> Option<Self> {
        let Some(name) = peer.program() else {
            return Some(Self {
                peer,
                program: None,
                version: String::new(),
            });
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = folders
            .iter()
            .cloned()
            .chain(std::env::split_paths(&path))
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())?;
        let version = version(peer, &program);
        Some(Self {
            peer,
            program: Some(program),
            version,
        })
    }

    /// The environment variable that makes it keep freed memory, if it is to.
    pub(crate) fn heap_variable(&self, setup: &Setup<'_>) -> Option<&'static str> {
        let keeps = setup.keeps_heap && self.peer.frees_through_glibc();
        keeps.then_some(KEEPS_HEAP)
    }

    /// Writes its config, and returns the command that starts it. `None` for the origin.
    pub(crate) fn command(&self, setup: &Setup<'_>) -> Result<Option<Vec<OsString>>> {
        let Some(program) = &self.program else {
            return Ok(None);
        };
        let port = setup.port;
        let mut command = Vec::new();
        if let Some(variable) = self.heap_variable(setup) {
            command.extend(["env", variable].map(OsString::from));
        }
        command.push(program.clone().into_os_string());
        let mut with = |arguments: &[&str]| command.extend(arguments.iter().map(OsString::from));
        match self.peer {
            Peer::Origin => {}
            Peer::Crossfade => {
                let template = include_str!("../peers/crossfade.toml");
                let file = setup.write(&format!("crossfade-{port}.toml"), template)?;
                with(&["--workers", &setup.workers.to_string(), "--config"]);
                command.push(file.into());
            }
            Peer::Nginx => {
                let template = include_str!("../peers/nginx.conf");
                let file = setup.write(&format!("nginx-{port}.conf"), template)?;
                with(&["-e", "stderr", "-c"]);
                command.push(file.into());
            }
            Peer::Haproxy | Peer::HaproxyTcp => {
                let template = match self.peer {
                    Peer::Haproxy => include_str!("../peers/haproxy.cfg"),
                    _ => include_str!("../peers/haproxy-tcp.cfg"),
                };
                let file = setup.write(&format!("haproxy-{port}.cfg"), template)?;
                with(&["-db", "-f"]);
                command.push(file.into());
            }
            Peer::Envoy => {
                let template = include_str!("../peers/envoy.yaml");
                let file = setup.write(&format!("envoy-{port}.yaml"), template)?;
                let workers = setup.workers.to_string();
                with(&["--disable-hot-restart", "--log-level", "error"]);
                with(&["--concurrency", &workers, "--config-path"]);
                command.push(file.into());
            }
            Peer::Traefik => {
                let routes = include_str!("../peers/traefik-routes.yaml");
                setup.write(&format!("traefik-{port}-routes.yaml"), routes)?;
                let template = include_str!("../peers/traefik.yaml");
                let file = setup.write(&format!("traefik-{port}.yaml"), template)?;
                command.push(format!("--configFile={}", file.display()).into());
            }
            Peer::Caddy => {
                let template = include_str!("../peers/Caddyfile");
                let file = setup.write(&format!("Caddyfile-{port}"), template)?;
                with(&["run", "--adapter", "caddyfile", "--config"]);
                command.push(file.into());
            }
            Peer::Pingora => {
                with(&[
                    &format!("{}:{port}", setup.listen),
                    &setup.origin.to_string(),
                    &setup.workers.to_string(),
                ]);
            }
        }
        Ok(Some(command))
    }
}

/// Runs the program to get its version.
fn version(peer: Peer, program: &Path) -> String {
    let flag = match peer {
        // A program of this repository: the version of the crate is in its lock file.
        Peer::Pingora => return pingora_version().unwrap_or_default().to_owned(),
        Peer::Nginx | Peer::Haproxy | Peer::HaproxyTcp => "-v",
        Peer::Traefik | Peer::Caddy => "version",
        _ => "--version",
    };
    let output = Command::new(program)
        .arg(flag)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    version_in(&String::from_utf8_lossy(&text)).to_owned()
}

fn pingora_version() -> Option<&'static str> {
    let lock = include_str!("../pingora/Cargo.lock");
    let (_, package) = lock.split_once("name = \"pingora-core\"\nversion = \"")?;
    package.split('"').next()
}

fn version_in(text: &str) -> &str {
    let looks_like_one = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.split('.').count() >= 3
    };
    text.split(|c: char| c.is_whitespace() || "/-+,".contains(c))
        .map(|word| word.trim_start_matches('v'))
        .find(looks_like_one)
        .unwrap_or_default()
}

/// The filters of a service of crossfade; `nginx.conf` has the same.
const FILTERS: &str = "\
access = { allow = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"192.168.0.0/16\"], deny = [\"10.6.6.6\"] }
limits = { requests = { rate = \"100000/s\", burst = 100000 } }
redirect = { to = \"http://$host$request_uri\", status = 308, scheme = \"https\" }
headers.request = { set = { x-client = \"$remote_addr\", x-scheme = \"$scheme\" }, remove = [\"x-debug\"] }
headers.response = { set = { x-frame-options = \"DENY\" }, remove = [\"server\"] }
";

/// The services of crossfade's config: one for every host, or `count` services with a host each.
pub(crate) fn services<T: std::fmt::Display>(
    count: usize,
    endpoints: &[T],
    variant: Variant,
) -> String {
    let mut text = String::new();
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "[[services]]\nname = \"{}\"", service_name(number));
        if count > 1 {
            let _ = writeln!(text, "hosts = [\"{}\"]", host(number));
        }
        if variant.filters {
            text.push_str(FILTERS);
        }
        text.push_str("endpoints = [\n");
        for endpoint in endpoints {
            let _ = writeln!(text, "  {{ address = \"{endpoint}\", version = \"1\" }},");
        }
        text.push_str("]\n");
        if variant.grpc {
            text.push_str("[services.versions.1]\nprotocol = \"h2\"\n");
        }
    }
    text
}

/// The admin calls of the benchmark change the first service.
fn service_name(number: usize) -> String {
    match number {
        0 => "web".into(),
        _ => format!("s{number}"),
    }
}

/// The host of a service, if there are several.
pub(crate) fn host(service: usize) -> String {
    format!("s{service}.bench.example")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_the_output_of_programs() {
        for (text, want) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
                "2.6.12",
            ),
            ("Version:      3.7.0\nCodename: x", "3.7.0"),
            ("v2.11.0 h1:abc=", "2.11.0"),
            ("crossfade-proxy 0.1.0", "0.1.0"),
            ("nothing 12 to see", ""),
        ] {
            assert_eq!(version_in(text), want);
        }
    }

    #[test]
    fn pingora_has_the_version_of_its_lock_file() {
        assert_eq!(version_in(pingora_version().unwrap()).split('.').count(), 3);
    }

    fn setup(variant: Variant, folder: &Path) -> Setup<'_> {
        Setup {
            port: 9610,
            listen: Ipv4Addr::LOCALHOST,
            admin: 9611,
            origin: "127.0.0.1:9600".parse().unwrap(),
            origin_path: "/run/origin.sock".into(),
            workers: 1,
            services: services(2, &["127.0.0.1:9600"], variant),
            variant,
            keeps_heap: true,
            folder,
        }
    }

    fn variants() -> [Variant; 7] {
        let plain = Variant::default();
        [
            plain,
            Variant { tls: true, ..plain },
            Variant {
                grpc: true,
                ..plain
            },
            Variant {
                unix: true,
                ..plain
            },
            Variant {
                upload: true,
                ..plain
            },
            Variant {
                filters: true,
                ..plain
            },
            Variant {
                container: true,
                ..plain
            },
        ]
    }

    #[test]
    fn every_name_in_every_config_is_filled_in() {
        for variant in variants() {
            let folder = tempfile::tempdir().unwrap();
            let setup = setup(variant, folder.path());
            for peer in Peer::ALL {
                let installed = Installed {
                    peer,
                    program: Some("/bin/true".into()),
                    version: String::new(),
                };
                installed.command(&setup).unwrap();
            }
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                let settings = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with('#'));
                for line in settings {
                    assert!(!line.replace("\"@type\"", "").contains('@'), "{line}");
                }
            }
        }
    }

    #[test]
    fn lines_for_other_variants_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let template = "a\n@tls@  b @port@\n@plain@  c\n@plain@@http@  d\n@grpc@  e\n";
        let filled = variants().map(|variant| setup(variant, folder.path()).fill(template));
        assert_eq!(filled[0], "a\n  c\n  d\n");
        assert_eq!(filled[1], "a\n  b 9610\n");
        assert_eq!(filled[2], "a\n  c\n  e\n");
    }

    #[test]
    fn the_config_of_a_variant_is_for_its_clients_and_its_endpoint() {
        let folder = tempfile::tempdir().unwrap();
        let template = include_str!("../peers/nginx.conf");
        let [plain, tls, grpc, unix, upload, filters, _] =
            variants().map(|variant| setup(variant, folder.path()).fill(template));
        assert!(plain.contains("server 127.0.0.1:9600;") && !plain.contains("http2"));
        assert!(tls.contains("ssl http2"));
        assert!(grpc.contains("grpc_pass") && !grpc.contains("proxy_pass"));
        assert!(unix.contains("server unix:/run/origin.sock;"));
        assert!(upload.contains("proxy_request_buffering off;"));
        assert!(filters.contains("limit_req zone=clients") && !plain.contains("limit_req"));
    }

    #[test]
    fn one_service_has_every_host_and_many_have_one_each() {
        let endpoint = ["127.0.0.1:80"];
        let plain = Variant::default();
        assert!(!services(1, &endpoint, plain).contains("hosts"));
        let many = services(3, &endpoint, plain);
        assert!(many.contains("hosts = [\"s2.bench.example\"]") && many.contains("\"web\""));
    }
}
