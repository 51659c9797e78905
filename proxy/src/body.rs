//! Bodies on their way through the proxy, one frame at a time: nothing is read from one side
//! before the other side has taken what came before.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::stats::Failure;
use crate::upstream::{Connection, Try};

/// Any body that the proxy sends, in either direction.
pub(crate) enum Body {
    Empty,
    /// An answer of the proxy's own.
    Full(Bytes),
    /// From a client to an endpoint.
    Upload(Upload),
    /// From an endpoint to a client.
    Relay(Relay),
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    #[error("the body stood still for {0:?}")]
    Stalled(Duration),
}

/// A client's body on its way to an endpoint.
pub(crate) struct Upload {
    body: Incoming,
    idle: Idle,
    progress: Rc<Progress>,
}

/// How far an upload has come, for whoever waits for the answer.
#[derive(Default)]
pub(crate) struct Progress {
    last: Cell<Option<Instant>>,
    done: Cell<bool>,
    failed: Cell<bool>,
    /// It waits for the client, not for the endpoint.
    starved: Cell<bool>,
}

/// An endpoint's body on its way to a client. Holds the try until the last byte.
pub(crate) struct Relay {
    body: Incoming,
    idle: Idle,
    status: StatusCode,
    /// `None` once it was settled.
    exchange: Option<(Try, Connection)>,
    upload: Rc<Progress>,
}

/// The timer of a body that stands still. It exists only while there is something to wait for.
struct Idle {
    within: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    /// Nothing is being uploaded.
    pub(crate) fn finished() -> Rc<Self> {
        Rc::new(Self {
            done: Cell::new(true),
            ..Self::default()
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.get()
    }

    /// The client broke off or stood still.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// When the endpoint's time to answer begins to run: with the last piece that it took. Not
    /// yet, while the client has it wait for the next one: that has a timer of its own.
    pub(crate) fn answer_due_from(&self) -> Option<Instant> {
        if self.starved.get() {
            Some(Instant::now())
        } else {
            self.last.get()
        }
    }
}

impl Body {
    /// A client's body, and how far it has come.
    pub(crate) fn upload(body: Incoming, idle: Duration) -> (Self, Rc<Progress>) {
        if http_body::Body::is_end_stream(&body) {
            return (Self::Empty, Progress::finished());
        }
        let progress = Rc::new(Progress::default());
        (
            Self::Upload(Upload {
                body,
                idle: Idle::new(idle),
                progress: progress.clone(),
            }),
            progress,
        )
    }

    /// An endpoint's body, which settles the try when it ends.
    pub(crate) fn relay(
        body: Incoming,
        status: StatusCode,
        idle: Duration,
        exchange: (Try, Connection),
        upload: Rc<Progress>,
    ) -> Self {
        let ended = http_body::Body::is_end_stream(&body);
        let mut relay = Relay {
            body,
            idle: Idle::new(idle),
            status,
            exchange: Some(exchange),
            upload,
        };
        if ended {
            relay.finish();
            return Self::Empty;
        }
        Self::Relay(relay)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Upload(upload) => upload.poll_frame(cx),
            Self::Relay(relay) => relay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Upload(upload) => upload.body.is_end_stream(),
            Self::Relay(relay) => relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Upload(upload) => upload.body.size_hint(),
            Self::Relay(relay) => relay.body.size_hint(),
        }
    }
}

impl Upload {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.idle.poll_frame(&mut self.body, cx);
        self.progress.starved.set(frame.is_pending());
        let frame = ready!(frame);
        self.progress.last.set(Some(Instant::now()));
        self.progress.failed.set(matches!(frame, Some(Err(_))));
        self.progress
            .done
            .set(frame.is_none() || http_body::Body::is_end_stream(&self.body));
        Poll::Ready(frame)
    }
}

impl Relay {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.idle.poll_frame(&mut self.body, cx));
        match &frame {
            Some(Err(_)) => match self.exchange.take() {
                // The endpoint gave up on a request whose client had: dropped unsettled.
                Some(_) if self.upload.has_failed() => {}
                Some((attempt, _)) => attempt.failed(Failure::Body),
                None => {}
            },
            // Who sends a body of known length does not ask for its end.
            Some(Ok(_)) if !http_body::Body::is_end_stream(&self.body) => {}
            Some(Ok(_)) | None => self.finish(),
        }
        Poll::Ready(frame)
    }

    /// The answer is whole: settles the try, and keeps the connection.
    fn finish(&mut self) {
        let Some((attempt, connection)) = self.exchange.take() else {
            return;
        };
        // An endpoint that answered without reading the whole request gets no more of it.
        if self.upload.is_done() {
            attempt.upstream().keep(connection);
        }
        attempt.responded(self.status);
    }
}

impl Idle {
    fn new(within: Duration) -> Self {
        Self {
            within,
            sleep: None,
        }
    }

    fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(body), cx) {
            self.sleep = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let within = self.within;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Stalled(within))))
    }
}
