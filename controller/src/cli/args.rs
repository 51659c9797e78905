//! The arguments of `crossfade`.

use std::path::PathBuf;

use admin_api::{NonZeroPeriod, Period};
use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::manifest::{RolloutOverrides, RuntimeChoice};
use crate::plan::{Amount, RolloutSettings};
use crate::print::Output;
use crate::verdict::AfterMaxHold;

/// The manifest, unless `--file` names another.
pub(super) const MANIFEST: &str = "crossfade.toml";

/// The exit codes of a verb that only reads, of one that changes a service, and of one that may wait
/// for a rollout.
macro_rules! codes {
    (read) => {
        "
  0   done
  1   the command failed or was refused
  64  invalid flags, names or manifest
  69  podman, the controller, the proxy or an image is not available"
    };
    (change) => {
        "
  0   done
  1   the command failed or was refused
  4   the service has changed since this generation (--if-generation)
  64  invalid flags, names or manifest
  69  podman, the controller, the proxy or an image is not available"
    };
    (wait) => {
        "
  0   done; with --wait: promoted, or with `rollback` back at the version before
  1   the command failed or was refused
  2   rolled back (--wait)
  3   the rollout is paused (--wait)
  4   the service has changed since this generation (--if-generation)
  64  invalid flags, names or manifest
  69  podman, the controller, the proxy or an image is not available"
    };
}

/// The end of a verb's help: its examples and its exit codes.
macro_rules! help {
    ($kind:ident: $($example:literal)*) => {
        concat!(
            "Examples:\n",
            $("  crossfade ", $example, "\n",)*
            "\nExit codes:",
            codes!($kind)
        )
    };
}

/// Moves traffic from one version of a service to the next without losing a request.
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, after_help = help!(wait: "up" "deploy web --image localhost/web:2.0.0 --wait" "status --watch" "explain"))]
pub struct Args {
    /// The manifest
    #[arg(long, global = true, value_name = "FILE", default_value = MANIFEST)]
    pub file: PathBuf,

    /// The folder of the controller's state [default: one for each project, in /var/lib/crossfade
    /// for root, else in ~/.local/state/crossfade]
    #[arg(long, global = true, value_name = "FOLDER", env = "CROSSFADE_STATE")]
    pub state: Option<PathBuf>,

    /// The output format. With json, an error is {"error":{"exit":64,"message":"…"}} on standard
    /// error
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub output: Output,

    /// Change the service only if it still has this generation (see `status --output json`), so
    /// that no other change is overwritten
    #[arg(long, global = true, value_name = "NUMBER")]
    pub if_generation: Option<i64>,

