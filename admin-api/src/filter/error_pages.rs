//! Pages of a service's own in place of the proxy's errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::filter::redirect::{check_body, check_type};
use crate::strict::{InputError, push_key};
use crate::traffic::Setting;

/// Pages by status, such as `404`, or by class, `4xx` and `5xx`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorPagesSpec(pub BTreeMap<String, ErrorPageSpec>);

/// A page that clients get in place of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorPageSpec {
    /// Its text.
    pub body: String,
    /// Its `Content-Type`. Default `text/html; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Which errors a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorStatus {
    /// This one.
    One(u16),
    /// Those of a hundred: 4 or 5.
    Class(u16),
}

impl ErrorPagesSpec {
    /// Whether there are none.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl ErrorPageSpec {
    /// The page's type.
    pub fn content_type(&self) -> &str {
        let own = self.content_type.as_deref();
        own.unwrap_or("text/html; charset=utf-8")
    }
}

impl ErrorStatus {
    /// Reads a status or a class.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "4xx" => Some(Self::Class(4)),
            "5xx" => Some(Self::Class(5)),
            text => {
                let status = text.parse().ok();
                status.filter(|one| (400..600).contains(one)).map(Self::One)
            }
        }
    }
}

impl Setting for ErrorPagesSpec {
    fn check(&self) -> Result<(), InputError> {
        for (status, page) in &self.0 {
            let mut field = String::new();
            push_key(&mut field, status);
            if ErrorStatus::read(status).is_none() {
                let message = format!(
                    "`{status}` is no status of an error: from 400 to 599, or \"4xx\" or \"5xx\""
                );
                return Err(InputError::of_field(field, message));
            }
            let checked = check_body(&page.body);
            let checked = checked.and_then(|()| check_type(page.content_type.as_deref()));
            checked.map_err(|error| error.inside(&field))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::check_refused;

    #[test]
    fn what_is_wrong_with_a_page_is_named_with_its_field() {
        for status in ["200", "399", "600", "5XX", "3xx", "not_found"] {
            check_refused(
                &format!("error_pages.{status} = {{ body = \"\" }}"),
                &format!("error_pages.{status}"),
                "is no status of an error",
            );
        }
        check_refused(
            "error_pages.404 = {}",
            "error_pages.404",
            "missing field `body`",
        );
        check_refused(
            "error_pages.404 = { body = \"\", content_type = \"html\" }",
            "error_pages.404.content_type",
            "is no type",
        );
        let long = "x".repeat(65_537);
        check_refused(
            &format!("error_pages.5xx = {{ body = \"{long}\" }}"),
            "error_pages.5xx.body",
            "has 65537 bytes: at most 65536",
        );
        assert_eq!(ErrorStatus::read("503"), Some(ErrorStatus::One(503)));
        assert_eq!(ErrorStatus::read("4xx"), Some(ErrorStatus::Class(4)));
    }
}
