//! SIGTERM and SIGINT: the first stops the program in order, the second ends it at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first SIGTERM or SIGINT. The second ends the process at once, with 128 plus
/// its number. Both signals are caught from the moment this function returns. The first process of
/// a container needs that: the kernel gives it no default action for them.
///
/// # Errors
/// If a handler cannot be installed.
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
