//! A manifest as it is in force: every key with its value, those included that are written nowhere.

use admin_api::{AccessLogSpec, ProxyTimeouts, ServiceSpec, Size, TrafficSettings};
use serde::Serialize;
use serde_json::{Value, json};

use super::calls::HookEntry;
use super::{Listener, Manifest, ServiceSettings, Webhook};
use crate::plan::{RolloutSettings, Strategy};

impl Manifest {
    /// As `crossfade.toml` has it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        line(&mut text, "project", &self.project);
        line(&mut text, "runtime", &self.runtime);
        self.print_proxy(&mut text);
        for service in &self.services {
            service.print(&mut text);
        }
        for service in &self.external {
            print_external(&mut text, service);
        }
        for webhook in &self.webhooks {
            webhook.print(&mut text);
        }
        text
    }

    fn print_proxy(&self, text: &mut String) {
        let proxy = &self.proxy;
        text.push_str("\n[proxy]\n");
        line(text, "image", &proxy.image);
        line(text, "program", &proxy.program);
        line(text, "admin_port", &proxy.admin_port);
        line(text, "standby", &proxy.standby);
        line(text, "drain_timeout", &proxy.drain_timeout);
        let ProxyTimeouts {
            header,
            keep_alive,
            resolve,
            mut of_services,
        } = proxy.timeouts.in_force();
        // It is above.
        of_services.drain = None;
        text.push_str("\n[proxy.timeouts]\n");
        line(text, "header", &header);
        line(text, "keep_alive", &keep_alive);
        line(text, "resolve", &resolve);
        lines(text, &json_of(&of_services));
        text.push_str("\n[proxy.limits]\n");
        lines(text, &json_of(&proxy.limits.in_force()));
        for listener in &proxy.listeners {
            listener.print(text);
        }
        if let Some(access_log) = &proxy.access_log {
            text.push_str(&format!("\n{}", access_log_table(access_log)));
        }
    }
}

fn access_log_table(spec: &AccessLogSpec) -> String {
    spec.table()
        .replacen("[access_log]", "[proxy.access_log]", 1)
}

impl Listener {
    fn print(&self, text: &mut String) {
        text.push_str("\n[[proxy.listeners]]\n");
        line(text, "address", &self.address);
        line(text, "trusted_proxies", &self.trusted_proxies);
        line(text, "proxy_protocol", &self.proxy_protocol);
        line(text, "half_close", &self.half_close);
        let Some(tls) = &self.tls else { return };
        let pairs = tls.pairs.iter();
        let pairs = pairs.map(|pair| json!({ "cert": pair.cert, "key": pair.key }));
        line(text, "tls", &pairs.collect::<Vec<_>>());
        line(text, "tls_min_version", &tls.min_version);
        line(text, "client_ca", &tls.client_ca);
        line(text, "client_auth", &tls.client_auth);
    }
}

impl ServiceSettings {
    fn print(&self, text: &mut String) {
        text.push_str("\n[[services]]\n");
        line(text, "name", &self.name);
        line(text, "image", &self.image);
        line(text, "version", &self.version);
        line(text, "replicas", &self.replicas);
        match &self.socket {
            Some(socket) => line(text, "socket", socket),
            None => line(text, "port", &self.port),
        }
        line(text, "command", &self.command);
        line(text, "env", &self.env);
        line(text, "secrets", &self.secrets);
        line(text, "volumes", &self.volumes);
        line(text, "memory", &self.limits.memory.map(Size));
        let cpus = self.limits.millicpus.map(|part| f64::from(part) / 1000.0);
        line(text, "cpus", &cpus);
        line(text, "pids", &self.limits.pids);
        line(text, "new_privileges", &self.new_privileges);
        line(text, "user", &self.confinement.user);
        line(text, "cap_drop", &self.confinement.cap_drop);
        line(text, "read_only", &self.confinement.read_only);
        line(text, "tmpfs", &self.confinement.tmpfs);
        line(text, "stop_timeout", &self.stop_timeout);
        line(text, "labels", &self.labels);
        line(text, "replace_after", &self.replace_after);
        line(text, "keep_images", &self.keep_images);
        if !self.is_worker() {
            line(text, "hosts", &self.hosts);
            line(text, "path_prefix", &self.path_prefix);
            line(text, "protocol", &self.transport.protocol);
            line(text, "tls", &self.transport.tls);
            lines(text, &in_force(&self.traffic));
        }
        self.rollout.print(text);
    }
}

