//! A minimal proxy on pingora: every request goes to one origin.
//!
//! `crossfade-bench-pingora LISTEN ORIGIN WORKERS`

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct ToOrigin(SocketAddr);

#[async_trait]
impl ProxyHttp for ToOrigin {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, origin, workers] = arguments.as_slice() else {
        return Err("usage: crossfade-bench-pingora LISTEN ORIGIN WORKERS".into());
    };
    let conf = ServerConf {
        threads: workers.parse()?,
        // The default keeps 128 idle connections to the origin.
        upstream_keepalive_pool_size: 1024,
        // Nothing is in flight at the stop.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, ToOrigin(origin.parse()?));
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
