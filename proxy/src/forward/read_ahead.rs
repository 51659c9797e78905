//! What is read of a response while its client takes it more slowly (`buffer.response`): once the rest of
//! it is here, its endpoint is free.

use std::task::{Context, Poll};

use crate::wire::Wire;
use crate::wire::buffered::Reserved;
use crate::wire::connection::Link;
use crate::wire::pump::{Pump, Source};
use crate::worker::upstream::Attempt;

/// One response that is read ahead.
pub(super) struct ReadAhead<'r> {
    most: usize,
    reserved: Reserved,
    attempt: &'r mut Attempt,
    status: u16,
    /// Nothing more comes from the endpoint.
    has_ended: bool,
}

/// The endpoint broke off.
pub(super) struct Broken;

impl<'r> ReadAhead<'r> {
    /// At most so many bytes of the response with this status.
    pub(super) fn new(
        most: usize,
        reserved: Reserved,
        attempt: &'r mut Attempt,
        status: u16,
    ) -> Self {
        Self {
            most,
            reserved,
            attempt,
            status,
            has_ended: false,
        }
    }

    /// Reads on behind what the client has not taken. Gives whether the rest of the response is here; if
    /// so, whether there is nothing behind it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &mut Source<'_>,
        download: &Pump,
        client: Wire<'_>,
    ) -> Result<Option<bool>, Broken> {
        loop {
            let has_ended = self.has_ended || endpoint.wire.is_over();
            if endpoint.wire.has_trailers() {
                // They come from the stream, when their turn comes.
                return Ok(None);
            }
            let here = download.rest_is_here(endpoint.read_buffer, has_ended);
            if here.is_some() || has_ended {
                return Ok(here);
            }
            let is_full = endpoint.read_buffer.data().len() >= self.most;
            let held = endpoint.read_buffer.held_with(endpoint.wire.at_once());
            if is_full || client.is_pressed() || !self.reserved.cover(held) {
                return Ok(None);
            }
            let Source {
                wire,
                read_buffer,
                pool,
                ..
            } = endpoint;
            match wire.poll_fill(cx, read_buffer, pool) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => self.has_ended = true,
                Poll::Ready(Err(_)) => return Err(Broken),
                Poll::Pending => return Ok(None),
            }
        }
    }

    /// Gives the connection back, which another request may have if it `keeps`, and the claim. Gives what
    /// goes on counting the memory.
    pub(super) fn release(self, link: &mut Link, keeps: bool) -> Reserved {
        let link = std::mem::replace(link, Link::Released);
        if keeps {
            self.attempt.upstream().keep(link);
        }
        self.attempt.responded_early(self.status);
        self.reserved
    }
}