/// A service without containers. Its versions are all spoken to alike.
fn print_external(text: &mut String, service: &ServiceSpec) {
    text.push_str("\n[[services]]\n");
    line(text, "name", &service.name);
    line(text, "hosts", &service.hosts);
    line(text, "path_prefix", &service.path_prefix);
    if !service.endpoints.is_empty() {
        line(text, "endpoints", &service.endpoints);
        line(text, "split", &service.split);
    }
    if let Some(version) = service.versions.values().next() {
        line(text, "protocol", &version.protocol);
        line(text, "tls", &version.tls);
    }
    lines(text, &in_force(&service.traffic));
}

/// What the proxy does with a service's requests. Timeouts and limits that it has not of its own are the
/// proxy's.
fn in_force(traffic: &TrafficSettings) -> Value {
    let mut all = json!({
        "strip_prefix": false,
        "send_path": traffic.send_path,
        "forwarded": false,
        "via": true,
        "allow_trace": false,
        "balance": traffic.balance,
        "retry": traffic.retry,
    });
    if let (Some(all), Value::Object(own)) = (all.as_object_mut(), json_of(traffic)) {
        all.extend(own);
    }
    all
}

impl RolloutSettings {
    fn print(&self, text: &mut String) {
        text.push_str("\n[services.rollout]\n");
        let strategy = self.strategy.to_string();
        let name = strategy.split([' ', ',']).next().unwrap_or_default();
        match &self.strategy {
            Strategy::Canary(steps) => {
                line(text, "strategy", &name);
                line(text, "steps", steps);
            }
            Strategy::Rolling {
                max_surge,
                max_unavailable,
            } => {
                line(text, "strategy", &name);
                line(text, "max_surge", max_surge);
                line(text, "max_unavailable", max_unavailable);
            }
            _ => line(text, "strategy", &strategy),
        }
        line(text, "look_every", &self.look_every);
        line(text, "step_min_duration", &self.step_min_duration);
        line(text, "min_requests", &self.min_requests);
        line(text, "max_hold", &self.max_hold);
        line(text, "after_max_hold", &self.after_max_hold);
        line(text, "success_rate", &self.success_rate);
        line(text, "success_rate_tolerance", &self.success_rate_tolerance);
        line(text, "latency_p99", &self.latency_p99);
        line(text, "latency_tolerance", &self.latency_tolerance);
        line(text, "warm_up", &self.warm_up);
        line(text, "bake", &self.bake);
        line(text, "min_healthy_time", &self.min_healthy_time);
        line(text, "start_timeout", &self.start_timeout);
        for hook in &self.hooks {
            text.push_str("\n[[services.rollout.hooks]]\n");
            lines(text, &json_of(&HookEntry::of(hook)));
        }
    }
}

impl Webhook {
    fn print(&self, text: &mut String) {
        text.push_str("\n[[webhooks]]\n");
        line(text, "url", &self.target.url);
        line(text, "token_file", &self.target.token_file);
        line(text, "timeout", &self.target.timeout);
        line(text, "kinds", &self.kinds);
    }
}

/// Adds `key = value`; nothing where there is no value.
fn line(text: &mut String, key: &str, value: &(impl Serialize + ?Sized)) {
    if let Some(value) = inline(&json_of(value)) {
        text.push_str(&format!("{key} = {value}\n"));
    }
}

/// The same for each key of a table.
fn lines(text: &mut String, table: &Value) {
    for (key, value) in table.as_object().into_iter().flatten() {
        line(text, key, value);
    }
}

