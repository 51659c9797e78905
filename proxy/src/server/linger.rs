//! The end of a request that has its response and is not over: its client may be one that sends all
//! of it before it reads anything. To close a connection with something unread in it would reset it,
//! and take the response from that client.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::wire::discard::Discard;
use crate::wire::pump::Source;
use crate::wire::timer::Timer;
use crate::worker::Worker;

/// How long a client may send nothing before it is taken to have read its response.
const QUIET: Duration = Duration::from_secs(5);
/// How long a process that stops waits for it.
const STOPPING: Duration = Duration::from_secs(1);

/// Reads and forgets what a client sends, until it ends, sends nothing for a while, has sent `most`
/// bytes, or has had its time.
pub(super) async fn linger(worker: &Worker, timer: &Timer, client: &mut Source<'_>, most: u64) {
    let mut discard = Discard::begin(timer, most);
    let mut is_stopping = false;
    timer.set(QUIET);
    poll_fn(|cx| {
        let mut moved = false;
        if discard.poll(cx, client, timer, &mut moved).is_ready() {
            return Poll::Ready(());
        }
        if !is_stopping && worker.is_stopping() {
            is_stopping = true;
            timer.set(STOPPING);
        } else if moved && !is_stopping {
            timer.set(QUIET);
        }
        timer.poll(cx).map(drop)
    })
    .await;
}