    /// Do it without asking, where a verb would ask on a terminal and refuse elsewhere: `resume` where
    /// a split set by hand ends by it and the new version gets fewer requests; any change of a project
    /// that was made from another folder
    #[arg(long, short, global = true)]
    pub yes: bool,

    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where containers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// Podman if it works on this host, else processes.
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

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a manifest: of a container that runs, of an image, or by a few questions
    #[command(after_help = help!(read: "init" "init --image localhost/web:1.0.0" "init --container web --file staging.toml"))]
    Init(Init),
    /// Start the proxy and every service of the manifest; if they run, apply the manifest's changes
    #[command(after_help = help!(wait: "up" "up --wait" "up --prune" "up --pull" "up --adopt" "--file staging.toml up"))]
    Up {
        /// Follow the rollouts that begin, and wait until they end
        #[arg(long)]
        wait: bool,
        /// Remove services that are no longer in the manifest
        #[arg(long)]
        prune: bool,
        /// Take up what runs of this project and is not in this state folder, such as after its journal
        /// was lost; no request fails
        #[arg(long)]
        adopt: bool,
        /// Ask the registry for the manifest's images, also for those that are on this host
        #[arg(long)]
        pull: bool,
    },
    /// Begin the rollout of a new version
    #[command(after_help = help!(wait: "deploy web --image localhost/web:2.0.0 --wait" "deploy web --wait" "deploy web --image localhost/web:2.0.0 --strategy steps=5,25:10m,50:gate,100" "deploy web --image localhost/web:2.0.0 --strategy rolling --max-surge 1" "deploy web --image localhost/web:2.0.0 --dry-run"))]
    Deploy(Box<Deploy>),
    /// Show services, versions, their shares of requests, and running rollouts
    #[command(after_help = help!(read: "status" "status --watch" "status --output json"))]
    Status {
        /// Refresh every second
        #[arg(long)]
        watch: bool,
    },
    /// Explain a rollout: the observations, decision and reason of each step
    #[command(after_help = help!(read: "explain" "explain 3" "explain 3 --output json"))]
    Explain {
        /// The rollout's number (see `history`) [default: the newest]
        rollout: Option<i64>,
    },
    /// Show the output of a service's containers, or of the proxy
    #[command(after_help = help!(read: "logs web" "logs web --version 2.0.0 --tail 20 --follow" "logs web --since 10m" "logs --proxy --tail 50" "logs web --output json"))]
    Logs(Logs),
    /// Return to the previous version; at once if it is still warm
    #[command(after_help = help!(wait: "rollback web" "rollback web --to 1.4.2 --wait"))]
    Rollback {
        /// The service
        service: String,
        /// The version to return to [default: the previous one]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        /// Follow the rollback, and wait until it ends
        #[arg(long)]
        wait: bool,
    },
    /// Remove everything that `up` and `deploy` created, and nothing else
    #[command(after_help = help!(change: "down"))]
    Down,
    /// Give the candidate all requests now; during the bake, stop the old version now
    #[command(after_help = help!(change: "promote" "promote web"))]
    Promote {
        /// The service; may be omitted if only one rollout is running
        service: Option<String>,
    },
    /// End the running rollout and return to the stable version
    #[command(after_help = help!(change: "abort" "abort web"))]
    Abort {
        /// The service; may be omitted if only one rollout is running
        service: Option<String>,
    },
    /// Keep the running rollout at its step
    #[command(after_help = help!(change: "pause web"))]
    Pause {
        /// The service; may be omitted if only one rollout is running
        service: Option<String>,
    },
    /// Continue a paused rollout
    #[command(after_help = help!(change: "resume web" "resume web --yes"))]
    Resume {
        /// The service; may be omitted if only one rollout is running
        service: Option<String>,
    },
    /// Set the traffic split by hand; a running rollout pauses
    #[command(after_help = help!(change: "split web 1.0.0=90 2.0.0=10" "split web 1.0.0=1 2.0.0=1 --if-generation 42"))]
    Split {
        /// The service
        service: String,
        /// Weights, whole numbers from 0 to 1000000, such as 1.0.0=90 2.0.0=10; a version that is
        /// not named gets 0
        #[arg(required = true, value_name = "VERSION=WEIGHT")]
        weights: Vec<String>,
    },
    /// Set the number of a service's containers
    #[command(after_help = help!(change: "scale web 6"))]
    Scale {
        /// The service
        service: String,
        /// The number of containers, 0 to 1000; while a rollout runs, both versions are scaled in
        /// proportion
        replicas: u32,
    },
    /// Show past rollouts and changes, with the reason and the counts of each decision
    #[command(after_help = help!(read: "history" "history web --output json"))]
    History {
        /// Only this service [default: all]
        service: Option<String>,
    },
    /// Show events; with `--output json`, one line of JSON for each
    #[command(after_help = help!(read: "events --follow" "events web --after 120 --follow --output json"))]
    Events {
        /// Only this service [default: all]
        service: Option<String>,
        /// Only events after the one with this number [default: all events; with --follow, only
        /// new ones]
        #[arg(long, value_name = "NUMBER")]
        after: Option<i64>,
        /// Wait for new events
        #[arg(long, short)]
        follow: bool,
    },
    /// Print the manifest with every default that is in force
    #[command(after_help = help!(read: "config" "config --file staging.toml"))]
    Config,
    /// Check this host for missing requirements and suggest a fix for each; needs no controller,
    /// and changes nothing
    #[command(after_help = help!(read: "doctor" "doctor --file staging.toml --output json"))]
    Doctor,
    /// Replace the proxy itself, while it serves
    #[command(after_help = help!(change: "proxy upgrade"))]
    Proxy {
        /// The verb
        #[command(subcommand)]
        verb: ProxyVerb,
    },
    /// Run a demonstration on this host: a canary, 50/50, a full rollout, and a bad version that is
    /// rolled back automatically; removes everything that it starts
    #[command(after_help = help!(read: "demo" "demo --runtime process"))]
    Demo {
        /// The runtime of the containers
        #[arg(long, value_enum, default_value = "auto")]
        runtime: Runtime,
    },
    /// Have the requests of a service get a 503, or serve them again
    #[command(after_help = help!(change: "maintenance web --on" "maintenance web --on --allow 10.0.0.0/8 --retry-after 10m --page soon.html" "maintenance web --off"))]
    Maintenance(Maintenance),
    /// Start the controller with the host: writes, enables and starts a systemd unit for this project
    #[command(after_help = help!(change: "install" "install --print" "install --user"))]
    Install {
        /// A unit of your own, without root [default for users other than root]
        #[arg(long)]
        user: bool,
        /// Show the unit and change nothing
        #[arg(long)]
        print: bool,
        /// Overwrite a unit file that was changed by hand
        #[arg(long)]
        force: bool,
    },
    /// Stop and remove what `install` wrote; containers and the proxy run on
    #[command(after_help = help!(change: "uninstall" "uninstall --user"))]
    Uninstall {
        /// The unit is a user's
        #[arg(long)]
        user: bool,
        /// Remove a unit file that was changed by hand, too
        #[arg(long)]
        force: bool,
    },
    /// Run the controller in the foreground; `up` starts one in the background
    #[command(after_help = concat!(
        help!(read: "serve"),
        "\n\nCROSSFADE_LOG sets the log level: error, warn, info (default) or debug."
    ))]
    Serve {
        /// Exit when nothing is up, as a controller started in the background does
        #[arg(long)]
        until_down: bool,
    },
    /// Print the completion script of a shell
    #[command(after_help = help!(read: "completions bash > /etc/bash_completion.d/crossfade"))]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Verb {
    /// Whether it changes what is up.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Up { .. }
            | Self::Down
            | Self::Deploy(_)
            | Self::Split { .. }
            | Self::Promote { .. }
            | Self::Abort { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Rollback { .. }
            | Self::Scale { .. }
            | Self::Maintenance(_)
            | Self::Proxy { .. } => true,
            Self::Status { .. }
            | Self::History { .. }
            | Self::Explain { .. }
            | Self::Events { .. }
            | Self::Doctor
            | Self::Init(_)
            | Self::Config
            | Self::Install { .. }
            | Self::Uninstall { .. }
            | Self::Completions { .. }
            | Self::Logs(_)
            | Self::Demo { .. }
            | Self::Serve { .. } => false,
        }
    }
}

