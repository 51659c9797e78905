//! What a service does with its requests beside forwarding them.

mod access;
mod basic_auth;
mod cors;
mod error_pages;
mod headers;
mod rate;
mod redirect;
mod request_id;
mod rewrite;
mod template;

#[cfg(test)]
mod testing;

pub use access::AccessSpec;
pub use basic_auth::{Argon2Hash, Argon2Kind, BasicAuthSpec, PasswordHash, User, read_users};
pub use cors::CorsSpec;
pub use error_pages::{ErrorPageSpec, ErrorPagesSpec, ErrorStatus};
pub use headers::{HeaderRules, HeadersSpec};
pub use rate::{LimitKey, Rate, RequestRateSpec};
pub use redirect::{MaintenanceSpec, RedirectSpec, RespondSpec, Scheme};
pub use request_id::{AcceptId, RequestIdSpec};
pub use rewrite::RewriteSpec;
pub use template::{Part, Template, Variable};
