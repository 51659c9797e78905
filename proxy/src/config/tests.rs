//! The config file: the line and field that each error names, and every setting in use.

use admin_api::TimeoutsSpec;
use admin_api::flat::FlatKeys;

use super::*;
use crate::table::balance::Balance;
use crate::testing::service;

#[track_caller]
fn check(text: &str, line: usize, field: &str, says: &str) {
    let error = Config::parse(text).expect_err("this config is wrong");
    assert_eq!(error.field.as_deref(), Some(field), "{error}");
    assert_eq!(error.line, Some(line), "{error}");
    assert!(error.message.contains(says), "{error}");
}

const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn what_is_wrong_is_named_with_its_line_and_field() {
    check(
        "[[listeners]]\naddress = \"8080\"",
        2,
        "listeners[0].address",
        "`ip:port`",
    );
    check(
        &format!("{LISTENER}trusted_proxies = [\"10.0.0.0/8\", \"x\"]"),
        3,
        "listeners[0].trusted_proxies[1]",
        "10.0.0.0/8",
    );
    check(
        &format!("{LISTENER}half_close = \"keep\""),
        3,
        "listeners[0].half_close",
        "`keep` is neither `abort` nor `serve`",
    );
    check(
        &format!("[admin]\nlisten = \"9900\"\n{LISTENER}"),
        2,
        "admin.listen",
        "unix:/",
    );
    check(
        &format!("[admin]\nlisten = \"0.0.0.0:9900\"\n{LISTENER}"),
        1,
        "admin.token_file",
        "needs a token",
    );
    check(
        &format!("{LISTENER}[timeouts]\nconnect = \"0s\""),
        4,
        "timeouts.connect",
        "above 0",
    );
    check(
        &format!("{LISTENER}[timeouts]\nconect = \"1s\""),
        4,
        "timeouts.conect",
        "did you mean `connect`?",
    );
    check(
        &format!("{LISTENER}[limits]\nheader_bytes = \"1KiB\""),
        4,
        "limits.header_bytes",
        "8KiB",
    );
    check(
        &format!("{LISTENER}[limits]\nconnections = 0"),
        4,
        "limits.connections",
        "from 1 to",
    );
    check(
        &format!("{LISTENER}[limits]\nconnections_per_address = 0"),
        4,
        "limits.connections_per_address",
        "above 0",
    );
    let service = "[[services]]\nname = \"web\"\n";
    check(
        &format!("{LISTENER}{service}{service}"),
        6,
        "services[1].name",
        "two services",
    );
    check(
        &format!("{LISTENER}{service}[[services]]\nname = \"api\"\n"),
        5,
        "services[1]",
        "same requests as service `web`",
    );
}

#[test]
fn a_config_without_listeners_says_so() {
    let error = Config::parse("").expect_err("nothing to listen on");
    assert_eq!(error.field.as_deref(), Some("listeners"));
}

/// Wherever a file breaks off, what is left is refused, or is a whole config: each service
/// in it is as it was meant to the end of its own table.
#[test]
fn a_file_cut_off_anywhere_is_refused_or_whole_as_far_as_it_goes() {
    let service = |n: u32| {
        format!(
            "[[services]]\nname = \"s{n}\"\nhosts = [\"s{n}.test\"]\nsplit = {{ \"1\" = 90, \"2\" = 10 }}\n\
             endpoints = [{{ address = \"10.0.0.1:8{n}\", version = \"1\" }}, {{ address = \"10.0.0.2:8{n}\", version = \"2\" }}]\n"
        )
    };
    let whole = format!("{LISTENER}{}{}{}", service(1), service(2), service(3));
    let all = Config::parse(&whole).unwrap().services;
    let (mut refused, mut read) = (0, 0);
    for length in 0..whole.len() {
        let Ok(config) = Config::parse(&whole[..length]) else {
            refused += 1;
            continue;
        };
        read += 1;
        let (last, before) = match config.services.split_last() {
            Some((last, before)) => (Some(last), before),
            None => (None, &[][..]),
        };
        assert_eq!(before, &all[..before.len()], "{length} bytes");
        // A table that was cut between two lines has lost keys, never a part of one.
        let Some(last) = last.filter(|last| **last != all[before.len()]) else {
            continue;
        };
        assert!(last.endpoints.is_empty(), "{length} bytes: {last:?}");
        assert!(last.split.is_empty(), "{length} bytes: {last:?}");
    }
    assert!(refused > 300 && read > 3, "{refused} refused, {read} read");
}

#[test]
fn the_commented_example_is_a_config() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/proxy.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let config = Config::parse(&text).unwrap_or_else(|error| panic!("{example}: {error}"));
    assert_eq!(config.services.len(), 1);
    let defaults = Config::parse(LISTENER).unwrap();
    assert_eq!(
        config.timeouts, defaults.timeouts,
        "the example shows the defaults"
    );
    assert_eq!(
        config.limits, defaults.limits,
        "the example shows the defaults"
    );
    let half_close = |config: &Config| config.listeners[0].half_close;
    assert_eq!(half_close(&config), half_close(&defaults));
}

#[test]
fn every_setting_of_a_service_is_in_its_definition_and_in_its_view() {
    let every = include_str!("../../../admin-api/tests/every_setting.toml");
    let config = Config::parse(&format!("{LISTENER}[[services]]\nname = \"web\"\n{every}"));
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let spec = &config.services[0];
    let service = service(&serde_json::to_string(spec).unwrap(), None);
    assert_eq!(service.definition.traffic, spec.traffic);
    assert_eq!(service.view(1).traffic, spec.traffic);
    assert_eq!(service.body_limit, Some(10 << 20));
    let all = serde_json::to_value(&spec.traffic.timeouts).unwrap();
    for key in TimeoutsSpec::KEYS {
        let mut without = all.clone();
        assert!(without.as_object_mut().unwrap().remove(*key).is_some());
        let without = serde_json::from_value(without).unwrap();
        let timeouts = Timeouts::default().of_service(&without);
        assert_ne!(timeouts, service.timeouts, "`{key}` has no effect");
    }
    // What is made ready for routing.
    let definition = &service.definition;
    assert!(definition.sticky.is_some() && definition.force.is_some());
    assert!(matches!(definition.balance, Balance::Hash(_)));
}

#[test]
fn a_key_of_sticky_cookies_is_read_from_its_file_and_has_32_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let text = format!("[sticky]\nkey_file = \"{}\"\n{LISTENER}", path.display());
    check(&text, 2, "sticky.key_file", "cannot be read");
    std::fs::write(&path, [7; 31]).unwrap();
    check(
        &text,
        2,
        "sticky.key_file",
        "has 31 bytes: a key has at least 32",
    );
    std::fs::write(&path, [7; 32]).unwrap();
    let config = Config::parse(&text).unwrap();
    assert!(config.cookie_key.is_some());
    assert!(config.same_sockets(&Config::parse(&text).unwrap()));
    std::fs::write(&path, [8; 32]).unwrap();
    assert!(!config.same_sockets(&Config::parse(&text).unwrap()));
    assert_eq!(Config::parse(LISTENER).unwrap().cookie_key, None);
}
