//! The files of certificates, taken up again whenever they change.

use std::sync::Arc;

use super::listener::Listening;
use crate::file::FileWatch;

/// Follows the files of these listeners. Never ends.
pub(crate) async fn follow(listeners: Arc<Listening>) {
    let watch = FileWatch::new(listeners.iter().flat_map(|(_, tls)| tls.files()));
    loop {
        watch.changed().await;
        let listeners = listeners.clone();
        // Elsewhere: a disk that hangs must not stop this thread.
        let looked = tokio::task::spawn_blocking(move || {
            for (_, tls) in listeners.iter() {
                tls.look_again();
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "cannot check the certificate files for changes");
        }
    }
}
