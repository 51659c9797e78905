//! Which other sites' pages may use a service (CORS, the Fetch standard, 3.3).

use admin_api::CorsSpec;

/// Pages of these origins may use the service.
#[derive(Debug)]
pub(crate) struct Cors {
    /// Whole ones.
    exact: Vec<String>,
    /// Those with `*.` before the host: the scheme with `://`, and the rest from the dot on.
    below: Vec<(String, String)>,
    all: bool,
    pub(crate) credentials: bool,
    /// Of preflights, ready to be written.
    pub(crate) methods: String,
    /// `None`: whatever the browser names.
    pub(crate) headers: Option<String>,
    pub(crate) max_age: String,
    /// Of other responses.
    pub(crate) expose: String,
}

impl Cors {
    /// Of a setting that was checked.
    pub(super) fn of(spec: &CorsSpec) -> Self {
        let split = |origin: &String| {
            let (scheme, rest) = origin.split_once("://*")?;
            Some((format!("{scheme}://"), rest.to_owned()))
        };
        let exact = |origin: &&String| !origin.contains('*');
        Self {
            exact: spec.origins.iter().filter(exact).cloned().collect(),
            below: spec.origins.iter().filter_map(split).collect(),
            all: spec.is_for_all(),
            credentials: spec.credentials,
            methods: spec.methods.join(", "),
            headers: (!spec.takes_all_headers()).then(|| spec.headers.join(", ")),
            max_age: spec.max_age().get().as_secs().max(1).to_string(),
            expose: spec.expose.join(", "),
        }
    }

    /// What a response says to a page of this origin; `None`: nothing.
    pub(crate) fn allows<'o>(&self, origin: &'o [u8]) -> Option<&'o [u8]> {
        if self.all {
            return Some(b"*");
        }
        let is_exact = |one: &String| one.as_bytes() == origin;
        let is_below = |(scheme, suffix): &(String, String)| {
            let rest = origin.strip_prefix(scheme.as_bytes());
            let rest = rest.and_then(|rest| rest.strip_suffix(suffix.as_bytes()));
            // `https://a.test:1/.example.com` is no origin, but may be sent.
            let of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
            rest.is_some_and(|rest| !rest.is_empty() && rest.iter().all(of_host))
        };
        let is_allowed = self.exact.iter().any(is_exact) || self.below.iter().any(is_below);
        is_allowed.then_some(origin)
    }

    /// Whether what it says depends on the origin.
    pub(crate) fn varies(&self) -> bool {
        !self.all
    }
}

#[cfg(test)]
mod tests {
    use admin_api::strict::from_json;

    use super::*;

    #[test]
    fn an_origin_is_allowed_or_not() {
        let cors = |origins: &str| {
            let json = format!(r#"{{"origins":{origins}}}"#);
            Cors::of(&from_json::<CorsSpec>(json.as_bytes()).unwrap())
        };
        let some = cors(r#"["https://a.test","http://b.test:81","https://*.c.test"]"#);
        for (origin, want) in [
            ("https://a.test", true),
            ("http://a.test", false),
            ("https://a.test:444", false),
            ("https://xa.test", false),
            ("https://a.test.evil", false),
            ("http://b.test:81", true),
            ("http://b.test", false),
            ("https://x.c.test", true),
            ("https://x.y.c.test", true),
            ("https://c.test", false),
            ("https://.c.test", false),
            ("https://evil.test/.c.test", false),
            ("https://evil.test:1/x.c.test", false),
            ("https://xc.test", false),
            ("null", false),
            ("", false),
        ] {
            let allowed = some.allows(origin.as_bytes());
            assert_eq!(allowed, want.then_some(origin.as_bytes()), "{origin}");
        }
        assert_eq!(cors(r#"["*"]"#).allows(b"null"), Some(&b"*"[..]));
    }
}
