//! The half of a connection that everybody shares: what can be sent to it and how it is ended.
//!
//! Frames come from two sides, the session (`send`) and the hub's shard (`queue`, then `flush` once a batch).
//! Both go through the outbox under one short lock and are written by whoever has it, so frames never
//! interleave. If the socket takes no more, the connection's task waits until it does and writes the rest.

use std::{
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{net::TcpStream, time::Instant};

use super::{
    Check, CloseCode, CloseReason, ConnectionOptions, Permit, PingState,
    frame::WireFrame,
    keepalive::{check_idle, millis},
    signals::{Signal, Signals},
};
use crate::{
    hub::{ConnId, Outbox, Overflow, Queued, Shard, StateKey},
    protocol::{Dialect, Encode, IdlePolicy, ShutdownClose},
};

/// The frame was not queued, because the connection is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It was closed before.
    #[error("connection is closed")]
    Closed,
    /// Its outbox is full: it is being closed as slow.
    #[error("connection is too slow")]
    Slow,
}

/// One open socket, as the session, the hub and others hold it.
#[derive(Debug)]
pub struct Connection {
    id: ConnId,
    options: ConnectionOptions,
    peer: SocketAddr,
    stream: TcpStream,
    output: Mutex<Output>,
    pub(super) signals: Signals,
    /// When the peer was last heard, in milliseconds of the hub's uptime.
    last_received: AtomicU64,
    /// When the session wants to be woken, in the same milliseconds; `u64::MAX` for never.
    timer: AtomicU64,
    /// Whether the shard has queued something in the batch at hand; only the shard uses it.
    dirty: AtomicBool,
    shard: Arc<Shard>,
    /// Held for as long as the socket is open, so that the accept loop counts upgraded sockets too.
    _permit: Option<Permit>,
}

#[derive(Debug)]
struct Output {
    outbox: Outbox,
    stage: Stage,
    /// When the socket last took something while more was waiting, in milliseconds of the hub's uptime.
    last_progress: u64,
}

/// How far a connection's life has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Takes frames.
    Open,
    /// The close frame is the last in the outbox.
    Closing(CloseReason),
    /// Nothing can be written any more.
    Ended(CloseReason),
}

/// An upgraded socket on its way into the hub.
#[derive(Debug)]
pub(crate) struct Socket {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub permit: Option<Permit>,
}

/// Frames handed to one vectored write.
const MAX_SLICES: usize = 64;
const NEVER: u64 = u64::MAX;
/// A reader whose socket took something within so many milliseconds is reading. Longer than most round trips; a reader
/// that stalls is found out in half a second.
const ACTIVE_READER_MS: u64 = 500;

impl Connection {
    pub(crate) fn new(id: ConnId, socket: Socket, options: ConnectionOptions, shard: Arc<Shard>) -> Self {
        let Socket { stream, peer, permit } = socket;
        Self {
            id,
            options,
            peer,
            stream,
            output: Mutex::new(Output {
                outbox: Outbox::new(shard.settings().outbox),
                stage: Stage::Open,
                last_progress: 0,
            }),
            signals: Signals::default(),
            last_received: AtomicU64::new(shard.uptime_ms()),
            timer: AtomicU64::new(NEVER),
            dirty: AtomicBool::new(false),
            shard,
            _permit: permit,
        }
    }