/// The verbs of the proxy.
#[derive(Debug, Subcommand)]
pub enum ProxyVerb {
    /// Start a new proxy process that takes over: no connection is refused or reset, WebSockets
    /// stay open, and the old process exits when its last request has ended
    #[command(after_help = help!(change: "proxy upgrade" "proxy upgrade --image localhost/crossfade-proxy:2.0.0"))]
    Upgrade {
        /// The new proxy's image; with processes, the path of a program [default: the image of the
        /// proxy that runs]
        #[arg(long)]
        image: Option<String>,
    },
}

/// `deploy`. The manifest has the value of an option that is absent.
#[derive(Debug, Parser)]
pub struct Deploy {
    /// The service
    pub service: String,
    /// The new version's image; with processes, the path of a program [default: the manifest's, as
    /// it is by now: a tag that was built again is a new version, such as latest+2]
    #[arg(long)]
    pub image: Option<String>,
    /// The new version's name [default: the image's tag; without --image, the manifest's version]
    #[arg(long)]
    pub version: Option<String>,
    /// Ask the registry for the image, also if it is on this host
    #[arg(long)]
    pub pull: bool,
    /// canary, blue-green, linear=20, steps=1,10:5m,50:gate,100 (or steps=mirror:5m,10,100),
    /// rolling or all-at-once; shares in percent [default: the manifest's, else canary]
    #[arg(long)]
    pub strategy: Option<String>,
    /// How many more containers a rolling rollout may have than stable had, such as 1 or 25%
    /// [default: the manifest's, else 25%]
    #[arg(long, value_name = "COUNT")]
    pub max_surge: Option<Amount>,
    /// How many fewer containers than stable a rolling rollout may have, such as 1 or 25%
    /// [default: the manifest's, else 0]
    #[arg(long, value_name = "COUNT")]
    pub max_unavailable: Option<Amount>,
    /// An environment variable, which overrides the manifest's; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The minimum duration of a step, such as 30s or 5m [default: the manifest's, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub step_min_duration: Option<Period>,
    /// The number of requests to the candidate that a step needs before the next one begins
    /// [default: the manifest's, else 50]
    #[arg(long, value_name = "COUNT")]
    pub min_requests: Option<u64>,
    /// How long a step waits for these requests, such as 10m [default: the manifest's, else 3m]
    #[arg(long, value_name = "DURATION")]
    pub max_hold: Option<Period>,
    /// What a step does then that lacks nothing but requests: proceed or pause [default: the
    /// manifest's, else proceed]
    #[arg(long, value_name = "WHAT")]
    pub after_max_hold: Option<AfterMaxHold>,
    /// The lowest acceptable success rate of the candidate, in percent [default: the manifest's,
    /// else 99]
    #[arg(long, value_name = "PERCENT")]
    pub success_rate: Option<f64>,
    /// The highest acceptable 99th percentile of the candidate's response times, such as 250ms
    /// [default: the manifest's, else 500ms]
    #[arg(long, value_name = "DURATION")]
    pub latency_p99: Option<Period>,
    /// How long the old version stays warm, such as 1h [default: the manifest's, else 5m]
    #[arg(long, value_name = "DURATION")]
    pub bake: Option<Period>,
    /// How long the candidate must be healthy before its first request, such as 10s [default: the
    /// manifest's, else 5s]
    #[arg(long, value_name = "DURATION")]
    pub min_healthy_time: Option<Period>,
    /// How long a container may take to become healthy, such as 90s [default: the manifest's, else
    /// 1m]
    #[arg(long, value_name = "DURATION")]
    pub start_timeout: Option<Period>,
    /// Follow the rollout, and wait until it is promoted, rolled back or paused
    #[arg(long)]
    pub wait: bool,
    /// Show the plan and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Abort the running rollout, and begin this one in its place
    #[arg(long)]
    pub replace: bool,
}

