//! How a client's end is seen that has a response to come, and what it has sent before is kept.

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::wire::socket::{Bytestream, HalfClose, Pool, ReadBuffer, Socket};

/// How a client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It says that it sends no more, and leaves the connection open.
    CloseNotify,
    /// It ends its half of the connection, without a word of it.
    Fin,
    Both,
}

const WAYS: [Way; 3] = [Way::CloseNotify, Way::Fin, Way::Both];
/// More than is read ahead, than a socket holds, and than a buffer has room for.
const MUCH: usize = 8 << 20;

fn end(peer: &mut Peer, way: Way) {
    if way != Way::Fin {
        peer.conn.send_close_notify();
        peer.flush().unwrap();
    }
    if way != Way::CloseNotify {
        peer.sock.shutdown(Shutdown::Write).unwrap();
    }
}

/// A socket to a client that does this.
async fn client<T: Send + 'static>(
    half_close: HalfClose,
    does: impl FnOnce(&mut Peer) -> T + Send + 'static,
) -> (Socket, JoinHandle<T>) {
    let ca = Ca::new();
    let tls = listener(&settings(vec![ca.issue("a", &["a.test"])]));
    let (stream, thread) = talk(&tls, ca.client(None), "a.test", does).await;
    let stream = Bytestream::Tls(Box::new(stream.unwrap()));
    (Socket::of_client(stream, half_close), thread)
}

/// Waits until the client has left.
async fn left(socket: &Socket) {
    let left = poll_fn(|cx| match socket.has_left(cx) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    let waited = tokio::time::timeout(Duration::from_secs(10), left);
    waited.await.expect("it has left");
}

/// Reads so much, and looks before each time whether the client has left.
async fn read(socket: &Socket, count: usize) -> Vec<u8> {
    let (mut read_buffer, pool) = (ReadBuffer::default(), Pool::default());
    let mut got = Vec::new();
    while got.len() < count {
        let some = poll_fn(|cx| {
            assert!(!socket.has_left(cx));
            read_buffer.poll_fill(socket, &pool, usize::MAX, cx)
        });
        let some = tokio::time::timeout(Duration::from_secs(10), some);
        assert!(some.await.expect("there is more").unwrap() > 0);
        got.extend_from_slice(read_buffer.data());
        read_buffer.consume(read_buffer.data().len());
    }
    got
}

#[tokio::test]
async fn either_kind_of_end_is_one() {
    for way in WAYS {
        let (socket, thread) = client(HalfClose::Abort, move |peer| {
            peer.write_all(b"?").unwrap();
            peer.flush().unwrap();
            end(peer, way);
            // Until the other side has seen it.
            let _ = peer.sock.read(&mut [0; 4096]);
        })
        .await;
        left(&socket).await;
        drop(socket);
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn what_is_sent_ahead_is_no_end_and_is_read_in_its_order() {
    let bytes: Vec<u8> = (0..MUCH).map(|i| (i * 7 + i / 251) as u8).collect();
    let sent = bytes.clone();
    let (socket, thread) = client(HalfClose::Abort, move |peer| {
        peer.write_all(&sent).unwrap();
        peer.flush().unwrap();
        // Until the other side has read it and closes. Session tickets may come before.
        while peer.sock.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    })
    .await;
    assert!(read(&socket, MUCH).await == bytes);
    drop(socket);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_client_that_has_ended_its_half_is_written_to_where_it_is_served() {
    for way in WAYS {
        let (socket, thread) = client(HalfClose::Serve, move |peer| {
            peer.write_all(b"?").unwrap();
            peer.flush().unwrap();
            end(peer, way);
            let mut got = [0; 8];
            peer.read_exact(&mut got).unwrap();
            got
        })
        .await;
        assert_eq!(read(&socket, 1).await, b"?");
        let mut written = 0;
        poll_fn(|cx| {
            assert!(!socket.has_left(cx));
            socket.poll_write_all(cx, [b"response"], &mut written)
        })
        .await
        .unwrap();
        assert_eq!(&thread.join().unwrap(), b"response", "{way:?}");
    }
}
