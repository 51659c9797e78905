//! The plan of the load generator for a workload.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::contender::Contender;
use crate::error::Result;
use crate::h2::Blocks;
use crate::mixed;
use crate::plan::{Closing, Plan, Requests};
use crate::tls::{self, HOST, Handshakes};
use crate::work::Work;

impl Work {
    /// The plan of the load generator.
    pub(crate) fn plan(self, contender: &Contender, target: SocketAddr) -> Result<Plan> {
        let http2 = |blocks| Requests::Http2 {
            blocks: Rc::new(blocks),
            streams: self.streams(),
        };
        let requests = match self {
            Self::H2 => http2(Blocks::get(HOST, "/small")),
            Self::Grpc => http2(Blocks::grpc(HOST)),
            _ => Requests::Http1(self.requests(contender)),
        };
        let tls = match self {
            Self::Tls | Self::Handshake => Some(tls::client("http/1.1", Handshakes::Full)?),
            Self::Resume => Some(tls::client("http/1.1", Handshakes::Resumed)?),
            Self::H2 => Some(tls::client("h2", Handshakes::Full)?),
            _ => None,
        };
        Ok(Plan {
            target,
            connections: self.connections(),
            requests,
            upload: match self {
                Self::Upload => self.request_body(),
                _ => 0,
            },
            tls,
            pace: self.pace(),
            closing: self.closing(),
        })
    }

    /// The requests over HTTP/1.1.
    pub(crate) fn requests(self, contender: &Contender) -> Rc<[Vec<u8>]> {
        if self == Self::Mixed {
            let steps = mixed::script();
            let request = |step: &mixed::Step| self.get(&format!("/mixed/{}", step.size), HOST);
            return steps.iter().map(request).collect();
        }
        let hosts = contender.hosts();
        hosts.iter().map(|host| self.request(host)).collect()
    }

    fn request(self, host: &str) -> Vec<u8> {
        match self {
            Self::Medium => self.get("/10k", host),
            Self::Large => self.get("/1m", host),
            Self::Post => {
                let mut request = self.post(host);
                let length = usize::try_from(self.request_body()).unwrap_or(0);
                request.resize(request.len() + length, b'x');
                request
            }
            // Its body is too large to be kept.
            Self::Upload => self.post(host),
            _ => self.get("/small", host),
        }
    }

    fn get(self, path: &str, host: &str) -> Vec<u8> {
        let more = match self.closing() {
            Closing::ByServer => "Connection: close\r\n",
            Closing::Never | Closing::ByClient => "",
        };
        head(&format!("GET {path}"), host, more)
    }

    fn post(self, host: &str) -> Vec<u8> {
        let length = self.request_body();
        let more =
            format!("Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n");
        head("POST /sink", host, &more)
    }
}

fn head(line: &str, host: &str, more: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: crossfade-bench\r\nAccept: */*\r\n{more}\r\n")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    use crate::peers::{Installed, Peer};
    use crate::plan::Pace;

    fn plan(work: Work) -> Plan {
        let installed = Installed {
            peer: Peer::Crossfade,
            program: None,
            version: String::new(),
        };
        let contenders = work.contenders(&[installed]);
        work.plan(&contenders[0], "127.0.0.1:80".parse().unwrap())
            .unwrap()
    }

    fn texts(work: Work) -> Vec<String> {
        match plan(work).requests {
            Requests::Http1(requests) => requests
                .iter()
                .map(|request| String::from_utf8(request.clone()).unwrap())
                .collect(),
            Requests::Http2 { .. } => panic!("{} is HTTP/2", work.name()),
        }
    }

    #[test]
    fn every_workload_has_a_plan() {
        for work in Work::value_variants() {
            let plan = plan(*work);
            assert!(plan.connections > 0, "{}", work.name());
            let is_http2 = matches!(work, Work::H2 | Work::Grpc);
            assert_eq!(plan.requests.is_multiplexed(), is_http2, "{}", work.name());
        }
    }

    #[test]
    fn a_post_has_a_body_of_its_content_length() {
        let post = &texts(Work::Post)[0];
        let (head, body) = post.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Length: 16384"));
        assert_eq!(body.len(), 16_384);
    }

    #[test]
    fn an_upload_announces_a_gibibyte_and_streams_it() {
        let plan = plan(Work::Upload);
        assert_eq!(plan.upload, 1 << 30);
        let text = &texts(Work::Upload)[0];
        assert!(
            text.ends_with("Content-Length: 1073741824\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn churn_closes_connections_that_the_proxy_would_keep() {
        let churn = plan(Work::Churn);
        assert_eq!(churn.closing, Closing::ByClient);
        assert_eq!(churn.pace, Pace::Rate(10_000.0));
        assert!(!texts(Work::Churn)[0].contains("Connection:"));
        assert!(texts(Work::Connect)[0].contains("Connection: close"));
    }

    #[test]
    fn grpc_has_64_streams_on_each_connection() {
        let plan = plan(Work::Grpc);
        assert!(plan.tls.is_none());
        assert!(matches!(plan.requests, Requests::Http2 { streams: 64, .. }));
    }

    #[test]
    fn mixed_has_a_think_time_for_each_request() {
        let plan = plan(Work::Mixed);
        let Pace::Think(times) = plan.pace else {
            panic!("mixed does not think");
        };
        let requests = texts(Work::Mixed);
        assert_eq!(times.len(), requests.len());
        assert!(requests[0].starts_with("GET /mixed/"));
    }
}
