//! What the controller does for each verb of the command line.

mod deploy;
mod down;
mod logs;
mod maintenance;
mod proxy_upgrade;
mod pull;
mod revision;
mod rollback;
mod rollout;
mod scale;
mod split;
mod status;
#[cfg(test)]
pub(super) mod tests;
mod up;

pub(crate) use logs::LogLines;
#[cfg(test)]
pub(crate) use status::status_of;
