//! The rollout race: the same rollout under the same load, by crossfade's admin API and by reloads
//! of a rewritten config. It counts what the clients observe.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::accounting::tree;
use crate::client::{BlockingClient, open_idle};
use crate::contender::Contender;
use crate::error::{Context, Error, Result};
use crate::load::Load;
use crate::peers::{Peer, Setup, Variant};
use crate::plan::{Closing, End, Exchange, Failure, Outcome, Pace, Plan, Requests};
use crate::progress::Progress;
use crate::test_env::{Started, TestEnv};
use crate::work::Work;

/// The load: requests a second, and connections.
const RATE: f64 = 1_000.0;
const CONNECTIONS: usize = 32;
/// Keep-alive connections that are idle during the rollout.
const IDLE: usize = 200;
/// WebSockets that are open during the rollout.
const WEBSOCKETS: usize = 20;
/// The time between two steps.
const STEP: Duration = Duration::from_millis(1_500);
/// The duration of the load: three steps, the checks after them, and some time more.
const RACE: Duration = Duration::from_millis(7_500);

/// The steps: the share of version 2 in percent. The last step removes version 1.
const STEPS: [u32; 3] = [10, 50, 100];

/// A handshake with the key of RFC 6455's example, and a masked frame with the text "hi".
const UPGRADE: &[u8] = b"GET /socket HTTP/1.1\r\nHost: bench.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const FRAME: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const REPLY: &[u8] = &[0x81, 2, b'o', b'k'];

/// What the clients of one proxy observed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Race {
    /// The proxy and the method.
    pub(crate) label: String,
    /// The number of requests of the load.
    pub(crate) requests: u64,
    /// Requests without a response of status 200.
    pub(crate) failed: u64,
    /// Failed requests that a careful client may retry: a reused connection was closed before the
    /// first byte of a response.
    pub(crate) retriable: u64,
    /// Idle keep-alive connections that were closed, of 200.
    pub(crate) idle_closed: usize,
    /// Requests that were sent after the removal of version 1, and went to it all the same.
    pub(crate) stale: u64,
    /// How long after the removal the last of them was sent, in milliseconds.
    pub(crate) stale_for_ms: f64,
    /// WebSockets that were cut, of 20.
    pub(crate) websockets_cut: usize,
    /// Additional processes after the rollout, while the WebSockets are still open.
    pub(crate) left_over: usize,
    /// The worst latency, in milliseconds.
    pub(crate) worst_ms: f64,
}

/// Runs the race of one contender.
pub(crate) fn run(
    env: &TestEnv,
    number: usize,
    contender: &Contender,
    progress: &Progress,
) -> Result<Race> {
    progress.set_message("race", &contender.label);
    let setup = env.setup(number, contender)?;
    let rollout = Rollout::start(env, setup, contender)?;
    let target = rollout.started.target;
    let requests = Work::Race.requests(contender);
    let request = requests.first().cloned().unwrap_or_default();

    let idle = open_idle(target, IDLE, &request)?;
    let websockets: Vec<BlockingClient> = (0..WEBSOCKETS)
        .map(|_| websocket(target))
        .collect::<Result<_>>()?;

    let interrupted = &*env.interrupted;
    let loaded = request.clone();
    let (observed, removed, mut race) = std::thread::scope(|scope| {
        let load = scope.spawn(move || load(target, loaded, interrupted));
        let rolled_out = roll_out(&rollout, idle, &request, websockets);
        let observed = load.join().map_err(|_| Error::Program {
            name: "load".into(),
            why: "panicked".into(),
        });
        let (removed, race) = rolled_out?;
        Ok::<_, Error>((observed??, removed, race))
    })?;
    race.label = match contender.installed.peer {
        Peer::Crossfade => "crossfade".into(),
        other => format!("{} reload", other.name()),
    };
    race.count(&observed, removed);
    progress.step();
    Ok(race)
}

/// Runs the load, and returns all of its requests.
fn load(target: SocketAddr, request: Vec<u8>, interrupted: &AtomicBool) -> Result<Vec<Exchange>> {
    let plan = Plan {
        target,
        connections: CONNECTIONS,
        requests: Requests::Http1(Rc::new([request])),
        upload: 0,
        tls: None,
        pace: Pace::Rate(RATE),
        closing: Closing::Never,
    };
    let mut requests = Vec::new();
    let mut load = Load::new(plan, interrupted)?;
    load.run(End::After(RACE), &mut |one| requests.push(*one))?;
    let hung = load.finish(RACE, &mut |one| requests.push(*one))?;
    let now = Instant::now();
    requests.extend((0..hung).map(|_| Exchange {
        due: now,
        sent: now,
        done: now,
        outcome: Outcome::Failed(Failure::Cut),
    }));
    Ok(requests)
}

