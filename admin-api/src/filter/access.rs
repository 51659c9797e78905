//! Whose requests a service takes, by the client's address.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::names::networks;
use crate::strict::InputError;
use crate::traffic::Setting;

/// How many networks a list may have.
const MAX_NETWORKS: usize = 100_000;

/// Networks whose clients are served or refused. What is in `deny` is refused, and where there is an
/// `allow`, so is what is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessSpec {
    /// Only clients of these networks are served. Default: all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Clients of these networks are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl AccessSpec {
    /// The networks of both lists. The error's field is relative to the setting.
    pub fn networks(&self) -> Result<(Option<Vec<IpNet>>, Vec<IpNet>), InputError> {
        let read = |list: &Vec<String>, key: &str| {
            let count = list.len();
            if count > MAX_NETWORKS {
                let message = format!("has {count} networks: at most {MAX_NETWORKS}");
                return Err(InputError::of_field(key, message));
            }
            networks(list).map_err(|error| error.inside(key))
        };
        let allow = self.allow.as_ref().map(|list| read(list, "allow"));
        Ok((allow.transpose()?, read(&self.deny, "deny")?))
    }
}

impl Setting for AccessSpec {
    fn check(&self) -> Result<(), InputError> {
        let (allow, deny) = self.networks()?;
        if allow.is_none() && deny.is_empty() {
            return Err(InputError::of_whole("needs `allow`, `deny` or both"));
        }
        if allow.is_some_and(|allow| allow.is_empty()) {
            let message = "is empty, so that no client would be served: list the networks that are";
            return Err(InputError::of_field("allow", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::testing::check_refused;

    #[track_caller]
    fn check(access: &str, field: &str, says: &str) {
        check_refused(&format!("access = {access}"), field, says);
    }

    #[test]
    fn what_is_wrong_with_a_list_is_named_with_its_field() {
        check("{}", "access", "needs `allow`, `deny` or both");
        check(
            "{ allow = [] }",
            "access.allow",
            "no client would be served",
        );
        check(
            "{ deny = [\"10.0.0.0/8\", \"10.0.0.0/33\"] }",
            "access.deny[1]",
            "`10.0.0.0/33` is not a network: write it as `10.0.0.0/8` or `10.1.2.3`",
        );
        check("{ alow = [] }", "access.alow", "did you mean `allow`?");
    }
}
