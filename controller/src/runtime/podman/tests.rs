//! What podman's API answers in the moments that real containers seldom show.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;

/// What is answered at the paths that end like this: one after the other, the last for ever.
type Answers = [(&'static str, &'static [(u16, &'static str)])];

/// A podman of which nothing is there but its answers.
async fn podman(answers: &'static Answers) -> (Podman, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("podman.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let asked: Arc<Vec<AtomicUsize>> = Arc::new(answers.iter().map(|_| 0.into()).collect());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            let asked = asked.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(answers, &asked, request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let podman = Podman {
        project: "shop".to_owned(),
        network: "shop".to_owned(),
        service: Service::at(vec![socket], None).await.expect("it answers"),
    };
    (podman, folder)
}

fn answer(answers: &Answers, asked: &[AtomicUsize], path: &str) -> Response<Full<Bytes>> {
    let of = answers.iter().position(|(end, _)| path.ends_with(end));
    let (status, text) = match of {
        Some(of) => {
            let (_, all) = answers[of];
            let turn = asked[of].fetch_add(1, Ordering::Relaxed);
            all[turn.min(all.len() - 1)]
        }
        None => (200, r#"{"ApiVersion":"1.41"}"#),
    };
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

const GONE: &str = r#"{"message":"container 0a1b does not exist in database: no such container"}"#;
const UNKNOWN: &str = r#"{"message":"no container with name or ID \"0a1b\" found"}"#;
const LIST: (&str, &[(u16, &str)]) = ("/containers/json", &[(200, r#"[{"Id":"0a1b"}]"#)]);

#[tokio::test]
async fn a_container_that_goes_while_it_is_looked_at_is_gone_and_no_error() {
    let (podman, _folder) = podman(&[
        LIST,
        ("/containers/0a1b/json", &[(500, GONE), (404, UNKNOWN)]),
    ])
    .await;
    assert_eq!(podman.list().await.expect("listed"), []);
    podman.stop("0a1b").await.expect("stopped already");
}

#[tokio::test]
async fn a_list_that_fails_while_one_goes_is_asked_for_again() {
    let (podman, _folder) = podman(&[("/containers/json", &[(500, GONE), (200, "[]")])]).await;
    assert_eq!(podman.list().await.expect("listed"), []);
}

#[tokio::test]
async fn an_engine_that_fails_to_look_says_nothing_about_the_container() {
    let (podman, _folder) = podman(&[
        LIST,
        (
            "/containers/0a1b/json",
            &[(500, r#"{"message":"layer not known"}"#)],
        ),
    ])
    .await;
    let error = crate::error::Error::from(podman.list().await.expect_err("it cannot"));
    assert!(error.is_ours(), "{error}");
    assert!(error.to_string().contains("layer not known"), "{error}");
}
