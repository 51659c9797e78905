//! `crossfade demo`: canary, full rollout and rollback on this machine, while a client sends
//! requests.
//!
//! ```text
//! four servers of 1.0.0 → 2.0.0 as a fifth, at 10% → 50/50 → all to 2.0.0
//!                       → 3.0.0, which fails a third of its requests → rolled back by itself
//! ```
//!
//! It uses the same controller, proxy, server and client as any project, in a folder and a
//! project of its own. It removes all of it at the end, also when it is interrupted.

mod place;
mod scene;
mod witness;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::api::{DeployRequest, Done, Progress, ProgressRequest};
use crate::error::{Error, Result};
use crate::manifest::{RolloutOverrides, RuntimeChoice};
use crate::print::say;

use place::{DemoProject, SERVICE};
use scene::{Scenes, Shares};
use witness::Witness;

/// Requests a second.
const RATE: u32 = 200;
/// The time between two samples of the proxy's split.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a scene may take to begin, and to end.
const TIMEOUT: Duration = Duration::from_secs(90);
/// How long a scene without a rollout is watched.
const WATCH: Duration = Duration::from_secs(3);

/// Runs the demo, and removes everything that it started, also after an error.
pub(crate) async fn run(
    runtime: RuntimeChoice,
    interrupted: impl Future<Output = ()>,
) -> Result<()> {
    // An interruption waits for these two, which take a moment: a half-started project could not
    // be removed.
    let mut place = DemoProject::find(runtime).await?;
    let played = match place.client.ensure_controller().await {
        Ok(()) => tokio::select! {
            biased;
            () = interrupted => {
                say("\ninterrupted: removing everything")?;
                Err(Error::refused("interrupted; everything was removed"))
            }
            played = play(&mut place) => played,
        },
        Err(error) => Err(error),
    };
    let cleared = place.clear().await;
    played.and(cleared)
}

async fn play(place: &mut DemoProject) -> Result<()> {
    say(&format!("crossfade demo, on {}", place.why))?;
    say(&format!("  listening on   http://{}", place.listen))?;
    say(&format!(
        "  cleanup        crossfade down --state {}\n",
        place.state.display()
    ))?;
    say(&place.up().await?.text)?;

    let witness = Witness::start(place.listen, RATE)?;
    let mut scenes = Scenes::new(&[
        ("1.0.0 alone", &[("1.0.0", 100)]),
        ("2.0.0 canary", &[("1.0.0", 90), ("2.0.0", 10)]),
        ("50/50", &[("1.0.0", 50), ("2.0.0", 50)]),
        ("full rollout", &[("2.0.0", 100)]),
        ("3.0.0 canary", &[("2.0.0", 90), ("3.0.0", 10)]),
        ("rolled back", &[("2.0.0", 100)]),
    ]);
    say(&format!(
        "a client sends {RATE} requests a second and counts every failure\n"
    ))?;
    watch(place, &mut scenes, 1).await?;
    deploy(place, &mut scenes, "2.0.0", 4).await?;
    deploy(place, &mut scenes, "3.0.0", 6).await?;

    let seen = witness.finish().await?;
    say(&format!("\n{}", scenes.table(&seen)))?;
    let broken = scenes.broken_promises(&seen);
    if broken.is_empty() {
        return say(
            "all stages completed; 0 requests failed, not counting the errors that 3.0.0 \
             returned on purpose",
        );
    }
    Err(Error::refused(broken.join("\n       ")))
}

/// Deploys a version, and shows its events until its rollout is over and `until` scenes were seen.
async fn deploy(
    place: &DemoProject,
    scenes: &mut Scenes,
    version: &str,
    until: usize,
) -> Result<()> {
    let (image, env) = place.release(version);
    let request = DeployRequest {
        service: SERVICE.into(),
        image: Some(image),
        version: Some(version.into()),
        env,
        rollout: RolloutOverrides::default(),
        dir: place.state.clone(),
        dry_run: false,
        replace: false,
    };
    let done: Done = place.client.call("deploy", &request).await?;
    say(&format!(
        "\n$ crossfade deploy {SERVICE} --image …:{version}\n{}",
        done.text
    ))?;
    let Some(rollout) = done.rollout else {
        return Err(Error::refused(format!(
            "{version} was not rolled out: {}",
            done.text
        )));
    };
    let mut progress = ProgressRequest {
        rollout,
        after: 0,
        wait_ms: 0,
    };
    let begun = Instant::now();
    loop {
        look(place, scenes).await?;
        let now: Progress = place.client.call("rollout", &progress).await?;
        for event in now.events {
            progress.after = progress.after.max(event.id);
            // The response to `deploy` has this event already.
            if event.kind != "began" {
                say(&format!("  {}", event.text))?;
            }
        }
        if now.rollout.phase.is_over() {
            return watch(place, scenes, until).await;
        }
        if begun.elapsed() > TIMEOUT {
            return Err(Error::refused(format!(
                "the rollout of {version} does not end"
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until `until` scenes were seen, and watches the last one for a while.
async fn watch(place: &DemoProject, scenes: &mut Scenes, until: usize) -> Result<()> {
    let begun = Instant::now();
    while scenes.begun() < until || begun.elapsed() < WATCH {
        look(place, scenes).await?;
        if scenes.begun() < until && begun.elapsed() > TIMEOUT {
            return Err(Error::refused(format!("{} did not happen", scenes.next())));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Samples the proxy's split, and prints the next scene when it begins.
async fn look(place: &DemoProject, scenes: &mut Scenes) -> Result<()> {
    let viewing = place.admin.service(SERVICE);
    let view = timeout(TIMEOUT, viewing).await.map_err(|_| {
        Error::unavailable(format!("the proxy did not respond within {TIMEOUT:?}"))
    })??;
    if let Some(scene) = scenes.look(&Shares::of(&view.split)) {
        say(&format!("▶ {scene}"))?;
    }
    Ok(())
}
