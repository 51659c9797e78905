//! Changes of the table: those that fail, those that follow a drain, and reloads.

use super::*;
use crate::control::drain::DrainTarget;
use crate::control::snapshot::HandoverSnapshot;
use crate::table::endpoint::Endpoint;

/// A control over one service whose only endpoint has a name that does not resolve.
async fn control() -> Arc<Control> {
    let config = Config::parse(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[services]]\nname = \"web\"\n\
         endpoints = [{ address = \"web.invalid:80\", version = \"1\" }]",
    )
    .unwrap();
    let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
    let drains = Arc::new(Drains::new(|_| {}));
    Control::start(&config, table, 1, drains, None)
        .await
        .unwrap()
}

fn targets(control: &Control) -> Vec<String> {
    let table = control.table();
    let service = table.service("web").unwrap();
    service
        .endpoints()
        .map(|endpoint| endpoint.target.to_string())
        .collect()
}

#[tokio::test]
async fn a_name_that_stands_for_other_addresses_swaps_its_endpoints() {
    let control = control().await;
    let name: Arc<str> = "web.invalid".into();
    let stands_for = |ips: &[&str]| {
        control.resolved(&name, ips.iter().map(|ip| ip.parse().unwrap()).collect());
    };
    assert!(targets(&control).is_empty());

    stands_for(&["10.0.0.2", "10.0.0.1"]);
    assert_eq!(targets(&control), ["10.0.0.1:80", "10.0.0.2:80"]);
    let before = control.table();
    let gone = before.service("web").unwrap().endpoints().next().unwrap();

    stands_for(&["10.0.0.2", "10.0.0.3"]);
    assert_eq!(targets(&control), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert!(gone.claims.is_retired(), "what it stood for before drains");

    let generation = control.table().generation;
    stands_for(&["10.0.0.3", "10.0.0.2"]);
    stands_for(&[]);
    assert_eq!(
        control.table().generation,
        generation,
        "nothing new, and a failed look-up"
    );
}

#[tokio::test]
async fn a_change_that_fails_leaves_the_table_and_what_is_wanted() {
    let control = control().await;
    let spec = |json: &str| admin_api::strict::from_json(json.as_bytes()).unwrap();
    let generation = control.table().generation;
    let same_route = spec(r#"{"name":"other"}"#);
    assert!(matches!(
        control.put(same_route, None).await,
        Err(ChangeError::Conflict(_))
    ));
    let good = spec(r#"{"name":"other","hosts":["a.test"]}"#);
    let stale = control.put(good, Some(generation + 1)).await;
    assert!(
        matches!(stale, Err(ChangeError::Generation { .. })),
        "{stale:?}"
    );
    assert_eq!(control.table().generation, generation);
    assert_eq!(control.wanted().desired.specs().count(), 1);
}

#[tokio::test]
async fn a_service_takes_the_place_of_another_in_one_swap() {
    let control = control().await;
    let new = |hosts: &str| {
        let endpoint = r#""endpoints":[{"address":"10.0.0.9:80","version":"1"}]"#;
        spec(&format!(
            r#"{{"name":"shop","hosts":[{hosts}],{endpoint}}}"#
        ))
    };
    control.put(new("\"shop.invalid\""), None).await.unwrap();
    let id = |control: &Control| {
        let table = control.table();
        let service = table.service("shop").unwrap();
        service.endpoints().next().unwrap().id
    };
    let (before, generation) = (id(&control), control.table().generation);
    assert!(matches!(
        control.put(new(""), None).await,
        Err(ChangeError::Conflict(_))
    ));
    let names = ["web".to_owned(), "never-there".to_owned()];
    for round in 1..=2 {
        let put = control.put_in_place_of(&names, new(""), None).await;
        assert_eq!(put.unwrap(), generation + round, "one swap each");
        assert!(control.table().service("web").is_none());
    }
    assert_eq!(id(&control), before, "its endpoints keep what they have");
    assert!(control.wanted().desired.get("web").is_none());
    let itself = ["shop".to_owned()];
    let put = control.put_in_place_of(&itself, new(""), None).await;
    assert!(matches!(put, Err(ChangeError::Conflict(_))));
}

const TWO: &str = r#"{"name":"web","split":{"1":0,"2":1},"endpoints":[
    {"address":"10.0.0.1:80","version":"1"},{"address":"10.0.0.2:80","version":"2"}]}"#;

fn spec(json: &str) -> ServiceSpec {
    admin_api::strict::from_json(json.as_bytes()).unwrap()
}

fn version(version: &str) -> DrainTarget {
    DrainTarget {
        version: Some(version.to_owned()),
        endpoint: None,
    }
}

fn split(weights: [(&str, u32); 2]) -> BTreeMap<String, u32> {
    weights
        .map(|(version, weight)| (version.to_owned(), weight))
        .into()
}

fn config(services: &str) -> Config {
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    Config::parse(&format!("{listener}{services}")).unwrap()
}

/// The service's endpoints that get requests or could.
fn live(control: &Control) -> usize {
    let table = control.table();
    let service = table.service("web").unwrap();
    let live = |endpoint: &&Arc<Endpoint>| !endpoint.claims.is_retired();
    service.endpoints().filter(live).count()
}

#[tokio::test]
async fn a_reload_that_fails_brings_nothing_back_that_was_drained() {
    let control = control().await;
    let file = |more: &str| {
        config(&format!(
            "[[services]]\nname = \"web\"\nsplit = {{ \"1\" = 0, \"2\" = 1 }}\nendpoints = [\n\
             {{ address = \"10.0.0.1:80\", version = \"1\" }}, {{ address = \"10.0.0.2:80\", version = \"2\" }}]\n{more}"
        ))
    };
    control.read_file(&file("")).await.unwrap();
    assert!(control.drain("web", &version("1")).unwrap().drained);
    control
        .put(spec(r#"{"name":"other","path_prefix":"/a"}"#), None)
        .await
        .unwrap();
    let contradicts =
        file("balance = \"least_in_flight\"\n[[services]]\nname = \"b\"\npath_prefix = \"/a\"\n");
    let failed = control.read_file(&contradicts).await;
    assert!(
        matches!(failed, Err(ChangeError::Conflict(_))),
        "{failed:?}"
    );
    control
        .set_split("web", split([("1", 1), ("2", 9)]), None)
        .await
        .unwrap();
    assert_eq!(live(&control), 1);
}

#[tokio::test]
async fn no_receipt_is_given_for_what_was_requested_anew() {
    let control = control().await;
    control.put(spec(TWO), None).await.unwrap();
    assert!(control.drain("web", &version("1")).unwrap().drained);
    control.put(spec(TWO), None).await.unwrap();
    assert_eq!(live(&control), 2);
    let receipt = control.receipt("web", &version("1"));
    assert!(
        matches!(receipt, Err(ChangeError::Conflict(_))),
        "{receipt:?}"
    );
}

#[tokio::test]
async fn a_split_that_gives_everything_to_what_was_drained_is_refused() {
    let control = control().await;
    control.put(spec(TWO), None).await.unwrap();
    control.drain("web", &version("1")).unwrap();
    let all_to_it = split([("1", 1), ("2", 0)]);
    let refused = control.set_split("web", all_to_it, None).await;
    assert!(
        matches!(refused, Err(ChangeError::Conflict(_))),
        "{refused:?}"
    );
    let some = split([("1", 1), ("2", 1)]);
    control.set_split("web", some, None).await.unwrap();
}

#[tokio::test]
async fn a_service_that_moves_its_name_to_another_keeps_its_addresses() {
    let control = control().await;
    control.resolved(&"web.invalid".into(), vec!["10.0.0.1".parse().unwrap()]);
    let moved = config(
        "[[services]]\nname = \"xyz\"\nendpoints = [{ address = \"web.invalid:80\", version = \"1\" }]",
    );
    control.read_file(&moved).await.unwrap();
    let split = [("1".to_owned(), 7)].into();
    control.set_split("xyz", split, None).await.unwrap();
    let table = control.table();
    assert_eq!(table.service("xyz").unwrap().endpoints().count(), 1);
}

#[tokio::test]
async fn a_saved_service_whose_file_is_gone_stops_neither_the_start_nor_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let state = || Some(StateFile::new(folder.path().join("state.json")));
    let start = |config: Config| async move {
        let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
        let drains = Arc::new(Drains::new(|_| {}));
        Control::start(&config, table, 1, drains, state())
            .await
            .unwrap()
    };
    let saved = serde_json::json!({
        "name": "tls", "path_prefix": "/tls",
        "versions": {"1": {"tls": {"ca": ca}}},
        "endpoints": [{"address": "10.0.0.9:443", "version": "1"}],
    });
    let other = "[[services]]\nname = \"web\"\npath_prefix = \"/";
    let control = start(config(&format!("{other}a\""))).await;
    control.put(spec(&saved.to_string()), None).await.unwrap();
    std::fs::remove_file(&ca).unwrap();
    control
        .read_file(&config(&format!("{other}b\"")))
        .await
        .unwrap();
    assert!(
        control.table().service("tls").is_some(),
        "it goes on as it was"
    );
    drop(control);
    let control = start(config(&format!("{other}b\""))).await;
    control.begin_saving().await;
    let table = control.table();
    assert!(table.service("tls").is_none() && table.service("web").is_some());
    drop(control);
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let control = start(config(&format!("{other}b\""))).await;
    assert!(control.table().service("tls").is_some(), "the file is back");
}

/// A control over so many services of the config file, and a state file in this folder.
async fn control_over(services: usize, folder: &std::path::Path) -> Arc<Control> {
    let services = (0..services).map(|number| {
        let json = format!(
            r#"{{"name":"s{number:04}","path_prefix":"/{number}","split":{{"1":1,"2":1}},"endpoints":[
                {{"address":"10.0.0.1:80","version":"1"}},{{"address":"10.0.0.2:80","version":"2"}}]}}"#
        );
        spec(&json)
    });
    let config = Config {
        services: services.collect(),
        ..config("")
    };
    let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
    let drains = Arc::new(Drains::new(|_| {}));
    let state = Some(StateFile::new(folder.join("state.json")));
    let control = Control::start(&config, table, 1, drains, state);
    let control = control.await.unwrap();
    control.begin_saving().await;
    control
}

