//! What an image or a container says about itself, and the manifest that comes of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::manifest::tag_of;

/// The port where nothing names one.
const DEFAULT_PORT: u16 = 8080;
/// podman's units.
const NANOSECONDS: u64 = 1_000_000_000;

/// A service to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) port: u16,
    pub(super) replicas: u32,
    pub(super) health_path: Option<String>,
    /// Seconds.
    health_interval: Option<u64>,
    health_timeout: Option<u64>,
    health_fall: Option<u64>,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    volumes: Vec<String>,
    user: Option<String>,
    /// What cannot be taken over, for the reader.
    notes: Vec<String>,
}

impl Found {
    /// One of which only the image's name is known.
    pub(super) fn named(image: &str) -> Self {
        Self {
            name: name_of(image),
            image: image.to_owned(),
            port: DEFAULT_PORT,
            replicas: 1,
            health_path: None,
            health_interval: None,
            health_timeout: None,
            health_fall: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            volumes: Vec::new(),
            user: None,
            notes: Vec::new(),
        }
    }

    /// By an image's own `EXPOSE` and `HEALTHCHECK`.
    pub(super) fn of_image(name: &str, image: &Value) -> Self {
        let mut found = Self::named(name);
        let config = &image["Config"];
        found.take_ports(&ports(&config["ExposedPorts"]));
        let check = match &image["HealthCheck"] {
            Value::Null => &image["Healthcheck"],
            check => check,
        };
        found.take_health(check);
        found
    }

    /// By a container that runs, and by what its image has already.
    pub(super) fn of_container(container: &Value, image: &Value) -> Self {
        let mut found = Self::of_image(text(&container["ImageName"]), image);
        let config = &container["Config"];
        found.name = name_of(text(&container["Name"]));
        let exposed = ports(&config["ExposedPorts"]);
        if !exposed.is_empty() {
            found.notes.clear();
            found.take_ports(&exposed);
        }
        if !config["Healthcheck"].is_null() {
            found.take_health(&config["Healthcheck"]);
        }
        let of_image = environment(&image["Config"]["Env"]);
        found.env = environment(&config["Env"]);
        // What podman sets itself is none of the service's.
        let own = ["HOME", "HOSTNAME", "PATH", "TERM", "container"];
        found.env.retain(|name, value| {
            !own.contains(&name.as_str()) && of_image.get(name) != Some(value)
        });
        let command = texts(&config["Cmd"]);
        if command != texts(&image["Config"]["Cmd"]) {
            found.command = command;
        }
        let user = text(&config["User"]);
        if !user.is_empty() && user != text(&image["User"]) {
            found.user = Some(user.to_owned());
        }
        found.take_mounts(&container["Mounts"]);
        found
    }

    fn take_ports(&mut self, ports: &[u16]) {
        let Some(first) = ports.first() else {
            self.notes.push(format!(
                "nothing says on which port it serves: {DEFAULT_PORT} is a guess"
            ));
            return;
        };
        self.port = *first;
        if ports.len() > 1 {
            let all: Vec<String> = ports.iter().map(u16::to_string).collect();
            let all = all.join(", ");
            self.notes
                .push(format!("it exposes the ports {all}: the first is taken"));
        }
    }

    fn take_health(&mut self, check: &Value) {
        let test = texts(&check["Test"]);
        if test.is_empty() || test[0] == "NONE" {
            return;
        }
        let command = test[1..].join(" ");
        let Some((path, port)) = requested(&command) else {
            self.notes.push(format!(
                "its health check is a command, and the proxy's is a request: {command}"
            ));
            return;
        };
        self.health_path = Some(path);
        if let Some(port) = port {
            self.port = port;
        }
        let seconds = |key: &str| {
            let nanoseconds = check[key].as_u64().filter(|time| *time > 0)?;
            Some(nanoseconds.div_ceil(NANOSECONDS))
        };
        self.health_interval = seconds("Interval");
        self.health_timeout = seconds("Timeout");
        self.health_fall = check["Retries"].as_u64().filter(|count| *count > 0);
    }

    fn take_mounts(&mut self, mounts: &Value) {
        for mount in mounts.as_array().into_iter().flatten() {
            let (source, target) = (text(&mount["Source"]), text(&mount["Destination"]));
            if mount["Type"] == "bind" {
                let access = if mount["RW"] == false { ":ro" } else { "" };
                self.volumes.push(format!("{source}:{target}{access}"));
            } else {
                let name = text(&mount["Name"]);
                self.notes.push(format!(
                    "the volume {name} at {target} is podman's own: name a folder of this host for it"
                ));
            }
        }
    }

    /// As `crossfade.toml`.
    pub(super) fn manifest(&self) -> String {
        let mut text = String::from(
            "# Written by `crossfade init`. `crossfade config` prints every key with its value; docs/config.md\n\
             # explains them.\n\n\
             [proxy]\nlisten = [\"127.0.0.1:8080\"]\n\n[[services]]\n",
        );
        let mut line = |key: &str, value: Value| text.push_str(&format!("{key} = {value}\n"));
        line("name", self.name.as_str().into());
        line("image", self.image.as_str().into());
        if tag_of(&self.image).is_none() {
            line("version", "1".into());
        }
        line("replicas", self.replicas.into());
        line("port", self.port.into());
        if !self.command.is_empty() {
            line("command", self.command.clone().into());
        }
        if let Some(user) = &self.user {
            line("user", user.as_str().into());
        }
        if !self.volumes.is_empty() {
            line("volumes", self.volumes.clone().into());
        }
        if !self.env.is_empty() {
            let pairs = self.env.iter().map(|(name, value)| {
                format!(
                    "{} = {}",
                    Value::from(name.as_str()),
                    Value::from(value.as_str())
                )
            });
            let pairs: Vec<String> = pairs.collect();
            text.push_str(&format!("env = {{ {} }}\n", pairs.join(", ")));
        }
        match &self.health_path {
            Some(path) => text.push_str(&self.health(path)),
            None => text.push_str("# health = { path = \"/healthz\" }\n"),
        }
        for note in &self.notes {
            text.push_str(&format!("# {}\n", note.replace(['\n', '\r'], " ")));
        }
        text
    }

