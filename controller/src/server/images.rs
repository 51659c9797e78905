//! Images of versions that are long gone do not fill the disk: of each service the last few stay, and
//! whatever is in use.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::manifest::RuntimeChoice;
use crate::server::controller::{Controller, Up, lock};

impl Controller {
    /// Whether a version has come since images were removed last.
    pub(super) fn may_have_old_images(&self, up: &Up) -> bool {
        let known = *lock(&up.images_of);
        up.kind == RuntimeChoice::Podman
            && self
                .journal
                .newest_version()
                .is_ok_and(|newest| known != Some(newest))
    }

    /// Removes images that were deployed here and that nothing uses any more, once after each new
    /// version. What anything else uses, podman keeps.
    pub(super) async fn forget_images(&self, up: &Up) -> Result<()> {
        let newest = self.journal.newest_version()?;
        let is_done = *lock(&up.images_of) == Some(newest);
        if is_done || up.kind != RuntimeChoice::Podman || !self.journal.unfinished()?.is_empty() {
            return Ok(());
        }
        let services = self.journal.services()?;
        let mut used = BTreeSet::new();
        let mut candidates = Vec::new();
        for service in &services {
            used.insert(service.stable.resolved.clone());
            used.extend(service.previous.iter().map(|one| one.resolved.clone()));
            let images = self.journal.images(&service.name)?;
            let manifest = up.project.manifest();
            let settings = manifest.service(&service.name);
            let keep = settings.map_or(images.len(), |one| one.keep_images as usize);
            let (kept, rest) = images.split_at(keep.min(images.len()));
            used.extend(kept.iter().cloned());
            candidates.extend(
                rest.iter()
                    .map(|image| (service.name.clone(), image.clone())),
            );
        }
        candidates.retain(|(_, image)| !used.contains(image));
        for (service, image) in candidates {
            if up.project.runtime.remove_image(&image).await? {
                let text =
                    format!("the image {image} is removed: it is none of the last that are kept");
                up.project.note(&service, None, "image", &text, None)?;
            }
        }
        *lock(&up.images_of) = Some(newest);
        Ok(())
    }
}
