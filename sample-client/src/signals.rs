//! SIGTERM and SIGINT: the first asks to stop, the second ends at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first SIGTERM or SIGINT. The second ends the process at once, with 128 plus
/// its number. Both are caught from the moment this returns: the first process of a container
/// has no other way to be stopped.
///
/// # Errors
/// When the system allows no handler.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            let signal = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            std::process::exit(128 + signal.as_raw_value());
        });
    })
}
