//! An API of podman's that says what a test wants, on a unix socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::Podman;
use super::listing::Listing;
use super::service::Service;

/// The response.
pub(super) struct FakeResponse {
    status: u16,
    body: String,
    /// The connection ends before the body does.
    cut: bool,
    /// The connection stays open after the body, which goes on.
    open: bool,
}

impl FakeResponse {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            body: body.to_owned(),
            cut: false,
            open: false,
        }
    }

    /// A stream that has this so far, until the client goes.
    pub(super) fn open(body: &str) -> Self {
        Self {
            open: true,
            ..Self::text(200, body)
        }
    }

    pub(super) fn cut(body: &str) -> Self {
        Self {
            cut: true,
            ..Self::text(200, body)
        }
    }
}

type Script = dyn Fn(&str, &str) -> FakeResponse + Send + Sync;

/// It, until it is dropped.
pub(super) struct FakeApi {
    socket: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl FakeApi {
    /// Responds to every call, by its method and its path without the API's version, as `script`
    /// says.
    pub(super) fn start(
        script: impl Fn(&str, &str) -> FakeResponse + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("podman.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), calls.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(response(stream, script.clone(), log.clone()));
            }
        });
        Self {
            socket,
            calls,
            _folder: folder,
        }
    }

    /// A runtime that asks it.
    pub(super) async fn podman(&self) -> Podman {
        Podman {
            project: "shop".to_owned(),
            network: "shop".to_owned(),
            service: Service::at(vec![self.socket.clone()], None).await.unwrap(),
            listing: Listing::default(),
        }
    }

    /// Every call, as `POST /images/create`.
    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

async fn response(mut stream: UnixStream, script: Arc<Script>, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    // A connection that is closed before everything was read is reset.
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    // `/v1.41/images/create`
    let path = match path
        .strip_prefix("/v1.")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
    {
        Some(rest) => rest,
        None => path,
    };
    log.lock().unwrap().push(format!("{method} {path}"));
    let response = match path {
        "/_ping" => FakeResponse::text(200, "OK"),
        "/version" => FakeResponse::text(200, r#"{"ApiVersion":"1.41","Version":"4.3.1"}"#),
        _ => script(method, path),
    };
    let length = response.body.len() + usize::from(response.cut || response.open);
    let text = format!(
        "HTTP/1.1 {} -\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{}",
        response.status, response.body
    );
    // The client may have gone.
    let _ = stream.write_all(text.as_bytes()).await;
    if response.open {
        let _ = stream.read(&mut [0]).await;
    }
}
