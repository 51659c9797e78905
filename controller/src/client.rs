//! The thin client of the controller process. A verb that needs a controller starts one in
//! the background where none responds.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::{About, Failure};
use crate::error::{Error, Exit, NoController, Result};
use crate::http::exchange::send;
use crate::{no_link, state_dir};

/// How long a controller in the background may take to respond.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a controller that runs may take to say that it does. What it does besides takes it no time.
const HANGS_AFTER: Duration = Duration::from_secs(9);
/// How long a response is waited for before it is asked that, and from one time to the next.
const QUERIED_EVERY: Duration = Duration::from_secs(1);

/// The controller of one state folder, from outside.
#[derive(Debug, Clone)]
pub struct ControllerClient {
    dir: PathBuf,
    if_generation: Option<i64>,
    /// Starts a controller where none responds, and calls again.
    starts: bool,
}

impl ControllerClient {
    /// Talks to the controller of this folder.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            if_generation: None,
            starts: false,
        }
    }

    /// For a call that changes nothing. Where no controller responds, though this folder has
    /// had one, it was killed: then one is started, and asked again.
    pub fn for_a_question(self) -> Self {
        Self {
            starts: self.has_journal(),
            ..self
        }
    }

    /// Asks for changes only of what is still at this generation.
    pub fn if_generation(self, if_generation: Option<i64>) -> Self {
        Self {
            if_generation,
            ..self
        }
    }

    /// Calls; the error says what would help where no controller responds.
    pub async fn call<T: DeserializeOwned>(
        &self,
        verb: &str,
        request: &impl Serialize,
    ) -> Result<T> {
        let body = self.send(verb, request).await?;
        let body = body
            .collect()
            .await
            .map_err(NoController::BrokenOff)?
            .to_bytes();
        serde_json::from_slice(&body).map_err(|error| NoController::Unreadable(error).into())
    }

    /// Asks for text, and copies it to `out` as it comes.
    pub async fn copy(
        &self,
        verb: &str,
        request: &impl Serialize,
        out: &mut impl Write,
    ) -> Result<()> {
        let mut body = self.send(verb, request).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(NoController::BrokenOff)?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if out.write_all(data).and_then(|()| out.flush()).is_err() {
                // The reader has closed the pipe.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether this folder has ever had a controller.
    pub fn has_journal(&self) -> bool {
        self.dir.join(crate::journal::FILE).exists()
    }

    /// Starts a controller unless one responds: the unit's, where `crossfade install` has made one,
    /// or else one in the background.
    pub async fn ensure_controller(&self) -> Result<()> {
        if self.responds().await? {
            return Ok(());
        }
        state_dir::make(&self.dir)?;
        state_dir::check(&self.dir)?;
        if self.start_unit().await && self.responds().await? {
            return Ok(());
        }
        self.start_in_background().await
    }

    /// Has systemd start it. `false` where that cannot be, such as in a container or after the unit
    /// was taken away by hand.
    async fn start_unit(&self) -> bool {
        let Some(unit) = state_dir::unit(&self.dir) else {
            return false;
        };
        let start = tokio::process::Command::new("systemctl")
            .arg("start")
            .args(&unit)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        let started = tokio::time::timeout(START_TIMEOUT, start).await;
        matches!(started, Ok(Ok(status)) if status.success())
    }

    async fn start_in_background(&self) -> Result<()> {
        let log_path = state_dir::log_file(&self.dir);
        let log = state_dir::no_link()
            .append(true)
            .create(true)
            .open(&log_path)
            .map_err(Error::file(&log_path))?;
        let begins = log.metadata().map_or(0, |metadata| metadata.len());
        let also = log.try_clone().map_err(Error::file(&log_path))?;
        let program = std::env::current_exe().map_err(Error::file("crossfade"))?;
        let mut command = Command::new(&program);
        // systemd may wait for the program that this is part of.
        program::systemd::keep_from(&mut command);
        let mut controller = command
            .args(["serve", "--until-down"])
            .arg("--state")
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            // Ctrl-C on the client's terminal is not meant for it.
            .process_group(0)
            .spawn()
            .map_err(Error::file(&program))?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.responds().await? {
                return Ok(());
            }
            let ended = controller.try_wait().map_err(Error::file(&program))?;
            // It may have lost to another that was started at the same moment.
            if ended.is_some() && !self.responds().await? {
                let said = said_since(&log_path, begins);
                let log = log_path;
                return Err(NoController::NotStarted { said, log }.into());
            }
            if Instant::now() >= deadline {
                let (limit, log) = (START_TIMEOUT, log_path);
                return Err(NoController::TimedOut { limit, log }.into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for the end of a controller that has said it ends: the next verb is not to meet it
    /// on its way out.
    pub async fn until_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline && !state_dir::is_free(&self.dir) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a controller responds.
    pub async fn is_responding(&self) -> bool {
        self.responds().await.unwrap_or(false)
    }

    /// The same; one that is there and says nothing is an error.
    async fn responds(&self) -> Result<bool> {
        let about = async {
            let stream = self.connect().await.ok()?;
            let body = self.exchange(stream, "about", &()).await.ok()?;
            let body = body.collect().await.ok()?.to_bytes();
            serde_json::from_slice::<About>(&body).ok()
        };
        match tokio::time::timeout(HANGS_AFTER, about).await {
            Ok(about) => Ok(about.is_some()),
            Err(_) => Err(NoController::Hung {
                folder: self.dir.clone(),
                pid: state_dir::process_of(&self.dir),
                limit: HANGS_AFTER,
            }
            .into()),
        }
    }

    /// Ends when the controller hangs, with that as an error.
    async fn until_it_hangs(&self) -> Error {
        loop {
            tokio::time::sleep(QUERIED_EVERY).await;
            // One that went away is seen by the call itself.
            if let Err(hung) = self.responds().await {
                return hung;
            }
        }
    }

    async fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(state_dir::socket(&self.dir)).await
    }

    async fn send(&self, verb: &str, request: &impl Serialize) -> Result<Incoming> {
        let sent = self.send_watched(verb, request).await;
        match sent {
            Err(Error::NoController(NoController::Hung { .. })) => sent,
            Err(Error::NoController(_)) if self.starts => {
                self.ensure_controller().await?;
                self.send_watched(verb, request).await
            }
            sent => sent,
        }
    }

    /// Sends, and gives up when the controller hangs.
    async fn send_watched(&self, verb: &str, request: &impl Serialize) -> Result<Incoming> {
        tokio::select! {
            biased;
            sent = self.send_once(verb, request) => sent,
            hung = self.until_it_hangs() => Err(hung),
        }
    }

    async fn send_once(&self, verb: &str, request: &impl Serialize) -> Result<Incoming> {
        let stream = self.connect().await.map_err(|error| match error.kind() {
            // It may be killed at this very moment.
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
                let folder = self.dir.clone();
                NoController::NotRunning { folder }.into()
            }
            _ => Error::file(state_dir::socket(&self.dir))(error),
        })?;
        self.exchange(stream, verb, request).await
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        verb: &str,
        request: &impl Serialize,
    ) -> Result<Incoming> {
        let body =
            serde_json::to_vec(request).map_err(Error::caused(Exit::USAGE, "cannot be sent"))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/{verb}"))
            .header(header::HOST, "controller")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(generation) = self.if_generation {
            request = request.header(header::IF_MATCH, format!("\"{generation}\""));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(Error::caused(Exit::USAGE, "cannot be sent"))?;
        let response = send(stream, request)
            .await
            .map_err(NoController::BrokenOff)?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(NoController::BrokenOff)?
            .to_bytes();
        Err(match serde_json::from_slice::<Failure>(&body) {
            Ok(failure) => failure.into(),
            Err(_) => NoController::Status(status).into(),
        })
    }
}

/// The last line that was logged since the file was `begins` long.
fn said_since(path: &Path, begins: u64) -> String {
    let text = no_link::read(path).unwrap_or_default();
    let from = usize::try_from(begins).unwrap_or(0).min(text.len());
    let text = String::from_utf8_lossy(&text[from..]).into_owned();
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    last.trim_start_matches("error: ").to_owned()
}
