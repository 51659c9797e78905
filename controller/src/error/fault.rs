//! Whose fault an error is: the decision whether a rollout is rolled back.

use http::StatusCode;

use super::Error;
use super::exit::Exit;
use crate::http::proxy_admin::AdminError;
use crate::runtime::RuntimeError;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The candidate's, or of what was requested for it: waiting does not help. A rollout that
    /// meets it is rolled back.
    Candidate,
    /// Of the host, the container runtime, the journal or the proxy. It says nothing about the
    /// candidate: the rollout tries again, and is never rolled back for it.
    Environment,
}

impl Error {
    /// Whose fault it is. A new variant has to decide here, or nothing compiles.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Container(_) | Self::Manifest { .. } => Fault::Candidate,
            Self::Verb(error) if error.exit == Exit::UNAVAILABLE => Fault::Environment,
            Self::Verb(_) => Fault::Candidate,
            Self::Runtime(error) => Fault::of_runtime(error),
            Self::Proxy(error) => Fault::of_proxy(error),
            Self::Journal(_) | Self::File { .. } | Self::NoController(_) => Fault::Environment,
        }
    }
}

impl Fault {
    fn of_runtime(error: &RuntimeError) -> Self {
        match error {
            RuntimeError::ImageNotFound { .. }
            | RuntimeError::PullFailed { .. }
            | RuntimeError::PortTaken { .. }
            | RuntimeError::NotOurs { .. }
            | RuntimeError::NameTaken { .. }
            | RuntimeError::Refused { .. } => Self::Candidate,
            RuntimeError::Unavailable { .. }
            | RuntimeError::Failed { .. }
            | RuntimeError::File { .. }
            // A container that is gone while it is looked at was removed by another program.
            | RuntimeError::NoSuchContainer { .. } => Self::Environment,
        }
    }

    /// The proxy refuses a candidate's upstreams with a status of class 4xx. The ones named here
    /// say something else: a token that is not valid, a proxy that started again with nothing, a
    /// change by another program, too many calls.
    pub(super) fn of_proxy(error: &AdminError) -> Self {
        match error {
            AdminError::Unreachable(_) | AdminError::TimedOut(_) | AdminError::Nonsense(_) => {
                Self::Environment
            }
            AdminError::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::TOO_MANY_REQUESTS => Self::Environment,
                status if status.is_server_error() => Self::Environment,
                _ => Self::Candidate,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use admin_api::HealthState;
    use admin_api::strict::InputError;

    use super::*;
    use crate::error::{ContainerError, NoController, Unhealthy};

    #[track_caller]
    fn check(error: impl Into<Error>, want: Fault) {
        let error = error.into();
        assert_eq!(error.fault(), want, "{error}");
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    fn file_error() -> io::Error {
        io::Error::other("no space left on device")
    }

    fn unhealthy() -> Unhealthy {
        Unhealthy {
            endpoint: text("10.0.0.1:8080"),
            health: HealthState::Down,
            reason: Some(text("connection refused")),
        }
    }

    #[test]
    fn containers_that_do_not_serve_are_the_candidates_fault() {
        check(
            ContainerError::Exited {
                name: text("web-1"),
                code: Some(1),
                output: String::new(),
            },
            Fault::Candidate,
        );
        check(ContainerError::Unhealthy(unhealthy()), Fault::Candidate);
        check(
            ContainerError::HealthyTooFew {
                healthy: 0,
                needed: 1,
                of: text("2.0.0"),
                limit: text("10s"),
                down: None,
                output: String::new(),
            },
            Fault::Candidate,
        );
    }

    #[test]
    fn a_container_that_cannot_be_started_as_described_is_the_candidates_fault() {
        let (image, reason) = (text("web:2"), text("not found"));
        for error in [
            RuntimeError::ImageNotFound {
                image: image.clone(),
            },
            RuntimeError::PullFailed {
                image,
                reason: reason.clone(),
            },
            RuntimeError::PortTaken {
                address: ([127, 0, 0, 1], 80).into(),
                by: text("nginx (process 812)"),
            },
            RuntimeError::NotOurs {
                name: text("web-1"),
            },
            RuntimeError::NameTaken {
                name: text("web-1"),
                reason: reason.clone(),
            },
            RuntimeError::Refused {
                runtime: "podman",
                action: "start a container",
                reason,
            },
        ] {
            check(error, Fault::Candidate);
        }
    }

    #[test]
    fn a_runtime_that_fails_says_nothing_about_the_candidate() {
        for error in [
            RuntimeError::Unavailable {
                runtime: "podman",
                reason: text("no socket"),
            },
            RuntimeError::Failed {
                runtime: "podman",
                action: "list containers",
                reason: text("database is locked"),
            },
            RuntimeError::File {
                path: "/var/lib/crossfade/web-1.json".into(),
                source: file_error(),
            },
            RuntimeError::NoSuchContainer { id: text("web-1") },
        ] {
            check(error, Fault::Environment);
        }
    }

    fn refused(status: u16) -> AdminError {
        AdminError::Refused {
            status: StatusCode::from_u16(status).expect("a status"),
            code: text("invalid"),
            message: text("no"),
            field: None,
        }
    }

    #[test]
    fn a_proxy_that_refuses_the_upstreams_blames_the_candidate_and_any_other_failure_does_not() {
        for status in [400, 409, 413, 422] {
            check(refused(status), Fault::Candidate);
        }
        for status in [401, 403, 404, 412, 429, 500, 502, 503] {
            check(refused(status), Fault::Environment);
        }
        check(AdminError::Unreachable("reset".into()), Fault::Environment);
        check(
            AdminError::TimedOut(Duration::from_secs(3)),
            Fault::Environment,
        );
        let nonsense = serde_json::from_str::<u8>("{").expect_err("no number");
        check(AdminError::Nonsense(nonsense), Fault::Environment);
    }

    #[test]
    fn the_journal_the_disk_and_the_controller_say_nothing_about_the_candidate() {
        check(rusqlite::Error::InvalidQuery, Fault::Environment);
        check(Error::file("/etc/token")(file_error()), Fault::Environment);
        let folder = "/var/lib/crossfade".into();
        check(NoController::NotRunning { folder }, Fault::Environment);
    }

    #[test]
    fn a_verb_that_cannot_be_done_is_about_what_was_requested_unless_something_is_not_available() {
        check(Error::usage("there is no service `wbe`"), Fault::Candidate);
        check(Error::refused("no rollout is running"), Fault::Candidate);
        check(Error::stale("web is at generation 2"), Fault::Candidate);
        check(Error::paused("rollout 1 is paused"), Fault::Candidate);
        check(
            Error::rolled_back("2.0.0 was rolled back"),
            Fault::Candidate,
        );
        check(Error::unavailable("no port is free"), Fault::Environment);
        let manifest = Error::manifest("crossfade.toml");
        check(
            manifest(InputError::of_field("project", "no")),
            Fault::Candidate,
        );
    }
}