    /// The id by which the hub delivers to it.
    #[must_use]
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// The language it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.options.dialect
    }

    /// The peer's address.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether it still takes frames.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.output.lock().stage == Stage::Open
    }

    /// A peer that says nothing for so long is pinged; one that says something more often never is.
    #[must_use]
    pub fn ping_interval(&self) -> Duration {
        self.shard.settings().heartbeat.ping_interval
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.output.lock().outbox.queued_bytes()
    }

    /// Says a message in the connection's dialect, at once if nothing is waiting. Where the dialect does not
    /// say that, nothing happens.
    ///
    /// # Errors
    /// The connection is ending.
    pub fn send_message<M: Encode + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        match WireFrame::encode(message, self.dialect()) {
            Some(frame) => self.send(frame),
            None => Ok(()),
        }
    }

    /// Sends a frame that no later one repeats, at once if nothing is waiting.
    ///
    /// # Errors
    /// The connection is ending.
    pub fn send(&self, frame: WireFrame) -> Result<(), SendError> {
        let mut out = self.output.lock();
        self.enqueue(&mut out, None, frame)?;
        self.write(&mut out);
        Ok(())
    }

    /// Queues a frame without writing; with a key it replaces the waiting frame of the same key.
    ///
    /// # Errors
    /// The connection is ending.
    pub(crate) fn queue(&self, key: Option<StateKey>, frame: WireFrame) -> Result<Queued, SendError> {
        self.enqueue(&mut self.output.lock(), key, frame)
    }

    /// Queues several frames without writing.
    ///
    /// # Errors
    /// The connection is ending.
    pub(crate) fn queue_all(&self, frames: &[WireFrame]) -> Result<(), SendError> {
        let mut out = self.output.lock();
        frames.iter().try_for_each(|frame| self.enqueue(&mut out, None, frame.clone()).map(drop))
    }

    /// Sends several frames, at once if nothing is waiting.
    ///
    /// # Errors
    /// The connection is ending.
    pub(crate) fn send_all(&self, frames: &[WireFrame]) -> Result<(), SendError> {
        let mut out = self.output.lock();
        let mut written = 0;
        // Most often there is one and the socket takes it: it never sees the queue. An error will show again.
        if let [only] = frames
            && out.stage == Stage::Open
            && out.outbox.is_empty()
        {
            written = self.stream.try_write(only.as_bytes()).unwrap_or_default();
            self.shard.counters().bytes_sent.add(written as u64);
            if written == only.len() {
                return Ok(());
            }
        }
        frames.iter().try_for_each(|frame| self.enqueue(&mut out, None, frame.clone()).map(drop))?;
        out.outbox.advance(written);
        self.write(&mut out);
        Ok(())
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&self) {
        self.write(&mut self.output.lock());
    }

    /// Notes that the batch at hand has something for it; `true` the first time.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::Relaxed)
    }

    /// Writes the batch.
    pub(crate) fn flush_dirty(&self) {
        self.dirty.store(false, Ordering::Relaxed);
        self.flush();
    }

    /// Closes with a code and a reason of at most 123 bytes, after what is queued; what comes after that is
    /// refused. A second call changes nothing.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.close_with_frame(CloseReason::Server(code), WireFrame::close(code, reason));
    }

    /// Closes because the server stops; the peer does well to come back after `pause_ms`, as far as its dialect can
    /// say so.
    pub(crate) fn close_for_shutdown(&self, pause_ms: u64) {
        match self.dialect().connection_policy().shutdown_close {
            ShutdownClose::GoingAway => {
                self.close(CloseCode::GoingAway, &format!("going away; reconnect in {pause_ms} ms"));
            }
            ShutdownClose::ServiceRestart => {
                self.close(CloseCode::ServiceRestart, CloseCode::ServiceRestart.reason())
            }
        }
    }

    /// Has the session's `on_nudge` called soon, once however often this is said before.
    pub fn wake(&self) {
        self.signals.raise(Signal::WAKE);
    }

    /// Ends it at once, without a handshake.
    pub(crate) fn abort(&self, why: CloseReason) {
        self.fail(&mut self.output.lock(), why);
    }

    /// Has the session's `on_timer` called at `when`, or up to one tick later; replaces what was set before,
    /// and `None` cancels it.
    pub fn set_timer(&self, when: Option<Instant>) {
        let due = when.map_or(NEVER, |when| self.shard.uptime_ms_at(when));
        self.timer.store(due, Ordering::Release);
        if due != NEVER {
            self.shard.check_by(self.id, due);
        }
    }

    /// Ends it with this last frame and for this reason.
    pub(super) fn close_with_frame(&self, why: CloseReason, last: WireFrame) {
        let mut out = self.output.lock();
        if out.stage == Stage::Open {
            out.outbox.push_last(last);
            self.begin_closing(&mut out, why);
        }
    }

    /// How it ended, once it has.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        match self.output.lock().stage {
            Stage::Open => None,
            Stage::Closing(why) | Stage::Ended(why) => Some(why),
        }
    }

    pub(super) fn max_message_bytes(&self) -> usize {
        self.options.max_message_bytes
    }

    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// How long ago the peer was last heard.
    #[must_use]
    pub fn idle_time(&self) -> Duration {
        Duration::from_millis(self.idle_ms())
    }

    /// Milliseconds since the peer was last heard.
    pub(super) fn idle_ms(&self) -> u64 {
        self.shard.uptime_ms().saturating_sub(self.last_received.load(Ordering::Relaxed))
    }

    /// Reads what is there; `WouldBlock` if nothing is.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.try_read(buffer)?;
        self.last_received.store(self.shard.uptime_ms(), Ordering::Relaxed);
        Ok(read)
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Writes on if the socket was full and takes more now; ready when nothing is left to write. For the
    /// connection's task only, since the socket wakes one.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.signals.is_set(Signal::BLOCKED) {
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => self.abort(CloseReason::Failed(error.kind())),
                Poll::Ready(Ok(())) => {
                    let mut out = self.output.lock();
                    self.signals.take(Signal::BLOCKED);
                    self.write(&mut out);
                }
            }
        }
        Poll::Ready(())
    }

    /// Says that nothing more will be sent.
    pub(super) fn shut_down(&self, how: Shutdown) {
        // Fails only if the peer has hung up before, which is as good.
        let _ = SockRef::from(&self.stream).shutdown(how);
    }

    /// What the heartbeat and the timer ask for now, and the time of the next look.
    pub(crate) fn check(&self, now: u64, liveness: &mut PingState) -> (Check, u64) {
        let heard = self.last_received.load(Ordering::Relaxed);
        let heartbeat = &self.shard.settings().heartbeat;
        let (check, next) = match self.dialect().connection_policy().idle {
            IdlePolicy::Ping => liveness.check(now, heard, heartbeat),
            IdlePolicy::CloseAfter(limit) => check_idle(now, heard, millis(limit), heartbeat),
        };
        let timer = self.timer.load(Ordering::Acquire);
        if timer > now {
            return (check, next.min(timer));
        }
        if self.timer.compare_exchange(timer, NEVER, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.signals.raise(Signal::TIMER);
        }
        (check, next)
    }

    /// Does what a visit asked for; outside of the registry's lock, since it writes.
    pub(crate) fn apply_check(&self, check: Check) {
        match check {
            Check::Alive => self.output.lock().outbox.release(),
            // Had it been closed, nothing would be lost.
            Check::Ping => drop(self.send(WireFrame::ping())),
            Check::Unresponsive => self.signals.raise(Signal::PING_TIMEOUT),
            Check::Dead => self.abort(CloseReason::PingTimeout),
            Check::Idle => self.close(CloseCode::Normal, ""),
        }
    }

    fn enqueue(
        &self,
        out: &mut Output,
        key: Option<StateKey>,
        frame: WireFrame,
    ) -> Result<Queued, SendError> {
        // One batch may bring more than the limit: it is the socket that says who is slow.
        if key.is_none() && !out.outbox.fits(&frame) {
            self.write(out);
        }
        if out.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        let queued = match key {
            Some(key) => out.outbox.push_state(key, frame),
            None => {
                let is_reading = || self.shard.uptime_ms() < out.last_progress + ACTIVE_READER_MS;
                out.outbox.push(frame, is_reading).map(|()| Queued::Added)
            }
        };
        queued.map_err(|Overflow| {
            self.shard.counters().slow_consumers_closed.add(1);
            // What is queued would not be read in time; its memory is wanted back now.
            let code = CloseCode::TryAgainLater;
            out.outbox.drop_unsent();
            out.outbox.push_last(WireFrame::close(code, code.reason()));
            self.begin_closing(out, CloseReason::Server(code));
            SendError::Slow
        })
    }

    fn begin_closing(&self, out: &mut Output, why: CloseReason) {
        out.stage = Stage::Closing(why);
        self.write(out);
        self.signals.raise(Signal::CLOSE);
    }

    fn write(&self, out: &mut Output) {
        let mut written = 0;
        let was_blocked = self.signals.is_set(Signal::BLOCKED);
        while !out.outbox.is_empty() && !self.signals.is_set(Signal::BLOCKED) {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = out.outbox.fill(&mut slices);
            let result = match &slices[..filled] {
                [only] => self.stream.try_write(only),
                several => self.stream.try_write_vectored(several),
            };
            match result {
                Ok(0) => self.fail(out, CloseReason::Failed(io::ErrorKind::WriteZero)),
                Ok(bytes) => {
                    out.outbox.advance(bytes);
                    written += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.signals.raise(Signal::BLOCKED)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.fail(out, CloseReason::Failed(error.kind())),
            }
        }
        if !out.outbox.is_empty() && (written > 0 || !was_blocked) {
            out.last_progress = self.shard.uptime_ms();
        }
        self.shard.counters().bytes_sent.add(written);
    }

    fn fail(&self, out: &mut Output, why: CloseReason) {
        if !matches!(out.stage, Stage::Ended(_)) {
            // Whoever closed before knows better why.
            let why = if let Stage::Closing(earlier) = out.stage { earlier } else { why };
            out.stage = Stage::Ended(why);
        }
        out.outbox = Outbox::new(self.shard.settings().outbox);
        self.signals.take(Signal::BLOCKED);
        self.signals.raise(Signal::ABORT);
    }
}
