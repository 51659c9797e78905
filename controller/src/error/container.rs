//! An error that a version's containers are.

use admin_api::HealthState;

/// Containers of a version do not do what they were started for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// A container exited that should run.
    #[error("{name} exited{}{}", with_code(*code), with_output(output))]
    Exited {
        /// The container.
        name: String,
        /// Its exit code, where one is known.
        code: Option<i64>,
        /// The last lines that it printed.
        output: String,
    },
    /// The proxy does not see a container healthy.
    #[error(transparent)]
    Unhealthy(#[from] Unhealthy),
    /// Fewer containers than needed became healthy in time.
    #[error("{healthy} of {needed} containers of {of} were healthy within {limit}{}{}", first(down.as_deref()), with_output(output))]
    HealthyTooFew {
        /// Those that the proxy sees healthy.
        healthy: u32,
        /// How many are needed.
        needed: u32,
        /// The version, with its service where that is not known from elsewhere.
        of: String,
        /// How long they had, as it is shown.
        limit: String,
        /// The first one that is not healthy.
        down: Option<Box<Unhealthy>>,
        /// The last lines that it printed.
        output: String,
    },
}

/// An endpoint that the proxy does not see healthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint} is {health}: {}", reason.as_deref().unwrap_or("not checked yet"))]
pub struct Unhealthy {
    /// `ip:port`, behind the container's name where that is known.
    pub endpoint: String,
    /// What the proxy takes it for.
    pub health: HealthState,
    /// What its last check came to.
    pub reason: Option<String>,
}

fn with_code(code: Option<i64>) -> String {
    code.map(|code| format!(" with code {code}"))
        .unwrap_or_default()
}

fn with_output(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!("; it said: {output}")
    }
}

fn first(down: Option<&Unhealthy>) -> String {
    down.map_or_else(String::new, |down| format!(": {down}"))
}
