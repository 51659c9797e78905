//! The controller process: its folder, its socket, and the calls that it serves there.

mod adopt;
mod backoff;
mod controller;
mod differences;
pub(crate) mod engine;
mod explain;
mod images;
mod liveness;
mod recent;
mod reconciler;
mod table_watch;
pub(crate) mod verbs;
mod waiting;

use std::convert::Infallible;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use program::systemd::Notifier;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Interval, interval};

use crate::api::{About, Failure};
use crate::error::{Error, Exit, Result};
use crate::journal::{self, Journal};
use crate::project::caller::Caller;
use crate::state_dir::{self, Lock};
use controller::Controller;
use verbs::LogLines;

/// A manifest is the largest thing that is ever sent.
const MAX_BODY: usize = 4 << 20;
/// How long a controller that ends waits for responses that are still being read.
const LAST_RESPONSES: Duration = Duration::from_secs(1);
/// The verbs that change something.
const CHANGING: [&str; 12] = [
    "up",
    "down",
    "deploy",
    "split",
    "promote",
    "abort",
    "pause",
    "resume",
    "rollback",
    "proxy-upgrade",
    "scale",
    "maintenance",
];

/// A state folder that is ours alone, with its socket.
pub struct Folder {
    controller: Arc<Controller>,
    listener: UnixListener,
    // Given back last.
    _lock: Lock,
}

/// Takes the folder: lock, journal, socket.
///
/// # Errors
/// When another controller has it (named by its process), or it cannot be used.
pub fn open(dir: &Path) -> Result<Folder> {
    state_dir::make(dir)?;
    state_dir::check(dir)?;
    let lock = state_dir::lock(dir)?;
    let file = dir.join(journal::FILE);
    let journal = match Journal::open(&file) {
        // The disk may be full.
        Err(_) if state_dir::give_reserve(dir) => Journal::open(&file),
        opened => opened,
    }?;
    if let Some(restored) = journal.restored() {
        tracing::error!("{restored}");
    }
    let socket = state_dir::socket(dir);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file(socket)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(Error::file(&socket))?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))
        .map_err(Error::file(&socket))?;
    Ok(Folder {
        controller: Controller::new(dir.to_owned(), Arc::new(journal)),
        listener,
        _lock: lock,
    })
}

/// Serves the folder until `shutdown`, or until `down` has left nothing to control; with
/// `until_down` also when nothing has come up for a while. What runs goes on without a
/// controller.
pub async fn run(folder: Folder, until_down: bool, shutdown: impl Future<Output = ()>) {
    let Folder {
        controller,
        listener,
        _lock,
    } = folder;
    controller.take_up().await;
    let manager = notifier();
    if let Some(manager) = &manager {
        manager.ready("the controller runs");
    }
    let tending = tokio::spawn(controller.clone().keep_reconciling(until_down));
    let mut serving = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut alive = manager
        .as_ref()
        .and_then(Notifier::watchdog_every)
        .map(interval);
    loop {
        tokio::select! {
            () = &mut shutdown => {
                controller.note_stop();
                break;
            }
            () = controller.finished() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    serving.spawn(serve_stream(stream, controller.clone()));
                }
                Err(error) => {
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = serving.join_next(), if !serving.is_empty() => {}
            // All that the controller does shares its one thread with this.
            () = next(&mut alive) => manager.iter().for_each(Notifier::alive),
        }
    }
    manager.iter().for_each(Notifier::stopping);
    // New clients learn at once that no controller is here.
    drop(listener);
    tending.abort();
    controller.stop();
    // The caller that requested the end still gets its response.
    let rest = async { while serving.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_RESPONSES, rest).await;
}

/// Where systemd waits for the controller.
fn notifier() -> Option<Notifier> {
    Notifier::from_env().unwrap_or_else(|error| {
        tracing::warn!("NOTIFY_SOCKET: systemd cannot be told that the controller runs: {error}");
        None
    })
}

