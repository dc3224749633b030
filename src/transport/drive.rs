//! The task of one connection: reads, hands messages to the session, writes what the socket did not take.
//!
//! The task waits for four things at once ([`poll_wake`]): the end (somebody closed the connection), room in
//! the socket for what is queued, the session's timer or a heartbeat's verdict, and bytes from the peer.
//! While the session works, only the second goes on. Idle, the task holds no buffer: bytes are read into one
//! buffer per thread, and what is kept of them is exactly what is not handled yet.

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
    CloseCode, CloseReason, Connection, Flow, Session,
    budget::{Budget, Verdict},
    frame::{Decoded, Decoder, Event, ProtocolError, WireFrame},
    signals::Signal,
};
use crate::hub::{Registration, StateKey};

/// Bytes read at once; one buffer of this size per thread.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Why reading stops.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("the peer closed")]
    Peer(Option<u16>),
    #[error("the peer broke the protocol")]
    Protocol(#[from] ProtocolError),
    #[error("the session closed")]
    Session(Flow),
    #[error("the session panicked")]
    Panicked,
    #[error("the peer hung up")]
    Lost,
    #[error("the socket failed")]
    Failed(#[from] io::Error),
    #[error("somebody else closed")]
    Elsewhere,
}

/// Carries `session` over a registered connection until it ends; `early` is what the client sent before the
/// upgrade was done.
pub(super) async fn drive<S: Session>(registration: Registration, mut session: S, early: Vec<u8>) {
    let conn = Arc::clone(registration.connection());
    let mut reader = Reader::new(Arc::clone(&conn), early);
    let Err(ending) = reader.run(&mut session).await;
    drop(reader);
    say_goodbye(&conn, ending);
    let why = conn.ended().unwrap_or(CloseReason::Aborted);
    let settings = *conn.shard().settings();
    // What is queued, the close frame last, goes on being written meanwhile.
    match timeout(settings.leave_within, attend(&conn, Box::pin(session.on_close(&conn, why)))).await {
        Ok(Ok(())) => {}
        Ok(Err(_panicked)) => tracing::error!(conn.id = %conn.id(), "a session panicked while leaving"),
        Err(_elapsed) => tracing::error!(conn.id = %conn.id(), "a session did not leave in time"),
    }
    // Boxed, so that idle connections have no room for it.
    let finished = Box::pin(timeout(settings.close_within, finish(&conn, why))).await;
    conn.shut_down(Shutdown::Both);
    tracing::debug!(
        conn.id = %conn.id(), reason = why.as_str(), detail = ?why, in_time = finished.is_ok(), "connection closed"
    );
}

/// Queues the last frame that goes with an ending.
fn say_goodbye(conn: &Connection, ending: Ending) {
    match ending {
        Ending::Peer(number) => conn.end(CloseReason::Peer(number), WireFrame::close_echo(number)),
        Ending::Protocol(error) => conn.close(error.close_code(), &error.to_string()),
        Ending::Session(Flow::Close(code, reason)) => conn.close(code, &reason),
        Ending::Panicked => {
            let code = CloseCode::InternalError;
            conn.end(CloseReason::Panicked, WireFrame::close(code, code.reason()));
        }
        Ending::Lost => conn.abort(CloseReason::Lost),
        Ending::Failed(error) => conn.abort(CloseReason::Failed(error.kind())),
        Ending::Elsewhere | Ending::Session(Flow::Continue) => {}
    }
}

/// Writes what is queued and, unless the peer closed first, waits for it to hang up. Hanging up with bytes
/// unread would reset the connection and could take the close frame with it.
async fn finish(conn: &Connection, why: CloseReason) {
    poll_fn(|cx| {
        conn.signals.register(cx.waker());
        conn.poll_flush(cx)
    })
    .await;
    conn.shut_down(Shutdown::Write);
    if matches!(why, CloseReason::Peer(_)) {
        return;
    }
    poll_fn(|cx| {
        conn.signals.register(cx.waker());
        while !conn.signals.is_up(Signal::ABORT) {
            match conn.poll_readable(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) => {
                    let read = READ_BUFFER.with_borrow_mut(|buffer| conn.try_read(buffer));
                    let is_over = match read {
                        Ok(bytes) => bytes == 0,
                        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                    };
                    if is_over {
                        break;
                    }
                }
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Lets the session work while the writing goes on, and catches its panics.
async fn attend<F: Future>(conn: &Connection, mut work: Pin<Box<F>>) -> Result<F::Output, Ending> {
    poll_fn(|cx| {
        conn.signals.register(cx.waker());
        let _ = conn.poll_flush(cx);
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Ending::Panicked)),
        }
    })
    .await
}

async fn attend_flow<F: Future<Output = Flow>>(conn: &Connection, work: Pin<Box<F>>) -> Result<(), Ending> {
    match attend(conn, work).await? {
        Flow::Continue => Ok(()),
        close @ Flow::Close(..) => Err(Ending::Session(close)),
    }
}

/// What the task woke up for.
enum Wake {
    Readable(io::Result<()>),
    Timer,
    Nudge,
    Silent,
    Over,
}

fn poll_wake(conn: &Connection, cx: &mut Context<'_>) -> Poll<Wake> {
    conn.signals.register(cx.waker());
    let _ = conn.poll_flush(cx);
    if conn.signals.is_up(Signal::ABORT) || conn.signals.is_up(Signal::CLOSE) {
        return Poll::Ready(Wake::Over);
    }
    if conn.signals.take(Signal::TIMER) {
        return Poll::Ready(Wake::Timer);
    }
    // Before what the peer says: what has happened elsewhere may decide how that is taken.
    if conn.signals.take(Signal::NUDGE) {
        return Poll::Ready(Wake::Nudge);
    }
    // Before the heartbeat's verdict: bytes that wait here acquit.
    if let Poll::Ready(result) = conn.poll_readable(cx) {
        return Poll::Ready(Wake::Readable(result));
    }
    if conn.signals.take(Signal::SILENT) { Poll::Ready(Wake::Silent) } else { Poll::Pending }
}

struct Reader {
    conn: Arc<Connection>,
    decoder: Decoder,
    budget: Budget,
    /// What has been read and not been handled: empty, unless a frame is half here.
    inbound: Vec<u8>,
    is_silent: bool,
}

impl Reader {
    fn new(conn: Arc<Connection>, inbound: Vec<u8>) -> Self {
        let decoder = Decoder::new(conn.max_message_bytes());
        Self { conn, decoder, budget: Budget::default(), inbound, is_silent: false }
    }

    /// Runs until something ends it.
    async fn run<S: Session>(&mut self, session: &mut S) -> Result<std::convert::Infallible, Ending> {
        attend_flow(&self.conn, Box::pin(session.on_open(&self.conn))).await?;
        self.take_messages(session).await?;
        loop {
            match poll_fn(|cx| poll_wake(&self.conn, cx)).await {
                Wake::Over => return Err(Ending::Elsewhere),
                Wake::Timer => attend_flow(&self.conn, Box::pin(session.on_timer(&self.conn))).await?,
                Wake::Nudge => attend_flow(&self.conn, Box::pin(session.on_nudge(&self.conn))).await?,
                Wake::Silent => self.fall_silent(session).await?,
                Wake::Readable(ready) => {
                    ready?;
                    if self.read()? {
                        self.break_silence(session).await?;
                        self.take_messages(session).await?;
                    }
                }
            }
        }
    }

    /// Reads what is there; `false` if nothing was.
    fn read(&mut self) -> Result<bool, Ending> {
        READ_BUFFER.with_borrow_mut(|buffer| match self.conn.try_read(buffer) {
            Ok(0) => Err(Ending::Lost),
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

    /// Handles every whole frame that has been read, and keeps the rest.
    async fn take_messages<S: Session>(&mut self, session: &mut S) -> Result<(), Ending> {
        let Self { conn, decoder, budget, inbound, .. } = self;
        let mut handled = 0;
        while let Some(Decoded { consumed, event }) = decoder.decode(&mut inbound[handled..])? {
            handled += consumed;
            if let Event::Close(close) = event {
                return Err(Ending::Peer(close.map(|close| close.number)));
            }
            // A part of a message is paid for by its bytes, unless it has none.
            let is_counted = conn.dialect().manners().is_rationed;
            if is_counted && !matches!(event, Event::Fragment { bytes: 1.. }) {
                match budget.admit(conn.shard().uptime_ms(), &conn.shard().settings().flood) {
                    Verdict::Admit => {}
                    Verdict::Refuse { retry_after, tell } => {
                        conn.shard().counters().refused.add(1);
                        if tell {
                            attend(conn, Box::pin(session.on_flood(retry_after, conn))).await?;
                        }
                        continue;
                    }
                    Verdict::Close => return Err(Ending::Session(Flow::close(CloseCode::Flooding))),
                }
            }
            match event {
                Event::Message(frame) => attend_flow(conn, Box::pin(session.on_message(frame, conn))).await?,
                Event::Ping(payload) => {
                    // If it cannot be queued, the connection is ending and the loop hears of it.
                    let _ = conn.queue(Some(StateKey::Pong), WireFrame::pong(payload));
                    conn.flush();
                }
                Event::Pong | Event::Fragment { .. } | Event::Close(_) => {}
            }
            if conn.signals.is_up(Signal::CLOSE) || conn.signals.is_up(Signal::ABORT) {
                return Err(Ending::Elsewhere);
            }
            if conn.signals.take(Signal::NUDGE) {
                attend_flow(conn, Box::pin(session.on_nudge(conn))).await?;
            }
            // A read may hold thousands of small frames; others want the thread too.
            consume_budget().await;
        }
        // Not `drain`: what is left is small, and would keep the room of what was read.
        *inbound = if handled == inbound.len() { Vec::new() } else { inbound.split_off(handled) };
        attend(conn, Box::pin(session.on_pause())).await
    }

    async fn fall_silent<S: Session>(&mut self, session: &mut S) -> Result<(), Ending> {
        let heartbeat = &self.conn.shard().settings().heartbeat;
        let is_quiet = u128::from(self.conn.quiet_ms()) >= heartbeat.ping_every.as_millis();
        if self.is_silent || !is_quiet {
            return Ok(());
        }
        self.is_silent = true;
        attend(&self.conn, Box::pin(session.on_silence(true, &self.conn))).await
    }

    async fn break_silence<S: Session>(&mut self, session: &mut S) -> Result<(), Ending> {
        if !self.is_silent {
            return Ok(());
        }
        self.is_silent = false;
        attend(&self.conn, Box::pin(session.on_silence(false, &self.conn))).await
    }
}
