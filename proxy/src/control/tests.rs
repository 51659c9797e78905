//! Changes of the table: those that fail, those that follow a drain, and reloads.

use super::*;
use crate::control::drain::DrainTarget;
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
    let table = control.table();
    assert!(table.service("tls").is_none() && table.service("web").is_some());
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
    let saved: Saved = admin_api::strict::from_json(text).unwrap();
    assert!(saved.is_readable());
    let written = serde_json::to_value(&saved).unwrap();
    assert_eq!(
        written,
        serde_json::from_slice::<serde_json::Value>(text).unwrap()
    );
}