/// The next tick; never, of none.
async fn next(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

async fn serve_stream(stream: UnixStream, controller: Arc<Controller>) {
    let caller = Caller::of(&stream);
    let service = service_fn(move |request| {
        let (controller, caller) = (controller.clone(), caller.clone());
        async move { Ok::<_, Infallible>(respond(request, controller, caller).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a client went away: {error}");
    }
}

type ApiResponse = Response<Either<Full<Bytes>, Lines>>;

async fn respond(
    request: Request<Incoming>,
    controller: Arc<Controller>,
    mut caller: Caller,
) -> ApiResponse {
    let path = request.uri().path().to_owned();
    let Some(verb) = path
        .strip_prefix("/v1/")
        .filter(|_| request.method() == Method::POST)
    else {
        return failed(&Error::usage(format!(
            "there is no {} {path}",
            request.method()
        )));
    };
    if let Some(seen) = request.headers().get(header::IF_MATCH) {
        let seen = seen.to_str().ok().map(|seen| seen.trim_matches('"'));
        let Some(seen) = seen.and_then(|seen| seen.parse().ok()) else {
            return failed(&Error::usage("If-Match: a generation is a whole number"));
        };
        caller.if_generation = Some(seen);
    }
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let broke_off = Error::caused(Exit::USAGE, "the request broke off");
            return failed(&broke_off(error));
        }
    };
    let verb = verb.to_owned();
    // In a task of its own: a verb that has begun goes on when its client goes away.
    let busy = controller.busy.clone();
    let task = tokio::spawn(async move {
        let _busy = busy;
        let done = dispatch(&verb, &body, &controller, &caller).await;
        if let Err(error) = &done {
            note_failed(&controller, &caller, &verb, &body, error);
        }
        done
    });
    match task.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => failed(&error),
        Err(error) => {
            let broke_down = Error::caused(Exit::FAILED, "the controller failed");
            failed(&broke_down(error))
        }
    }
}

/// Writes down what a user asked for and did not get. What was not understood is no news, and
/// neither is a question.
fn note_failed(controller: &Controller, caller: &Caller, verb: &str, body: &[u8], error: &Error) {
    let is_slip = matches!(error.exit(), Exit::USAGE | Exit::STALE);
    if is_slip || !CHANGING.contains(&verb) {
        return;
    }
    let request = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let service = request["service"].as_str();
    let text = format!("{verb} failed: {error}");
    if let Err(error) = controller.note_of(caller, "failed", service, &text) {
        tracing::warn!("{error}");
    }
}

async fn dispatch(
    verb: &str,
    body: &[u8],
    controller: &Controller,
    caller: &Caller,
) -> Result<ApiResponse> {
    match verb {
        "about" => {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            json(&About {
                version,
                pid: std::process::id(),
            })
        }
        "up" => json(&controller.up_verb(read(body)?, caller).await?),
        "down" => json(&controller.down(read(body)?, caller).await?),
        "deploy" => json(&controller.deploy(read(body)?, caller).await?),
        "split" => json(&controller.split(read(body)?, caller).await?),
        "promote" => json(&controller.promote(read(body)?, caller).await?),
        "abort" => json(&controller.abort(read(body)?, caller).await?),
        "pause" => json(&controller.pause(read(body)?, caller).await?),
        "resume" => json(&controller.resume(read(body)?, caller).await?),
        "rollback" => json(&controller.rollback(read(body)?, caller).await?),
        "proxy-upgrade" => json(&controller.upgrade_proxy(read(body)?, caller).await?),
        "maintenance" => json(&controller.maintenance(read(body)?, caller).await?),
        "scale" => json(&controller.scale(read(body)?, caller).await?),
        "status" => json(&controller.status().await?),
        "history" => json(&controller.history(&read(body)?)?),
        "events" => json(&controller.events(read(body)?).await?),
        "explain" => json(&controller.explain(&read(body)?)?),
        "rollout" => json(&controller.progress(read(body)?).await?),
        "pull" => {
            let lines = Lines(controller.pull(read(body)?).await?);
            Ok(Response::new(Either::Right(lines)))
        }
        "logs" => {
            let lines = Lines(controller.logs(read(body)?).await?);
            Ok(Response::new(Either::Right(lines)))
        }
        _ => Err(Error::usage(format!(
            "the controller is release {} and has no verb `{verb}`",
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    admin_api::strict::from_json(body).map_err(|error| Error::usage(error.to_string()))
}

fn json(value: &impl Serialize) -> Result<ApiResponse> {
    let body = serde_json::to_vec(value).map_err(Error::caused(
        Exit::FAILED,
        "the response cannot be written",
    ))?;
    Ok(response(StatusCode::OK, body))
}

fn failed(error: &Error) -> ApiResponse {
    // Of a number and a string: cannot fail.
    let body = serde_json::to_vec(&Failure::from(error)).unwrap_or_default();
    response(StatusCode::UNPROCESSABLE_ENTITY, body)
}

fn response(status: StatusCode, body: Vec<u8>) -> ApiResponse {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Log lines as a body.
struct Lines(LogLines);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|lines| lines.map(|lines| Ok(Frame::data(lines))))
    }
}