#[tokio::test]
async fn a_change_touches_its_service_alone_among_a_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let control = control_over(1_000, folder.path()).await;
    let checks = checks();
    let half = split([("1", 1), ("2", 9)]);
    let text = || std::fs::read_to_string(&state).unwrap();
    for change in 0..3 {
        let (before, written) = (control.table(), text().len());
        match change {
            0 => control.set_split("s0500", half.clone(), None).await,
            1 => control.hold("s0500", HoldSpec::default(), None).await,
            _ => control.release("s0500", None).await,
        }
        .unwrap();
        let after = control.table();
        let changed = after.services().changed_since(before.services());
        let changed: Vec<_> = changed.map(|service| &*service.definition.name).collect();
        assert_eq!(changed, ["s0500"], "change {change}");
        let record = text().split_off(written);
        let of = |name: &str| record.matches(name).count();
        assert_eq!((of("\n"), of("\"s0")), (1, of("\"s0500\"")), "{record}");
    }
    assert_eq!(self::checks(), checks, "no service is checked again");
}

/// How many services were checked in this thread.
fn checks() -> usize {
    crate::table::definition::CHECKS.get()
}

#[tokio::test]
async fn a_start_checks_each_service_once() {
    let folder = tempfile::tempdir().unwrap();
    let before = checks();
    control_over(1_000, folder.path()).await;
    assert_eq!(checks() - before, 1_000);
}

