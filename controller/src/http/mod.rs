//! HTTP that the controller speaks itself: requests to the proxy's admin API, to Prometheus and
//! to webhooks.

pub(crate) mod exchange;
pub mod one_shot;
pub mod proxy_admin;
