//! Which other sites' pages may use a service (CORS, the Fetch standard, 3.3).

use serde::{Deserialize, Serialize};

use crate::names::{check_method, header_name};
use crate::strict::InputError;
use crate::traffic::Setting;
use crate::{NonZeroPeriod, Period};

/// How many entries a list may have.
const MAX_ENTRIES: usize = 100;
/// What stands for all.
const ALL: &str = "*";

/// Pages of these origins may use the service. The proxy responds to preflights, and says so in
/// responses in place of what endpoints say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorsSpec {
    /// `https://app.example.com`, `https://*.example.com`, or `*` for all.
    pub origins: Vec<String>,
    /// The methods that they may use. Default `GET`, `HEAD` and `POST`.
    #[serde(default = "simple", skip_serializing_if = "is_simple")]
    pub methods: Vec<String>,
    /// The header fields that they may send, or `*`. Default: those that need no leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// The header fields of responses that they may read. Default: those that need no leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Whether they may send cookies and passwords. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub credentials: bool,
    /// How long browsers keep the response to a preflight. Default 10 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<NonZeroPeriod>,
}

fn simple() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(String::from).to_vec()
}

fn is_simple(methods: &[String]) -> bool {
    methods == simple()
}

impl CorsSpec {
    /// How long browsers keep the response to a preflight.
    pub fn max_age(&self) -> Period {
        let own = self.max_age.map(|period| Period(period.get()));
        own.unwrap_or(Period::from_secs(600))
    }

    /// Whether pages of every origin may use the service.
    pub fn is_for_all(&self) -> bool {
        self.origins.iter().any(|origin| origin == ALL)
    }

    /// Whether they may send every header field.
    pub fn takes_all_headers(&self) -> bool {
        self.headers.iter().any(|name| name == ALL)
    }
}

impl Setting for CorsSpec {
    fn check(&self) -> Result<(), InputError> {
        for (key, list) in [
            ("origins", &self.origins),
            ("methods", &self.methods),
            ("headers", &self.headers),
            ("expose", &self.expose),
        ] {
            let count = list.len();
            if count > MAX_ENTRIES {
                let message = format!("has {count} entries: at most {MAX_ENTRIES}");
                return Err(InputError::of_field(key, message));
            }
        }
        if self.origins.is_empty() {
            let message = "is empty: list origins such as \"https://app.example.com\", or \"*\"";
            return Err(InputError::of_field("origins", message));
        }
        each("origins", &self.origins, check_origin)?;
        if self.credentials && self.is_for_all() {
            let message =
                "with `*` in `origins` any site could act for its visitors: list the origins";
            return Err(InputError::of_field("credentials", message));
        }
        each("methods", &self.methods, check_method)?;
        each("headers", &self.headers, |name| match name {
            ALL => Ok(()),
            name => header_name(name).map(drop),
        })?;
        each("expose", &self.expose, |name| header_name(name).map(drop))
    }
}

fn each(
    key: &str,
    list: &[String],
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<(), InputError> {
    for (at, one) in list.iter().enumerate() {
        check(one).map_err(|message| InputError::of_field(format!("{key}[{at}]"), message))?;
    }
    Ok(())
}

/// An origin as browsers write it (RFC 6454, 6.2): scheme, host in lower case, and a port that is not
/// the scheme's own.
fn check_origin(origin: &str) -> Result<(), String> {
    if origin == ALL {
        return Ok(());
    }
    let wrong = |says: &str| Err(format!("`{origin}` is not an origin: {says}"));
    let Some((scheme, host)) = origin.split_once("://") else {
        return wrong("write it as `https://app.example.com`, with its scheme");
    };
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if scheme.is_empty()
        || !scheme
            .bytes()
            .all(|byte| allowed(byte) || b"+-.".contains(&byte))
    {
        return wrong("its scheme is none");
    }
    let bare = host.strip_prefix("*.").unwrap_or(host);
    let of_host = |byte: u8| allowed(byte) || b"-._:[]".contains(&byte);
    if bare.is_empty() || !bare.bytes().all(of_host) {
        return wrong("write its host in lower case, without a path; `*.` may stand before it");
    }
    let own = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    if matches!(scheme, "http" | "https") && host.ends_with(own) {
        return wrong("browsers leave out the scheme's own port");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::ServiceSpec;
    use crate::filter::testing::check_refused;
    use crate::strict::from_toml;

    #[test]
    fn what_is_wrong_with_an_origin_or_a_list_is_named_with_its_field() {
        for origin in [
            "app.example.com",
            "https://App.example.com",
            "https://a.test/",
            "https://a.test:443",
            "http://*.a.test:80",
            "https://",
            "https://*",
            "https://a b",
            "null",
            "://a.test",
        ] {
            check_refused(
                &format!("cors = {{ origins = [\"*\", \"{origin}\"] }}"),
                "cors.origins[1]",
                "is not an origin",
            );
        }
        check_refused("cors = {}", "cors", "missing field `origins`");
        check_refused("cors = { origins = [] }", "cors.origins", "is empty");
        check_refused(
            "cors = { origins = [\"*\"], credentials = true }",
            "cors.credentials",
            "list the origins",
        );
        check_refused(
            "cors = { origins = [\"*\"], methods = [\"get\"] }",
            "cors.methods[0]",
            "in capitals",
        );
        check_refused(
            "cors = { origins = [\"*\"], expose = [\"a b\"] }",
            "cors.expose[0]",
            "not the name of a header field",
        );
        check_refused(
            "cors = { origins = [\"*\"], max_age = \"0s\" }",
            "cors.max_age",
            "0s is out of range",
        );
        for origin in [
            "*",
            "https://a.test",
            "http://a.test:8080",
            "https://*.a.test",
            "app+x://a",
        ] {
            let text =
                format!("name = \"web\"\ncors = {{ origins = [\"{origin}\"], headers = [\"*\"] }}");
            let spec = from_toml::<ServiceSpec>(&text).expect(origin);
            assert_eq!(spec.traffic.check(), Ok(()), "{origin}");
        }
    }
}
