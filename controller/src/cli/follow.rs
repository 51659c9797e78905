//! `--wait` and `events`: what happens, as it happens.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Done, EventsReply, EventsRequest, Progress, ProgressRequest, RolloutStatus};
use crate::cli::report;
use crate::client::ControllerClient;
use crate::error::{Error, NoController, Result};
use crate::journal::{Event, Phase};
use crate::print::{Output, print, print_line, say};

/// From one line of figures to the next, and from one look at the bar.
const EVERY: Duration = Duration::from_secs(2);
const BAR_EVERY: Duration = Duration::from_millis(250);
/// How often a controller that was killed is started again, one time after the other.
const MAX_RETRIES: u32 = 15;

/// How a rollout that is waited for is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Promoted,
    RolledBack,
}

/// `events`.
pub(super) async fn events(
    client: &ControllerClient,
    service: Option<String>,
    after: Option<i64>,
    follow: bool,
    output: Output,
) -> Result<()> {
    let mut request = EventsRequest {
        service,
        after: after.or((!follow).then_some(0)),
        wait_ms: 0,
    };
    loop {
        let reply: EventsReply = patiently(client, "events", &request, output).await?;
        for event in &reply.events {
            show(event, output)?;
        }
        request.after = Some(reply.last);
        match (reply.events.is_empty(), follow) {
            (true, false) => return Ok(()),
            (true, true) => request.wait_ms = 10_000,
            _ => {}
        }
    }
}

fn show(event: &Event, output: Output) -> Result<()> {
    match output {
        Output::Table => say(&report::event(event)),
        Output::Json => print_line(event),
    }
}

/// Shows what was done, and with `wait` how the rollout ends that it began or undid. With JSON that is a
/// line for each event, and at last one for the rollout.
pub(super) async fn finish(
    client: &ControllerClient,
    done: Done,
    wait: bool,
    output: Output,
) -> Result<()> {
    let (rollout, wanted) = match (done.rollout, done.undone) {
        (Some(rollout), _) if wait => (rollout, Wanted::Promoted),
        (None, Some(rollout)) if wait => (rollout, Wanted::RolledBack),
        _ => return print(output, &done, |done| format!("{}\n", done.lines())),
    };
    let screen = Screen::new(output);
    screen.line(&done.lines())?;
    until_end(client, rollout, wanted, &screen).await
}

async fn until_end(
    client: &ControllerClient,
    rollout: i64,
    wanted: Wanted,
    screen: &Screen,
) -> Result<()> {
    let output = screen.output;
    let mut request = ProgressRequest {
        rollout,
        after: 0,
        wait_ms: screen.every(),
    };
    loop {
        let progress: Progress = patiently(client, "rollout", &request, output).await?;
        for event in &progress.events {
            request.after = request.after.max(event.id);
            if output == Output::Json {
                print_line(event)?;
            } else if event.kind != "began" {
                screen.line(&report::event(event))?;
            }
        }
        let rollout = progress.rollout;
        screen.stats(&rollout, progress.events.is_empty())?;
        let ended = match (rollout.phase, &rollout.paused) {
            (Phase::Baking | Phase::Draining | Phase::Done, _) => Ok(()),
            (Phase::RolledBack, _) if wanted == Wanted::RolledBack => Ok(()),
            (Phase::RolledBack, _) => {
                let why = rollout.why.as_deref().unwrap_or("no reason was recorded");
                let to = &rollout.to;
                Err(Error::rolled_back(format!("{to} was rolled back: {why}")))
            }
            (Phase::RollingBack, _) | (_, None) => continue,
            (_, Some(why)) => {
                let id = rollout.id;
                Err(Error::paused(format!(
                    "rollout {id} is paused: {why}; continue with `crossfade resume`, `promote` or `abort`"
                )))
            }
        };
        screen.end();
        if output == Output::Json {
            print_line(&rollout)?;
        }
        return ended;
    }
}

