//! The command line: what can be asked, and asking it.

mod args;
mod follow;
mod init;
mod lines;
mod pull;
mod report;
mod stats;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use admin_api::{MAX_WEIGHT, MaintenanceSpec, Period};
use clap::CommandFactory;
use program::text::plain_lines;
use serde::Serialize;

use crate::api::{
    DeployRequest, Done, DownRequest, ExplainRequest, Explanation, HistoryReply, HistoryRequest,
    LogsRequest, MaintenanceRequest, ProxyUpgradeRequest, PullRequest, RollbackRequest,
    RolloutRequest, ScaleRequest, SplitRequest, StatusReply, UpRequest,
};
use crate::client::ControllerClient;
use crate::clock::{Clock, Millis};
use crate::error::{Error, Result};
use crate::journal::Split;
use crate::manifest::Manifest;
use crate::print::{print, print_line, say_raw};
use crate::{demo, doctor, install, project_name, server, state_dir};

pub use crate::print::Output;
pub use args::{Args, Deploy, Init, Logs, Maintenance, ProxyVerb, Verb};

/// Does what was asked.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> Result<()> {
    let context = CommandContext {
        file: args.file,
        state: args.state,
        output: args.output,
        if_generation: args.if_generation,
        yes: args.yes,
    };
    if let Verb::Serve { until_down } = args.verb {
        let folder = server::open(&context.state()?)?;
        server::run(folder, until_down, shutdown).await;
        return Ok(());
    }
    if let Verb::Doctor = args.verb {
        let report = tokio::select! {
            report = doctor::examine(&context.file, context.state) => report,
            () = shutdown => return Err(Error::refused("interrupted")),
        };
        print(context.output, &report, doctor::text)?;
        return match report.ok {
            true => Ok(()),
            false => Err(Error::refused(doctor::summary(&report))),
        };
    }
    if let Verb::Install { .. } | Verb::Uninstall { .. } = args.verb {
        return install(&args.verb, &context).await;
    }
    if let Verb::Init(flags) = args.verb {
        return init::init(flags, &context).await;
    }
    if let Verb::Config = args.verb {
        return config(&context);
    }
    if let Verb::Completions { shell } = args.verb {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "crossfade", &mut script);
        let completions = Completions {
            shell: shell.to_string(),
            script: String::from_utf8_lossy(&script).into_owned(),
        };
        return print(context.output, &completions, |told| told.script.clone());
    }
    if let Verb::Demo { runtime } = args.verb {
        if context.output == Output::Json {
            let why = "`demo` has no JSON output: leave `--output json` out";
            return Err(Error::usage(why));
        }
        return demo::run(runtime.into(), shutdown).await;
    }
    if args.verb.changes() {
        context.agree_to_folder()?;
    }
    tokio::select! {
        done = run_verb(args.verb, &context) => done,
        // What was asked goes on in the controller.
        () = shutdown => Err(Error::refused("interrupted; see `crossfade status`")),
    }
}

/// The unit of the manifest's project.
async fn install(verb: &Verb, context: &CommandContext) -> Result<()> {
    let (file, text) = context.manifest_text()?;
    let project = project_name::of_manifest(&file, &text)?;
    let manifest = Manifest::parse_as(&text, &project);
    let manifest = manifest.map_err(Error::manifest(file.clone()))?;
    let place = install::ProjectPaths {
        manifest: &manifest,
        state: context.state()?,
        file,
    };
    let done = match *verb {
        Verb::Install { user, print, force } => {
            let options = install::Options { user, print, force };
            install::install(&place, options).await?
        }
        Verb::Uninstall { user, force } => {
            let print = false;
            let options = install::Options { user, print, force };
            install::uninstall(&place, options).await?
        }
        _ => return Ok(()),
    };
    print(context.output, &done, install::text)
}

