//! The life of a request, in tables.

mod connect;
mod counted;
mod leave;
mod lost;
mod mirror;
mod newest_table;
mod own_settings;
mod paths;
mod relay;
mod retries;
mod retry_policy;
mod silent;
mod who;
