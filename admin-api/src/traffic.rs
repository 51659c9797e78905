//! The settings of a service that the proxy's config file, the admin API and the manifest share.

use serde::de::{Error, MapAccess};
use serde::{Deserialize, Serialize};

use crate::flat::FlatKeys;
use crate::strict::InputError;
use crate::{
    AccessSpec, BalanceSpec, BasicAuthSpec, BufferSpec, CorsSpec, EjectionSpec, ErrorPagesSpec,
    ForceSpec, HeadersSpec, HealthSpec, LimitsSpec, MaintenanceSpec, PathSpec, RedirectSpec,
    RequestIdSpec, RespondSpec, RetrySpec, RewriteSpec, SendPath, StickySpec, Template,
    TimeoutsSpec, WhenSpec,
};

/// The type of one setting.
pub(crate) trait Setting {
    /// Checks what no single key can say. The error's field is relative to the setting.
    fn check(&self) -> Result<(), InputError>;
}

impl Setting for bool {
    fn check(&self) -> Result<(), InputError> {
        Ok(())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn check(&self) -> Result<(), InputError> {
        self.as_ref().map_or(Ok(()), T::check)
    }
}

/// Makes of a list of settings, each a key and its type, the struct that has them, its check and
/// its reading. Each type is a [`Setting`], and its default is that of an absent key.
macro_rules! settings {
    (
        $(#[$of_struct:meta])*
        pub struct $Settings:ident {
            $($(#[$of_key:meta])* pub $key:ident: $Type:ty,)*
        }
    ) => {
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        $(#[$of_struct])*
        pub struct $Settings {
            $($(#[$of_key])* pub $key: $Type,)*
        }

        impl $Settings {
            /// Checks every setting. The error's field is relative to what has them.
            pub fn check(&self) -> Result<(), InputError> {
                $(
                    let checked = Setting::check(&self.$key);
                    checked.map_err(|error| error.inside(stringify!($key)))?;
                )*
                Ok(())
            }
        }

        impl FlatKeys for $Settings {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn read_key<'de, A: MapAccess<'de>>(
                &mut self,
                key: &'static str,
                map: &mut A,
            ) -> Result<(), A::Error> {
                match key {
                    $(stringify!($key) => self.$key = map.next_value()?,)*
                    _ => return Err(A::Error::unknown_field(key, Self::KEYS)),
                }
                Ok(())
            }
        }
    };
}

pub(crate) use settings;

settings! {
    /// What the proxy does with the requests and the endpoints of a service, beside its routes
    /// and its split.
    ///
    /// [`crate::ServiceSpec`], [`crate::ServiceView`] and the controller's manifest have these keys
    /// among their own.
    pub struct TrafficSettings {
        /// Take `path_prefix` off before the request is sent to an endpoint. Default false.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub strip_prefix: bool,
        /// The paths that this service serves, in place of those with a prefix. Default: `path_prefix`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub path: Option<PathSpec>,
        /// What its requests have to be like beside that. Default: whatever they are.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub when: Option<WhenSpec>,
        /// Which path an endpoint gets. Default `"auto"`: as it came, but without dot segments.
        #[serde(skip_serializing_if = "SendPath::is_default")]
        pub send_path: SendPath,
        /// Tell endpoints who asks in `Forwarded` (RFC 7239), too. Default false.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub forwarded: bool,
        /// Say `Via` to endpoints, some of which switch compression off for it. Default true.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub via: Option<bool>,
        /// Pass `TRACE` on, which is refused with 405 else. Default false.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub allow_trace: bool,
        /// The health check that the proxy runs on every endpoint. Without one, endpoints are up
        /// at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<HealthSpec>,
        /// When an endpoint is left out for a while because of its responses. Without it, none is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ejection: Option<EjectionSpec>,
        /// Whether each client keeps the version it got. Without it, every request is split by
        /// itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sticky: Option<StickySpec>,
        /// By what testers name the version they want. Without it, they cannot.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub force: Option<ForceSpec>,
        /// How a version's requests divide over its endpoints. Default `"round_robin"`.
        #[serde(skip_serializing_if = "BalanceSpec::is_default")]
        pub balance: BalanceSpec,
        /// How long things may take. Default: as in the proxy's config file.
        #[serde(skip_serializing_if = "TimeoutsSpec::is_default")]
        pub timeouts: TimeoutsSpec,
        /// What a request may have. Default: as in the proxy's config file.
        #[serde(skip_serializing_if = "LimitsSpec::is_default")]
        pub limits: LimitsSpec,
        /// How much of a body waits in the proxy for a slow client. Default: nothing.
        #[serde(skip_serializing_if = "BufferSpec::is_default")]
        pub buffer: BufferSpec,
        /// When a request is sent again, to another endpoint. Default: when no connection could be
        /// made, or it broke, three times in all.
        #[serde(skip_serializing_if = "RetrySpec::is_default")]
        pub retry: RetrySpec,
        /// Whose requests are taken. Default: those of all clients.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub access: Option<AccessSpec>,
        /// Requests get a 503, but for those of some clients. Default: none do.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub maintenance: Option<MaintenanceSpec>,
        /// Pages of the service's own in place of the proxy's errors. Default: sentences.
        #[serde(skip_serializing_if = "ErrorPagesSpec::is_default")]
        pub error_pages: ErrorPagesSpec,
        /// Whose pages may use the service from elsewhere. Default: as its endpoints say.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cors: Option<CorsSpec>,
        /// Requests need a name and a password. Default: none do.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub basic_auth: Option<BasicAuthSpec>,
        /// Requests are sent to another address. Default: none are.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub redirect: Option<RedirectSpec>,
        /// Requests get a fixed response. Default: none do.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub respond: Option<RespondSpec>,
        /// Which path endpoints get. Default: as `send_path` and `strip_prefix` say.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rewrite: Option<RewriteSpec>,
        /// The id that each request gets. Default: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub request_id: Option<RequestIdSpec>,
        /// Which header fields are set, added and removed. Default: none.
        #[serde(skip_serializing_if = "HeadersSpec::is_default")]
        pub headers: HeadersSpec,
    }
}

impl TrafficSettings {
    /// Whether both serve the same of the requests that their hosts and prefixes leave to them.
    pub fn same_routes(&self, other: &Self) -> bool {
        (&self.path, &self.when) == (&other.path, &other.when)
    }

    /// Each text with variables, and its field.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (String, &Template)> {
        let redirect = self.redirect.iter();
        let redirect = redirect.map(|redirect| ("redirect.to".to_owned(), &redirect.to));
        let rewrite = self.rewrite.iter();
        let rewrite = rewrite.map(|rewrite| ("rewrite.path".to_owned(), &rewrite.path));
        let rules = [
            ("headers.request", &self.headers.request),
            ("headers.response", &self.headers.response),
        ];
        let of_headers = rules.into_iter().flat_map(|(key, rules)| {
            let all = rules.templates();
            all.map(move |(field, template)| (format!("{key}.{field}"), template))
        });
        redirect.chain(rewrite).chain(of_headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::{from_json, from_toml};
    use crate::{ServiceSpec, ServiceView};

    const EVERY_SETTING: &str = include_str!("../tests/every_setting.toml");

    fn spec() -> ServiceSpec {
        from_toml(&format!("name = \"web\"\n{EVERY_SETTING}")).expect("a service")
    }

    #[test]
    fn the_file_of_every_setting_has_every_key_and_none_at_its_default() {
        let json = |settings: &TrafficSettings| serde_json::to_value(settings).expect("JSON");
        let (has, default) = (json(&spec().traffic), json(&TrafficSettings::default()));
        for key in TrafficSettings::KEYS {
            assert!(has.get(key).is_some(), "every_setting.toml lacks `{key}`");
            assert_ne!(has.get(key), default.get(key), "`{key}` is at its default");
        }
        assert_eq!(spec().traffic.check(), Ok(()));
    }

    #[test]
    fn the_keys_stand_among_those_of_the_service_where_they_are_written_and_read() {
        let spec = spec();
        let json = serde_json::to_value(&spec).expect("JSON");
        for key in TrafficSettings::KEYS {
            assert!(json.get(key).is_some(), "`{key}` in {json}");
        }
        let again: ServiceSpec = from_json(json.to_string().as_bytes()).expect("a service");
        assert_eq!(again, spec);

        let view = ServiceView {
            traffic: spec.traffic,
            ..ServiceView::default()
        };
        let json = serde_json::to_value(&view).expect("JSON");
        assert_eq!(json["strip_prefix"], true);
        assert_eq!(from_json(json.to_string().as_bytes()), Ok(view));
        let json = serde_json::to_value(ServiceView::default()).expect("JSON");
        assert_eq!(json["strip_prefix"], false, "a view always has it");
    }

    #[track_caller]
    fn check_wrong(key: &str, field: &str, says: &str) {
        let error = from_toml::<ServiceSpec>(&format!("name = \"web\"\n{key}\n"));
        let error = error.and_then(|spec| spec.traffic.check());
        let error = error.expect_err("this setting is wrong");
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_those_that_there_are() {
        check_wrong(
            "strip_prefx = true",
            "strip_prefx",
            "did you mean `strip_prefix`?",
        );
        check_wrong(
            "zzzzzzzz = 1",
            "zzzzzzzz",
            "expected one of `name`, `hosts`",
        );
        check_wrong("zzzzzzzz = 1", "zzzzzzzz", "`sticky`, `force`, `balance`");
        check_wrong(
            "timeouts = { conect = \"1s\" }",
            "timeouts.conect",
            "did you mean `connect`?",
        );
        check_wrong(
            "retry = { atempts = 2 }",
            "retry.atempts",
            "did you mean `attempts`?",
        );
        check_wrong(
            "limits = { header_count = 5 }",
            "limits.header_count",
            "expected one of `body`, `requests`",
        );
    }

    #[test]
    fn a_value_that_is_out_of_range_is_named_with_its_field() {
        check_wrong("strip_prefix = 1", "strip_prefix", "expected a boolean");
        check_wrong(
            "send_path = \"normal\"",
            "send_path",
            "expected one of `auto`, `original`, `normalised`",
        );
        check_wrong(
            "health = { path = \"/\", rise = 0 }",
            "health.rise",
            "at least 1",
        );
        check_wrong(
            "ejection = { max_share = 101 }",
            "ejection.max_share",
            "0 to 100",
        );
    }

    #[test]
    fn what_is_wrong_with_the_choice_of_an_endpoint_is_named_with_its_field() {
        check_wrong("sticky = {}", "sticky", "either `cookie` or `header`");
        check_wrong(
            "sticky = { cookie = \"a b\" }",
            "sticky.cookie",
            "not the name",
        );
        check_wrong(
            "sticky = { header = \"x\", secure = true }",
            "sticky.secure",
            "belongs to a cookie",
        );
        check_wrong(
            "force = { cookie = \"v\", from = [\"10.0.0.0/8\", \"all\"] }",
            "force.from[1]",
            "not a network",
        );
        check_wrong(
            "balance = { hash = { header = \"a b\" } }",
            "balance.hash.header",
            "not the name of a header field",
        );
    }

    #[test]
    fn what_is_wrong_with_timeouts_retries_and_limits_is_named_with_its_field() {
        check_wrong(
            "timeouts = { connect = \"0s\" }",
            "timeouts.connect",
            "0s is out of range: it has to be above 0",
        );
        check_wrong(
            "timeouts = { first_byte = 5 }",
            "timeouts.first_byte",
            "a duration in quotes",
        );
        check_wrong(
            "retry = { attempts = 6 }",
            "retry.attempts",
            "6 is out of range: from 1 (no retries) to 5",
        );
        check_wrong("retry = { attempts = 0 }", "retry.attempts", "from 1");
        check_wrong(
            "retry = { on = [\"connect\", \"504\"] }",
            "retry.on[1]",
            "unknown variant `504`, expected one of `connect`, `reset`, `timeout`, `502`, `503`",
        );
        check_wrong(
            "retry = { on = [\"reset\", \"503\", \"reset\"] }",
            "retry.on[2]",
            "is listed twice",
        );
        check_wrong("limits = { body = \"1x\" }", "limits.body", "1x");
        check_wrong(
            "buffer = { request = \"9MiB\" }",
            "buffer.request",
            "9MiB is out of range: from 1B to 8MiB",
        );
        check_wrong(
            "buffer = { response = \"0B\" }",
            "buffer.response",
            "0B is out of range",
        );
        check_wrong(
            "buffer = { reqest = \"1MiB\" }",
            "buffer.reqest",
            "did you mean `request`?",
        );
    }

    #[test]
    fn a_setting_that_is_there_twice_is_refused() {
        let json = r#"{"name":"web","health":{"path":"/a"},"health":{"path":"/b"}}"#;
        let error = from_json::<ServiceSpec>(json.as_bytes()).expect_err("it is there twice");
        assert_eq!(error.message, "duplicate field `health`", "{error}");
    }
}
