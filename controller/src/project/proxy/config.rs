//! The config file that the controller writes for its proxy: admin port, drains, listeners,
//! access log. What is behind them comes by the admin API.

use std::net::SocketAddr;
use std::path::Path;

use admin_api::{AccessLogSpec, LogTarget};

use crate::manifest::{ClientAuth, HalfClose, Listener, ProxySettings, Tls, TlsVersion};
use crate::project::host_sockets::{HANDOVER, KEEPER, name_of};

/// What the proxy is told. All paths are as it sees them.
pub(super) struct Config<'a, L> {
    /// Where the admin API is: an address, or `unix:` and a path.
    pub(super) admin: String,
    /// Where the token, and what the proxy remembers, are.
    pub(super) folder: &'a Path,
    /// The name of what it remembers.
    pub(super) state_file: &'a str,
    /// What holds for all services and clients.
    pub(super) settings: &'a ProxySettings,
    /// Whether the controller keeps sockets for it.
    pub(super) keeper: bool,
    /// Each with where it listens.
    pub(super) listeners: L,
    /// The manifest's folder, from which certificates and the file of the access log are meant.
    pub(super) manifest: &'a Path,
}

/// Where a listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// On a socket that the proxy opens.
    Own(SocketAddr),
    /// On the host's sockets, which the controller keeps.
    Host(SocketAddr),
}

impl<'l, L: Iterator<Item = (&'l Listener, At)>> Config<'_, L> {
    /// As TOML.
    pub(super) fn text(self) -> String {
        let mut text = format!(
            "# Written by crossfade at each start of the proxy.\n\
             [admin]\nlisten = {:?}\ntoken_file = {}\nstate_file = {}\n\n\
             [handover]\nsocket = {}\n{}\n\
             [timeouts]\ndrain = \"{}\"\n{}",
            self.admin,
            quoted(&self.folder.join("token")),
            quoted(&self.folder.join(self.state_file)),
            quoted(&self.folder.join(HANDOVER)),
            match self.keeper {
                true => format!("keeper = {}\n", quoted(&self.folder.join(KEEPER))),
                false => String::new(),
            },
            self.settings.drain_timeout,
            self.settings.timeouts.lines(),
        );
        let limits = self.settings.limits.lines();
        if !limits.is_empty() {
            text.push_str(&format!("\n[limits]\n{limits}"));
        }
        for (listener, at) in self.listeners {
            let (At::Own(address) | At::Host(address)) = at;
            text.push_str(&format!("\n[[listeners]]\naddress = \"{address}\"\n"));
            if at == At::Host(address) {
                text.push_str(&format!("name = \"{}\"\n", name_of(address)));
            }
            for (key, nets) in [
                ("trusted_proxies", &listener.trusted_proxies),
                ("proxy_protocol", &listener.proxy_protocol),
            ] {
                if !nets.is_empty() {
                    let nets: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
                    text.push_str(&format!("{key} = [{}]\n", nets.join(", ")));
                }
            }
            if let Some(half_close) = listener.half_close {
                let half_close = match half_close {
                    HalfClose::Abort => "abort",
                    HalfClose::Serve => "serve",
                };
                text.push_str(&format!("half_close = \"{half_close}\"\n"));
            }
            if let Some(tls) = &listener.tls {
                text.push_str(&tls_text(tls, self.manifest));
            }
        }
        if let Some(access_log) = &self.settings.access_log {
            text.push_str(&access_log_text(access_log, self.manifest));
        }
        text
    }
}

/// The keys are the proxy's own.
fn access_log_text(spec: &AccessLogSpec, folder: &Path) -> String {
    let mut access_log = spec.clone();
    if let LogTarget::File(path) = &mut access_log.to {
        *path = folder.join(&*path);
    }
    format!("\n{}", access_log.table())
}

