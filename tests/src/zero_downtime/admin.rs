//! The admin API on one kept connection, for rows that call it hundreds of times a second.

use std::net::SocketAddr;
use std::time::Duration;

use admin_api::DrainReceipt;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::origin::Origin;
use super::wire::{ResponseHead, Wire};
use crate::within;

/// A caller of the admin API.
pub(super) struct Admin {
    address: SocketAddr,
    wire: Option<Wire>,
}

impl Admin {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            wire: None,
        }
    }

    /// A call. Nothing: the proxy is gone, before or in the middle of it.
    pub(super) async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (host, length) = (self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let call = async {
            if let Some(wire) = self.wire.take() {
                // The proxy closes it when it was idle for long. Every call can be repeated.
                let response = self.send(wire, &request).await;
                if response.is_some() {
                    return response;
                }
            }
            let stream = TcpStream::connect(self.address).await.ok()?;
            self.send(Wire::new(stream).ok()?, &request).await
        };
        within(&format!("{method} {path}"), call).await
    }

    async fn send(&mut self, mut wire: Wire, request: &str) -> Option<(u16, Value)> {
        wire.send(request.as_bytes()).await.ok()?;
        let head = ResponseHead::parse(&wire.head().await.ok()??).expect("a response");
        let body = wire.body(head.length).await.ok()?;
        let value = serde_json::from_slice(&body).expect("JSON");
        self.wire = (!head.close).then_some(wire);
        Some((head.status, value))
    }

    /// A call that has to succeed.
    pub(super) async fn must(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let (status, value) = self
            .call(method, path, body)
            .await
            .unwrap_or_else(|| panic!("{method} {path} {body}: no response"));
        assert_eq!(status, 200, "{method} {path} {body}: {value}");
        value
    }

    /// Sets service `web`.
    pub(super) async fn put_web(&mut self, web: &Value) {
        self.must("PUT", "/v1/services/web", web).await;
    }

    /// Sets the split of service `web` to so much for version 1 and so much for version 2.
    pub(super) async fn split(&mut self, one: u32, two: u32) {
        let split = json!({"split": {"1": one, "2": two}});
        self.must("PUT", "/v1/services/web/split", &split).await;
    }

    /// Drains what `target` names, and waits for the receipt.
    pub(super) async fn drain(&mut self, target: &Value) -> DrainReceipt {
        let path = "/v1/services/web/drain?wait=20s";
        let receipt = self.must("POST", path, target).await;
        serde_json::from_value(receipt).expect("a receipt")
    }

    /// The table's generation.
    pub(super) async fn generation(&mut self) -> u64 {
        let status = self.must("GET", "/v1/status", &Value::Null).await;
        status["generation"].as_u64().expect("a number")
    }
}

/// What the admin API takes for an endpoint.
pub(super) fn endpoint(origin: &Origin, version: &str) -> Value {
    json!({"address": origin.address.to_string(), "version": version})
}

/// A health check that sees what happens soon.
pub(super) fn health() -> Value {
    json!({
        "path": super::HEALTH, "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 2,
    })
}

/// How long calls took.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
