//! The shared half of a connection: sending frames and closing it.
//!
//! Frames come from the session (`send`) and from the hub's shard (`queue`, then `flush` once per batch). Both go
//! through the outbox under one short lock, and the lock holder writes them, so frames never interleave. If the socket
//! is not writable, the connection's task writes the rest later.

use std::{
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    CloseCode, CloseReason, ConnId, ConnectionOptions, Link, Outbox, Overflow, Permit, Queued, StateKey,
    activity::{Activity, Traffic},
    frame::{MessageKind, WireFrame},
    keepalive::{Check, PingState, check_idle, millis},
    shard_context::ShardContext,
    signals::{Signal, Signals},
    watch::{Direction, Watch, WatchSlot},
};
use crate::protocol::{Dialect, Encode, Frame, IdlePolicy, ShutdownClose};

/// The frame was not queued because the connection is closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection was closed before.
    #[error("connection is closed")]
    Closed,
    /// The outbox is full; the connection is being closed as a slow consumer.
    #[error("connection is too slow")]
    Slow,
}

/// One open socket, shared by its session, the hub and other parts.
#[derive(Debug)]
pub struct Connection {
    id: ConnId,
    options: ConnectionOptions,
    peer: SocketAddr,
    link: Link,
    output: Mutex<Output>,
    pub(crate) signals: Signals,
    /// When data was last received, in milliseconds of the shard's uptime.
    last_received: AtomicU64,
    /// When the session's timer is due, in the same milliseconds; `u64::MAX` for never.
    timer: AtomicU64,
    /// Whether the shard queued frames in the current batch. Used only by the shard.
    dirty: AtomicBool,
    /// Whether `Output::watch` may hold a ring.
    is_watched: AtomicBool,
    activity: Activity,
    shard: Arc<dyn ShardContext>,
    /// Held while the socket is open, so that the accept loop counts upgraded sockets.
    _permit: Option<Permit>,
}

#[derive(Debug)]
struct Output {
    outbox: Outbox,
    stage: Stage,
    /// When the socket last accepted data while more was queued, in milliseconds of the shard's uptime.
    last_progress: u64,
    /// The ring of the operators that watch this connection.
    watch: WatchSlot,
    /// Notified when all frames are written.
    read_report: Option<oneshot::Sender<()>>,
}

/// Life-cycle stage of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The close frame is the last one in the outbox.
    Closing(CloseReason),
    /// Nothing can be written any more.
    Ended(CloseReason),
}

/// An upgraded socket that the hub has not registered yet.
#[derive(Debug)]
pub(crate) struct Socket {
    pub link: Link,
    pub peer: SocketAddr,
    pub permit: Option<Permit>,
}

/// Maximum number of frames per vectored write.
const MAX_SLICES: usize = 64;
const NEVER: u64 = u64::MAX;
/// A reader is active if its socket accepted data within this time, in milliseconds. It is longer than most round
/// trips, so a stalled reader is detected within half a second.
const ACTIVE_READER_MS: u64 = 500;

impl Connection {
    pub(crate) fn new(
        id: ConnId,
        socket: Socket,
        options: ConnectionOptions,
        shard: Arc<dyn ShardContext>,
    ) -> Self {
        let Socket { link, peer, permit } = socket;
        Self {
            id,
            options,
            peer,
            link,
            output: Mutex::new(Output {
                outbox: Outbox::new(shard.settings().outbox),
                stage: Stage::Open,
                last_progress: 0,
                watch: None,
                read_report: None,
            }),
            signals: Signals::default(),
            last_received: AtomicU64::new(shard.uptime_ms()),
            timer: AtomicU64::new(NEVER),
            dirty: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            activity: Activity::new(shard.uptime_ms()),
            shard,
            _permit: permit,
        }
    }

