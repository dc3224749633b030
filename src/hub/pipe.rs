//! A bounded pipe from a connection to the body of an HTTP response: what a socket is for WebSockets.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use parking_lot::Mutex;

/// Maximum bytes that wait for HTTP. More waits in the outbox, where newer states replace older ones.
const CAPACITY: usize = 16 * 1024;

/// The end that the connection writes to.
#[derive(Debug, Default)]
pub(crate) struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// The connection writes nothing more.
    is_finished: bool,
    /// The body was dropped: the response was sent, or the peer disconnected.
    is_abandoned: bool,
    connection: Option<Waker>,
    body: Option<Waker>,
}

impl Pipe {
    /// Creates a pipe with the body that reads from it.
    pub(crate) fn new() -> (Arc<Self>, PipeBody) {
        let pipe = Arc::<Self>::default();
        (Arc::clone(&pipe), PipeBody(pipe))
    }

    /// Takes as many bytes as fit.
    ///
    /// # Errors
    /// `WouldBlock` if the pipe is full, `BrokenPipe` after the body was dropped.
    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.is_abandoned || state.is_finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = state.bytes.len();
        for slice in slices {
            let room = CAPACITY.saturating_sub(state.bytes.len());
            state.bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let written = state.bytes.len() - before;
        if written == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wake(&mut state.body);
        Ok(written)
    }

    /// Ready when bytes fit, or the body was dropped.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.is_abandoned {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.bytes.len() < CAPACITY {
            return Poll::Ready(Ok(()));
        }
        state.connection = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when the body was dropped. The peer sends nothing.
    pub(super) fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.is_abandoned {
            return Poll::Ready(());
        }
        state.connection = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.0.lock().is_abandoned
    }

    /// Ends the body after the bytes that were written.
    pub(super) fn finish(&self) {
        let mut state = self.0.lock();
        state.is_finished = true;
        wake(&mut state.body);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The end that HTTP reads: a response body without a length.
#[derive(Debug)]
pub(crate) struct PipeBody(Arc<Pipe>);

impl HttpBody for PipeBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut state = self.0.0.lock();
        if !state.bytes.is_empty() {
            // Taken whole: an idle pipe holds no buffer.
            let bytes = std::mem::take(&mut state.bytes);
            wake(&mut state.connection);
            return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
        }
        if state.is_finished {
            return Poll::Ready(None);
        }
        state.body = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.is_abandoned = true;
        state.bytes = Vec::new();
        wake(&mut state.connection);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_fn;

    use super::*;

    fn write(pipe: &Pipe, bytes: &[u8]) -> io::Result<usize> {
        pipe.try_write(&[IoSlice::new(bytes)])
    }

    async fn next(body: &mut PipeBody) -> Option<Bytes> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        frame.expect("no error").into_data().ok()
    }

    #[tokio::test]
    async fn a_full_pipe_takes_bytes_again_when_the_body_was_read() {
        let (pipe, mut body) = Pipe::new();
        let sent = vec![7; CAPACITY + 100];
        assert_eq!(write(&pipe, &sent).expect("fits in part"), CAPACITY);
        assert_eq!(write(&pipe, &sent).expect_err("full").kind(), io::ErrorKind::WouldBlock);
        let ready = poll_fn(|cx| pipe.poll_write_ready(cx));
        let (ready, read) = tokio::join!(ready, next(&mut body));
        ready.expect("room");
        assert_eq!(read.expect("bytes").len(), CAPACITY);
        assert_eq!(write(&pipe, &sent[CAPACITY..]).expect("fits"), 100);
        pipe.finish();
        assert_eq!(next(&mut body).await.expect("the rest").len(), 100);
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn a_dropped_body_ends_the_connection() {
        let (pipe, body) = Pipe::new();
        assert!(!pipe.is_abandoned());
        let abandoned = poll_fn(|cx| pipe.poll_abandoned(cx));
        tokio::join!(abandoned, async { drop(body) });
        assert_eq!(write(&pipe, b"x").expect_err("closed").kind(), io::ErrorKind::BrokenPipe);
    }
}
