//! `GET /v1/changes`: responds as soon as the table, or what the proxy sees of an endpoint's health, is
//! another than the client has seen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use admin_api::{Changes, Period};
use tokio::time::Instant;

use super::{MAX_WAIT, Problem};
use crate::control::{Control, ProcessRole};
use crate::table::Table;

/// While a client waits, the table is looked at so often. Health changes in many places, and a look at
/// a thousand endpoints takes some microseconds.
const EVERY: Duration = Duration::from_millis(100);

/// What a client asks for: `?after=…&wait=30s`.
#[derive(Debug, Default)]
pub(super) struct After {
    seen: Option<String>,
    wait: Duration,
}

impl After {
    pub(super) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut after = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("after", seen)) => after.seen = Some(seen.to_owned()),
                Some(("wait", wait)) => {
                    let wait: Period = wait.parse().map_err(|message: String| Problem {
                        field: Some("wait".into()),
                        ..Problem::bad_request(message)
                    })?;
                    after.wait = wait.get().min(MAX_WAIT);
                }
                _ if pair.is_empty() => {}
                _ => {
                    let message = format!("unknown query `{pair}`: write `?after=AT&wait=30s`");
                    return Err(Problem::bad_request(message));
                }
            }
        }
        Ok(after)
    }

    /// What is, once it is another than was seen, or the time is over, or a successor has the table.
    pub(super) async fn wait(self, control: &Control) -> Changes {
        let until = Instant::now() + self.wait;
        loop {
            let at = fingerprint(&control.table());
            let is_ours = control.process_role() == ProcessRole::Active;
            if self.seen.as_ref() != Some(&at) || Instant::now() >= until || !is_ours {
                return Changes { at };
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Another one for another table, and for another health of an endpoint.
fn fingerprint(table: &Table) -> String {
    let mut hasher = DefaultHasher::new();
    table.generation.hash(&mut hasher);
    for service in table.services().iter() {
        for endpoint in service.endpoints() {
            (endpoint.id, endpoint.is_healthy(), endpoint.is_ejected()).hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}