#[tokio::test]
async fn generations_go_on_where_no_process_before_was() {
    let folder = tempfile::tempdir().unwrap();
    for (first, last) in [(1, 3), (1_000, 1_002), (2_000, 2_002)] {
        let control = control_over(1, folder.path()).await;
        assert_eq!(control.table().generation, first);
        for weight in [first as u32, 7] {
            let split = split([("1", weight), ("2", 1)]);
            control.set_split("s0000", split, None).await.unwrap();
        }
        assert_eq!(control.table().generation, last);
    }
    // There was no change.
    control_over(1, folder.path()).await;
    let control = control_over(1, folder.path()).await;
    assert_eq!(control.table().generation, 4_000);
}

#[tokio::test]
async fn a_table_that_is_taken_back_has_a_generation_that_the_successor_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let control = control_over(1, folder.path()).await;
    let both = |weight| split([("1", weight), ("2", 1)]);
    control.set_split("s0000", both(5), None).await.unwrap();
    control.freeze().await;
    let plain = std::fs::read(&state).unwrap();
    assert!(!plain.contains(&b'\n'), "any release can read it");
    control.set_process_role(ProcessRole::Draining);

    // What the successor wrote.
    std::fs::write(&state, "{}").unwrap();
    control.saved(2).await.unwrap();
    control.take_back();
    assert_eq!(control.table().generation, 1_000);
    control.begin_saving().await;
    let saved = StateFile::new(state).load().unwrap();
    assert_eq!((saved.generation, saved.services.len()), (1_000, 1));
}

#[tokio::test]
async fn the_interval_of_look_ups_is_followed() {
    let control = control().await;
    let of = |resolve: u64| {
        let mut config = config("[[services]]\nname = \"web\"\n");
        config.timeouts.resolve = std::time::Duration::from_secs(resolve);
        config
    };
    for seconds in [7, 1] {
        control.read_file(&of(seconds)).await.unwrap();
        assert_eq!(control.resolver.interval().as_secs(), seconds);
    }
}

