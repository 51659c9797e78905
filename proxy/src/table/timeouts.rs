//! How long things may take.

use std::time::Duration;

use admin_api::{NonZeroPeriod, Period, ProxyTimeouts, TimeoutsSpec};

/// How long things may take: as the config file has it, or as it is with one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// From a request's first byte until its head is whole.
    pub(crate) header: Duration,
    /// From a response's end until the first byte of the client's next request.
    pub(crate) keep_alive: Duration,
    /// For a new connection to the last endpoint that can be tried.
    pub(crate) connect: Duration,
    /// The same while another endpoint can be tried.
    pub(crate) connect_failover: Duration,
    /// Without a connection, until one to another endpoint is begun beside it; `None`: never.
    pub(crate) connect_hedge: Option<Duration>,
    /// While no endpoint is up, but one may come up; `None`: requests do not wait for that.
    pub(crate) wait_for_endpoint: Option<Duration>,
    /// From the end of a request until the head of its response.
    pub(crate) first_byte: Duration,
    /// From the head of a request until the head of its response, over all attempts; `None`: as long
    /// as the others allow.
    pub(crate) request: Option<Duration>,
    /// Without any progress of a body, in either direction.
    pub(crate) body_idle: Duration,
    /// From a drain's start until what is left of requests is cut.
    pub(crate) drain: Duration,
    /// From a drain's start until streams are cut, if that is later; `None`: never.
    pub(crate) stream: Option<Duration>,
    /// From a drain's start until upgraded connections are cut; `None`: never.
    pub(crate) upgraded: Option<Duration>,
    /// From one look-up of an endpoint's name to the next.
    pub(crate) resolve: Duration,
}

/// What is as it is where nothing is said.
impl Default for Timeouts {
    fn default() -> Self {
        Self::of(&ProxyTimeouts::default())
    }
}

impl Timeouts {
    /// Those of the config file, with the defaults of what it leaves out.
    pub(crate) fn of(spec: &ProxyTimeouts) -> Self {
        let spec = spec.in_force();
        let or_zero = |own: Option<NonZeroPeriod>| own.map_or(Duration::ZERO, NonZeroPeriod::get);
        // Every one of them is there.
        let none = Self {
            header: or_zero(spec.header),
            keep_alive: or_zero(spec.keep_alive),
            connect: Duration::ZERO,
            connect_failover: Duration::ZERO,
            connect_hedge: None,
            wait_for_endpoint: None,
            first_byte: Duration::ZERO,
            request: None,
            body_idle: Duration::ZERO,
            drain: Duration::ZERO,
            stream: None,
            upgraded: None,
            resolve: or_zero(spec.resolve),
        };
        none.with(&spec.of_services)
    }

    /// These, but for what `spec` says.
    pub(crate) fn with(&self, spec: &TimeoutsSpec) -> Self {
        let or =
            |own: Option<NonZeroPeriod>, else_: Duration| own.map_or(else_, NonZeroPeriod::get);
        let or_never = |own: Option<Period>, else_: Option<Duration>| {
            own.map_or(else_, |own| Some(own.get()).filter(|own| !own.is_zero()))
        };
        Self {
            header: self.header,
            keep_alive: self.keep_alive,
            connect: or(spec.connect, self.connect),
            connect_failover: or(spec.connect_failover, self.connect_failover),
            connect_hedge: or_never(spec.connect_hedge, self.connect_hedge),
            wait_for_endpoint: or_never(spec.wait_for_endpoint, self.wait_for_endpoint),
            first_byte: or(spec.first_byte, self.first_byte),
            request: or_never(spec.request, self.request),
            body_idle: or(spec.body_idle, self.body_idle),
            drain: spec.drain.map_or(self.drain, Period::get),
            stream: or_never(spec.stream, self.stream),
            upgraded: or_never(spec.upgraded, self.upgraded),
            resolve: self.resolve,
        }
    }

    /// Those of a service, where these are everyone's.
    pub(crate) fn of_service(&self, spec: &TimeoutsSpec) -> Self {
        let all = self.with(spec);
        Self {
            connect_failover: all.connect_failover.min(all.connect),
            ..all
        }
    }

    /// How long anything may stay that is in flight; `None`: for ever.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let (stream, upgraded) = (self.stream?, self.upgraded?);
        Some(self.drain.max(stream).max(upgraded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> TimeoutsSpec {
        admin_api::strict::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_service_has_what_it_says_and_the_rest_of_all() {
        let all = Timeouts {
            first_byte: Duration::from_secs(7),
            request: Some(Duration::from_secs(9)),
            ..Timeouts::default()
        };
        assert_eq!(all.of_service(&TimeoutsSpec::default()), all);
        let own = spec(
            r#"{"body_idle":"1s","request":"0s","connect_hedge":"0s","wait_for_endpoint":"0s","stream":"0s"}"#,
        );
        let want = Timeouts {
            body_idle: Duration::from_secs(1),
            request: None,
            connect_hedge: None,
            wait_for_endpoint: None,
            stream: None,
            ..all
        };
        assert_eq!(all.of_service(&own), want);
    }

    #[test]
    fn a_connection_that_others_could_replace_has_no_more_time_than_the_last_one() {
        let all = Timeouts::default();
        let failover = |json: &str| all.of_service(&spec(json)).connect_failover;
        assert_eq!(
            failover(r#"{"connect":"500ms"}"#),
            Duration::from_millis(500)
        );
        assert_eq!(failover(r#"{"connect":"9s"}"#), Duration::from_secs(1));
    }
}
