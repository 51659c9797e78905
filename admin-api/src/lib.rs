//! The JSON types that the proxy's admin port (v1) and its clients speak, and the strict
//! reading of whatever people write, in JSON or in TOML.
//!
//! The keys of a service are the same in the proxy's config file and in the admin API, so
//! [`ServiceSpec`] is read from both.

mod access_log;
mod balance;
mod buffer;
mod duration;
mod filter;
pub mod flat;
mod health;
mod hold;
mod mirror;
pub mod names;
mod path;
mod proxy_settings;
mod receipt;
mod retry;
pub mod route;
mod service;
mod size;
mod stats;
mod status;
mod sticky;
pub mod strict;
mod timeouts;
mod traffic;
mod version;

pub use access_log::{
    AccessLogSpec, LogFormat, LogTarget, Piece, SampleSpec, Variable as LogVariable,
};
pub use balance::{BalanceSpec, HashKey};
pub use buffer::BufferSpec;
pub use duration::{NonZeroPeriod, Period};
pub use filter::{
    AcceptId, AccessSpec, Argon2Hash, Argon2Kind, BasicAuthSpec, CorsSpec, ErrorPageSpec,
    ErrorPagesSpec, ErrorStatus, HeaderRules, HeadersSpec, LimitKey, MaintenanceSpec, Part,
    PasswordHash, Rate, RedirectSpec, RequestIdSpec, RequestRateSpec, RespondSpec, RewriteSpec,
    Scheme, Template, User, Variable, read_users,
};
pub use health::{EjectionSpec, HealthSpec, OnSilence, Probe, StatusRange};
pub use hold::{HoldSpec, HoldView};
pub use mirror::{CopyStats, MirrorSpec, MirrorStats};
pub use path::SendPath;
pub use proxy_settings::{MAX_FIELDS, ProxyLimits, ProxyTimeouts};
pub use receipt::{Cut, DrainReceipt, DrainRequest, EndpointReceipt, Oldest};
pub use retry::{RetryOn, RetrySpec};
pub use route::{PathSpec, Pattern, ValueTest, WhenSpec};
pub use service::{
    Changed, EndpointSpec, EndpointView, HealthState, MAX_WEIGHT, ServiceList, ServiceSpec,
    ServiceView, SplitRequest, VersionView, Weight,
};
pub use size::Size;
pub use stats::{
    Bucket, FailedAttempts, OutcomeStats, Responses, ServiceStats, VersionStats, WaitStats,
};
pub use status::{Changes, ErrorBody, ErrorDetail, Status};
pub use sticky::{ClientKey, ForceSpec, StickySpec};
pub use timeouts::{LimitsSpec, TimeoutsSpec};
pub use traffic::TrafficSettings;
pub use version::{Protocol, TlsSpec, VersionSpec};
