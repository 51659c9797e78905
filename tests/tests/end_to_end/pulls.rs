//! Images that are not on this host, by an engine that says what the test wants.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tests::{On, Settings, TestProject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const IMAGE: &str = "registry.test/shop/web:1.0.0";
/// A pull that ends in the middle of a layer.
const HALF: &str = "{\"status\":\"Trying to pull registry.test/shop/web:1.0.0...\"}\n\
    {\"id\":\"ab12\",\"status\":\"Copying blob\",\"progressDetail\":{\"current\":5,\"total\":10}}\n\
    {\"error\":\"reset\",\"errorDetail\":{\"message\":\"read: connection reset by peer\"}}\n";

/// An engine without any image, which pulls half of each.
struct Engine {
    folder: TempDir,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Engine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(socket(folder.path())).unwrap();
        let log = sent.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(response(stream, log.clone()));
            }
        });
        Self { folder, sent }
    }

    fn host(&self) -> String {
        format!("unix://{}", socket(self.folder.path()).display())
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("engine.sock")
}

async fn response(mut stream: UnixStream, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let call = head.lines().next().unwrap_or_default().to_owned();
    let (status, body) = if call.contains("/images/create") {
        (200, HALF)
    } else if call.contains("/images/") {
        (404, r#"{"message":"no such image"}"#)
    } else if call.contains("/json") {
        (200, "[]")
    } else {
        (200, r#"{"ApiVersion":"1.41","Version":"4.3.1"}"#)
    };
    log.lock().unwrap().push(call);
    let text = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The caller may have gone.
    let _ = stream.write_all(text.as_bytes()).await;
}

#[tokio::test]
async fn an_up_whose_pull_fails_half_way_says_so_and_leaves_nothing() {
    let engine = Engine::start();
    let project = TestProject::new(On::Processes, &Settings::default());
    let good = project.manifest(&Settings::default());
    let podman = good.replace("\"process\"", "\"podman\"");
    project.write_manifest(&podman.replace("crossfade-sample-server", IMAGE));
    let host = engine.host();
    let up = project.start_with(&["up"], &[("CONTAINER_HOST", &host)]);
    let finished = up.finished().await;
    assert_eq!(finished.code, Some(69), "{finished:#?}");
    assert_eq!(finished.stdout, "", "{finished:#?}");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    let says = format!(
        "error: {}:10: services[0].image: service `web`: there is no image `{IMAGE}` on this host, \
         and it cannot be pulled: read: connection reset by peer",
        project.file().display()
    );
    assert_eq!(lines, [format!("pulling {IMAGE}"), says]);
    let sent = engine.sent.lock().unwrap().clone();
    let begun = |call: &&String| call.contains("/containers/create") || call.contains("/networks");
    assert_eq!(sent.iter().find(begun), None, "{sent:#?}");
    project.until_nothing_is_left().await;
    // What is cleared away afterwards needs no engine.
    project.write_manifest(&good);
}