async fn run_verb(verb: Verb, context: &CommandContext) -> Result<()> {
    match verb {
        Verb::Up {
            wait,
            prune,
            adopt,
            pull,
        } => up(context, up_request(context, prune, adopt)?, wait, pull).await,
        Verb::Down => down(context).await,
        Verb::Deploy(deploy) => self::deploy(*deploy, context).await,
        Verb::Split { service, weights } => {
            let split = read_split(&weights)?;
            context.say("split", &SplitRequest { service, split }).await
        }
        Verb::Maintenance(maintenance) => self::maintenance(maintenance, context).await,
        Verb::Promote { service } => context.say("promote", &RolloutRequest::of(service)).await,
        Verb::Abort { service } => context.say("abort", &RolloutRequest::of(service)).await,
        Verb::Pause { service } => context.say("pause", &RolloutRequest::of(service)).await,
        Verb::Resume { service } => {
            let yes = context.yes;
            resume(context, RolloutRequest { service, yes }).await
        }
        Verb::Rollback { service, to, wait } => {
            let client = context.running().await?;
            let done: Done = client
                .call("rollback", &RollbackRequest { service, to })
                .await?;
            follow::finish(&client, done, wait, context.output).await
        }
        Verb::Scale { service, replicas } => {
            context
                .say("scale", &ScaleRequest { service, replicas })
                .await
        }
        Verb::Proxy {
            verb: ProxyVerb::Upgrade { image },
        } => {
            let dir = std::env::current_dir().map_err(Error::file("."))?;
            let request = ProxyUpgradeRequest { image, dir };
            context.say("proxy-upgrade", &request).await
        }
        Verb::Status { watch } => status(context, watch).await,
        Verb::History { service } => {
            let client = context.reader()?;
            let reply: HistoryReply = client.call("history", &HistoryRequest { service }).await?;
            print(context.output, &reply, report::history)
        }
        Verb::Explain { rollout } => {
            let client = context.reader()?;
            let reply: Explanation = client.call("explain", &ExplainRequest { rollout }).await?;
            print(context.output, &reply, report::explanation)
        }
        Verb::Events {
            service,
            after,
            follow,
        } => {
            follow::events(
                &context.running().await?,
                service,
                after,
                follow,
                context.output,
            )
            .await
        }
        Verb::Logs(flags) => logs(context, flags).await,
        // Served first, since they need no controller of this project.
        Verb::Serve { .. }
        | Verb::Demo { .. }
        | Verb::Doctor
        | Verb::Install { .. }
        | Verb::Uninstall { .. }
        | Verb::Init(_)
        | Verb::Config
        | Verb::Completions { .. } => Ok(()),
    }
}

fn up_request(context: &CommandContext, prune: bool, adopt: bool) -> Result<UpRequest> {
    let (path, manifest) = context.manifest_text()?;
    Ok(UpRequest {
        manifest,
        path,
        prune,
        adopt,
    })
}

async fn up(context: &CommandContext, request: UpRequest, wait: bool, newer: bool) -> Result<()> {
    // Before a controller is started for it: most slips are found here.
    Manifest::parse(&request.manifest).map_err(Error::manifest(context.file.clone()))?;
    let client = context.client()?;
    client.ensure_controller().await?;
    let images = PullRequest {
        manifest: Some(request.manifest.clone()),
        path: request.path.clone(),
        image: None,
        service: None,
        newer,
    };
    pull::pull(&client, &images, context.output).await?;
    let spinner = follow::spinner(context.output, "starting missing containers");
    let done: Result<Done> = client.call("up", &request).await;
    spinner.finish_and_clear();
    let done = done?;
    follow::finish_all(&client, done, wait, context.output).await
}

/// Asks on a terminal where the new version gets fewer requests by it.
async fn resume(context: &CommandContext, mut request: RolloutRequest) -> Result<()> {
    let client = context.running().await?;
    loop {
        let done: Done = client.call("resume", &request).await?;
        let Some(what) = &done.needs_yes else {
            return context.show(&done);
        };
        if context.output == Output::Json || !agrees(what)? {
            return Err(Error::refused(format!("{what}: add --yes to do it")));
        }
        request.yes = true;
    }
}

/// What the user at the terminal says; an empty line is the default.
fn prompt(question: &str, default: &str) -> Result<String> {
    let hint = match default {
        "" => String::new(),
        default => format!(" [{default}]"),
    };
    say_raw(&format!("{question}{hint}: "))?;
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(Error::file("standard input"))?;
    match line.trim() {
        "" if default.is_empty() => Err(Error::usage(format!("{question}: it is needed"))),
        "" => Ok(default.to_owned()),
        said => Ok(said.to_owned()),
    }
}

