//! `maintenance`: the requests of a service get a 503, until they are served again.

use admin_api::{MaintenanceSpec, TrafficSettings};

use crate::api::{Done, MaintenanceRequest};
use crate::error::{Error, Result};
use crate::project::caller::Caller;
use crate::server::controller::Controller;

impl Controller {
    /// `maintenance`. It is in the journal first: it stays over deploys, over an `up`, and over whatever
    /// ends this controller or the proxy.
    pub(crate) async fn maintenance(
        &self,
        request: MaintenanceRequest,
        caller: &Caller,
    ) -> Result<Done> {
        let MaintenanceRequest {
            service,
            maintenance,
        } = request;
        let up = self.up()?;
        let project = &up.project;
        let before = project.service(&service)?;
        let _admitted = self.admit(&service, caller).await?;
        check(maintenance.as_ref())?;
        let manifest = project.manifest();
        let settings = manifest.service(&service);
        let is_of_manifest = settings.is_some_and(|one| one.traffic.maintenance.is_some());
        if maintenance.is_none() && is_of_manifest {
            return Err(Error::refused(format!(
                "the manifest has `maintenance` for {service}: take it out, and run `crossfade up`"
            )));
        }
        if before.maintenance == maintenance {
            // What was told before may not have reached the proxy.
            project.push(&service).await?;
            let text = match maintenance {
                Some(_) => format!("{service} is under maintenance already"),
                None => format!("{service} is not under maintenance"),
            };
            return Ok(Done::say(text));
        }
        let text = text(&service, maintenance.as_ref());
        self.journal
            .set_maintenance(&service, maintenance.as_ref())?;
        project.note_of(caller, Some(&service), "maintenance", &text)?;
        project.push(&service).await?;
        Ok(Done::say(text))
    }
}

fn text(service: &str, maintenance: Option<&MaintenanceSpec>) -> String {
    match maintenance {
        None => format!("{service} is served again"),
        Some(spec) if spec.allow.is_empty() => {
            format!("{service} is under maintenance: its requests get a 503")
        }
        Some(spec) => format!(
            "{service} is under maintenance: its requests get a 503, except those of {}",
            spec.allow.join(", ")
        ),
    }
}

/// Checks it as the manifest's is checked.
fn check(maintenance: Option<&MaintenanceSpec>) -> Result<()> {
    let settings = TrafficSettings {
        maintenance: maintenance.cloned(),
        ..TrafficSettings::default()
    };
    settings
        .check()
        .map_err(|error| Error::usage(error.to_string()))
}