    /// The ID that the hub uses for deliveries.
    #[must_use]
    pub const fn id(&self) -> ConnId {
        self.id
    }

    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.options.dialect
    }

    /// The peer's address and port.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the connection accepts frames.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.output.lock().stage == Stage::Open
    }

    /// Time without data after which the peer is pinged.
    #[must_use]
    pub fn ping_interval(&self) -> Duration {
        self.shard.settings().heartbeat.ping_interval
    }

    /// Bytes queued, including the size of the queue entries.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.output.lock().outbox.queued_bytes()
    }

    /// Messages and bytes that are queued. A joined buffer counts as one message.
    #[must_use]
    pub fn backlog(&self) -> (usize, usize) {
        let output = self.output.lock();
        (output.outbox.len(), output.outbox.queued_bytes())
    }

    /// Messages so far, and per second.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.activity.traffic(self.shard.uptime_ms())
    }

    /// The ring of the messages from now on. Operators that watch the connection at the same time share it.
    #[must_use]
    pub fn watch(&self) -> Arc<Watch> {
        let mut output = self.output.lock();
        if let Some(watch) = output.watch.as_ref().and_then(Weak::upgrade) {
            return watch;
        }
        let watch = Arc::<Watch>::default();
        output.watch = Some(Arc::downgrade(&watch));
        self.is_watched.store(true, Ordering::Relaxed);
        watch
    }

    /// Counts a message of the client, and shows it to the operators that watch the connection.
    pub(crate) fn on_received(&self, frame: &Frame<'_>) {
        self.activity.count_received();
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let (kind, payload) = match frame {
            Frame::Text(text) => (MessageKind::Text, text.as_bytes()),
            Frame::Binary(bytes) => (MessageKind::Binary, *bytes),
        };
        if let Some(watch) = self.current_watch(&mut self.output.lock()) {
            watch.add(Direction::In, kind, payload);
        }
    }

    /// Shows a frame for the client to the operators that watch the connection.
    fn show(&self, output: &mut Output, frame: &WireFrame) {
        if let Some(watch) = self.current_watch(output) {
            for (kind, payload) in frame.messages(self.dialect().framing()) {
                watch.add(Direction::Out, kind, payload);
            }
        }
    }

    /// The ring, unless nobody holds it any more.
    fn current_watch(&self, output: &mut Output) -> Option<Arc<Watch>> {
        let watch = output.watch.as_ref().and_then(Weak::upgrade);
        if watch.is_none() {
            output.watch = None;
            self.is_watched.store(false, Ordering::Relaxed);
        }
        watch
    }

    /// Encodes a message in the connection's dialect and sends it. Does nothing if the dialect does not have the
    /// message.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closing.
    pub fn send_message<M: Encode + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        match WireFrame::encode(message, self.dialect()) {
            Some(frame) => self.send(frame),
            None => Ok(()),
        }
    }

    /// Sends a stream frame, which is never replaced. It is written at once if nothing is queued.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closing.
    pub fn send(&self, frame: WireFrame) -> Result<(), SendError> {
        let mut output = self.output.lock();
        self.enqueue(&mut output, None, frame)?;
        self.write(&mut output);
        Ok(())
    }

    /// Queues a frame without writing. With a key, it replaces an unsent frame with the same key.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closing.
    pub(crate) fn queue(&self, key: Option<StateKey>, frame: WireFrame) -> Result<Queued, SendError> {
        self.enqueue(&mut self.output.lock(), key, frame)
    }

    /// Queues several frames without writing.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closing.
    pub(crate) fn queue_all(&self, frames: &[WireFrame]) -> Result<(), SendError> {
        let mut output = self.output.lock();
        frames.iter().try_for_each(|frame| self.enqueue(&mut output, None, frame.clone()).map(drop))
    }

    /// Sends several frames. They are written at once if nothing is queued.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closing.
    pub(crate) fn send_all(&self, frames: &[WireFrame]) -> Result<(), SendError> {
        let mut output = self.output.lock();
        let mut written = 0;
        // Fast path: usually there is one frame and the socket accepts it, so it bypasses the queue. A write error
        // shows again below.
        if let [only] = frames
            && output.stage == Stage::Open
            && output.outbox.is_empty()
        {
            written = self.link.try_write(&[IoSlice::new(only.as_bytes())]).unwrap_or_default();
            self.shard.counters().bytes_sent.add(written as u64);
            if written == only.len() {
                self.activity.count_sent(only.message_count(self.dialect().framing()));
                if self.is_watched.load(Ordering::Relaxed) {
                    self.show(&mut output, only);
                }
                return Ok(());
            }
        }
        frames.iter().try_for_each(|frame| self.enqueue(&mut output, None, frame.clone()).map(drop))?;
        output.outbox.advance(written);
        self.write(&mut output);
        Ok(())
    }

    /// Writes queued frames until the socket is not writable.
    pub(crate) fn flush(&self) {
        self.write(&mut self.output.lock());
    }

    /// Marks that the current batch queued frames; `true` the first time.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::Relaxed)
    }

    /// Clears the mark and writes the queued frames.
    pub(crate) fn flush_dirty(&self) {
        self.dirty.store(false, Ordering::Relaxed);
        self.flush();
    }

    /// Closes with a code and a reason of at most 123 bytes, after the queued frames. Later frames are rejected. A
    /// second call has no effect.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.close_with_frame(CloseReason::Server(code), self.close_frame(code, reason));
    }

    /// The last frame of a connection that the server closes.
    pub(crate) fn close_frame(&self, code: CloseCode, reason: &str) -> WireFrame {
        WireFrame::close(self.dialect().framing(), code, reason)
    }

    /// Closes because the server shuts down. If the dialect supports it, the reason tells the peer to reconnect after
    /// `delay_ms`.
    pub(crate) fn close_for_shutdown(&self, delay_ms: u64) {
        match self.dialect().connection_policy().shutdown_close {
            ShutdownClose::GoingAway => {
                self.close(CloseCode::GoingAway, &format!("going away; reconnect in {delay_ms} ms"));
            }
            ShutdownClose::ServiceRestart => {
                self.close(CloseCode::ServiceRestart, CloseCode::ServiceRestart.reason())
            }
        }
    }

    /// Reports when all queued frames are written. Replaces an earlier report.
    pub(super) fn report_read(&self, report: oneshot::Sender<()>) {
        self.output.lock().read_report = Some(report);
    }

    /// Whether frames are queued and the socket accepted nothing for this time.
    pub(super) fn is_stalled(&self, time: Duration) -> bool {
        let output = self.output.lock();
        !output.outbox.is_empty() && self.shard.uptime_ms() >= output.last_progress + millis(time)
    }

    /// Closes because the peer reads too slowly.
    pub(crate) fn close_slow(&self) {
        let mut output = self.output.lock();
        if output.stage == Stage::Open {
            self.begin_closing_slow(&mut output);
        }
    }

    /// Makes the session's `on_wake` run soon. Several calls before it runs count once.
    pub fn wake(&self) {
        self.signals.raise(Signal::WAKE);
    }

    /// Ends the connection at once, without a close handshake.
    pub(crate) fn abort(&self, reason: CloseReason) {
        self.fail(&mut self.output.lock(), reason);
    }

    /// Makes the session's `on_timer` run at `when` or up to one tick later. Replaces the previous timer; `None`
    /// cancels it.
    pub fn set_timer(&self, when: Option<Instant>) {
        let due = when.map_or(NEVER, |when| self.shard.uptime_ms_at(when));
        self.timer.store(due, Ordering::Release);
        if due != NEVER {
            self.shard.check_by(self.id, due);
        }
    }

    /// Closes with this last frame and reason.
    pub(crate) fn close_with_frame(&self, reason: CloseReason, last: WireFrame) {
        let mut output = self.output.lock();
        if output.stage == Stage::Open {
            output.outbox.push_last(last);
            self.begin_closing(&mut output, reason);
        }
    }

    /// Why the connection closed; `None` while it is open.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        match self.output.lock().stage {
            Stage::Open => None,
            Stage::Closing(reason) | Stage::Ended(reason) => Some(reason),
        }
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.options.max_message_bytes
    }

    pub(crate) fn shard(&self) -> &Arc<dyn ShardContext> {
        &self.shard
    }

    /// Time since data was last received.
    #[must_use]
    pub fn idle_time(&self) -> Duration {
        Duration::from_millis(self.idle_ms())
    }

    /// Milliseconds since data was last received.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.shard.uptime_ms().saturating_sub(self.last_received.load(Ordering::Relaxed))
    }

    /// Reads available bytes; `WouldBlock` if there are none.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.link.try_read(buffer)?;
        self.last_received.store(self.shard.uptime_ms(), Ordering::Relaxed);
        Ok(read)
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_read_ready(cx)
    }

    /// Continues writing when the socket is writable again. Ready when nothing is left to write. Only for the
    /// connection's task, since the socket wakes one task.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.signals.is_set(Signal::BLOCKED) {
            match self.link.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => self.abort(CloseReason::Failed(error.kind())),
                Poll::Ready(Ok(())) => {
                    let mut output = self.output.lock();
                    self.signals.take(Signal::BLOCKED);
                    self.write(&mut output);
                }
            }
        }
        Poll::Ready(())
    }

    /// Shuts down one or both directions of the socket.
    pub(crate) fn shut_down(&self, how: Shutdown) {
        self.link.shut_down(how);
    }

    /// Runs the keepalive check and the timer. Returns the resulting check and the time of the next one.
    pub(crate) fn check(&self, now: u64, ping_state: &mut PingState) -> (Check, u64) {
        self.activity.sample(now);
        let last_received = self.last_received.load(Ordering::Relaxed);
        let heartbeat = &self.shard.settings().heartbeat;
        let (check, next) = match self.dialect().connection_policy().idle {
            IdlePolicy::Ping => ping_state.check(now, last_received, heartbeat),
            IdlePolicy::KeepAlive => (Check::Ping, now + millis(heartbeat.ping_interval)),
            IdlePolicy::CloseAfter(limit) => check_idle(now, last_received, millis(limit), heartbeat),
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

    /// Applies the result of a check. Call it without the registry's lock, since it writes to the socket.
    pub(crate) fn apply_check(&self, check: Check) {
        match check {
            Check::Alive => self.output.lock().outbox.release(),
            // A failure means that the connection is closing.
            Check::Ping => drop(self.send(WireFrame::ping(self.dialect().framing()))),
            Check::Unresponsive => self.signals.raise(Signal::PING_TIMEOUT),
            Check::Dead => self.abort(CloseReason::PingTimeout),
            Check::Idle => self.close(CloseCode::Normal, ""),
        }
    }

    fn enqueue(
        &self,
        output: &mut Output,
        key: Option<StateKey>,
        frame: WireFrame,
    ) -> Result<Queued, SendError> {
        // A batch may exceed the limit, so the socket is tried before the reader counts as slow.
        let fits = match key {
            Some(_) => output.outbox.fits_state(&frame),
            None => output.outbox.fits(&frame),
        };
        if !fits {
            self.write(output);
        }
        if output.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        let is_reading = || self.shard.uptime_ms() < output.last_progress + ACTIVE_READER_MS;
        let messages = frame.message_count(self.dialect().framing());
        let watched = self.is_watched.load(Ordering::Relaxed).then(|| frame.clone());
        let queued = match key {
            Some(key) => output.outbox.push_state(key, frame, is_reading),
            None => output.outbox.push(frame, is_reading).map(|()| Queued::Added),
        };
        // A frame that replaces one that was not sent yet does not count again.
        if matches!(queued, Ok(Queued::Added)) {
            self.activity.count_sent(messages);
            if let Some(frame) = watched {
                self.show(output, &frame);
            }
        }
        queued.map_err(|Overflow| {
            self.begin_closing_slow(output);
            SendError::Slow
        })
    }

    fn begin_closing_slow(&self, output: &mut Output) {
        self.shard.counters().slow_consumers_closed.add(1);
        // The queued frames would not be read in time, so their memory is freed now.
        let code = CloseCode::TryAgainLater;
        output.outbox.drop_unsent();
        output.outbox.push_last(self.close_frame(code, code.reason()));
        self.begin_closing(output, CloseReason::Server(code));
    }

    fn begin_closing(&self, output: &mut Output, reason: CloseReason) {
        output.stage = Stage::Closing(reason);
        self.write(output);
        self.signals.raise(Signal::CLOSE);
    }

    fn write(&self, output: &mut Output) {
        let mut written = 0;
        let was_blocked = self.signals.is_set(Signal::BLOCKED);
        while !output.outbox.is_empty() && !self.signals.is_set(Signal::BLOCKED) {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = output.outbox.fill(&mut slices);
            match self.link.try_write(&slices[..filled]) {
                Ok(0) => self.fail(output, CloseReason::Failed(io::ErrorKind::WriteZero)),
                Ok(bytes) => {
                    output.outbox.advance(bytes);
                    written += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.signals.raise(Signal::BLOCKED)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.fail(output, CloseReason::Failed(error.kind())),
            }
        }
        if !output.outbox.is_empty() && (written > 0 || !was_blocked) {
            output.last_progress = self.shard.uptime_ms();
        }
        if output.outbox.is_empty()
            && let Some(report) = output.read_report.take()
        {
            // The task may wait no longer.
            let _ = report.send(());
        }
        self.shard.counters().bytes_sent.add(written);
    }

    fn fail(&self, output: &mut Output, reason: CloseReason) {
        if !matches!(output.stage, Stage::Ended(_)) {
            // The previous reason is more precise.
            let reason = if let Stage::Closing(previous) = output.stage { previous } else { reason };
            output.stage = Stage::Ended(reason);
        }
        output.outbox = Outbox::new(self.shard.settings().outbox);
        output.read_report = None;
        self.signals.take(Signal::BLOCKED);
        self.signals.raise(Signal::ABORT);
    }
}
