//! `split`: sets the traffic split by hand.

use std::collections::BTreeMap;

use admin_api::MAX_WEIGHT;

use crate::api::{Done, SplitRequest};
use crate::error::{Error, Result};
use crate::project::caller::Caller;
use crate::project::no_such_version;
use crate::rollout::{Command, split_text};
use crate::server::controller::Controller;

impl Controller {
    /// `split`. A running rollout stays where that leaves it until it is told to go on.
    pub(crate) async fn split(&self, request: SplitRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let service = up.project.service(&request.service)?;
        let _admitted = self.admit(&service.name, caller).await?;
        let rollout = up.rollout(&service.name);
        let running = match &rollout {
            Some(handle) => {
                let record = handle.live().record;
                vec![record.from.version, record.to.version]
            }
            None => vec![service.stable.version.clone()],
        };
        let known: Vec<&str> = running.iter().map(String::as_str).collect();
        check_split(&request.split, &known)?;
        let Some(handle) = rollout else {
            let text = format!(
                "{} is {}: no other version runs, so no split is possible",
                service.name,
                split_text(&service.split)
            );
            return Ok(Done::say(text));
        };
        let mut split = request.split;
        for version in running {
            split.entry(version).or_insert(0);
        }
        let said = handle.send_by(caller.who(), Command::Split(split)).await?;
        Ok(Done::say(said))
    }
}

/// Every version runs, every weight is one, and not all are 0.
fn check_split(split: &BTreeMap<String, u32>, running: &[&str]) -> Result<()> {
    for (version, weight) in split {
        if !running.contains(&version.as_str()) {
            return Err(Error::usage(no_such_version(
                "running version",
                version,
                running,
            )));
        }
        if *weight > MAX_WEIGHT {
            return Err(Error::usage(format!(
                "{version}={weight}: a weight is a whole number from 0 to {MAX_WEIGHT}"
            )));
        }
    }
    if split.values().all(|weight| *weight == 0) {
        return Err(Error::usage(
            "every weight is 0: no version would get requests; give at least one of them 1 or more",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(split: &[(&str, u32)], says: Option<&str>) {
        let split = split
            .iter()
            .map(|(version, weight)| ((*version).into(), *weight))
            .collect();
        match (check_split(&split, &["1.0.0", "2.0.0"]), says) {
            (Ok(()), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{error}"),
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }

    #[test]
    fn a_split_names_versions_that_run_and_not_only_zeros() {
        check(&[("1.0.0", 50), ("2.0.0", 50)], None);
        check(&[("2.0.0", 1)], None);
        check(&[("2.0.1", 1)], Some("no running version `2.0.1`, only "));
        check(&[("1.0.0", 0), ("2.0.0", 0)], Some("every weight is 0"));
        check(&[], Some("every weight is 0"));
        check(&[("1.0.0", MAX_WEIGHT + 1)], Some("from 0 to 1000000"));
    }
}
