//! Images of versions that are long gone do not fill the disk: of each service the last few stay, and
//! whatever is in use.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::manifest::RuntimeChoice;
use crate::server::controller::{Controller, Up, lock};

/// How many images of a service stay, where the manifest does not say.
const KEPT: u32 = 5;

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
        // A verb may be about to start a container of an old image.
        let Ok(_alone) = self.changing.try_lock() else {
            return Ok(());
        };
        let services = self.journal.services()?;
        let mut used = BTreeSet::new();
        let mut candidates = Vec::new();
        for service in &services {
            used.insert(service.stable.resolved.clone());
            used.extend(service.previous.iter().map(|one| one.resolved.clone()));
            let images = self.journal.images(&service.name)?;
            let manifest = up.project.manifest();
            let Some(settings) = manifest.service(&service.name) else {
                used.extend(images.into_iter().map(|(image, _)| image));
                continue;
            };
            let keep = settings.keep_images.unwrap_or(KEPT) as usize;
            let (kept, rest) = images.split_at(keep.min(images.len()));
            used.extend(kept.iter().map(|(image, _)| image.clone()));
            // What was built here is gone for good, also for another project that may go back to it.
            let may_go = |can_be_pulled: bool| can_be_pulled || settings.keep_images.is_some();
            let rest = rest
                .iter()
                .filter(|(_, can_be_pulled)| may_go(*can_be_pulled));
            candidates.extend(rest.map(|(image, _)| (service.name.clone(), image.clone())));
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