/// These types of ours have a form in JSON.
fn json_of(value: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// In TOML, on one line. JSON's texts, numbers and lists of them are TOML's.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(values) => {
            let values: Vec<String> = values.iter().filter_map(inline).collect();
            Some(format!("[{}]", values.join(", ")))
        }
        Value::Object(table) => {
            let keys = table.iter().filter_map(|(key, value)| {
                let key = match key.chars().all(is_bare) && !key.is_empty() {
                    true => key.clone(),
                    false => Value::from(key.as_str()).to_string(),
                };
                Some(format!("{key} = {}", inline(value)?))
            });
            let keys: Vec<String> = keys.collect();
            Some(match keys.is_empty() {
                true => "{}".to_owned(),
                false => format!("{{ {} }}", keys.join(", ")),
            })
        }
        plain => Some(plain.to_string()),
    }
}

/// Of a key that needs no quotes.
fn is_bare(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it prints is read as what it was.
    #[track_caller]
    fn check(text: &str) -> String {
        let printed = Manifest::parse(text).expect(text).text();
        let again = Manifest::parse(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
        assert_eq!(again.text(), printed);
        printed
    }

    #[test]
    fn every_default_is_printed() {
        let printed = check("[[services]]\nname = \"web\"\nimage = \"web:1\"\n");
        for says in [
            "project = \"crossfade\"\n",
            "runtime = \"auto\"\n",
            "drain_timeout = \"30s\"\n",
            "keep_alive = \"1m 15s\"\n",
            "wait_for_endpoint = \"5s\"\n",
            "request = \"0s\"\n",
            "header_bytes = \"64KiB\"\n",
            "[[proxy.listeners]]\naddress = \"0.0.0.0:8080\"\n",
            "version = \"1\"\nreplicas = 1\nport = 8080\n",
            "via = true\n",
            "balance = \"round_robin\"\n",
            "retry = { attempts = 3, on = [\"connect\", \"reset\"] }\n",
            "strategy = \"canary\"\nsteps = [10, 50, 100]\n",
            "max_hold = \"3m\"\nafter_max_hold = \"proceed\"\n",
        ] {
            assert!(printed.contains(says), "{says} is not in:\n{printed}");
        }
    }

    #[test]
    fn every_key_of_the_example_is_printed_as_it_was_written() {
        let text = include_str!("../../../config/crossfade.toml");
        let uncommented = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest.to_owned(),
            _ => line.to_owned(),
        };
        let every: Vec<String> = text.lines().map(uncommented).collect();
        let every = every.join("\n");
        let printed = check(&every);
        let manifest = Manifest::parse(&every).expect("every key");
        let again = Manifest::parse(&printed).expect("every key");
        assert_eq!(again.webhooks, manifest.webhooks);
        assert_eq!(again.proxy.listeners, manifest.proxy.listeners);
        assert_eq!(again.proxy.access_log, manifest.proxy.access_log);
        assert_eq!(again.services[0].rollout, manifest.services[0].rollout);
        assert_eq!(
            again.services[0].confinement,
            manifest.services[0].confinement
        );
        check("[[services]]\nname = \"jobs\"\nimage = \"jobs:1\"\nport = 0\n");
        check(
            "[[services]]\nname = \"php\"\nendpoints = [\"10.0.0.5:80\", \"unix:/run/php.sock\"]\n\
             [[services]]\nname = \"old\"\nhosts = [\"old.test\"]\nredirect.to = \"https://new.test/\"\n",
        );
        for strategy in ["rolling", "linear=20", "steps=mirror:2m,10:gate,100"] {
            let text = "[[services]]\nname = \"web\"\nimage = \"web:1\"\n";
            let printed = check(&format!(
                "{text}[services.rollout]\nstrategy = \"{strategy}\"\n"
            ));
            assert!(printed.contains(strategy), "{printed}");
        }
    }
}