    fn health(&self, path: &str) -> String {
        let mut keys = format!("path = {}", Value::from(path));
        for (key, seconds) in [
            ("interval", self.health_interval),
            ("timeout", self.health_timeout),
        ] {
            if let Some(seconds) = seconds {
                keys.push_str(&format!(", {key} = \"{seconds}s\""));
            }
        }
        if let Some(fall) = self.health_fall {
            keys.push_str(&format!(", fall = {fall}"));
        }
        format!("health = {{ {keys} }}\n")
    }
}

/// A service's name out of an image's or a container's: `web` of `localhost/web:1.0.0`.
fn name_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let base = last.split([':', '@']).next().unwrap_or(last);
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let name: String = base.chars().filter(allowed).collect();
    let name = name.trim_start_matches(['-', '_', '.']);
    match name.is_empty() {
        true => "web".to_owned(),
        false => name.chars().take(63).collect(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

/// The TCP ports of `{"8080/tcp": {}}`.
fn ports(exposed: &Value) -> Vec<u16> {
    let names = exposed.as_object().into_iter().flatten();
    let mut ports: Vec<u16> = names
        .filter_map(|(name, _)| {
            let (port, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
            port.parse().ok().filter(|_| protocol == "tcp")
        })
        .collect();
    ports.sort_unstable();
    ports
}

fn environment(list: &Value) -> BTreeMap<String, String> {
    let pairs = texts(list).into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// The path and the port that a health check of the kind `curl -f http://localhost:8080/healthz`
/// requests.
fn requested(command: &str) -> Option<(String, Option<u16>)> {
    let at = command.find("http://")?;
    let url = &command[at + "http://".len()..];
    let end = url.find(|c: char| c.is_whitespace() || "\"'|;&)".contains(c));
    let url = &url[..end.unwrap_or(url.len())];
    let (authority, path) = match url.find('/') {
        Some(slash) => url.split_at(slash),
        None => (url, "/"),
    };
    let port = authority.rsplit_once(':');
    let port = port.and_then(|(_, port)| port.parse().ok());
    Some((path.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn an_image_says_its_port_and_its_health_check_itself() {
        let image = json!({
            "Config": { "ExposedPorts": { "3000/tcp": {}, "9000/udp": {} } },
            "HealthCheck": {
                "Test": ["CMD-SHELL", "curl -f http://localhost:3000/ok?deep=1 || exit 1"],
                "Interval": 5_000_000_000_u64,
                "Timeout": 1_500_000_000_u64,
                "Retries": 4,
            },
        });
        let text = Found::of_image("registry.test:5000/shop/web:2.1.0", &image).manifest();
        let manifest = Manifest::parse(&text).expect(&text);
        let web = &manifest.services[0];
        assert_eq!(
            (&*web.name, &*web.version, web.port),
            ("web", "2.1.0", 3000)
        );
        let want =
            "health = { path = \"/ok?deep=1\", interval = \"5s\", timeout = \"2s\", fall = 4 }\n";
        assert!(text.contains(want), "{text}");
        assert!(!text.contains("guess"), "{text}");
    }

    #[test]
    fn an_image_that_says_nothing_has_guesses_that_are_named() {
        let image = json!({ "Config": {}, "HealthCheck": { "Test": ["CMD", "pg_isready"] } });
        let text = Found::of_image("db", &image).manifest();
        Manifest::parse(&text).expect(&text);
        for says in [
            "version = \"1\"",
            "8080 is a guess",
            "a command",
            "pg_isready",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn a_container_has_what_it_was_given_beside_its_image() {
        let image = json!({
            "Config": { "Env": ["LANG=C", "MODE=plain"], "Cmd": ["serve"] },
        });
        let container = json!({
            "Name": "my-shop", "ImageName": "localhost/shop:1.0.0",
            "Config": {
                "Env": ["PATH=/bin", "LANG=C", "MODE=\"fast\"", "container=podman"],
                "Cmd": ["serve", "--all"], "User": "1000",
                "ExposedPorts": { "8081/tcp": {} },
            },
            "Mounts": [
                { "Type": "bind", "Source": "/srv/data", "Destination": "/data", "RW": false },
                { "Type": "volume", "Name": "cache", "Source": "/x", "Destination": "/cache" },
            ],
        });
        let text = Found::of_container(&container, &image).manifest();
        let manifest = Manifest::parse(&text).expect(&text);
        let shop = &manifest.services[0];
        assert_eq!((&*shop.name, shop.port), ("my-shop", 8081));
        assert_eq!(shop.command, ["serve", "--all"]);
        assert_eq!(shop.env.len(), 1);
        assert_eq!(shop.env["MODE"], "\"fast\"");
        assert_eq!(shop.confinement.user.as_deref(), Some("1000"));
        assert_eq!(shop.volumes.len(), 1);
        assert!(text.contains("the volume cache at /cache"), "{text}");
    }

    #[test]
    fn a_name_is_taken_from_an_image() {
        for (image, want) in [
            ("localhost/web:1.0.0", "web"),
            ("registry:5000/a/b@sha256:0af", "b"),
            ("/opt/server", "server"),
            ("", "web"),
        ] {
            assert_eq!(name_of(image), want, "{image}");
        }
    }
}