#[tokio::test]
async fn a_change_of_everyones_timeouts_reaches_services_and_takes_nothing_from_them() {
    let config = |timeouts: &str| {
        config(&format!(
            "[timeouts]\n{timeouts}\n[[services]]\nname = \"web\"\nsplit = {{ 1 = 0, 2 = 1 }}\n\
             endpoints = [{{ address = \"10.0.0.1:80\", version = \"1\" }}, \
             {{ address = \"10.0.0.2:80\", version = \"2\" }}]\n\
             [[services]]\nname = \"own\"\npath_prefix = \"/own\"\ntimeouts = {{ first_byte = \"3s\" }}"
        ))
    };
    let before = config("");
    let table = Arc::new(ArcSwap::from_pointee(Table::empty(before.timeouts.clone())));
    let drains = Arc::new(Drains::new(|_| {}));
    let control = Control::start(&before, table, 1, drains, None);
    let control = control.await.unwrap();
    control.drain("web", &version("1")).unwrap();
    let first_byte = |name: &str| {
        let table = control.table();
        table.service(name).unwrap().timeouts.first_byte.as_secs()
    };
    let ids = || {
        let table = control.table();
        let endpoints = table.service("web").unwrap().endpoints();
        endpoints.map(|endpoint| endpoint.id).collect::<Vec<_>>()
    };
    assert_eq!((first_byte("web"), first_byte("own")), (60, 3));
    let (ids_before, own_before) = (ids(), control.table().service("own").unwrap().clone());

    let changed = control.read_file(&config("first_byte = \"7s\"")).await;
    assert!(changed.unwrap());
    assert_eq!((first_byte("web"), first_byte("own")), (7, 3));
    assert_eq!(ids(), ids_before);
    assert_eq!(live(&control), 1, "what was drained stays so");
    let own = control.table().service("own").unwrap().clone();
    assert!(Arc::ptr_eq(&own, &own_before), "it has its own");
}

#[test]
fn the_state_file_of_that_release_is_read() {
    let text = include_bytes!("../../tests/old_formats/state.json");
    let saved: saved::Saved = admin_api::strict::from_json(text).unwrap();
    let written = serde_json::to_value(&saved).unwrap();
    assert_eq!(
        written,
        serde_json::from_slice::<serde_json::Value>(text).unwrap()
    );
}

#[tokio::test]
async fn the_key_of_sticky_cookies_is_kept_handed_over_and_that_of_the_file_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let state = || Some(StateFile::new(path.clone()));
    let new = |config: &Config| {
        let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
        (table, Arc::new(Drains::new(|_| {})))
    };
    let start = |config: Config| async move {
        let (table, drains) = new(&config);
        let control = Control::start(&config, table, 1, drains, state());
        let control = control.await.unwrap();
        control.begin_saving().await;
        control
    };
    let key = |control: &Control| control.table().cookie_key.clone();
    let plain = "[[services]]\nname = \"web\"\n";
    let sticky = format!("{plain}sticky = {{ cookie = \"seat\" }}\n");

    let unused = start(config(plain)).await;
    let saved_key = || StateFile::new(path.clone()).load().unwrap().cookie_key;
    assert_eq!(saved_key(), None, "nothing needs a key");
    let another = start(config(plain)).await;
    assert_ne!(key(&unused), key(&another));
    let first = start(config(&sticky)).await;
    let again = start(config(&sticky)).await;
    assert_eq!(key(&first), key(&again), "a service of the file needs it");
    let later = start(config(plain)).await;
    assert_eq!(saved_key(), None);
    let spec = spec(r#"{"name":"web","sticky":{"cookie":"seat"}}"#);
    later.put(spec, None).await.unwrap();
    assert_eq!(saved_key(), Some(key(&later)), "a change needs it");

    let succeed = |config: Config, snapshot: HandoverSnapshot| async move {
        let (table, drains) = new(&config);
        let control = Control::succeed(&config, table, 1, drains, None, snapshot);
        control.await.unwrap()
    };
    let snapshot = |control: &Control| control.snapshot(None).1;
    let next = succeed(config(&sticky), snapshot(&first)).await;
    assert_eq!(key(&next), key(&first), "it is handed over");

    let file = folder.path().join("key");
    std::fs::write(&file, [7; 32]).unwrap();
    let shared = format!("[sticky]\nkey_file = {file:?}\n{sticky}");
    let of_file = start(config(&shared)).await;
    assert_ne!(key(&of_file), key(&first));
    let next = succeed(config(&shared), snapshot(&first)).await;
    assert_eq!(key(&next), key(&of_file));
    // The one before goes on with what the active process has.
    first.adopt(snapshot(&next)).unwrap();
    assert_eq!(key(&first), key(&of_file));
    assert_eq!(
        state_file::StateSource::all(&*of_file).cookie_key,
        None,
        "it is kept there alone"
    );
}