/// Performs the rollout, then checks the idle connections and the WebSockets. Returns the time of
/// the removal of version 1 too.
fn roll_out(
    rollout: &Rollout<'_>,
    idle: Vec<BlockingClient>,
    request: &[u8],
    mut websockets: Vec<BlockingClient>,
) -> Result<(Instant, Race)> {
    let before = rollout.processes()?;
    sleep(Duration::from_millis(500));
    for share in STEPS {
        rollout.shift(share)?;
        if share < 100 {
            sleep(STEP);
        }
    }
    let removed = Instant::now();
    sleep(STEP);

    let mut race = Race::default();
    for mut client in idle {
        if client.is_closed() {
            race.idle_closed += 1;
            continue;
        }
        match client.request(request) {
            Ok((response, _)) if response.version == b'1' => {
                race.stale += 1;
                race.stale_for_ms = removed.elapsed().as_secs_f64() * 1e3;
            }
            Ok((response, _)) if response.status == 200 => {}
            _ => race.failed += 1,
        }
    }
    // The WebSockets stay open until the processes are counted.
    for websocket in &mut websockets {
        if !websocket.exchange(FRAME, REPLY) {
            race.websockets_cut += 1;
        }
    }
    race.left_over = rollout.processes()?.saturating_sub(before);
    Ok((removed, race))
}

impl Default for Race {
    fn default() -> Self {
        Self {
            label: String::new(),
            requests: 0,
            failed: 0,
            retriable: 0,
            idle_closed: 0,
            stale: 0,
            stale_for_ms: 0.0,
            websockets_cut: 0,
            left_over: 0,
            worst_ms: 0.0,
        }
    }
}

impl Race {
    /// Adds the results of the load's requests.
    fn count(&mut self, requests: &[Exchange], removed: Instant) {
        for request in requests {
            self.requests += 1;
            let latency = request.done.saturating_duration_since(request.due);
            self.worst_ms = self.worst_ms.max(latency.as_secs_f64() * 1e3);
            match request.outcome {
                Outcome::Response(response) if response.status == 200 => {
                    if response.version == b'1' && request.sent > removed {
                        self.stale += 1;
                        let after = request.sent.saturating_duration_since(removed);
                        self.stale_for_ms = self.stale_for_ms.max(after.as_secs_f64() * 1e3);
                    }
                }
                Outcome::Failed(Failure::Closed { reused: true }) => {
                    self.failed += 1;
                    self.retriable += 1;
                }
                Outcome::Response(_) | Outcome::Failed(_) => self.failed += 1,
            }
        }
    }
}

fn websocket(target: SocketAddr) -> Result<BlockingClient> {
    let mut client = BlockingClient::connect(target)?;
    let (response, _) = client.request(UPGRADE)?;
    if response.status != 101 || !client.exchange(FRAME, REPLY) {
        return Err(Error::Program {
            name: "WebSocket".into(),
            why: format!("no upgrade through {target}: status {}", response.status),
        });
    }
    Ok(client)
}

/// A proxy with two versions behind it, and its method of shifting traffic.
struct Rollout<'a> {
    env: &'a TestEnv,
    setup: Setup<'a>,
    peer: Peer,
    program: PathBuf,
    started: Started,
}

impl<'a> Rollout<'a> {
    fn start(env: &'a TestEnv, mut setup: Setup<'a>, contender: &Contender) -> Result<Self> {
        let peer = contender.installed.peer;
        let missing = || Error::Usage(format!("{} takes no part in the race", peer.name()));
        let program = contender.installed.program.clone().ok_or_else(missing)?;
        setup.services = servers(env, peer, 0);
        let file = write(&setup, peer)?.into_os_string();
        let mut command: Vec<OsString> = vec![program.clone().into()];
        let arguments: &[&str] = match peer {
            Peer::Crossfade => &["--workers", "1", "--config"],
            Peer::Nginx => &["-e", "stderr", "-c"],
            Peer::Haproxy => &["-W", "-f"],
            _ => return Err(missing()),
        };
        command.extend(arguments.iter().map(OsString::from));
        command.push(file);
        let started = env.start_command(&setup, contender, &command)?;
        Ok(Self {
            env,
            setup,
            peer,
            program,
            started,
        })
    }

