//! The rows: what may change without a client noticing.

mod broken_posts;
mod config_file;
mod containers;
mod controller;
mod endpoints;
mod leaves;
mod losses;
mod proxy_kills;
mod restarts;
mod stops;
mod storm;
mod swaps;
mod upgrades;
mod websockets;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::admin::{Admin, endpoint, health};
use super::origin::Origin;
use super::outcome::Outcome;
use super::test_env::{TestEnv, origin};
use super::witness::Witness;
use crate::{On, TestProxy};
use losses::How;

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// 50 swaps a second.
    Swaps,
    /// 1,000 swaps a second, by concurrent calls.
    Storm,
    /// Endpoints added, drained and stopped, 5 a second.
    Endpoints,
    /// Endpoints that are killed, 1 a second, of 4.
    Kills,
    /// Endpoints whose host is gone for a while, of 4.
    Blackholes,
    /// Endpoints that are stopped (SIGSTOP) for a while, of 4.
    Freezes,
    /// A fifth of all POSTs have no response.
    BrokenPosts,
    /// Clients that go away while their response is awaited.
    Leaves,
    /// The config file rewritten 20 times a second, one in three broken.
    ConfigFile,
    /// SIGTERM with 50 slow requests in flight.
    Stops,
    /// The proxy killed in the middle of changes, and started again.
    Restarts,
    /// The proxy of a project killed under new connections, and started again by the controller.
    ProxyKills,
    /// The proxy replaced by another process, under load.
    Upgrades,
    /// WebSockets open through 1,000 swaps and the drain of another version.
    WebSockets,
    /// The controller killed in the middle of rollouts of processes.
    Controller,
    /// The same, of containers.
    ControllerOnPodman,
    /// All containers of a new version killed while it bakes.
    BakingDeaths,
    /// Containers that hang, and are replaced.
    Hangs,
}

/// How much of a row is run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// How long, where a row goes on for a time.
    pub time: Duration,
    /// How often, where it is something that happens once.
    pub rounds: usize,
    /// What dice are thrown by, where there are any.
    pub seed: u64,
}

impl Row {
    /// Every row, in the order of the table.
    pub const ALL: [Self; 18] = [
        Self::Swaps,
        Self::Storm,
        Self::Endpoints,
        Self::Kills,
        Self::Blackholes,
        Self::Freezes,
        Self::BrokenPosts,
        Self::Leaves,
        Self::ConfigFile,
        Self::Stops,
        Self::Restarts,
        Self::ProxyKills,
        Self::Upgrades,
        Self::WebSockets,
        Self::Controller,
        Self::ControllerOnPodman,
        Self::BakingDeaths,
        Self::Hangs,
    ];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swaps => "swaps",
            Self::Storm => "storm",
            Self::Endpoints => "endpoints",
            Self::Kills => "kills",
            Self::Blackholes => "blackholes",
            Self::Freezes => "freezes",
            Self::BrokenPosts => "broken-posts",
            Self::Leaves => "leaves",
            Self::ConfigFile => "config-file",
            Self::Stops => "stops",
            Self::Restarts => "restarts",
            Self::ProxyKills => "proxy-kills",
            Self::Upgrades => "upgrades",
            Self::WebSockets => "websockets",
            Self::Controller => "controller-kills",
            Self::ControllerOnPodman => "controller-kills-podman",
            Self::BakingDeaths => "baking-deaths",
            Self::Hangs => "hangs",
        }
    }

    /// What is done all the while.
    pub fn title(self) -> &'static str {
        match self {
            Self::Swaps => "50 swaps a second",
            Self::Storm => "1,000 swaps a second, by concurrent calls",
            Self::Endpoints => "5 endpoints a second added, drained and stopped",
            Self::Kills => "1 of 4 endpoints killed a second (SIGKILL)",
            Self::Blackholes => "1 of 4 endpoints without a host for 1.5 s",
            Self::Freezes => "1 of 4 endpoints frozen (SIGSTOP) for 1.5 s",
            Self::BrokenPosts => "a fifth of all POSTs without a response",
            Self::Leaves => "50 clients a second that go away",
            Self::ConfigFile => "config file rewritten 20 times a second, 1 in 3 broken",
            Self::Stops => "SIGTERM with 50 slow requests in flight",
            Self::Restarts => "proxy killed (SIGKILL) and started again",
            Self::ProxyKills => "project's proxy killed (SIGKILL), 500 new connections a second",
            Self::Upgrades => "proxy replaced by another process",
            Self::WebSockets => "WebSockets through 1,000 swaps and a drain",
            Self::Controller => "controller killed in the middle of rollouts",
            Self::ControllerOnPodman => "the same on podman",
            Self::BakingDeaths => "all containers of a version killed while it bakes",
            Self::Hangs => "1 of 2 containers hangs (SIGSTOP), and is replaced",
        }
    }

    /// Its part of the time of all rows, in percent. None: it is counted in rounds.
    pub fn share(self) -> Option<u32> {
        match self {
            Self::Swaps => Some(30),
            Self::Storm
            | Self::Endpoints
            | Self::Kills
            | Self::Blackholes
            | Self::Freezes
            | Self::ConfigFile => Some(10),
            Self::BrokenPosts | Self::Leaves => Some(5),
            Self::Stops
            | Self::Restarts
            | Self::ProxyKills
            | Self::Upgrades
            | Self::WebSockets
            | Self::Controller
            | Self::ControllerOnPodman
            | Self::BakingDeaths
            | Self::Hangs => None,
        }
    }

    /// Whether it needs containers.
    pub fn needs_podman(self) -> bool {
        self == Self::ControllerOnPodman
    }

    /// Runs it.
    pub async fn run(self, env: &TestEnv, extent: Extent) -> Outcome {
        let Extent { time, rounds, .. } = extent;
        match self {
            Self::Swaps => swaps::run(env, time).await,
            Self::Storm => storm::run(env, time).await,
            Self::Endpoints => endpoints::run(env, time).await,
            Self::Kills => losses::run(env, time, How::Killed).await,
            Self::Blackholes => losses::run(env, time, How::Blackholed).await,
            Self::Freezes => losses::run(env, time, How::Frozen).await,
            Self::BrokenPosts => broken_posts::run(env, time).await,
            Self::Leaves => leaves::run(env, time).await,
            Self::ConfigFile => config_file::run(env, time).await,
            Self::Stops => stops::run(env, rounds).await,
            Self::Restarts => restarts::run(env, rounds).await,
            Self::ProxyKills => proxy_kills::run(env, rounds).await,
            Self::Upgrades => upgrades::run(env, rounds).await,
            Self::WebSockets => websockets::run(env, rounds).await,
            Self::Controller => controller::run(self, On::Processes, extent).await,
            Self::ControllerOnPodman => controller::run(self, On::Podman, extent).await,
            Self::BakingDeaths => containers::run(containers::How::DeadWhileBaking, extent).await,
            Self::Hangs => containers::run(containers::How::Hung, extent).await,
        }
    }
}

/// Two origins that serve version 1 of service `web`, once both are up.
async fn two_origins(proxy: &TestProxy, witness: &Arc<Witness>) -> [Origin; 2] {
    let origins = [origin(0, witness).await, origin(1, witness).await];
    let endpoints = [endpoint(&origins[0], "1"), endpoint(&origins[1], "1")];
    let web = json!({"endpoints": endpoints, "health": health()});
    Admin::new(proxy.admin).put_web(&web).await;
    proxy.wait_up("1").await;
    origins
}

/// A clock that strikes so many times a second, and does not make up for what it missed.
fn times_a_second(rate: u32) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / rate);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
