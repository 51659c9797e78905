use std::net::IpAddr;

use tokio::sync::mpsc::UnboundedReceiver;

use super::super::line::Line;
use super::super::lost::Lost;
use super::super::sampling::Sampling;
use super::super::termination::Termination;
use super::*;

/// A worker's side, and what the writer would get.
fn worker() -> (Rc<OfWorker>, UnboundedReceiver<ToWriter>, Arc<Lost>) {
    let (writer, batches) = unbounded_channel();
    let lost = Arc::new(Lost::new(1));
    let log = Arc::new(AccessLog {
        line: Line::Json,
        query: true,
        fields: Box::default(),
        sampling: Sampling::All,
        writer,
        lost: lost.clone(),
        target: "test".to_owned(),
    });
    (OfWorker::new(log, 0), batches, lost)
}

fn request(worker: &Rc<OfWorker>) {
    let peer = Peer::new(IpAddr::from([192, 0, 2, 1]), None, false);
    let mut logged = Logged::unread(Some(worker), &peer, b"GET / HTTP/1.1\r\n");
    logged.note(|record| record.ended(Termination::NORMAL));
}

fn batch(batches: &mut UnboundedReceiver<ToWriter>) -> Option<Batch> {
    match batches.try_recv() {
        Ok(ToWriter::Batch(batch)) => Some(batch),
        _ => None,
    }
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[tokio::test(start_paused = true)]
async fn lines_wait_for_others_and_not_for_long() {
    let (worker, mut batches, _) = worker();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            tokio::task::spawn_local(worker.clone().run());
            request(&worker);
            request(&worker);
            assert!(batch(&mut batches).is_none());
            tokio::time::sleep(2 * FLUSH_AFTER).await;
            assert_eq!(lines(&batch(&mut batches).unwrap().lines), 2);
            request(&worker);
            tokio::time::sleep(2 * FLUSH_AFTER).await;
            assert_eq!(lines(&batch(&mut batches).unwrap().lines), 1);
        })
        .await;
}

#[test]
fn a_full_buffer_goes_at_once_and_comes_back_to_be_used_again() {
    let (worker, mut batches, _) = worker();
    let mut buffers = std::collections::HashSet::new();
    for _ in 0..20 {
        let got = loop {
            request(&worker);
            if let Some(got) = batch(&mut batches) {
                break got;
            }
        };
        assert!((FULL..BUFFER).contains(&got.lines.len()));
        assert_eq!(got.lines.capacity(), BUFFER);
        buffers.insert(got.lines.as_ptr());
        got.back.send(got.lines).unwrap();
    }
    assert!(buffers.len() <= KEPT + 1, "{}", buffers.len());
}

#[test]
fn a_writer_that_takes_nothing_costs_lines_and_no_more_memory_than_a_worker_may_have() {
    let (worker, mut batches, lost) = worker();
    while lost.total() < 10 {
        request(&worker);
    }
    let mut waiting = Vec::new();
    while let Some(batch) = batch(&mut batches) {
        waiting.push(batch);
    }
    assert_eq!(waiting.len(), BUFFERS);
    assert!(batch(&mut batches).is_none());
    let one = waiting.pop().unwrap();
    one.back.send(one.lines).unwrap();
    request(&worker);
    assert_eq!(lost.total(), 10, "there is room again");
}

#[test]
fn what_is_left_goes_to_the_writer_at_the_end() {
    let (worker, mut batches, _) = worker();
    let peer = Peer::new(IpAddr::from([192, 0, 2, 1]), None, false);
    let under_way = Logged::unread(Some(&worker), &peer, b"GET / HTTP/1.1\r\n");
    request(&worker);
    drop(worker);
    drop(under_way);
    assert_eq!(lines(&batch(&mut batches).unwrap().lines), 2);
}

#[test]
fn a_request_of_no_log_has_no_line() {
    let peer = Peer::new(IpAddr::from([192, 0, 2, 1]), None, false);
    let mut logged = Logged::unread(None, &peer, b"GET / HTTP/1.1\r\n");
    assert!(logged.is_none());
    logged.note(|_| unreachable!("there is no record"));
}