/// The same for an `up`, which may have begun several, one for each service. It ends as the first
/// one ends that does not end well.
pub(super) async fn finish_all(
    client: &ControllerClient,
    done: Done,
    wait: bool,
    output: Output,
) -> Result<()> {
    match output {
        Output::Json if wait => print_line(&done)?,
        _ => print(output, &done, |done| format!("{}\n", done.text))?,
    }
    let mut ended = Ok(());
    for rollout in done.rollouts.iter().copied().filter(|_| wait) {
        let screen = Screen::new(output);
        ended = ended.and(until_end(client, rollout, Wanted::Promoted, &screen).await);
    }
    ended
}

/// Something that turns on a terminal while a verb takes its time; nothing elsewhere.
pub(super) fn spinner(output: Output, text: &'static str) -> ProgressBar {
    if output == Output::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(text);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// Asks, and again where the controller was killed: then another one is started.
async fn patiently<T: DeserializeOwned>(
    client: &ControllerClient,
    verb: &str,
    request: &impl Serialize,
    output: Output,
) -> Result<T> {
    let mut away = 0;
    loop {
        match client.call(verb, request).await {
            Err(hung @ Error::NoController(NoController::Hung { .. })) => return Err(hung),
            Err(Error::NoController(why)) if away < MAX_RETRIES => {
                if away == 0 && output == Output::Table {
                    say(&format!("         {why}; starting it again"))?;
                }
                away += 1;
                match client.ensure_controller().await {
                    Err(hung @ Error::NoController(NoController::Hung { .. })) => return Err(hung),
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                    Ok(()) => {}
                }
            }
            response => return response,
        }
    }
}

/// A bar below the lines on a terminal; lines alone everywhere else.
struct Screen {
    output: Output,
    bar: Option<ProgressBar>,
    shown: std::cell::RefCell<String>,
}

impl Screen {
    fn new(output: Output) -> Self {
        let people = output == Output::Table && std::io::stdout().is_terminal();
        let bar = people.then(|| {
            let bar = ProgressBar::new(100);
            // A template that is wrong leaves the plain bar.
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos:>3}% {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            output,
            bar,
            shown: std::cell::RefCell::default(),
        }
    }

    /// How long to wait for news.
    fn every(&self) -> u64 {
        let every = if self.bar.is_some() { BAR_EVERY } else { EVERY };
        u64::try_from(every.as_millis()).unwrap_or(2000)
    }

    fn line(&self, text: &str) -> Result<()> {
        match (&self.bar, self.output) {
            (_, Output::Json) => Ok(()),
            (Some(bar), _) => bar.suspend(|| say(text)),
            (None, _) => say(text),
        }
    }

    fn stats(&self, rollout: &RolloutStatus, nothing_else: bool) -> Result<()> {
        let stats = counts_text(rollout);
        if let Some(bar) = &self.bar {
            bar.set_position(rollout.share.into());
            bar.set_message(stats);
            return Ok(());
        }
        let mut shown = self.shown.borrow_mut();
        if nothing_else && stats != *shown {
            self.line(&format!("         {stats}"))?;
            *shown = stats;
        }
        Ok(())
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn counts_text(rollout: &RolloutStatus) -> String {
    let mut text = match (rollout.phase, &rollout.verdict) {
        (Phase::Shifting, verdict) => {
            let (candidate, stable) = (rollout.candidate, rollout.stable);
            let verdict = verdict.as_deref().unwrap_or("watching");
            format!(
                "{} of {} requests failed, stable {} of {}: {verdict}",
                candidate.failures, candidate.attempts, stable.failures, stable.attempts
            )
        }
        (phase, _) => phase.to_string(),
    };
    if let Some(paused) = &rollout.paused {
        text.push_str(&format!("; paused: {paused}"));
    }
    if let Some(last_error) = &rollout.last_error {
        text.push_str(&format!("; {last_error}"));
    }
    text
}
