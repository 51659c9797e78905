//! An endpoint that does exactly what a test tells it, down to the bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener that hands each connection, by its number, to the test's own code.
pub struct ScriptedEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// One connection, which notes what it hears.
pub struct Heard {
    /// The connection itself.
    pub stream: TcpStream,
    heard: Arc<Mutex<Vec<String>>>,
}

impl ScriptedEndpoint {
    /// Runs `script` for each connection, with its number from 0 on.
    pub async fn start<F>(script: impl Fn(usize, Heard) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        let task = tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(script(
                    number,
                    Heard {
                        stream,
                        heard: notes.clone(),
                    },
                ));
            }
        });
        Self {
            address,
            heard,
            task,
        }
    }

    /// The heads of all requests so far, in the order in which they came.
    pub fn heard(&self) -> Vec<String> {
        self.heard
            .lock()
            .expect("no script panics while it notes")
            .clone()
    }
}

impl Drop for ScriptedEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Heard {
    /// Reads the head of a request. `None`: the connection was closed before.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.heard
            .lock()
            .expect("no script panics while it notes")
            .push(head.clone());
        Some(head)
    }

    /// Sends bytes; a connection that is gone is the proxy's business.
    pub async fn say(&mut self, bytes: &str) {
        let _ = self.stream.write_all(bytes.as_bytes()).await;
    }
}
