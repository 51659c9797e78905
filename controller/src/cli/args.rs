//! What can be written after `crossfade`.

use std::path::PathBuf;

use admin_api::Period;
use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::manifest::{RolloutOverrides, RolloutSettings, RuntimeChoice};

/// The manifest, unless `--file` names another.
pub(super) const MANIFEST: &str = "crossfade.toml";

const EXIT_CODES: &str = "Exit codes:
  0   done
  1   it failed, was refused, or was rolled back (deploy --wait)
  64  wrong flags, names or manifest
  69  something that is needed is not there: podman, the controller, the proxy";

/// Moves traffic from one version of a service to the next without losing a request.
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, after_help = EXIT_CODES)]
pub struct Args {
    /// The manifest.
    #[arg(long, global = true, value_name = "FILE", default_value = MANIFEST)]
    pub file: PathBuf,

    /// The folder of the controller's state [default: by project, in /var/lib/crossfade for
    /// root, else in ~/.local/state/crossfade]
    #[arg(long, global = true, value_name = "FOLDER", env = "CROSSFADE_STATE")]
    pub state: Option<PathBuf>,

    /// What is to be done.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
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
    /// Start the proxy and every service of the manifest; what runs already stays as it is
    #[command(after_help = EXIT_CODES)]
    Up,
    /// Take away everything that `up` and `deploy` made, and nothing else
    #[command(after_help = EXIT_CODES)]
    Down,
    /// Begin the rollout of a new version
    #[command(after_help = EXIT_CODES)]
    Deploy(Box<Deploy>),
    /// Set the traffic split by hand; a running rollout pauses
    #[command(after_help = EXIT_CODES)]
    Split {
        /// The service
        service: String,
        /// Weights, such as 1.0.0=90 2.0.0=10
        #[arg(required = true, value_name = "VERSION=WEIGHT")]
        weights: Vec<String>,
    },
    /// Give the candidate everything now; while it bakes, stop keeping the old version warm
    #[command(after_help = EXIT_CODES)]
    Promote {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// End the running rollout: back to the stable version
    #[command(after_help = EXIT_CODES)]
    Abort {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// Keep the running rollout at its step
    #[command(after_help = EXIT_CODES)]
    Pause {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// Let a paused rollout go on
    #[command(after_help = EXIT_CODES)]
    Resume {
        /// The service; not needed where one rollout is running
        service: Option<String>,
    },
    /// Go back to the version before, at once where it is still warm
    #[command(after_help = EXIT_CODES)]
    Rollback {
        /// The service
        service: String,
        /// Another version than the one before
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        /// Show how it goes, and wait for its end
        #[arg(long)]
        wait: bool,
    },
    /// Set how many containers a service has
    #[command(after_help = EXIT_CODES)]
    Scale {
        /// The service
        service: String,
        /// How many
        replicas: u32,
    },
    /// Show what runs, who gets which share, and how it goes
    #[command(after_help = EXIT_CODES)]
    Status {
        /// Again every second
        #[arg(long)]
        watch: bool,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show what was done and why, with the figures that it was decided on
    #[command(after_help = EXIT_CODES)]
    History {
        /// Of this service only
        service: Option<String>,
        /// For people or for programs
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show what the containers of a service print
    #[command(after_help = EXIT_CODES)]
    Logs {
        /// The service
        service: String,
        /// Of this version only
        #[arg(long)]
        version: Option<String>,
        /// The last so many lines of each container
        #[arg(long, value_name = "LINES")]
        tail: Option<usize>,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// Play the whole story on this machine: canary, 50/50, full rollout, and a bad version that
    /// is rolled back by itself; leaves nothing behind
    #[command(after_help = EXIT_CODES)]
    Demo {
        /// Where the containers run
        #[arg(long, value_enum, default_value = "auto")]
        runtime: Runtime,
    },
    /// Be the controller process; `up` starts one in the background
    #[command(after_help = EXIT_CODES)]
    Serve {
        /// End when nothing is up: what the other verbs start in the background does
        #[arg(long)]
        until_down: bool,
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
    /// canary, blue-green or steps=1,10,50,100
    #[arg(long)]
    pub strategy: Option<String>,
    /// Environment, over the manifest's
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// How long a step lasts at least
    #[arg(long, value_name = "DURATION")]
    pub step_min_duration: Option<Period>,
    /// Requests to the candidate that a step needs to end well
    #[arg(long, value_name = "COUNT")]
    pub min_requests: Option<u64>,
    /// How long a step may wait for them before the rollout pauses
    #[arg(long, value_name = "DURATION")]
    pub max_hold: Option<Period>,
    /// The success rate that the candidate has to keep, in per cent
    #[arg(long, value_name = "PERCENT")]
    pub success_rate: Option<f64>,
    /// How long the old version stays warm
    #[arg(long, value_name = "DURATION")]
    pub bake: Option<Period>,
    /// How long the candidate has to be healthy before its first request
    #[arg(long, value_name = "DURATION")]
    pub min_healthy_time: Option<Period>,
    /// How long a container may take to become healthy
    #[arg(long, value_name = "DURATION")]
    pub start_timeout: Option<Period>,
    /// Show how it goes, and wait until it is promoted or rolled back
    #[arg(long)]
    pub wait: bool,
}

impl Deploy {
    /// The settings among the flags, checked like the manifest's.
    pub(super) fn overrides(&self) -> Result<RolloutOverrides> {
        let overrides = RolloutOverrides {
            strategy: self.strategy.clone(),
            steps: None,
            look_every: None,
            step_min_duration: self.step_min_duration,
            min_requests: self.min_requests,
            max_hold: self.max_hold,
            success_rate: self.success_rate,
            bake: self.bake,
            min_healthy_time: self.min_healthy_time,
            start_timeout: self.start_timeout,
        };
        // What depends on the manifest's own settings is checked over them, by the controller.
        let alone = RolloutOverrides {
            step_min_duration: None,
            max_hold: None,
            ..overrides.clone()
        };
        alone.over(&RolloutSettings::default()).map_err(|error| {
            let flag = error.field.unwrap_or_default().replace('_', "-");
            Error::Usage(format!("--{flag}: {}", error.message))
        })?;
        Ok(overrides)
    }
}
