//! How long things may take with the requests and the endpoints of a service, and how large they
//! may be.

use std::num::NonZero;

use serde::de::{Error, MapAccess};
use serde::{Deserialize, Serialize};

use crate::flat::FlatKeys;
use crate::size::Size;
use crate::strict::InputError;
use crate::traffic::{Setting, settings};
use crate::{NonZeroPeriod, Period, RequestRateSpec};

settings! {
    /// How long things may take. The proxy's config file has these keys among those of
    /// `[timeouts]`, for all services; a service has its own in its `timeouts`, and what is absent
    /// there is as in the file.
    #[serde(deny_unknown_fields)]
    pub struct TimeoutsSpec {
        /// For a new connection to the last endpoint that can be tried. Default 5 s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect: Option<NonZeroPeriod>,
        /// The same while another endpoint can be tried; at most `connect`. Default 1 s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect_failover: Option<NonZeroPeriod>,
        /// After this time without a connection, one to another endpoint is begun beside it
        /// (RFC 8305, 5). Default 250 ms; 0: never.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect_hedge: Option<Period>,
        /// How long a request waits where no endpoint is up, but one may come up. Default 5 s;
        /// 0: not at all.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub wait_for_endpoint: Option<Period>,
        /// From the end of a request until the head of its response. Default 60 s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub first_byte: Option<NonZeroPeriod>,
        /// From the head of a request until the head of its response, over all attempts. Default 0:
        /// no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub request: Option<Period>,
        /// Without any progress of a body, in either direction. Default 60 s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub body_idle: Option<NonZeroPeriod>,
        /// From the start of a drain until what is left of requests is cut. Default 30 s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub drain: Option<Period>,
        /// From the start of a drain until streams are cut, if that is later. Default 5 min;
        /// 0: never.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stream: Option<Period>,
        /// From the start of a drain until upgraded connections are cut, if that is later.
        /// Default 1 h; 0: never.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub upgraded: Option<Period>,
    }
}

impl TimeoutsSpec {
    /// Whether the service has none of its own.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Setting for TimeoutsSpec {
    fn check(&self) -> Result<(), InputError> {
        Self::check(self)
    }
}

settings! {
    /// What a request of a service may have. What is absent is as in `[limits]` of the proxy's
    /// config file.
    #[serde(deny_unknown_fields)]
    pub struct LimitsSpec {
        /// Bytes of a request's body. Default: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub body: Option<Size>,
        /// How many requests a client may send in a time. Default: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub requests: Option<RequestRateSpec>,
        /// How many requests are under way at once. Default: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub in_flight: Option<NonZero<u32>>,
    }
}

impl LimitsSpec {
    /// Whether the service has none of its own.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Setting for LimitsSpec {
    fn check(&self) -> Result<(), InputError> {
        Self::check(self)
    }
}
