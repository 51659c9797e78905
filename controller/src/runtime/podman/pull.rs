//! Images that are not on this host: fetched by podman, which says how it goes.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::image_id;
use super::service::Failure;
use crate::runtime::{PullStep, RuntimeError};

/// A large image over a slow line.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// What podman gives images that were built here: no registry has them.
pub(super) const LOCAL: &str = "localhost/";

/// Pulls the image, and tells `progress` of every step. Podman keeps nothing of one that came
/// half-way; that one is there in the end is looked at, whatever was said.
pub(super) async fn pull(
    docker: &Docker,
    image: &str,
    progress: &(dyn Fn(PullStep) + Send + Sync),
) -> Result<(), Failure> {
    if image.starts_with(LOCAL) {
        return image_id(docker, image).await.map(|_| ());
    }
    let docker = docker.clone().with_timeout(TIMEOUT);
    let options = CreateImageOptionsBuilder::new()
        .from_image(&with_tag(image))
        .build();
    let mut steps = std::pin::pin!(docker.create_image(Some(options), None, None));
    let mut last = None;
    while let Some(step) = steps.next().await {
        match step {
            Ok(step) => {
                let step = step_of(step);
                last = Some(step.status.clone());
                progress(step);
            }
            Err(error) => return Err(failed(image, error)),
        }
    }
    match image_id(&docker, image).await {
        Err(Failure::Refused(RuntimeError::ImageNotFound { .. })) => {
            let said = last.unwrap_or_else(|| "nothing".to_owned());
            let reason = format!("it broke off; podman's last word was `{said}`");
            Err(pull_failed(image, reason).into())
        }
        found => found.map(|_| ()),
    }
}

fn failed(image: &str, error: ApiError) -> Failure {
    // Its own words, without the client's.
    if let ApiError::DockerStreamError { error } = error {
        return pull_failed(image, error).into();
    }
    match Failure::new("pull an image", error) {
        // Worth another attempt with another service.
        lost @ Failure::Lost(_) => lost,
        Failure::Refused(RuntimeError::Failed { reason, .. }) => pull_failed(image, reason).into(),
        refused @ Failure::Refused(_) => refused,
    }
}

fn pull_failed(image: &str, reason: String) -> RuntimeError {
    RuntimeError::PullFailed {
        image: image.to_owned(),
        reason,
    }
}

fn step_of(step: CreateImageInfo) -> PullStep {
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    let detail = step.progress_detail.unwrap_or_default();
    PullStep {
        layer: step.id.filter(|layer| !layer.is_empty()),
        status: step.status.unwrap_or_default().trim().to_owned(),
        current: bytes(detail.current),
        total: bytes(detail.total),
    }
}

/// Without a tag the API would take that for every tag.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::runtime::podman::fake::{FakeApi, FakeResponse};
    use crate::runtime::{Podman, Runtime};

    const IMAGE: &str = "registry.test/web:2.0.0";
    const HALF: &str = "{\"status\":\"Trying to pull registry.test/web:2.0.0...\"}\n\
        {\"id\":\"ab12\",\"status\":\"Copying blob\",\
        \"progressDetail\":{\"current\":512,\"total\":1024}}\n";

    /// Pulls, and gives what was told on the way.
    async fn pulled(runtime: &Podman) -> (Result<(), RuntimeError>, Vec<PullStep>) {
        let steps = Mutex::new(Vec::new());
        let tell = |step| steps.lock().unwrap().push(step);
        let done = runtime.pull_image(IMAGE, &tell).await;
        let steps = steps.lock().unwrap().clone();
        (done, steps)
    }

    #[tokio::test]
    async fn an_image_comes_with_its_progress() {
        let api = FakeApi::start(|method, path| match (method, path) {
            ("POST", "/images/create") => FakeResponse::text(200, HALF),
            _ => FakeResponse::text(200, r#"{"Id":"sha256:feed"}"#),
        });
        let (done, steps) = pulled(&api.podman().await).await;
        done.unwrap();
        let bytes: Vec<_> = steps
            .iter()
            .map(|step| (step.current, step.total))
            .collect();
        assert_eq!(bytes, [(None, None), (Some(512), Some(1024))]);
        assert_eq!(steps[1].layer.as_deref(), Some("ab12"));
    }

    #[tokio::test]
    async fn a_pull_that_fails_half_way_says_why_and_there_is_no_image() {
        let error = format!(
            "{HALF}{{\"error\":\"gone\",\"errorDetail\":{{\"message\":\"read: connection reset\"}}}}\n"
        );
        for (response, says) in [
            (error.as_str(), "read: connection reset"),
            (HALF, "it broke off; podman's last word was `Copying blob`"),
        ] {
            let response = response.to_owned();
            let api = FakeApi::start(move |_, path| match path {
                "/images/create" => FakeResponse::text(200, &response),
                _ => FakeResponse::text(404, r#"{"message":"no such image"}"#),
            });
            let runtime = api.podman().await;
            let (done, steps) = pulled(&runtime).await;
            let error = done.expect_err("it failed").to_string();
            let start =
                format!("there is no image `{IMAGE}` on this host, and it cannot be pulled: ");
            assert!(error.starts_with(&start) && error.contains(says), "{error}");
            assert_eq!(steps.len(), 2, "{steps:?}");
            let there = runtime.resolve_image(IMAGE).await;
            assert!(
                matches!(there, Err(RuntimeError::ImageNotFound { .. })),
                "{there:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_image_that_was_built_here_is_not_pulled() {
        let api = FakeApi::start(|_, _| FakeResponse::text(404, r#"{"message":"no such image"}"#));
        let runtime = api.podman().await;
        let done = runtime.pull_image("localhost/web:1", &|_| {}).await;
        assert!(
            matches!(done, Err(RuntimeError::ImageNotFound { .. })),
            "{done:?}"
        );
        assert!(!api.calls().iter().any(|call| call.contains("/create")));
    }

    #[tokio::test]
    async fn a_socket_that_is_gone_in_the_middle_is_found_again() {
        let attempts = AtomicUsize::new(0);
        let api = FakeApi::start(move |_, path| match path {
            // Cut in the middle of the first response.
            "/images/create" if attempts.fetch_add(1, Ordering::Relaxed) == 0 => {
                FakeResponse::cut(HALF)
            }
            "/images/create" => FakeResponse::text(200, HALF),
            _ => FakeResponse::text(200, r#"{"Id":"sha256:feed"}"#),
        });
        let (done, steps) = pulled(&api.podman().await).await;
        done.unwrap();
        assert!(steps.len() >= 2, "{steps:?}");
        let pulls = api
            .calls()
            .iter()
            .filter(|call| call.contains("/create"))
            .count();
        assert_eq!(pulls, 2);
    }

    #[test]
    fn an_image_without_a_tag_means_the_latest() {
        assert_eq!(with_tag("registry:5000/web"), "registry:5000/web:latest");
        assert_eq!(with_tag("web:1"), "web:1");
        assert_eq!(with_tag("web@sha256:feed"), "web@sha256:feed");
    }
}
