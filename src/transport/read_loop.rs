//! The task of one connection: reads frames, passes messages to the session, and writes what the socket did not accept
//! at once.
//!
//! The task waits for four things at once ([`poll_wake`]): a close from elsewhere, writability of the socket while
//! frames are queued, the session's timer or a ping timeout, and bytes from the peer. While the session works, only
//! writing continues. An idle task holds no buffer: reads go to one buffer per thread, and only bytes not processed yet
//! are kept.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    net::Shutdown,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{task::coop::consume_budget, time::timeout};

use super::{
    Flow, Session,
    admission::Ticket,
    rate_limit::{MessageRateLimiter, RateDecision},
};
use crate::hub::{
    CloseCode, CloseReason, Connection, Registration, Signal, StateKey,
    frame::{Decoded, Decoder, Event, ProtocolError, WireFrame},
};

/// Bytes per read; one buffer of this size per thread.
const READ_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice());
}

/// Why the read loop ends.
#[derive(Debug, thiserror::Error)]
enum EndCause {
    #[error("the peer closed")]
    Peer(Option<u16>),
    #[error("the peer violated the protocol")]
    Protocol(#[from] ProtocolError),
    #[error("the session closed")]
    Session(Flow),
    #[error("the session panicked")]
    Panicked,
    #[error("the peer disconnected")]
    Lost,
    #[error("the socket failed")]
    Failed(#[from] io::Error),
    #[error("the connection was closed elsewhere")]
    AlreadyClosing,
}

/// Runs `session` on a registered connection until it closes. `early` holds the bytes that the client sent before the
/// upgrade was complete. `silent` is confirmed by the first message.
pub(super) async fn run_connection<S: Session>(
    registration: Registration,
    mut session: S,
    early: Vec<u8>,
    silent: Option<Ticket>,
) {
    let conn = Arc::clone(registration.connection());
    let mut read_loop = ReadLoop::new(Arc::clone(&conn), early, silent);
    let Err(cause) = read_loop.run(&mut session).await;
    drop(read_loop);
    queue_close_frame(&conn, cause);
    let close_reason = conn.close_reason().unwrap_or(CloseReason::Aborted);
    let settings = *conn.shard().settings();
    // Writing of the queued frames, the close frame last, continues meanwhile.
    match timeout(
        settings.session_close_timeout,
        poll_with_writes(&conn, Box::pin(session.on_close(&conn, close_reason))),
    )
    .await
    {
        Ok(Ok(())) => {}
        Ok(Err(_panicked)) => tracing::error!(conn.id = %conn.id(), "session panicked while closing"),
        Err(_elapsed) => tracing::error!(conn.id = %conn.id(), "session close timed out"),
    }
    // Boxed, so that the future does not enlarge idle connections' tasks.
    let finished = Box::pin(timeout(settings.close_timeout, flush_and_shut_down(&conn, close_reason))).await;
    conn.shut_down(Shutdown::Both);
    tracing::debug!(
        conn.id = %conn.id(), reason = close_reason.as_str(), detail = ?close_reason, in_time = finished.is_ok(), "connection closed"
    );
}

/// Queues the close frame for an end cause.
fn queue_close_frame(conn: &Connection, cause: EndCause) {
    match cause {
        EndCause::Peer(number) => {
            conn.close_with_frame(CloseReason::Peer(number), WireFrame::close_echo(number))
        }
        EndCause::Protocol(error) => conn.close(error.close_code(), &error.to_string()),
        EndCause::Session(Flow::Close(code, reason)) => conn.close(code, &reason),
        EndCause::Panicked => {
            let code = CloseCode::InternalError;
            conn.close_with_frame(CloseReason::Panicked, conn.close_frame(code, code.reason()));
        }
        EndCause::Lost => conn.abort(CloseReason::Lost),
        EndCause::Failed(error) => conn.abort(CloseReason::Failed(error.kind())),
        EndCause::AlreadyClosing | EndCause::Session(Flow::Continue) => {}
    }
}

/// Writes the queued frames and, unless the peer closed first, waits for the peer to disconnect. Closing the socket
/// with unread bytes would reset the connection and could discard the close frame.
async fn flush_and_shut_down(conn: &Connection, close_reason: CloseReason) {
    poll_fn(|cx| {
        conn.signals.register(cx.waker());
        conn.poll_flush(cx)
    })
    .await;
    conn.shut_down(Shutdown::Write);
    if matches!(close_reason, CloseReason::Peer(_)) {
        return;
    }
    poll_fn(|cx| {
        conn.signals.register(cx.waker());
        while !conn.signals.is_set(Signal::ABORT) {
            match conn.poll_readable(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) => {
                    let read = READ_BUFFER.with_borrow_mut(|buffer| conn.try_read(buffer));
                    let is_closed = match read {
                        Ok(bytes) => bytes == 0,
                        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                    };
                    if is_closed {
                        break;
                    }
                }
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Polls the session's future while writing continues, and catches its panics.
async fn poll_with_writes<F: Future>(
    conn: &Connection,
    mut work: Pin<Box<F>>,
) -> Result<F::Output, EndCause> {
    poll_fn(|cx| {
        conn.signals.register(cx.waker());
        let _ = conn.poll_flush(cx);
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(EndCause::Panicked)),
        }
    })
    .await
}

async fn poll_flow_with_writes<F: Future<Output = Flow>>(
    conn: &Connection,
    work: Pin<Box<F>>,
) -> Result<(), EndCause> {
    match poll_with_writes(conn, work).await? {
        Flow::Continue => Ok(()),
        close @ Flow::Close(..) => Err(EndCause::Session(close)),
    }
}

/// Why the task woke up.
enum WakeReason {
    Readable(io::Result<()>),
    Timer,
    Notified,
    PingTimeout,
    Closing,
}

fn poll_wake(conn: &Connection, cx: &mut Context<'_>) -> Poll<WakeReason> {
    conn.signals.register(cx.waker());
    let _ = conn.poll_flush(cx);
    if conn.signals.is_set(Signal::ABORT) || conn.signals.is_set(Signal::CLOSE) {
        return Poll::Ready(WakeReason::Closing);
    }
    if conn.signals.take(Signal::TIMER) {
        return Poll::Ready(WakeReason::Timer);
    }
    // Checked before reading: external events may change how the next message is handled.
    if conn.signals.take(Signal::WAKE) {
        return Poll::Ready(WakeReason::Notified);
    }
    // Reading precedes the ping timeout: bytes waiting here show that the peer is alive.
    if let Poll::Ready(result) = conn.poll_readable(cx) {
        return Poll::Ready(WakeReason::Readable(result));
    }
    if conn.signals.take(Signal::PING_TIMEOUT) { Poll::Ready(WakeReason::PingTimeout) } else { Poll::Pending }
}

struct ReadLoop {
    conn: Arc<Connection>,
    decoder: Decoder,
    rate_limiter: MessageRateLimiter,
    /// Bytes read and not processed yet. Empty unless a frame is incomplete.
    inbound: Vec<u8>,
    is_unresponsive: bool,
    /// Present until the first message, if the socket counts as silent until then.
    silent: Option<Ticket>,
}

impl ReadLoop {
    fn new(conn: Arc<Connection>, inbound: Vec<u8>, silent: Option<Ticket>) -> Self {
        let decoder = Decoder::new(conn.max_message_bytes());
        let rate_limiter = MessageRateLimiter::default();
        Self { conn, decoder, rate_limiter, inbound, is_unresponsive: false, silent }
    }

    /// Runs until the connection ends; returns the cause.
    async fn run<S: Session>(&mut self, session: &mut S) -> Result<std::convert::Infallible, EndCause> {
        poll_flow_with_writes(&self.conn, Box::pin(session.on_open(&self.conn))).await?;
        self.process_frames(session).await?;
        loop {
            match poll_fn(|cx| poll_wake(&self.conn, cx)).await {
                WakeReason::Closing => return Err(EndCause::AlreadyClosing),
                WakeReason::Timer => {
                    poll_flow_with_writes(&self.conn, Box::pin(session.on_timer(&self.conn))).await?
                }
                WakeReason::Notified => {
                    poll_flow_with_writes(&self.conn, Box::pin(session.on_wake(&self.conn))).await?
                }
                WakeReason::PingTimeout => self.on_ping_timeout(session).await?,
                WakeReason::Readable(ready) => {
                    ready?;
                    if self.read()? {
                        self.on_peer_activity(session).await?;
                        self.process_frames(session).await?;
                    }
                }
            }
        }
    }

    /// Reads available bytes; `false` if there are none.
    fn read(&mut self) -> Result<bool, EndCause> {
        READ_BUFFER.with_borrow_mut(|buffer| match self.conn.try_read(buffer) {
            Ok(0) => Err(EndCause::Lost),
            Ok(bytes) => {
                self.inbound.extend_from_slice(&buffer[..bytes]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        })
    }

    /// Processes every complete frame and keeps the remaining bytes.
    async fn process_frames<S: Session>(&mut self, session: &mut S) -> Result<(), EndCause> {
        let Self { conn, decoder, rate_limiter, inbound, silent, .. } = self;
        let mut consumed_bytes = 0;
        while let Some(Decoded { consumed, event }) = decoder.decode(&mut inbound[consumed_bytes..])? {
            consumed_bytes += consumed;
            if let Event::Close(close) = event {
                return Err(EndCause::Peer(close.map(|close| close.number)));
            }
            // A fragment does not count unless it is empty: the message size limit bounds its bytes.
            let is_counted = conn.dialect().connection_policy().is_rate_limited;
            if is_counted && !matches!(event, Event::Fragment { bytes: 1.. }) {
                match rate_limiter.check(conn.shard().uptime_ms(), &conn.shard().settings().message_rate) {
                    RateDecision::Allow => {}
                    RateDecision::Reject { retry_after, notify } => {
                        conn.shard().counters().rate_limited_messages.add(1);
                        if notify {
                            poll_with_writes(conn, Box::pin(session.on_rate_limited(retry_after, conn)))
                                .await?;
                        }
                        continue;
                    }
                    RateDecision::Close => {
                        return Err(EndCause::Session(Flow::close(CloseCode::RateLimitExceeded)));
                    }
                }
            }
            match event {
                Event::Message(frame) => {
                    if let Some(ticket) = silent.take() {
                        ticket.confirm();
                    }
                    conn.on_received(&frame);
                    poll_flow_with_writes(conn, Box::pin(session.on_message(frame, conn))).await?
                }
                Event::Ping(payload) => {
                    // On failure the connection is closing, which the check below finds.
                    let _ = conn.queue(Some(StateKey::Pong), WireFrame::pong(payload));
                    conn.flush();
                }
                Event::Pong | Event::Fragment { .. } | Event::Close(_) => {}
            }
            if conn.signals.is_set(Signal::CLOSE) || conn.signals.is_set(Signal::ABORT) {
                return Err(EndCause::AlreadyClosing);
            }
            if conn.signals.take(Signal::WAKE) {
                poll_flow_with_writes(conn, Box::pin(session.on_wake(conn))).await?;
            }
            // A read may hold thousands of small frames, so other tasks need a chance to run.
            consume_budget().await;
        }
        // Not `drain`: the rest is small and would keep the capacity of the whole read.
        *inbound =
            if consumed_bytes == inbound.len() { Vec::new() } else { inbound.split_off(consumed_bytes) };
        poll_with_writes(conn, Box::pin(session.on_batch_end())).await
    }

    async fn on_ping_timeout<S: Session>(&mut self, session: &mut S) -> Result<(), EndCause> {
        let heartbeat = &self.conn.shard().settings().heartbeat;
        let is_idle = u128::from(self.conn.idle_ms()) >= heartbeat.ping_interval.as_millis();
        if self.is_unresponsive || !is_idle {
            return Ok(());
        }
        self.is_unresponsive = true;
        poll_with_writes(&self.conn, Box::pin(session.on_unresponsive_change(true, &self.conn))).await
    }

    async fn on_peer_activity<S: Session>(&mut self, session: &mut S) -> Result<(), EndCause> {
        if !self.is_unresponsive {
            return Ok(());
        }
        self.is_unresponsive = false;
        poll_with_writes(&self.conn, Box::pin(session.on_unresponsive_change(false, &self.conn))).await
    }
}
