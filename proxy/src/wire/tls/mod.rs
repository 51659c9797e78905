//! TLS, by rustls: to clients (`listener`, `names`, `follow`) and to endpoints (`version`), over
//! certificates from PEM files (`certificate`) and a stream that holds no buffers (`stream`).

mod certificate;
mod follow;
mod listener;
mod names;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod version;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub(crate) use follow::follow;
pub(crate) use listener::{ClientTls, ListenerTls, Listening};
pub use settings::{ClientAuth, KeyPair, ListenerSettings, Version};
pub(crate) use version::{EndpointTls, VersionTls};

/// The cryptography: AWS-LC, of which only what we use is linked.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    &PROVIDER
}
