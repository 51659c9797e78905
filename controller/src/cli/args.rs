//! What can be written after `crossfade`.

use std::path::PathBuf;

use admin_api::Period;
use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::manifest::{RolloutOverrides, RuntimeChoice};
use crate::plan::{Amount, RolloutSettings};
use crate::print::Output;

/// The manifest, unless `--file` names another.
pub(super) const MANIFEST: &str = "crossfade.toml";

/// What every verb can end with, after the examples that it has.
macro_rules! help {
    ($($example:literal)*) => {
        concat!(
            "Examples:\n",
            $("  crossfade ", $example, "\n",)*
            "\nExit codes:
  0   done; with --wait: promoted
  1   it failed, or was refused
  2   rolled back (--wait)
  3   the rollout is paused (--wait)
  4   another change came first (--if-generation)
  64  wrong flags, names or manifest
  69  something that is needed is not there: podman, the controller, the proxy"
        )
    };
}

/// Moves traffic from one version of a service to the next without losing a request.
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, after_help = help!("up" "deploy web --image localhost/web:2.0.0 --wait" "status --watch" "explain"))]
pub struct Args {
    /// The manifest.
    #[arg(long, global = true, value_name = "FILE", default_value = MANIFEST)]
    pub file: PathBuf,

    /// The folder of the controller's state [default: by project, in /var/lib/crossfade for
    /// root, else in ~/.local/state/crossfade]
    #[arg(long, global = true, value_name = "FOLDER", env = "CROSSFADE_STATE")]
    pub state: Option<PathBuf>,

    /// For people or for programs; then an error is {"error":{"exit":64,"message":"…"}}, on
    /// standard error
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub output: Output,

    /// Change a service only while it is at this generation, as `status --output json` has it:
    /// a change that came first is not overwritten
    #[arg(long, global = true, value_name = "NUMBER")]
    pub if_generation: Option<i64>,

    /// What is to be done.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where containers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// Podman where it works, else processes.
    Auto,
    /// Containers.
    Podman,
    /// Programs of this host, on loopback.
    Process,
}

