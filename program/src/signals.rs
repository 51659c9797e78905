//! SIGTERM and SIGINT: the first stops the program in order, the second ends it at once. SIGHUP, which
//! would end it, too, where it means something else.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Completes at the first SIGTERM or SIGINT. The second ends the process at once, with 128 plus its
/// number. Both signals are caught from the moment this function returns: the kernel has no default
/// action for them in the first process of a container. To be called inside a runtime.
///
/// # Errors
/// If a handler cannot be installed.
pub fn told_to_stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (told, first) = oneshot::channel();
    tokio::spawn(async move {
        let mut told = Some(told);
        loop {
            let kind = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            match told.take() {
                // Fails when the program has just ended by itself.
                Some(told) => drop(told.send(())),
                None => std::process::exit(128 + kind.as_raw_value()),
            }
        }
    });
    Ok(async move {
        // Err: the task above is gone with its runtime.
        let _ = first.await;
    })
}

/// Each SIGHUP, which ends the process no more from here on. To be called inside a runtime.
///
/// # Errors
/// If a handler cannot be installed.
pub fn hang_up() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
