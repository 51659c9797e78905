//! Events, sent to the webhooks of the manifest. Each webhook has a task of its own that reads the
//! journal and writes down how far it came: it delays nothing, and loses nothing to a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::Result;
use crate::journal::Event;
use crate::manifest::Webhook;
use crate::project::Project;

/// From one attempt to the next; each wait is twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An event that could not be told so often, in some four minutes, is left out.
const MAX_ATTEMPTS: u32 = 9;

/// The tasks that tell. They end when this is dropped.
#[derive(Default)]
pub(crate) struct Webhooks(Mutex<Tasks>);

#[derive(Default)]
struct Tasks {
    all: JoinSet<()>,
    running: HashMap<Webhook, AbortHandle>,
}

/// What is posted.
#[derive(Serialize)]
struct Message<'a> {
    project: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

impl Webhooks {
    /// Sends to those that the manifest names now, and to no others.
    pub(crate) fn follow(&self, project: &Arc<Project>) -> Result<()> {
        let wanted = &project.manifest().webhooks;
        let urls: Vec<String> = wanted.iter().map(url_of).collect();
        project.journal.set_webhooks(&urls)?;
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.running.retain(|webhook, task| {
            let stays = wanted.contains(webhook);
            if !stays {
                task.abort();
            }
            stays
        });
        for webhook in wanted {
            if !tasks.running.contains_key(webhook) {
                let task = tasks.all.spawn(tell(project.clone(), webhook.clone()));
                tasks.running.insert(webhook.clone(), task);
            }
        }
        Ok(())
    }
}

/// By which the journal knows it.
fn url_of(webhook: &Webhook) -> String {
    webhook.target.url.clone().into()
}

async fn tell(project: Arc<Project>, webhook: Webhook) {
    let url = url_of(&webhook);
    let mut news = project.journal.news();
    loop {
        news.borrow_and_update();
        match tell_next(&project, &webhook, &url).await {
            Ok(true) => {}
            Ok(false) => {
                // An error is the end of the journal, and of this.
                if news.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(webhook = %webhook.target.url, "{error}");
                tokio::time::sleep(FIRST_WAIT).await;
            }
        }
    }
}

/// Tells the first event that has not been told; `false` where there is none.
async fn tell_next(project: &Project, webhook: &Webhook, url: &str) -> Result<bool> {
    let Some(told) = project.journal.told(url)? else {
        return Ok(false);
    };
    let Some(event) = project.journal.events_after(None, told, 1)?.pop() else {
        return Ok(false);
    };
    if webhook.kinds.is_empty() || webhook.kinds.contains(&event.kind) {
        let message = Message {
            project: &project.name,
            event: &event,
        };
        match serde_json::to_vec(&message) {
            Ok(body) => post(project, webhook, event.id, body.into()).await?,
            Err(error) => tracing::error!(event = event.id, "cannot be sent: {error}"),
        }
    }
    project.journal.set_told(url, event.id)?;
    Ok(true)
}

/// Posts until it is taken, or it is of no use.
async fn post(project: &Project, webhook: &Webhook, event: i64, body: Bytes) -> Result<()> {
    let folder = project.folder()?;
    let mut wait = FIRST_WAIT;
    for attempts in 1.. {
        let Err(error) = webhook.target.post(&folder, body.clone()).await else {
            break;
        };
        if attempts >= MAX_ATTEMPTS || !error.is_passing() {
            tracing::warn!(event, "given up after {attempts} attempts: {error}");
            break;
        }
        tracing::info!(event, "sent again in {} s: {error}", wait.as_secs());
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use admin_api::Period;

    use super::*;
    use crate::http::one_shot::Target;
    use crate::testing::{TestProject, listener};

    fn webhook(url: &str, kinds: &[&str]) -> Webhook {
        Webhook {
            target: Target {
                url: url.parse().expect("an address"),
                token_file: None,
                timeout: Period::from_secs(10),
            },
            kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
        }
    }

    fn name(test: &TestProject, webhooks: &[Webhook]) {
        let mut manifest = (*test.project.manifest()).clone();
        manifest.webhooks = webhooks.to_vec();
        test.project.set_manifest(manifest);
    }

    fn follow(test: &TestProject, webhook: Webhook) -> Webhooks {
        name(test, &[webhook]);
        let webhooks = Webhooks::default();
        webhooks.follow(&test.project).expect("written");
        webhooks
    }

    fn note(test: &TestProject, kind: &str) {
        test.project
            .note("web", None, kind, "something happened", None)
            .expect("written");
    }

    #[tokio::test]
    async fn every_event_is_told_once_and_in_order_also_after_a_restart() {
        let test = TestProject::new().await;
        note(&test, "before-it-was-named");
        let mut responses = vec![(204, ""), (503, "")];
        responses.extend([(200, ""); 3]);
        let (url, mut heard) = listener(responses).await;
        let webhooks = follow(&test, webhook(&url, &[]));
        note(&test, "one");
        let kind = |message: Option<String>| {
            let message = message.expect("told");
            let (_, body) = message.split_once(' ').expect("a body");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["service"], "web");
            assert!(body["project"].is_string() && body["at"].is_i64(), "{body}");
            body["kind"].as_str().expect("a word").to_owned()
        };
        assert_eq!(kind(heard.recv().await), "one");
        note(&test, "two");
        assert_eq!(kind(heard.recv().await), "two");
        assert_eq!(kind(heard.recv().await), "two", "the first was not taken");
        drop(webhooks);
        note(&test, "three");
        let _webhooks = follow(&test, webhook(&url, &[]));
        let mut last = kind(heard.recv().await);
        if last == "two" {
            // It was taken just before the end, and not yet written down: at least once.
            last = kind(heard.recv().await);
        }
        assert_eq!(last, "three");
    }

    #[tokio::test]
    async fn only_the_kinds_that_are_configured_are_sent() {
        let test = TestProject::new().await;
        let (url, mut heard) = listener(vec![(200, "")]).await;
        let _webhooks = follow(&test, webhook(&url, &["done"]));
        note(&test, "shifting");
        note(&test, "done");
        let told = heard.recv().await.expect("told");
        assert!(told.contains(r#""kind":"done""#), "{told}");
    }

    #[tokio::test]
    async fn one_that_is_put_back_is_not_told_what_happened_meanwhile() {
        let test = TestProject::new().await;
        let (url, mut heard) = listener(vec![(200, ""); 2]).await;
        let webhook = webhook(&url, &[]);
        let webhooks = follow(&test, webhook.clone());
        note(&test, "before");
        let told = heard.recv().await.expect("told");
        assert!(told.contains(r#""kind":"before""#), "{told}");
        name(&test, &[]);
        webhooks.follow(&test.project).expect("written");
        note(&test, "meanwhile");
        name(&test, &[webhook]);
        webhooks.follow(&test.project).expect("written");
        note(&test, "since");
        let told = heard.recv().await.expect("told");
        assert!(told.contains(r#""kind":"since""#), "{told}");
    }
}