    fn processes(&self) -> Result<usize> {
        let running = self.started.running.as_ref();
        running.map_or(Ok(0), |running| Ok(tree(running.id())?.len()))
    }

    /// Sends this share of the traffic to version 2. With 100, removes version 1.
    fn shift(&self, share: u32) -> Result<()> {
        if self.peer == Peer::Crossfade {
            return self.shift_by_admin_api(share);
        }
        let mut setup = self.setup.clone();
        setup.services = servers(self.env, self.peer, share);
        let file = write(&setup, self.peer)?;
        if self.peer == Peer::Haproxy {
            // As `reload` in its init script does.
            if let Some(running) = &self.started.running {
                running.signal(Signal::USR2);
            }
            return Ok(());
        }
        let reloaded = Command::new(&self.program)
            .args(["-e", "stderr", "-s", "reload", "-c"])
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .context(|| "nginx -s reload".into())?;
        if reloaded.status.success() {
            return Ok(());
        }
        Err(Error::Program {
            name: "nginx -s reload".into(),
            why: String::from_utf8_lossy(&reloaded.stderr).into_owned(),
        })
    }

    fn shift_by_admin_api(&self, share: u32) -> Result<()> {
        let mut admin = BlockingClient::connect(self.started.admin)?;
        let stable = 100 - share;
        let split = format!("{{\"split\":{{\"1\":{stable},\"2\":{share}}}}}");
        if share == STEPS[0] {
            let [one, two] = [self.env.origin(1), self.env.origin(2)];
            let service = format!(
                "{{\"split\":{{\"1\":{stable},\"2\":{share}}},\"endpoints\":[{{\"address\":\"{one}\",\"version\":\"1\"}},{{\"address\":\"{two}\",\"version\":\"2\"}}]}}"
            );
            admin.call("PUT", "/v1/services/web", &service)?;
            return Ok(());
        }
        admin.call("PUT", "/v1/services/web/split", &split)?;
        if share == 100 {
            // The receipt would wait for the WebSockets, so the call does not wait for it. New
            // requests have stopped when the call returns.
            admin.call("POST", "/v1/services/web/drain", "{\"version\":\"1\"}")?;
            let two = self.env.origin(2);
            let service =
                format!("{{\"endpoints\":[{{\"address\":\"{two}\",\"version\":\"2\"}}]}}");
            admin.call("PUT", "/v1/services/web", &service)?;
        }
        Ok(())
    }
}

fn write(setup: &Setup<'_>, peer: Peer) -> Result<PathBuf> {
    let port = setup.port;
    match peer {
        Peer::Crossfade => {
            let template = include_str!("../peers/crossfade.toml");
            setup.write(&format!("race-{port}.toml"), template)
        }
        Peer::Nginx => {
            let template = include_str!("../peers/nginx-race.conf");
            setup.write(&format!("race-{port}.conf"), template)
        }
        _ => {
            let template = include_str!("../peers/haproxy-race.cfg");
            setup.write(&format!("race-{port}.cfg"), template)
        }
    }
}

/// The servers of a config in which version 2 has this share.
fn servers(env: &TestEnv, peer: Peer, share: u32) -> String {
    if peer == Peer::Crossfade {
        return crate::peers::services(1, &[env.origin(1)], Variant::default());
    }
    let mut lines = Vec::new();
    for (version, weight) in [(1, 100 - share), (2, share)] {
        let address = env.origin(version);
        match (peer, weight) {
            (_, 0) => {}
            (Peer::Nginx, _) => lines.push(format!("        server {address} weight={weight};")),
            _ => lines.push(format!("    server v{version} {address} weight {weight}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Response;

    #[test]
    fn a_response_of_the_removed_version_is_stale_only_if_the_request_was_sent_afterwards() {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let request = |sent: u64, version: u8| Exchange {
            due: at(sent),
            sent: at(sent),
            done: at(sent + 20),
            outcome: Outcome::Response(Response {
                status: 200,
                length: 1,
                last: false,
                version,
            }),
        };
        let mut race = Race::default();
        let requests = [request(95, b'1'), request(130, b'1'), request(140, b'2')];
        race.count(&requests, at(100));
        assert_eq!((race.requests, race.stale, race.failed), (3, 1, 0));
        assert!((race.stale_for_ms - 30.0).abs() < 1e-6);
        assert!((race.worst_ms - 20.0).abs() < 1e-6);
    }
}
