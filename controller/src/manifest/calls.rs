//! Hooks and webhooks as people write them.

use std::path::PathBuf;

use admin_api::Period;
use admin_api::strict::InputError;
use serde::{Deserialize, Serialize};

use super::Webhook;
use crate::hooks::{Action, Hook, On, Query};
use crate::http::one_shot::{Target, Url};

/// How long a hook may take by default.
const HOOK_TIMEOUT: Period = Period::from_secs(30);
/// The same for a webhook.
const WEBHOOK_TIMEOUT: Period = Period::from_secs(5);

/// An entry of `[[services.rollout.hooks]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookEntry {
    on: On,
    command: Option<Vec<String>>,
    url: Option<Url>,
    token_file: Option<PathBuf>,
    query: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
    timeout: Option<Period>,
}

/// An entry of `[[webhooks]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookEntry {
    url: Url,
    token_file: Option<PathBuf>,
    timeout: Option<Period>,
    #[serde(default)]
    kinds: Vec<String>,
}

impl HookEntry {
    /// As a hook is written.
    pub(super) fn of(hook: &Hook) -> Self {
        let mut entry = Self {
            on: hook.on,
            command: None,
            url: None,
            token_file: None,
            query: None,
            min: None,
            max: None,
            timeout: None,
        };
        let target = match &hook.action {
            Action::Command { command, timeout } => {
                entry.command = Some(command.clone());
                entry.timeout = Some(*timeout);
                return entry;
            }
            Action::Post(target) => target,
            Action::Query(query) => {
                entry.query = Some(query.query.clone());
                (entry.min, entry.max) = (query.min, query.max);
                &query.server
            }
        };
        entry.url = Some(target.url.clone());
        entry.token_file.clone_from(&target.token_file);
        entry.timeout = Some(target.timeout);
        entry
    }

    /// Checks it; the error's field is one of its keys.
    pub(super) fn check(self) -> Result<Hook, InputError> {
        let timeout = checked(self.timeout, HOOK_TIMEOUT)?;
        self.check_query()?;
        let action = match (self.command, self.url) {
            (Some(command), None) if command.first().is_some_and(|program| !program.is_empty()) => {
                if self.token_file.is_some() {
                    let message = "only a hook with `url` sends a token";
                    return Err(InputError::of_field("token_file", message));
                }
                Action::Command { command, timeout }
            }
            (None, Some(url)) => {
                let target = Target {
                    url,
                    token_file: self.token_file,
                    timeout,
                };
                match self.query {
                    None => Action::Post(target),
                    Some(query) => Action::Query(Query {
                        server: target,
                        query,
                        min: self.min,
                        max: self.max,
                    }),
                }
            }
            _ => {
                let message =
                    "a hook has either a `command`, as [\"program\", \"argument\"], or a `url`";
                return Err(InputError::of_field("command", message));
            }
        };
        Ok(Hook {
            on: self.on,
            action,
        })
    }
}

impl HookEntry {
    /// A query needs a server, and bounds.
    fn check_query(&self) -> Result<(), InputError> {
        let wrong = |field: &str, message: &str| Err(InputError::of_field(field, message));
        let bounds = [("min", self.min), ("max", self.max)];
        if let Some((field, _)) = bounds.iter().find(|(_, n)| n.is_some_and(f64::is_nan)) {
            return wrong(field, "is not a number");
        }
        match (&self.query, self.min, self.max) {
            (None, None, None) => Ok(()),
            (None, ..) => wrong("query", "`min` and `max` are the bounds of a `query`"),
            (Some(query), ..) if query.trim().is_empty() => wrong(
                "query",
                "is empty: write PromQL, such as `sum(rate(errors[1m]))`",
            ),
            (Some(_), None, None) => wrong(
                "max",
                "a query needs `max`, `min`, or both: the bounds of its result",
            ),
            (Some(_), Some(min), Some(max)) if min > max => wrong("min", "is more than `max`"),
            (Some(_), ..) if self.url.is_none() => wrong(
                "url",
                "a query needs the URL of Prometheus, such as http://127.0.0.1:9090",
            ),
            _ => Ok(()),
        }
    }
}

impl WebhookEntry {
    /// Checks it; the error's field is one of its keys.
    pub(super) fn check(self) -> Result<Webhook, InputError> {
        Ok(Webhook {
            target: Target {
                url: self.url,
                token_file: self.token_file,
                timeout: checked(self.timeout, WEBHOOK_TIMEOUT)?,
            },
            kinds: self.kinds,
        })
    }
}

/// Each address once: it is by its address that the journal knows how far a webhook was told.
pub(super) fn check_webhooks(webhooks: &[Webhook]) -> Result<(), InputError> {
    for (index, webhook) in webhooks.iter().enumerate() {
        let url = &webhook.target.url;
        let is_same = |one: &Webhook| one.target.url == *url;
        if let Some(first) = webhooks[..index].iter().position(is_same) {
            let message = format!(
                "webhooks[{first}] has this address already, at {url}: write one entry for both, with \
                 the `kinds` of both"
            );
            return Err(InputError::of_field(
                format!("webhooks[{index}].url"),
                message,
            ));
        }
    }
    Ok(())
}

fn checked(timeout: Option<Period>, default: Period) -> Result<Period, InputError> {
    let timeout = timeout.unwrap_or(default);
    if timeout.get().is_zero() {
        return Err(InputError::of_field(
            "timeout",
            "has to be longer than 0, such as \"30s\"",
        ));
    }
    Ok(timeout)
}
