//! What a connection needs to know of the session that it carries.

use std::{borrow::Cow, future::Future, io, sync::Arc, time::Duration};

use super::{CloseCode, Connection};
use crate::protocol::{Frame, ServerMessage, WireError};

/// Whether the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It is closed, with a code and a reason of at most 123 bytes.
    Close(CloseCode, Cow<'static, str>),
}

impl Flow {
    /// Closes with the reason that the table has for the code.
    #[must_use]
    pub const fn close(code: CloseCode) -> Self {
        Self::Close(code, Cow::Borrowed(code.reason()))
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer said goodbye, with this number if any.
    Peer(Option<u16>),
    /// The peer hung up without a word.
    Lost,
    /// The socket failed.
    Failed(io::ErrorKind),
    /// This side closed.
    Server(CloseCode),
    /// Two pings went unanswered.
    PingTimeout,
    /// The session panicked.
    Panicked,
    /// Cut off: the hub stopped and its patience ran out.
    Aborted,
}

impl CloseReason {
    /// The label in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer(_) => "peer",
            Self::Lost => "lost",
            Self::Failed(_) => "failed",
            Self::Server(_) => "ours",
            Self::PingTimeout => "dead",
            Self::Panicked => "panicked",
            Self::Aborted => "aborted",
        }
    }
}

/// One client's behaviour on a connection. Methods are called one at a time, in order; while one runs, nothing
/// is read from the socket (that is the backpressure), but what is queued goes on being written.
///
/// Sessions bound their own waits. A panic ends this connection (1011) and no other.
pub trait Session: Send + 'static {
    /// The connection is registered: from now on the hub delivers to its id.
    fn on_open(&mut self, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send {
        let _ = conn;
        async { Flow::Continue }
    }

    /// The client sent a message; the next is read only after this returns.
    fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send;

    /// All messages that one read of the socket brought have been handled: the time for what is better done once for
    /// all of them.
    fn on_batch_end(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The peer did not answer a ping (`true`), or has come back (`false`). Called on the edge only.
    fn on_unresponsive_change(
        &mut self,
        silent: bool,
        conn: &Arc<Connection>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (silent, conn);
        async {}
    }

    /// The time set with [`Connection::wake_at`] has come.
    fn on_timer(&mut self, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send {
        let _ = conn;
        async { Flow::Continue }
    }

    /// Somebody called [`Connection::nudge`] since the last time.
    fn on_wake(&mut self, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send {
        let _ = conn;
        async { Flow::Continue }
    }

    /// The client says more than it may; what is over the limit is not heard. Called at most once a second.
    fn on_rate_limited(
        &mut self,
        retry_after: Duration,
        conn: &Arc<Connection>,
    ) -> impl Future<Output = ()> + Send {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        // A failure to say so has ended the connection already.
        let _ = conn.send_message(&ServerMessage::Error(WireError::rate_limited(millis)));
        async {}
    }

    /// The connection has ended for the session: nothing more is read or delivered. Called exactly once for
    /// each session that was opened, also after a panic.
    fn on_close(self, conn: &Arc<Connection>, why: CloseReason) -> impl Future<Output = ()> + Send;
}
