//! SIGTERM and SIGINT: the first one asks, the second one ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Ends at the first SIGTERM or SIGINT. To be called inside a runtime.
pub(crate) fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (told, first) = oneshot::channel();
    tokio::spawn(async move {
        let mut told = Some(told);
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            match told.take() {
                // Fails when the proxy has just ended by itself.
                Some(told) => drop(told.send(())),
                None => std::process::exit(code),
            }
        }
    });
    Ok(async move {
        // Err: the task above is gone with its runtime.
        let _ = first.await;
    })
}
