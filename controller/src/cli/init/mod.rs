//! `crossfade init`: a manifest from a container that runs, from an image, or from a few questions.

mod found;

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

use self::found::Found;
use super::args::Init;
use super::{CommandContext, prompt};
use crate::error::{Error, Exit, Result};
use crate::manifest::Manifest;
use crate::print::print;

/// What `init` has done.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    text: String,
}

pub(super) async fn init(flags: Init, context: &CommandContext) -> Result<()> {
    let file = &context.file;
    if file.exists() && !context.yes {
        return Err(Error::refused(format!(
            "{} exists: name another with --file FILE, or add --yes to replace it",
            file.display()
        )));
    }
    let mut found = match (&flags.container, &flags.image) {
        (Some(container), _) => of_container(container).await?,
        (None, Some(image)) => of_image(image).await?,
        (None, None) => prompt_for_all()?,
    };
    if let Some(name) = flags.name {
        found.name = name;
    }
    let text = found.manifest();
    // What was found may have a form that a manifest has not, and is not to be written then.
    Manifest::parse(&text).map_err(Error::manifest(file.clone()))?;
    write(file, &text, context.yes)?;
    let written = Written {
        file: file.display().to_string(),
        text,
    };
    print(context.output, &written, |written| {
        format!(
            "wrote {}: look through it, then run `crossfade up`\n",
            written.file
        )
    })
}

fn write(file: &Path, text: &str, replace: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    match replace {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let mut opened = options.open(file).map_err(Error::file(file))?;
    opened.write_all(text.as_bytes()).map_err(Error::file(file))
}

async fn of_container(name: &str) -> Result<Found> {
    let container = inspect("container", name).await?;
    let image = container["ImageName"].as_str().unwrap_or_default();
    // The container may have outlived its image.
    let image = inspect("image", image).await.unwrap_or_default();
    Ok(Found::of_container(&container, &image))
}

async fn of_image(name: &str) -> Result<Found> {
    let image = inspect("image", name).await?;
    Ok(Found::of_image(name, &image))
}

/// What podman says of a container or an image.
async fn inspect(kind: &str, name: &str) -> Result<Value> {
    let output = Command::new("podman")
        .args([kind, "inspect", "--", name])
        .output()
        .await;
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::unavailable(
                "podman is not installed: `crossfade init` without flags asks for what it needs",
            ));
        }
        output => output.map_err(Error::file("podman"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::unavailable(format!(
            "there is no {kind} `{name}` on this host: {said}"
        )));
    }
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(Error::caused(
        Exit::FAILED,
        "podman's response cannot be read",
    ))?;
    let first = found.into_iter().next();
    first.ok_or_else(|| Error::unavailable(format!("there is no {kind} `{name}` on this host")))
}

/// Asks for what there is no default for.
fn prompt_for_all() -> Result<Found> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage(
            "without a terminal there is no user to ask: add --image IMAGE or --container NAME",
        ));
    }
    let image = prompt("The image, such as localhost/web:1.0.0", "")?;
    let mut found = Found::named(&image);
    found.name = prompt("The service's name", &found.name)?;
    found.port = prompt("The port on which the containers serve", "8080")?
        .parse()
        .map_err(Error::caused(
            Exit::USAGE,
            "a port is a number such as 8080",
        ))?;
    found.health_path = Some(prompt(
        "The path of the health check, or - for none",
        "/healthz",
    )?)
    .filter(|path| path != "-");
    found.replicas = prompt("How many containers", "2")?
        .parse()
        .map_err(Error::caused(Exit::USAGE, "write a number such as 2"))?;
    Ok(found)
}