/// Whether the user at the terminal says yes; without a terminal there is none.
fn agrees(question: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    say_raw(&format!("{question}. Continue? [y/N] "))?;
    let mut line = String::new();
    stdin
        .read_line(&mut line)
        .map_err(Error::file("standard input"))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn down(context: &CommandContext) -> Result<()> {
    let client = context.client()?;
    let (path, manifest) = context.manifest_text().ok().unzip();
    if !client.has_journal() && manifest.is_none() {
        return context.show(&Done::say("no project is up here"));
    }
    client.ensure_controller().await?;
    let done: Done = client.call("down", &DownRequest { manifest, path }).await?;
    client.until_gone().await;
    context.show(&done)
}

async fn deploy(deploy: Deploy, context: &CommandContext) -> Result<()> {
    let rollout = deploy.overrides()?;
    let mut env = std::collections::BTreeMap::new();
    for pair in deploy.env {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Error::usage(format!(
                "--env {pair}: write it as NAME=value"
            )));
        };
        env.insert(key.to_owned(), value.to_owned());
    }
    let request = DeployRequest {
        service: deploy.service,
        image: deploy.image,
        version: deploy.version,
        env,
        rollout,
        dir: std::env::current_dir().map_err(Error::file("."))?,
        dry_run: deploy.dry_run,
        replace: deploy.replace,
    };
    let client = context.running().await?;
    if !request.dry_run {
        let image = PullRequest {
            manifest: None,
            path: context.file.clone(),
            image: request.image.clone(),
            service: Some(request.service.clone()),
            newer: deploy.pull,
        };
        pull::pull(&client, &image, context.output).await?;
    }
    let done: Done = client.call("deploy", &request).await?;
    follow::finish(&client, done, deploy.wait, context.output).await
}

/// `config`.
fn config(context: &CommandContext) -> Result<()> {
    let (path, text) = context.manifest_text()?;
    let project = project_name::of_manifest(&path, &text)?;
    let manifest = Manifest::parse_as(&text, &project);
    let manifest = manifest.map_err(Error::manifest(context.file.clone()))?;
    let config = Config {
        text: manifest.text(),
        project,
    };
    print(context.output, &config, |config| config.text.clone())
}

async fn status(context: &CommandContext, watch: bool) -> Result<()> {
    let client = context.reader()?;
    loop {
        let reply: StatusReply = client.call("status", &()).await?;
        if watch && context.output == Output::Table {
            // Home, and clear what is below.
            say_raw("\x1b[H\x1b[J")?;
        }
        print(context.output, &reply, report::status)?;
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn logs(context: &CommandContext, flags: Logs) -> Result<()> {
    let now = Clock::new().now();
    let since = flags.since.map(|since| read_since(&since, now));
    let request = &LogsRequest {
        // Without one, `--proxy` is there.
        service: flags.service,
        version: flags.version,
        tail: flags.tail,
        since: since.transpose()?,
        follow: flags.follow,
    };
    let client = context.running().await?;
    match context.output {
        Output::Table => {
            let mut out = lines::Shown::new(std::io::stdout());
            client.copy("logs", request, &mut out).await
        }
        Output::Json => {
            let mut lines = lines::Lines::new(|line: &[u8]| {
                print_line(&lines::LogLine::of(line)).map_err(std::io::Error::other)
            });
            client.copy("logs", request, &mut lines).await
        }
    }
}

/// Where the manifest and the state are.
struct CommandContext {
    file: PathBuf,
    state: Option<PathBuf>,
    output: Output,
    if_generation: Option<i64>,
    yes: bool,
}

impl CommandContext {
    /// Two folders may have one name, and so one project. A verb that changes something asks, where the
    /// project was made from another folder than the manifest's.
    fn agree_to_folder(&self) -> Result<()> {
        let Ok((file, _)) = self.manifest_text() else {
            // It is named by its state folder.
            return Ok(());
        };
        let made_from = project_name::made_from(&self.state()?);
        let Some(made_from) =
            made_from.filter(|made| !project_name::is_same_folder(made, &file) && !self.yes)
        else {
            return Ok(());
        };
        let what = format!(
            "this project was made from {}, and this is {}",
            made_from.display(),
            file.display()
        );
        if self.output == Output::Table && agrees(&what)? {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{what}: name another `project` in it, or add --yes if this is to take its place"
        )))
    }

    fn client(&self) -> Result<ControllerClient> {
        Ok(ControllerClient::new(self.state()?).if_generation(self.if_generation))
    }

    fn show(&self, done: &Done) -> Result<()> {
        print(self.output, done, |done| format!("{}\n", done.text))
    }

    /// The state folder: as given, else by the manifest's project.
    fn state(&self) -> Result<PathBuf> {
        if let Some(state) = &self.state {
            return std::path::absolute(state).map_err(Error::file(state));
        }
        let (path, text) = self.manifest_text()?;
        Manifest::parse(&text).map_err(Error::manifest(self.file.clone()))?;
        state_dir::default_for(&project_name::of_manifest(&path, &text)?)
    }

    /// The manifest's absolute path and its text.
    fn manifest_text(&self) -> Result<(PathBuf, String)> {
        let text = std::fs::read_to_string(&self.file).map_err(|error| {
            let hint = if self.file == Path::new(args::MANIFEST) {
                "; name another with --file FILE, or give --state FOLDER, which needs none"
            } else {
                ""
            };
            Error::usage(format!("{}: {error}{hint}", self.file.display()))
        })?;
        let path = std::path::absolute(&self.file).map_err(Error::file(&self.file))?;
        Ok((path, text))
    }

    /// The controller; where it was killed while something is up, it is started again.
    async fn running(&self) -> Result<ControllerClient> {
        let client = self.client()?;
        if client.has_journal() {
            client.ensure_controller().await?;
        }
        Ok(client)
    }

    /// The same, for one question alone, which finds out by itself whether there is one.
    fn reader(&self) -> Result<ControllerClient> {
        Ok(self.client()?.for_a_question())
    }

    async fn say(&self, verb: &str, request: &impl Serialize) -> Result<()> {
        let done: Done = self.running().await?.call(verb, request).await?;
        self.show(&done)
    }
}

