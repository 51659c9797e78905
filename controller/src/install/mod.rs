//! `crossfade install` and `uninstall`: a systemd unit that starts a project's controller with the host.

mod systemctl;
mod unit;

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde::Serialize;

use crate::api::About;
use crate::client::ControllerClient;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, RuntimeChoice};
use crate::state_dir;

use systemctl::Systemctl;
use unit::{Origin, Unit};

/// What `install` is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// A unit of the user's own manager.
    pub(crate) user: bool,
    /// Only show it.
    pub(crate) print: bool,
    /// Overwrite a file that was changed by hand.
    pub(crate) force: bool,
}

/// The project that is meant.
#[derive(Debug)]
pub(crate) struct ProjectPaths<'p> {
    pub(crate) manifest: &'p Manifest,
    /// The manifest's file.
    pub(crate) file: PathBuf,
    pub(crate) state: PathBuf,
}

/// What was done.
#[derive(Debug, Serialize)]
pub(crate) struct Installed {
    /// The unit's name.
    pub(crate) unit: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// What was done, a sentence each.
    pub(crate) done: Vec<String>,
}

/// Writes, enables and starts the project's unit. What is there already and as it should be is left alone.
pub(crate) async fn install(place: &ProjectPaths<'_>, options: Options) -> Result<Installed> {
    let unit = unit_of(place, options.user)?;
    let mut installed = Installed {
        unit: unit.name(),
        file: folder(unit.is_of_user)?.join(unit.name()),
        text: unit.text(),
        done: Vec::new(),
    };
    if options.print {
        return Ok(installed);
    }
    let systemctl = Systemctl::of(unit.is_of_user).await?;
    let before = read(&installed.file)?;
    refuse_foreign(&installed.file, before.as_deref(), place, options.force)?;
    if unit.on_podman {
        systemctl.must_have("podman.socket").await?;
    }
    if before.as_deref() != Some(&*installed.text) {
        write(&installed.file, &installed.text)?;
        let file = installed.file.display();
        installed.done.push(format!("{file} is written"));
        systemctl.run(&["daemon-reload"]).await?;
    }
    state_dir::make(&place.state)?;
    state_dir::check(&place.state)?;
    let started = match systemctl.is_active(&installed.unit).await {
        // The one that runs is the unit's, and may be of the text before.
        true if installed.done.is_empty() => false,
        true => {
            systemctl.run(&["enable", &installed.unit]).await?;
            systemctl.run(&["restart", &installed.unit]).await?;
            true
        }
        false => {
            stop_background(&place.state, &mut installed.done).await?;
            systemctl.run(&["enable", "--now", &installed.unit]).await?;
            true
        }
    };
    state_dir::set_unit(&place.state, unit.is_of_user, &installed.unit)?;
    installed.done.push(match started {
        true => format!("{} runs, and starts with the host", installed.unit),
        false => format!("{} is installed and runs already", installed.unit),
    });
    if unit.is_of_user && systemctl.enable_linger().await? {
        let text = "your services start with the host, without your login (linger)";
        installed.done.push(text.to_owned());
    }
    Ok(installed)
}

/// Stops and takes away the project's unit, and nothing else: what is up runs on.
pub(crate) async fn uninstall(place: &ProjectPaths<'_>, options: Options) -> Result<Installed> {
    let unit = unit_of(place, options.user)?;
    let mut gone = Installed {
        unit: unit.name(),
        file: folder(unit.is_of_user)?.join(unit.name()),
        text: String::new(),
        done: Vec::new(),
    };
    let Some(text) = read(&gone.file)? else {
        state_dir::unset_unit(&place.state)?;
        gone.done.push(format!("{} is not installed", gone.unit));
        return Ok(gone);
    };
    refuse_foreign(&gone.file, Some(&text), place, options.force)?;
    let systemctl = Systemctl::of(unit.is_of_user).await?;
    systemctl.run(&["disable", "--now", &gone.unit]).await?;
    std::fs::remove_file(&gone.file).map_err(Error::file(&gone.file))?;
    systemctl.run(&["daemon-reload"]).await?;
    state_dir::unset_unit(&place.state)?;
    gone.done
        .push(format!("{} is removed", gone.file.display()));
    gone.done
        .push("what is up runs on; the next command starts a controller".to_owned());
    Ok(gone)
}

/// What was done, for people.
pub(crate) fn text(installed: &Installed) -> String {
    let mut text = installed.done.join("\n");
    if installed.done.is_empty() {
        return installed.text.clone();
    }
    text.push('\n');
    text
}

fn unit_of(place: &ProjectPaths<'_>, user: bool) -> Result<Unit> {
    let program = std::env::current_exe().map_err(Error::file("crossfade"))?;
    Ok(Unit {
        project: place.manifest.project.clone(),
        manifest: place.file.clone(),
        program,
        state: place.state.clone(),
        is_of_user: user || !geteuid().is_root(),
        on_podman: place.manifest.runtime != RuntimeChoice::Process,
    })
}

/// Where units that people write belong (`systemd.unit(5)`).
fn folder(is_of_user: bool) -> Result<PathBuf> {
    if !is_of_user {
        return Ok("/etc/systemd/system".into());
    }
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("systemd/user"))
        .ok_or_else(|| Error::usage("neither XDG_CONFIG_HOME nor HOME is set: set one of them"))
}

fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(file)(error)),
    }
}

fn refuse_foreign(
    file: &Path,
    text: Option<&str>,
    place: &ProjectPaths<'_>,
    force: bool,
) -> Result<()> {
    let shown = file.display();
    let why = match text.map(|text| (unit::origin(text), unit::is_of(text, &place.state))) {
        None | Some((Origin::Ours, true)) => return Ok(()),
        Some(_) if force => return Ok(()),
        Some((Origin::Ours, false)) => {
            "belongs to another project of this name, with another state folder"
        }
        Some((Origin::Edited, _)) => "has been changed since it was installed",
        Some((Origin::Foreign, _)) => "was not written by `crossfade install`",
    };
    Err(Error::refused(format!(
        "{shown} {why}: it is left as it is; --force overwrites or removes it"
    )))
}

/// Beside the file, then renamed: a unit is whole or not there.
fn write(file: &Path, text: &str) -> Result<()> {
    let beside = file.with_extension("service.new");
    let write = || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, file)
    };
    write().map_err(Error::file(file))
}

/// Ends a controller that a verb has started in the background: the unit's takes its place.
async fn stop_background(state: &Path, done: &mut Vec<String>) -> Result<()> {
    let client = ControllerClient::new(state.to_owned());
    if !client.is_responding().await {
        return Ok(());
    }
    let about: About = client.call("about", &()).await?;
    let pid = i32::try_from(about.pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already is as good.
        let _ = kill_process(pid, Signal::TERM);
    }
    client.until_gone().await;
    done.push(format!(
        "the controller in the background (process {}) has ended",
        about.pid
    ));
    Ok(())
}