/// `init`.
#[derive(Debug, Parser)]
pub struct Init {
    /// A container of podman that runs: its image, port, health check, environment, command and
    /// volumes
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// An image on this host: its EXPOSE and HEALTHCHECK
    #[arg(long, conflicts_with = "container")]
    pub image: Option<String>,
    /// The service's name [default: the container's, or the last part of the image's]
    #[arg(long)]
    pub name: Option<String>,
}

/// `logs`.
#[derive(Debug, Parser)]
pub struct Logs {
    /// The service
    #[arg(required_unless_present = "proxy")]
    pub service: Option<String>,
    /// The proxy in place of a service
    #[arg(long, conflicts_with_all = ["service", "version"])]
    pub proxy: bool,
    /// Only this version [default: all]
    #[arg(long)]
    pub version: Option<String>,
    /// Only lines of the last time, such as 10m, or since a moment, such as 2025-01-31T12:30:00Z;
    /// containers only [default: all]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only the last lines of each container: how many [default: all]
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Wait for new lines, also of containers that come later
    #[arg(long, short)]
    pub follow: bool,
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
            after_max_hold: self.after_max_hold,
            success_rate: self.success_rate,
            latency_p99: self.latency_p99,
            bake: self.bake,
            min_healthy_time: self.min_healthy_time,
            start_timeout: self.start_timeout,
            ..RolloutOverrides::default()
        };
        // The controller checks values that depend on the manifest's settings.
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

/// What `maintenance` takes.
#[derive(Debug, clap::Args)]
pub struct Maintenance {
    /// The service
    pub service: String,
    /// Requests get a 503 with Retry-After, over deploys and restarts, until --off
    #[arg(long, required_unless_present = "off", conflicts_with = "off")]
    pub on: bool,
    /// Requests are served
    #[arg(long)]
    pub off: bool,
    /// A network whose clients are served all the same; may be given several times
    #[arg(long, value_name = "CIDR", conflicts_with = "off")]
    pub allow: Vec<String>,
    /// When clients may come again, such as 10m [default: 1m]
    #[arg(long, value_name = "TIME", conflicts_with = "off")]
    pub retry_after: Option<NonZeroPeriod>,
    /// A page of HTML for them, in place of a sentence
    #[arg(long, value_name = "FILE", conflicts_with = "off")]
    pub page: Option<PathBuf>,
}
