//! The admin API of a project's proxy, as a client with the token sees it.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;

use crate::reply::{send_on, try_send};
use crate::{Reply, TestProject, wait_until, within};

/// Within this, a proxy that runs has responded.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The proxy's admin API, with the token.
pub struct AdminPort {
    at: At,
    authorization: String,
}

/// Where it is.
enum At {
    /// On a unix socket, where the manifest of its `up` names no port.
    Socket(PathBuf),
    Port(SocketAddr),
}

impl AdminPort {
    /// That of a project's proxy.
    pub fn of(project: &TestProject) -> Self {
        let folder = project.state().join("proxy");
        let token = std::fs::read_to_string(folder.join("token"));
        // The manifest may be another one by now.
        let config = std::fs::read_to_string(folder.join("proxy.toml"));
        let config = config.expect("the proxy was told where its admin API is");
        Self {
            at: match config.contains("listen = \"unix:") {
                true => At::Socket(folder.join("admin.sock")),
                false => At::Port(project.admin),
            },
            authorization: format!("Bearer {}", token.expect("the controller made one").trim()),
        }
    }

    /// Its response. It has to respond.
    pub async fn get(&self, path: &str) -> Value {
        let headers = [("authorization", self.authorization.as_str())];
        good(&self.send("GET", path, &headers, "").await)
    }

    /// Its response to a call with these headers, and no token beside them.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let what = format!("{method} {path} of the admin API");
        let reply = within(&what, self.try_send((method, path), headers, body)).await;
        reply.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    async fn try_send(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, Box<dyn Error>> {
        match &self.at {
            At::Port(address) => try_send(*address, method, path, headers, body).await,
            At::Socket(socket) => {
                let stream = UnixStream::connect(socket).await?;
                send_on(stream, "proxy", (method, path), headers, body).await
            }
        }
    }

    /// Its response while its proxy may be about to die or to come: `None` where that is no
    /// response, or none at once. What is sent into a network that is being taken away is lost.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        let headers = [("authorization", self.authorization.as_str())];
        let exchange = self.try_send(("GET", path), &headers, "");
        let reply = tokio::time::timeout(AT_ONCE, exchange).await.ok()?.ok()?;
        Some(good(&reply))
    }

    /// Waits until service `web` is as `holds` wants it.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        wait_until(what, || async {
            holds(&self.get("/v1/services/web").await)
        })
        .await;
    }

    /// Attempts of all versions so far.
    pub async fn requests(&self) -> u64 {
        let stats = self.get("/v1/services/web/stats").await;
        let stats: admin_api::ServiceStats =
            serde_json::from_value(stats).expect("figures of a service");
        stats
            .versions
            .values()
            .map(admin_api::VersionStats::attempts)
            .sum()
    }

    /// The version and address of each endpoint of `web` that may get requests, in order; none
    /// where nothing responds.
    pub async fn endpoints(&self) -> Vec<(String, String)> {
        let Some(web) = self.try_get("/v1/services/web").await else {
            return Vec::new();
        };
        let view: admin_api::ServiceView = serde_json::from_value(web).expect("a service");
        let mut endpoints = Vec::new();
        for (version, of) in view.versions {
            let live = of.endpoints.into_iter();
            let live = live.filter(|one| one.health != admin_api::HealthState::Draining);
            endpoints.extend(live.map(|one| (version.clone(), one.address)));
        }
        endpoints.sort();
        endpoints
    }
}

/// The content of a response, which has to be a 200.
fn good(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}
