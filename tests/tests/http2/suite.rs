//! A suite that every server passes says nothing: each of its cases fails with a server that
//! hangs up, or with one that lets everything through.

use std::net::SocketAddr;

use tests::http2::cases::SECTIONS;
use tests::http2::connection::PREFACE;
use tests::http2::frame::{self, Frame, HEAD, data, flag, headers, kind, setting, settings};
use tests::http2::run;
use tests::{Heard, ScriptedEndpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq)]
enum Server {
    HangsUp,
    LetsEverythingThrough,
}

impl Server {
    async fn start(self) -> ScriptedEndpoint {
        ScriptedEndpoint::start(move |_, heard| async move {
            // A client that is gone is none of this server's concern.
            let _ = self.serve(heard).await;
        })
        .await
    }

    async fn serve(self, mut heard: Heard) -> std::io::Result<()> {
        let stream = &mut heard.stream;
        let opening = settings(&[(setting::MAX_CONCURRENT_STREAMS, 10)]);
        stream.write_all(&opening.bytes()).await?;
        stream.read_exact(&mut [0; PREFACE.len()]).await?;
        loop {
            let mut head = [0; HEAD];
            stream.read_exact(&mut head).await?;
            let mut payload = vec![0; frame::number(&[0, head[0], head[1], head[2]], 0) as usize];
            stream.read_exact(&mut payload).await?;
            let stream_id = frame::number(&head, 5);
            let frame = Frame::new(head[3], head[4], stream_id, payload);
            for response in self.response(&frame) {
                stream.write_all(&response.bytes()).await?;
            }
            if self == Self::HangsUp && frame.kind == kind::SETTINGS {
                return Ok(());
            }
        }
    }

    fn response(self, frame: &Frame) -> Vec<Frame> {
        let acknowledges = matches!(frame.kind, kind::SETTINGS | kind::PING);
        if acknowledges && !frame.has(flag::ACK) {
            let payload = if frame.kind == kind::PING {
                frame.payload.clone()
            } else {
                Vec::new()
            };
            return vec![Frame::new(frame.kind, flag::ACK, 0, payload)];
        }
        let carries = matches!(frame.kind, kind::HEADERS | kind::DATA | kind::CONTINUATION);
        if carries && frame.has(flag::END_STREAM) {
            // `:status: 200`, of the static table.
            let head = headers(flag::END_HEADERS, frame.stream, [0x88]);
            return vec![head, data(flag::END_STREAM, frame.stream, [b'x'; 2000])];
        }
        Vec::new()
    }
}

/// The names of the cases that this server passes, from all sections at once.
async fn passed(address: SocketAddr) -> Vec<&'static str> {
    let mut running = JoinSet::new();
    for (_, cases) in SECTIONS {
        running.spawn_blocking(move || {
            let failures = run(address, cases).failures;
            let failed = |name| failures.iter().any(|(case, _)| case.name == name);
            let names = cases.iter().map(|case| case.name);
            names.filter(|name| !failed(*name)).collect::<Vec<_>>()
        });
    }
    running.join_all().await.concat()
}

#[tokio::test]
async fn no_case_is_passed_both_by_hanging_up_and_by_letting_everything_through() {
    let hangs_up = Server::HangsUp.start().await;
    let lenient = Server::LetsEverythingThrough.start().await;
    let (by_hanging_up, by_letting_through) =
        tokio::join!(passed(hangs_up.address), passed(lenient.address));
    assert!(by_hanging_up.len() > 50 && by_letting_through.len() > 50);
    let by_both = by_hanging_up
        .iter()
        .filter(|name| by_letting_through.contains(name));
    // Both of them begin with SETTINGS, as is right.
    assert_eq!(by_both.collect::<Vec<_>>(), [&"3.4/1"]);
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut names: Vec<&str> = SECTIONS
        .iter()
        .flat_map(|(_, cases)| cases.iter().map(|case| case.name))
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
