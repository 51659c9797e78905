//! `pull`: images that are not on this host yet, before anything is begun with them. What is here
//! is asked for again only with `--pull`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use admin_api::strict::InputError;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::LogLines;
use crate::api::{PullLine, PullRequest};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, RuntimeChoice};
use crate::runtime::{PullStep, Runtime, RuntimeError};
use crate::server::controller::{Controller, folder_of};
use crate::server::engine;

impl Controller {
    /// `pull`. Gives a line for every step, and at last one for how it ended.
    pub(crate) async fn pull(&self, request: PullRequest) -> Result<LogLines> {
        let (runtime, kind) = match self.get_up() {
            Some(up) => {
                if let Some(service) = &request.service {
                    up.project.service(service)?;
                }
                (up.project.runtime.clone(), up.kind)
            }
            None => {
                let text = request.text()?;
                let manifest = self.read_manifest(text, &request.path)?;
                let engine = engine::choose(manifest.runtime, &manifest.project, &self.dir).await?;
                (engine.runtime, engine.kind)
            }
        };
        let images = match kind {
            // Programs come from nowhere.
            RuntimeChoice::Process => Vec::new(),
            _ => self.images(&request)?,
        };
        let newer = request.newer;
        let folder = folder_of(&request.path).to_owned();
        let (send, lines) = mpsc::channel(64);
        // A controller in the background does not end meanwhile.
        let busy = self.busy.clone();
        tokio::spawn(async move {
            let _busy = busy;
            for Wanted { image, service } in images {
                let image = engine::image_from(kind, &folder, &image);
                if let Err(error) = pull(runtime.as_ref(), &image, newer, &send).await {
                    let error = match (service, &request.manifest, error) {
                        (Some(service), Some(text), Error::Runtime(error)) => {
                            located_image(error, &service, text, &request.path)
                        }
                        (.., error) => error,
                    };
                    say(&send, &PullLine::Failed((&error).into())).await;
                    break;
                }
            }
        });
        Ok(lines)
    }

    /// Those that are meant: one, that of one service, or all of the manifest.
    fn images(&self, request: &PullRequest) -> Result<Vec<Wanted>> {
        let alone = |image: String| Wanted {
            image,
            service: None,
        };
        if let Some(image) = &request.image {
            return Ok(vec![alone(image.clone())]);
        }
        if let (Some(service), Some(up), None) =
            (&request.service, self.get_up(), &request.manifest)
        {
            let manifest = up.project.manifest();
            let service = manifest.service(service);
            let image = service.map(|one| alone(one.image.clone()));
            return Ok(image.into_iter().collect());
        }
        let manifest = self.read_manifest(request.text()?, &request.path)?;
        let services = manifest.services.into_iter().map(|service| Wanted {
            image: service.image,
            service: Some(service.name),
        });
        Ok(services.chain([alone(manifest.proxy.image)]).collect())
    }
}

/// An image that is to be here.
struct Wanted {
    image: String,
    /// The service whose manifest names it.
    service: Option<String>,
}

/// The error of an image that is not to be had, with the service and the line that name it; another
/// error as it is.
pub(super) fn located_image(
    error: RuntimeError,
    service: &str,
    manifest: &str,
    path: &Path,
) -> Error {
    if !matches!(
        error,
        RuntimeError::ImageNotFound { .. } | RuntimeError::PullFailed { .. }
    ) {
        return error.into();
    }
    // Its project does not matter here.
    let index = Manifest::parse(manifest).ok().and_then(|manifest| {
        let mut names = manifest.services.iter().map(|one| &one.name);
        names.position(|name| name == service)
    });
    let field = format!("services[{}].image", index.unwrap_or_default());
    let located = InputError::of_field(field, format!("service `{service}`: {error}"));
    Error::unavailable(located.located_in(manifest).in_file(path))
}

impl PullRequest {
    fn text(&self) -> Result<&str> {
        self.manifest
            .as_deref()
            .ok_or_else(|| Error::refused("no project is up here: run `crossfade up`"))
    }
}

/// Pulls the image if it is not here, or with `newer` in any case.
async fn pull(
    runtime: &dyn Runtime,
    image: &str,
    newer: bool,
    send: &mpsc::Sender<Bytes>,
) -> Result<()> {
    match runtime.resolve_image(image).await {
        Err(RuntimeError::ImageNotFound { .. }) => {}
        Ok(_) if newer => {}
        // What else is wrong is said by what needs it.
        _ => return Ok(()),
    }
    let image = image.to_owned();
    let begun = AtomicBool::new(false);
    // A slow reader misses some steps. An image of `localhost/` has no registry.
    let tell = |step: PullStep| {
        if !begun.swap(true, Ordering::Relaxed) {
            let image = image.clone();
            let _ = send.try_send(line_of(&PullLine::Begins { image }));
        }
        let _ = send.try_send(line_of(&PullLine::Step(step)));
    };
    runtime.pull_image(&image, &tell).await?;
    say(send, &PullLine::Here { image }).await;
    Ok(())
}

/// Sends a line to the client, if it is still there.
async fn say(send: &mpsc::Sender<Bytes>, line: &PullLine) {
    let _ = send.send(line_of(line)).await;
}

fn line_of(line: &PullLine) -> Bytes {
    // Of texts and numbers: cannot fail.
    let mut json = serde_json::to_vec(line).unwrap_or_default();
    json.push(b'\n');
    json.into()
}
