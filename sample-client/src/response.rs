//! A complete response.

use serde::Deserialize;

/// A response that was read to its announced end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompleteResponse {
    pub(crate) status: u16,
    /// The `version` field of a JSON body, if there is one.
    pub(crate) version: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl CompleteResponse {
    pub(crate) fn new(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            version: version_in(&body),
            body,
        }
    }
}

fn version_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: String,
    }
    serde_json::from_slice(body)
        .ok()
        .map(|Versioned { version }| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_a_json_body() {
        for (body, want) in [
            (
                r#"{"message":"Hello World","version":"1.0.0"}"#,
                Some("1.0.0"),
            ),
            (r#"{"version":1}"#, None),
            ("[]", None),
            ("", None),
            ("Hello", None),
        ] {
            assert_eq!(version_in(body.as_bytes()).as_deref(), want, "{body}");
        }
    }
}
