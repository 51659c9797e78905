//! What podman's API responds in the moments that real containers rarely show.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fake::{FakeApi, FakeResponse};
use super::*;

const GONE: &str = r#"{"message":"container 0a1b does not exist in database: no such container"}"#;
const UNKNOWN: &str = r#"{"message":"no container with name or ID \"0a1b\" found"}"#;
const ONE: &[(u16, &str)] = &[(200, r#"[{"Id":"0a1b"}]"#)];

/// A podman that gives these responses to a list of its containers, and these to an inspection
/// for the one that there is: one after the other, the last for ever.
fn api(list: &'static [(u16, &str)], one: &'static [(u16, &str)]) -> FakeApi {
    let calls = [AtomicUsize::new(0), AtomicUsize::new(0)];
    FakeApi::start(move |_, path| {
        let (responses, calls) = match path {
            "/containers/json" => (list, &calls[0]),
            "/containers/0a1b/json" => (one, &calls[1]),
            _ => return FakeResponse::text(200, "{}"),
        };
        let turn = calls.fetch_add(1, Ordering::Relaxed);
        let (status, body) = responses[turn.min(responses.len() - 1)];
        FakeResponse::text(status, body)
    })
}

#[tokio::test]
async fn a_container_that_goes_while_it_is_looked_at_is_gone_and_no_error() {
    let api = api(ONE, &[(500, GONE), (404, UNKNOWN)]);
    let podman = api.podman().await;
    assert_eq!(podman.list().await.expect("listed"), []);
    podman.stop("0a1b").await.expect("stopped already");
}

#[tokio::test]
async fn a_list_that_fails_while_one_goes_is_fetched_again() {
    let api = api(&[(500, GONE), (200, "[]")], &[(404, UNKNOWN)]);
    assert_eq!(api.podman().await.list().await.expect("listed"), []);
}

#[tokio::test]
async fn an_engine_that_fails_to_look_says_nothing_about_the_container() {
    let api = api(ONE, &[(500, r#"{"message":"layer not known"}"#)]);
    let listed = api.podman().await.list().await;
    let error = crate::error::Error::from(listed.expect_err("it cannot"));
    assert_eq!(error.fault(), crate::error::Fault::Environment, "{error}");
    assert!(error.to_string().contains("layer not known"), "{error}");
}

#[tokio::test]
async fn a_name_that_podman_keeps_for_what_it_does_not_show_is_taken() {
    // What podman 4 and podman 5 say.
    for words in [
        r#"error creating container storage: the container name \"web-1\" is already in use by \"0a1b\". You have to remove that container to be able to reuse that name.: that name is already in use"#,
        r#"creating container storage: the container name \"web-1\" is already in use by 0a1b. You have to remove that container to be able to reuse that name: that name is already in use, or use --replace to instruct Podman to do so."#,
    ] {
        let api = FakeApi::start(move |_, path| match path {
            "/containers/create" => FakeResponse::text(500, &format!(r#"{{"message":"{words}"}}"#)),
            "/containers/web-1/json" => FakeResponse::text(404, UNKNOWN),
            _ => FakeResponse::text(200, "{}"),
        });
        let started = api.podman().await.start(&spec::tests::spec(&[])).await;
        let error = started.expect_err("the name is taken");
        assert!(
            matches!(&error, RuntimeError::NameTaken { name, .. } if name == "web-1"),
            "{error}"
        );
        assert!(error.to_string().contains("in use by"), "{error}");
    }
}

/// How often its containers have been listed.
fn lists(api: &FakeApi) -> usize {
    let calls = api.calls();
    calls
        .iter()
        .filter(|call| call.ends_with("/containers/json"))
        .count()
}

/// Lists until no other list is needed for it: then podman is taken to listen.
async fn until_it_listens(podman: &Podman, api: &FakeApi) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        podman.last_list().await.expect("listed");
        let before = lists(api);
        podman.last_list().await.expect("listed");
        if lists(api) == before {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn podman_is_queried_no_more_while_it_tells_of_every_change() {
    let api = FakeApi::start(|_, path| match path {
        "/events" => FakeResponse::open(""),
        "/containers/json" => FakeResponse::text(200, "[]"),
        _ => FakeResponse::text(404, UNKNOWN),
    });
    let podman = Arc::new(api.podman().await);
    let (watched, changed) = (podman.clone(), Arc::new(Notify::new()));
    let watch = tokio::spawn(async move { watched.watch(&changed).await });
    until_it_listens(&podman, &api).await;
    let before = lists(&api);
    for _ in 0..100 {
        podman.last_list().await.expect("listed");
    }
    assert_eq!(lists(&api), before, "nothing has changed");
    podman.list().await.expect("listed");
    assert_eq!(lists(&api), before + 1, "who wants to know it now");
    podman.stop("0a1b").await.expect("it is not there");
    podman.last_list().await.expect("listed");
    assert_eq!(lists(&api), before + 2, "after a change of ours");
    watch.abort();
    assert!(watch.await.is_err());
    for more in 3..6 {
        podman.last_list().await.expect("listed");
        assert_eq!(lists(&api), before + more, "nothing tells of changes");
    }
}

#[tokio::test]
async fn an_event_ends_the_last_list() {
    const START: &str = "{\"Type\":\"container\",\"Action\":\"start\"}\n";
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let api = FakeApi::start(move |_, path| match path {
        "/events" if receiver.lock().unwrap().try_recv().is_ok() => FakeResponse::open(START),
        "/events" => FakeResponse::open(""),
        "/containers/json" => FakeResponse::text(200, "[]"),
        _ => FakeResponse::text(404, UNKNOWN),
    });
    let podman = api.podman().await;
    let listening = podman.listing.listen();
    podman.list().await.expect("listed");
    let before = lists(&api);
    sender.send(()).expect("there");
    let docker = podman
        .service
        .call(async |docker| Ok(docker))
        .await
        .expect("there");
    let changed = Notify::new();
    let events = podman.follow_events(&docker, &changed);
    let queried = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while lists(&api) == before {
            podman.last_list().await.expect("listed");
            assert!(
                tokio::time::Instant::now() < deadline,
                "the event changes nothing"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = events => panic!("the stream has ended"),
        () = queried => {}
    }
    drop(listening);
}
