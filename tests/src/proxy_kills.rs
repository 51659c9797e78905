//! The proxy is killed while clients connect, each request over a connection of its own: the next
//! process gets them all, but for those whose request the killed one had.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::{TestProject, wait_until};

/// Connections a second, where a test has files for a second's worth of them and more.
pub(crate) const RATE: u32 = 500;
/// The same beside other tests in one process.
pub(crate) const BESIDE_OTHERS: u32 = 50;
/// How long clients may wait for the standby of a proxy that was killed. The limit is 150 ms, which
/// `make soak` measures; programs without optimisation took 55 to 149 ms on two busy cores.
pub const FIRST_RESPONSE: Duration = match cfg!(debug_assertions) {
    true => Duration::from_millis(400),
    false => Duration::from_millis(150),
};
/// A response that takes longer is none.
const LONGEST: Duration = Duration::from_secs(20);
/// How long requests go on after the proxy is back.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// What clients saw of a killed proxy.
#[derive(Debug, Default)]
pub(crate) struct Killed {
    /// Requests that were begun.
    pub(crate) requests: u64,
    /// Connections that were refused.
    pub(crate) refused: u64,
    /// Requests that the killed process may have had.
    pub(crate) in_flight: u64,
    /// Others that failed, and why.
    pub(crate) failed: Vec<String>,
    /// From the kill to the first response to a request that came after it.
    pub(crate) first_response: Duration,
}

/// One request.
struct Tried {
    began: Instant,
    ended: Instant,
    got: io::Result<()>,
}

/// Kills the proxy under load, once it has a standby, and waits until that serves.
pub(crate) async fn kill(project: &TestProject, rate: u32) -> Killed {
    let address = project.address;
    let is_serving = || async { one(address).await.is_ok() };
    wait_until("clients are served", is_serving).await;
    project.until_standby().await;
    let (stop, stopped) = watch::channel(false);
    // A thread of its own: whatever kills the proxy may block this one.
    let load = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(load(address, rate, stopped))
    });
    tokio::time::sleep(AFTERWARDS).await;
    let killed = Instant::now();
    project.kill_proxy();
    let dead = Instant::now();
    wait_until("clients are served again", is_serving).await;
    tokio::time::sleep(AFTERWARDS).await;
    stop.send_replace(true);
    let tried = tokio::task::spawn_blocking(move || load.join());
    let tried = tried.await.expect("it does not panic");
    judge(tried.expect("it does not panic"), killed, dead)
}

/// Sends requests until it is told to stop, and waits for their responses.
async fn load(address: SocketAddr, rate: u32, mut stopped: watch::Receiver<bool>) -> Vec<Tried> {
    let mut clock = interval(Duration::from_secs(1) / rate);
    let mut trying = JoinSet::new();
    loop {
        tokio::select! {
            _ = clock.tick() => {
                trying.spawn(async move {
                    let began = Instant::now();
                    let got = one(address).await;
                    let ended = Instant::now();
                    Tried { began, ended, got }
                });
            }
            _ = stopped.changed() => return trying.join_all().await,
        }
    }
}

/// One request over a connection of its own.
async fn one(address: SocketAddr) -> io::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        match response.as_str() {
            "" => Err(ErrorKind::UnexpectedEof.into()),
            good if good.starts_with("HTTP/1.1 200 ") => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    };
    match timeout(LONGEST, exchange).await {
        Ok(got) => got,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

fn judge(tried: Vec<Tried>, killed: Instant, dead: Instant) -> Killed {
    let mut judged = Killed {
        requests: tried.len() as u64,
        first_response: LONGEST,
        ..Killed::default()
    };
    for Tried { began, ended, got } in tried {
        match got {
            Ok(()) if began > dead => {
                let after = ended.duration_since(killed);
                judged.first_response = judged.first_response.min(after);
            }
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => judged.refused += 1,
            // What it said itself is no request that was cut.
            Err(error) if began <= dead && error.kind() != ErrorKind::Other => {
                judged.in_flight += 1;
            }
            Err(error) => judged.failed.push(error.to_string()),
        }
    }
    judged
}
