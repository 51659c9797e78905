//! Which runtime a project runs on: the one it asks for, or podman where it works and
//! processes where it does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::manifest::RuntimeChoice;
use crate::runtime::{Podman, Processes, Runtime};

/// A runtime, and why this one.
pub(crate) struct Engine {
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Never `Auto`.
    pub(crate) kind: RuntimeChoice,
    /// A sentence for the user, where the manifest says `Auto`.
    pub(crate) why: Option<String>,
}

/// Makes the runtime that is asked for.
pub(crate) async fn choose(
    choice: RuntimeChoice,
    project: &str,
    state_dir: &Path,
) -> Result<Engine> {
    let podman = async || -> Result<Arc<dyn Runtime>> {
        let podman: Arc<dyn Runtime> =
            Arc::new(Podman::connect(project, project, state_dir).await?);
        Ok(podman)
    };
    let processes =
        || -> Result<Arc<dyn Runtime>> { Ok(Arc::new(Processes::new(project, state_dir)?)) };
    let (runtime, kind, why) = match choice {
        RuntimeChoice::Podman => (podman().await?, RuntimeChoice::Podman, None),
        RuntimeChoice::Process => (processes()?, RuntimeChoice::Process, None),
        RuntimeChoice::Auto => match podman().await {
            Ok(runtime) => {
                let why = "runs on podman, which works here".to_owned();
                (runtime, RuntimeChoice::Podman, Some(why))
            }
            Err(error) => {
                let why = format!("runs on processes of this host: {error}");
                (processes()?, RuntimeChoice::Process, Some(why))
            }
        },
    };
    Ok(Engine { runtime, kind, why })
}

/// An image as the runtime takes it: for processes a program named by a relative path is
/// meant as seen from `dir`.
pub(crate) fn image_from(kind: RuntimeChoice, dir: &Path, image: &str) -> String {
    let path = PathBuf::from(image);
    if kind == RuntimeChoice::Process && path.is_relative() && image.contains('/') {
        return dir.join(path).to_string_lossy().into_owned();
    }
    image.to_owned()
}
