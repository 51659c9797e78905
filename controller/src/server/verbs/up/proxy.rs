//! What an `up` changes of the proxy. Nearly everything a successor takes over, and clients notice
//! nothing; what it cannot is refused, with the key that it is about. Decisions only.

use admin_api::strict::InputError;

use crate::manifest::{Listener, ProxySettings, listener_fields};

/// A manifest's text with what it says of the proxy.
pub(super) struct RequestedProxy<'a> {
    pub(super) text: &'a str,
    pub(super) proxy: &'a ProxySettings,
}

/// The keys of `[proxy]` that differ.
pub(super) fn changed(before: &ProxySettings, now: &ProxySettings) -> Vec<&'static str> {
    let differs = [
        ("image", before.image != now.image),
        ("program", before.program != now.program),
        ("listeners", before.listeners != now.listeners),
        ("admin_port", before.admin_port != now.admin_port),
        ("drain_timeout", before.drain_timeout != now.drain_timeout),
        ("timeouts", before.timeouts != now.timeouts),
        ("limits", before.limits != now.limits),
        ("access_log", before.access_log != now.access_log),
    ];
    let differs = differs.into_iter().filter(|(_, differs)| *differs);
    differs.map(|(key, _)| key).collect()
}

/// Refuses what no successor can take over from the proxy that runs. `is_published`: the engine
/// publishes its ports, and cannot change that while they are in use.
pub(super) fn check(
    before: &RequestedProxy<'_>,
    now: &RequestedProxy<'_>,
    is_published: bool,
) -> Result<(), InputError> {
    let refuse = |field: &str, why: &str| {
        let message = format!(
            "{why}: keep the old value, or run `crossfade down` and then `crossfade up` with the \
             new manifest"
        );
        Err(InputError::of_field(field, message).located_in(now.text))
    };
    if before.proxy.admin_port != now.proxy.admin_port {
        let why = match before.proxy.admin_port {
            Some(port) => format!("the running proxy has its admin port at {port}, and keeps it"),
            None => "the running proxy has its admin API on a unix socket, and keeps it".to_owned(),
        };
        return refuse("proxy.admin_port", &why);
    }
    if !is_published {
        return Ok(());
    }
    let only = |these: &[Listener], others: &[Listener]| {
        let is_there = |one: &Listener| others.iter().any(|other| other.address == one.address);
        these.iter().position(|one| !is_there(one))
    };
    if let Some(added) = only(&now.proxy.listeners, &before.proxy.listeners) {
        let field = listener_fields(now.text).into_iter().nth(added);
        let why = format!(
            "{} is not among the addresses that were published when the proxy started",
            now.proxy.listeners[added].address
        );
        return refuse(field.as_deref().unwrap_or("proxy.listen"), &why);
    }
    if let Some(gone) = only(&before.proxy.listeners, &now.proxy.listeners) {
        let field = listener_fields(before.text).into_iter().nth(gone);
        let field = field.as_deref().and_then(|field| field.split('[').next());
        let why = format!(
            "{} stays published while the proxy is up",
            before.proxy.listeners[gone].address
        );
        return refuse(field.unwrap_or("proxy.listen"), &why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    const SERVICE: &str = "\n[[services]]\nname = \"web\"\nimage = \"web:1\"\n";
    const BEFORE: &str = "[proxy]\nlisten = [\"0.0.0.0:80\"]\nadmin_port = 9000\n\
                          [[proxy.listeners]]\naddress = \"0.0.0.0:81\"\n";

    /// What is said of a change, and the keys that have changed.
    #[track_caller]
    fn check_change(now: &str, is_published: bool, keys: &[&str], says: Option<&str>) {
        let texts = [BEFORE, now].map(|text| format!("{text}{SERVICE}"));
        let manifests = texts
            .each_ref()
            .map(|text| Manifest::parse(text).expect(text));
        let [before, now] = [0, 1].map(|n| RequestedProxy {
            text: &texts[n],
            proxy: &manifests[n].proxy,
        });
        assert_eq!(changed(before.proxy, now.proxy), keys);
        match (check(&before, &now, is_published), says) {
            (Ok(()), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{error}"),
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }

    #[test]
    fn a_successor_takes_over_all_but_ports_that_others_publish() {
        let published = true;
        let replaced = |from: &str, to: &str| BEFORE.replace(from, to);
        check_change(BEFORE, published, &[], None);
        let other = replaced(
            "listen =",
            "drain_timeout = \"5s\"\nimage = \"p:2\"\nlisten =",
        );
        check_change(&other, published, &["image", "drain_timeout"], None);
        // In another order, and with other settings.
        let other = "[proxy]\nadmin_port = 9000\n[[proxy.listeners]]\naddress = \"0.0.0.0:80\"\n\
                     trusted_proxies = [\"10.0.0.0/8\"]\n[[proxy.listeners]]\n\
                     address = \"0.0.0.0:81\"\n";
        check_change(other, published, &["listeners"], None);
        check_change(
            &replaced("9000", "9001"),
            false,
            &["admin_port"],
            Some("line 3: proxy.admin_port: the running proxy has its admin port at 9000"),
        );
        check_change(
            &replaced("admin_port = 9000\n", ""),
            false,
            &["admin_port"],
            Some("proxy.admin_port: the running proxy has its admin port at 9000"),
        );
        let added = replaced("\"0.0.0.0:80\"", "\"0.0.0.0:80\", \"0.0.0.0:82\"");
        let says = "line 2: proxy.listen[1]: 0.0.0.0:82 is not among the addresses";
        check_change(&added, published, &["listeners"], Some(says));
        check_change(&added, false, &["listeners"], None);
        let says = "line 5: proxy.listeners[0].address: 0.0.0.0:83 is not among";
        check_change(
            &replaced(":81", ":83"),
            published,
            &["listeners"],
            Some(says),
        );
        let (without, _) = BEFORE.split_once("[[").expect("a table");
        let says = "proxy.listeners: 0.0.0.0:81 stays published";
        check_change(without, published, &["listeners"], Some(says));
    }
}
