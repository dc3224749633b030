//! Timeouts for clients that transfer too slowly: request bodies that arrive byte by byte, and responses that are not
//! read.
//!
//! A client may be waited for during the timeout in total; each transferred byte gives some of that time back. So a
//! client with at least [`MIN_BYTES_PER_SECOND`] is never closed, and any slower one is.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::admission::{RequestGuard, Ticket};

/// Rate at which transferred bytes give waiting time back.
const MIN_BYTES_PER_SECOND: u64 = 4 * 1024;
/// Maximum size of a part of a response that is handed to the connection at once.
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The waiting time of one direction of one transfer.
#[derive(Debug)]
struct StallTimer {
    limit: Duration,
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl StallTimer {
    const fn new(limit: Duration) -> Self {
        Self { limit, left: limit, waiting: None }
    }

    /// The client is waited for. Ready when its time is used up.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        timer.as_mut().poll(cx)
    }

    fn on_progress(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        if self.left < self.limit {
            let earned = Duration::from_micros(bytes as u64 * 1_000_000 / MIN_BYTES_PER_SECOND);
            self.left = (self.left + earned).min(self.limit);
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client transfers too slowly")
}

/// A TCP stream whose writes fail when the client does not read. While a write waits, the connection may be closed to
/// make room for others.
pub(super) struct TimedStream {
    stream: TcpStream,
    timer: StallTimer,
    ticket: Ticket,
}

impl TimedStream {
    pub(super) const fn new(stream: TcpStream, limit: Duration, ticket: Ticket) -> Self {
        Self { stream, timer: StallTimer::new(limit), ticket }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn after_write(
        &mut self,
        result: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                if self.timer.waiting.is_some() {
                    self.ticket.set_stalled(false);
                }
                self.timer.on_progress(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.timer.waiting.is_none() {
                    self.ticket.set_stalled(true);
                }
                self.timer.poll_stalled(cx).map(|()| Err(timed_out()))
            }
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.after_write(result, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.after_write(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The body of a request. Reading fails when the client sends it too slowly. The request counts as in progress when the
/// body is complete.
pub(super) struct TimedBody {
    body: Incoming,
    timer: StallTimer,
    /// `None` after the body ended.
    guard: Option<Arc<RequestGuard>>,
}

impl TimedBody {
    pub(super) fn new(body: Incoming, limit: Duration, guard: Arc<RequestGuard>) -> Self {
        Self { body, timer: StallTimer::new(limit), guard: Some(guard) }
    }

    fn finish(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.on_received();
        }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this.timer.poll_stalled(cx).map(|()| Some(Err(axum::Error::new(timed_out()))));
        };
        if let Some(Ok(frame)) = &frame {
            this.timer.on_progress(frame.data_ref().map_or(0, Bytes::len));
        }
        if frame.is_none() || this.body.is_end_stream() {
            this.finish();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Responses of a connection whose next part the connection has not asked for: over HTTP/2, the client's window is full.
#[derive(Debug, Default)]
pub(super) struct UnreadResponses {
    since: Mutex<(u64, HashMap<u64, Instant>)>,
}

impl UnreadResponses {
    fn start(&self) -> u64 {
        let mut since = self.since.lock();
        let (next, responses) = &mut *since;
        *next += 1;
        responses.insert(*next, Instant::now());
        *next
    }

    /// Completes when a response was not asked for during `limit`.
    pub(super) async fn wait_for_stalled(&self, limit: Duration) {
        loop {
            sleep(limit / 4).await;
            if self.since.lock().1.values().any(|since| since.elapsed() > limit) {
                return;
            }
        }
    }
}

/// The body of a response. The request is in progress until the body was sent.
pub(super) struct GuardedBody {
    body: Body,
    /// Rest of a part that is larger than [`MAX_FRAME_BYTES`].
    rest: Bytes,
    id: u64,
    unread: Arc<UnreadResponses>,
    _guard: Arc<RequestGuard>,
}

impl GuardedBody {
    pub(super) fn new(body: Body, unread: Arc<UnreadResponses>, guard: Arc<RequestGuard>) -> Self {
        Self { body, rest: Bytes::new(), id: unread.start(), unread, _guard: guard }
    }

    fn next_rest(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.len().min(MAX_FRAME_BYTES);
        Frame::data(self.rest.split_to(bytes))
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.unread.since.lock().1.remove(&this.id);
        let frame = if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.rest = data;
                        this.next_rest()
                    }
                    Err(trailers) => trailers,
                },
                end => return Poll::Ready(end),
            }
        } else {
            this.next_rest()
        };
        this.unread.since.lock().1.insert(this.id, Instant::now());
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        self.unread.since.lock().1.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_time_adds_up_and_bytes_give_it_back() {
        let mut timer = StallTimer::new(Duration::from_millis(100));
        // A byte now and then is too slow.
        let mut waits = 0;
        loop {
            let stalled = poll_fn(|cx| match timer.poll_stalled(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            });
            if tokio::time::timeout(Duration::from_millis(30), stalled).await.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(30));
            timer.on_progress(1);
            waits += 1;
            assert!(waits < 10, "the time is not used up");
        }
        timer.on_progress(64 * 1024);
        assert_eq!(timer.left, timer.limit);
    }

    #[tokio::test]
    async fn large_responses_are_handed_over_in_parts() {
        let (ticket, guard) = super::super::admission::test_request();
        let unread = Arc::<UnreadResponses>::default();
        let bytes = 3 * MAX_FRAME_BYTES + 1;
        let mut body = GuardedBody::new(Body::from(vec![b'x'; bytes]), unread.clone(), guard);
        assert_eq!(body.size_hint().exact(), Some(bytes as u64));
        let mut sizes = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            sizes.push(frame.expect("a frame").into_data().expect("data").len());
            assert_eq!(unread.since.lock().1.len(), 1);
        }
        assert_eq!(sizes, [MAX_FRAME_BYTES, MAX_FRAME_BYTES, MAX_FRAME_BYTES, 1]);
        drop((body, ticket));
        assert!(unread.since.lock().1.is_empty());
    }
}