impl From<Runtime> for RuntimeChoice {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Auto => Self::Auto,
            Runtime::Podman => Self::Podman,
            Runtime::Process => Self::Process,
        }
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start the proxy and every service of the manifest; again: do what has changed in it
    #[command(after_help = help!("up" "up --wait" "up --prune" "--file staging.toml up"))]
    Up {
        /// Show how the rollouts go that it begins, and wait for their ends
        #[arg(long)]
        wait: bool,
        /// Take services away that the manifest has no more
        #[arg(long)]
        prune: bool,
    },
    /// Take away everything that `up` and `deploy` made, and nothing else
    #[command(after_help = help!("down"))]
    Down,
    /// Begin the rollout of a new version
    #[command(after_help = help!("deploy web --image localhost/web:2.0.0 --wait" "deploy web --image localhost/web:2.0.0 --strategy steps=5,25:10m,50:gate,100" "deploy web --image localhost/web:2.0.0 --strategy rolling --max-surge 1" "deploy web --image localhost/web:2.0.0 --dry-run"))]
    Deploy(Box<Deploy>),
    /// Set the traffic split by hand; a running rollout pauses
    #[command(after_help = help!("split web 1.0.0=90 2.0.0=10" "split web 1.0.0=1 2.0.0=1 --if-generation 42"))]
    Split {
        /// The service
        service: String,
        /// Weights, whole numbers from 0 to 1000000, such as 1.0.0=90 2.0.0=10; a version that is
        /// not named gets 0
        #[arg(required = true, value_name = "VERSION=WEIGHT")]
        weights: Vec<String>,
    },
    /// Give the candidate everything now; while it bakes, stop keeping the old version warm
    #[command(after_help = help!("promote" "promote web"))]
    Promote {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// End the running rollout: back to the stable version
    #[command(after_help = help!("abort" "abort web"))]
    Abort {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// Keep the running rollout at its step
    #[command(after_help = help!("pause web"))]
    Pause {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// Let a paused rollout go on
    #[command(after_help = help!("resume web"))]
    Resume {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// Go back to the version before, at once where it is still warm
    #[command(after_help = help!("rollback web" "rollback web --to 1.4.2 --wait"))]
    Rollback {
        /// The service
        service: String,
        /// This version [default: the one before]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        /// Show how it goes, and wait for its end
        #[arg(long)]
        wait: bool,
    },
    /// Set how many containers a service has
    #[command(after_help = help!("scale web 6"))]
    Scale {
        /// The service
        service: String,
        /// How many: 1 to 1000
        replicas: u32,
    },
    /// Show what runs, who gets which share, and how it goes
    #[command(after_help = help!("status" "status --watch" "status --output json"))]
    Status {
        /// Again every second
        #[arg(long)]
        watch: bool,
    },
    /// Show what was done and why, with the figures that it was decided on
    #[command(after_help = help!("history" "history web --output json"))]
    History {
        /// Of this service only [default: of all]
        service: Option<String>,
    },
    /// Show what was seen and decided in every step of a rollout, and why
    #[command(after_help = help!("explain" "explain 3" "explain 3 --output json"))]
    Explain {
        /// Its number, as `history` has it [default: the newest]
        rollout: Option<i64>,
    },
    /// Show what happens; with `--output json` a line of JSON for each event
    #[command(after_help = help!("events --follow" "events web --after 120 --follow --output json"))]
    Events {
        /// Of this service only [default: of all]
        service: Option<String>,
        /// Younger than the event with this number [default: all, with --follow none]
        #[arg(long, value_name = "NUMBER")]
        after: Option<i64>,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// Look what this host lacks for the project, and say how to mend it; needs no controller, and
    /// changes nothing
    #[command(after_help = help!("doctor" "doctor --file staging.toml --output json"))]
    Doctor,
    /// Print what a shell needs to complete these commands
    #[command(after_help = help!("completions bash > /etc/bash_completion.d/crossfade"))]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Replace the proxy itself, while it serves
    #[command(after_help = help!("proxy upgrade"))]
    Proxy {
        /// What is to be done with it
        #[command(subcommand)]
        verb: ProxyVerb,
    },
    /// Show what the containers of a service print
    #[command(after_help = help!("logs web" "logs web --version 2.0.0 --tail 20 --follow" "logs web --output json"))]
    Logs {
        /// The service
        service: String,
        /// Of this version only [default: of all]
        #[arg(long)]
        version: Option<String>,
        /// The last so many lines of each container [default: all]
        #[arg(long, value_name = "LINES")]
        tail: Option<usize>,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// Play the whole story on this machine: canary, 50/50, full rollout, and a bad version that
    /// is rolled back by itself; leaves nothing behind
    #[command(after_help = help!("demo" "demo --runtime process"))]
    Demo {
        /// Where the containers run
        #[arg(long, value_enum, default_value = "auto")]
        runtime: Runtime,
    },
    /// Be the controller process; `up` starts one in the background
    #[command(after_help = concat!(
        help!("serve"),
        "\n\nCROSSFADE_LOG sets what is logged: error, warn, info (default) or debug."
    ))]
    Serve {
        /// End when nothing is up: what the other verbs start in the background does
        #[arg(long)]
        until_down: bool,
    },
}

/// What can be done with the proxy.
#[derive(Debug, Subcommand)]
pub enum ProxyVerb {
    /// Have another one take over: no connection is refused or reset, WebSockets stay open, and
    /// the one that runs ends when it has finished what it has
    #[command(after_help = help!("proxy upgrade" "proxy upgrade --image localhost/crossfade-proxy:2.0.0"))]
    Upgrade {
        /// Its image; for processes the path of a program [default: that of the one which runs]
        #[arg(long)]
        image: Option<String>,
    },
}

/// `deploy`. What is absent is as the manifest has it.
#[derive(Debug, Parser)]
pub struct Deploy {
    /// The service
    pub service: String,
    /// The new version's image; for processes the path of a program
    #[arg(long)]
    pub image: String,
    /// The new version's name [default: the image's tag]
    #[arg(long)]
    pub version: Option<String>,
    /// canary, blue-green, linear=20, steps=1,10:5m,50:gate,100 (or steps=mirror:5m,10,100),
    /// rolling or all-at-once; shares in per cent [default: the manifest's, else canary]
    #[arg(long)]
    pub strategy: Option<String>,
    /// How many more containers a rolling rollout may have than stable had, such as 1 or 25%
    /// [default: the manifest's, else 25%]
    #[arg(long, value_name = "COUNT")]
    pub max_surge: Option<Amount>,
    /// How many fewer, such as 1 or 25% [default: the manifest's, else 0]
    #[arg(long, value_name = "COUNT")]
    pub max_unavailable: Option<Amount>,
    /// Environment, over the manifest's; may be there several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// How long a step lasts at least, such as 30s or 5m [default: the manifest's, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub step_min_duration: Option<Period>,
    /// Requests to the candidate that a step needs to end well [default: the manifest's, else 50]
    #[arg(long, value_name = "COUNT")]
    pub min_requests: Option<u64>,
    /// How long a step may wait for them before the rollout pauses, such as 10m [default: the
    /// manifest's, else 10m]
    #[arg(long, value_name = "DURATION")]
    pub max_hold: Option<Period>,
    /// The success rate that the candidate has to keep, in per cent [default: the manifest's, else
    /// 99]
    #[arg(long, value_name = "PERCENT")]
    pub success_rate: Option<f64>,
    /// The time that 99 of 100 responses of the candidate have to keep to, such as 250ms [default:
    /// the manifest's, else 500ms]
    #[arg(long, value_name = "DURATION")]
    pub latency_p99: Option<Period>,
    /// How long the old version stays warm, such as 1h [default: the manifest's, else 5m]
    #[arg(long, value_name = "DURATION")]
    pub bake: Option<Period>,
    /// How long the candidate has to be healthy before its first request, such as 10s [default: the
    /// manifest's, else 5s]
    #[arg(long, value_name = "DURATION")]
    pub min_healthy_time: Option<Period>,
    /// How long a container may take to become healthy, such as 90s [default: the manifest's, else
    /// 1m]
    #[arg(long, value_name = "DURATION")]
    pub start_timeout: Option<Period>,
    /// Show how it goes, and wait until it is promoted, rolled back or paused
    #[arg(long)]
    pub wait: bool,
    /// Only show what would be done
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// End a rollout that is running, and begin this one in its place
    #[arg(long)]
    pub replace: bool,
}

impl Deploy {
    /// The settings among the flags, checked like the manifest's.
    pub(super) fn overrides(&self) -> Result<RolloutOverrides> {
        let overrides = RolloutOverrides {
            strategy: self.strategy.clone(),
            max_surge: self.max_surge,
            max_unavailable: self.max_unavailable,
            step_min_duration: self.step_min_duration,
            min_requests: self.min_requests,
            max_hold: self.max_hold,
            success_rate: self.success_rate,
            latency_p99: self.latency_p99,
            bake: self.bake,
            min_healthy_time: self.min_healthy_time,
            start_timeout: self.start_timeout,
            ..RolloutOverrides::default()
        };
        // What depends on the manifest's own settings is checked over them, by the controller.
        let rolling = overrides.strategy.is_some();
        let alone = RolloutOverrides {
            max_surge: overrides.max_surge.filter(|_| rolling),
            max_unavailable: overrides.max_unavailable.filter(|_| rolling),
            step_min_duration: None,
            max_hold: None,
            ..overrides.clone()
        };
        alone
            .over(&RolloutSettings::default())
            .map_err(Error::flag)?;
        Ok(overrides)
    }
}