/// Reads `1.0.0=90 2.0.0=10`.
async fn maintenance(args: Maintenance, context: &CommandContext) -> Result<()> {
    let body = args.page.as_deref().map(read_page).transpose()?;
    let maintenance = args.on.then_some(MaintenanceSpec {
        allow: args.allow,
        retry_after: args.retry_after,
        body,
        content_type: None,
    });
    let request = MaintenanceRequest {
        service: args.service,
        maintenance,
    };
    context.say("maintenance", &request).await
}

/// The text of a page.
fn read_page(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(Error::file(file))
}

fn read_split(weights: &[String]) -> Result<Split> {
    let mut split = Split::new();
    for pair in weights {
        let wrong = |why: String| Error::usage(format!("{pair}: {why}"));
        let (version, weight) = pair
            .split_once('=')
            .filter(|(version, _)| !version.is_empty())
            .ok_or_else(|| wrong("write it as VERSION=WEIGHT, such as 1.0.0=90".into()))?;
        let weight: u32 = weight
            .parse()
            .ok()
            .filter(|weight| *weight <= MAX_WEIGHT)
            .ok_or_else(|| wrong(format!("a weight is a whole number from 0 to {MAX_WEIGHT}")))?;
        if split.insert(version.to_owned(), weight).is_some() {
            return Err(wrong(format!("{version} is given twice")));
        }
    }
    Ok(split)
}

/// Reads `10m`, which is so long before `now`, or `2025-01-31T12:30:00Z`.
fn read_since(text: &str, now: Millis) -> Result<Millis> {
    if let Ok(before) = text.parse::<Period>() {
        let before = Millis::try_from(before.get().as_millis()).unwrap_or(Millis::MAX);
        return Ok(now.saturating_sub(before).max(0));
    }
    let moment = humantime::parse_rfc3339_weak(text).ok();
    let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    let since = since.and_then(|since| Millis::try_from(since.as_millis()).ok());
    since.ok_or_else(|| {
        Error::usage(format!(
            "--since {text}: write how long ago, such as 10m, or a moment in UTC, such as \
             2025-01-31T12:30:00Z"
        ))
    })
}

/// An error as it is shown: as a line for people, or as `{"error":{"exit":64,"message":"…"}}`.
pub fn complaint(output: Output, message: &str, exit: u8) -> String {
    let message = message.trim().trim_start_matches("error: ");
    match output {
        Output::Table => format!("error: {}", plain_lines(message)),
        Output::Json => {
            serde_json::json!({ "error": { "exit": exit, "message": message } }).to_string()
        }
    }
}

/// What `config` prints.
#[derive(Serialize)]
struct Config {
    project: String,
    text: String,
}

/// What `completions` prints.
#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}