fn tls_text(tls: &Tls, folder: &Path) -> String {
    let pairs: Vec<String> = tls
        .pairs
        .iter()
        .map(|pair| {
            let (cert, key) = (folder.join(&pair.cert), folder.join(&pair.key));
            format!("{{ cert = {}, key = {} }}", quoted(&cert), quoted(&key))
        })
        .collect();
    let mut text = format!("tls = [{}]\n", pairs.join(", "));
    if let Some(version) = tls.min_version {
        let version = match version {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        };
        text.push_str(&format!("tls_min_version = \"{version}\"\n"));
    }
    if let Some(ca) = &tls.client_ca {
        text.push_str(&format!("client_ca = {}\n", quoted(&folder.join(ca))));
    }
    if let Some(auth) = tls.client_auth {
        let auth = match auth {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        };
        text.push_str(&format!("client_auth = \"{auth}\"\n"));
    }
    text
}

/// Rust's quotes and escapes are TOML's, for whatever a path holds.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn listeners_have_what_the_manifest_says_with_paths_of_its_folder() {
        let manifest = r#"
[[proxy.listeners]]
address = "0.0.0.0:443"
trusted_proxies = ["10.0.0.0/8"]
proxy_protocol = ["10.1.0.0/16"]
half_close = "serve"
tls = [{ cert = "a.pem", key = "/keys/a.key" }]
tls_min_version = "1.3"
client_ca = "ca.pem"
client_auth = "optional"

[proxy.timeouts]
connect = "2s"
header = "3s"

[proxy.limits]
body = "1MiB"

[proxy.access_log]
to = "logs/access.log"
format = '$request "$status"'
query = false
sample = { "2xx" = 0.5 }

[[services]]
name = "web"
image = "web:1"
"#;
        let manifest = Manifest::parse(manifest).expect("a manifest");
        let inside: SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        let config = Config {
            admin: "unix:/inside/admin.sock".into(),
            folder: Path::new("/inside"),
            state_file: "state.json",
            settings: &manifest.proxy,
            keeper: false,
            listeners: manifest.proxy.listeners.iter().zip([At::Own(inside)]),
            manifest: Path::new("/home/project"),
        };
        let text = config.text();
        let want = r#"[[listeners]]
address = "0.0.0.0:8080"
trusted_proxies = ["10.0.0.0/8"]
proxy_protocol = ["10.1.0.0/16"]
half_close = "serve"
tls = [{ cert = "/home/project/a.pem", key = "/keys/a.key" }]
tls_min_version = "1.3"
client_ca = "/home/project/ca.pem"
client_auth = "optional"

[access_log]
to = "/home/project/logs/access.log"
format = '$request "$status"'
query = false
sample = { "2xx" = 0.5 }
"#;
        assert!(text.ends_with(want), "{text}");
        assert!(text.contains("token_file = \"/inside/token\""), "{text}");
        assert!(!text.contains("keeper"), "{text}");
        assert!(
            text.contains("listen = \"unix:/inside/admin.sock\"\n"),
            "{text}"
        );
        let set = "[timeouts]\ndrain = \"30s\"\nheader = \"3s\"\nconnect = \"2s\"\n\n\
                   [limits]\nbody = \"1MiB\"\n\n[[listeners]]";
        assert!(text.contains(set), "{text}");
    }

    #[test]
    fn a_listener_on_the_hosts_sockets_has_their_name() {
        let manifest = "[[services]]\nname = \"web\"\nimage = \"web:1\"\n";
        let manifest = Manifest::parse(manifest).expect("a manifest");
        let listener = &manifest.proxy.listeners[0];
        let host: SocketAddr = "0.0.0.0:80".parse().expect("an address");
        let inside: SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        let config = Config {
            admin: "0.0.0.0:9900".into(),
            folder: Path::new("/inside"),
            state_file: "state.json",
            settings: &manifest.proxy,
            keeper: true,
            listeners: [(listener, At::Host(host)), (listener, At::Own(inside))].into_iter(),
            manifest: Path::new("/"),
        };
        let text = config.text();
        let want = "\n[[listeners]]\naddress = \"0.0.0.0:80\"\nname = \"0.0.0.0:80\"\n\
                    \n[[listeners]]\naddress = \"0.0.0.0:8080\"\n";
        assert!(text.ends_with(want), "{text}");
        assert!(text.contains("keeper = \"/inside/keeper.sock\""), "{text}");
    }
}
