//! The network of a project.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{NetworkCreateRequest, NetworkInspect};

use super::service::{Failure, has_status};
use super::{Podman, spec};
use crate::runtime::label;

impl Podman {
    /// The network of our name, if there is one.
    async fn find_network(&self, docker: &Docker) -> Result<Option<NetworkInspect>, Failure> {
        match docker.inspect_network(&self.network, None).await {
            Ok(found) => Ok(Some(found).filter(|found| found.name.as_ref() == Some(&self.network))),
            Err(error) if has_status(&error, 404) => Ok(None),
            Err(error) => Err(Failure::new("look at a network", error)),
        }
    }

    pub(super) async fn ensure_network_once(&self, docker: &Docker) -> Result<(), Failure> {
        if self.find_network(docker).await?.is_some() {
            return Ok(());
        }
        let request = NetworkCreateRequest {
            name: self.network.clone(),
            driver: Some("bridge".to_owned()),
            labels: Some(HashMap::from([(
                label::PROJECT.to_owned(),
                self.project.clone(),
            )])),
            ..NetworkCreateRequest::default()
        };
        if let Err(error) = docker.create_network(request).await {
            // Another program may have been faster.
            if self.find_network(docker).await?.is_none() {
                return Err(Failure::new("create a network", error));
            }
        }
        Ok(())
    }

    pub(super) async fn remove_network_once(&self, docker: &Docker) -> Result<(), Failure> {
        let Some(found) = self.find_network(docker).await? else {
            return Ok(());
        };
        let labels = found.labels.unwrap_or_default();
        if labels.get(label::PROJECT) != Some(&self.project) {
            return Ok(());
        }
        match docker.remove_network(&self.network).await {
            Ok(()) => Ok(()),
            Err(error) if has_status(&error, 404) || spec::network_in_use(&error) => Ok(()),
            Err(error) => Err(Failure::new("remove a network", error)),
        }
    }
}
