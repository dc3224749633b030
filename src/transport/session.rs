//! The interface between a connection and its session.

use std::{borrow::Cow, future::Future, sync::Arc, time::Duration};

use crate::{
    hub::{CloseCode, CloseReason, Connection},
    protocol::{Frame, ServerMessage, WireError},
};

/// Whether the connection continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// Close with a code and a reason of at most 123 bytes.
    Close(CloseCode, Cow<'static, str>),
}

impl Flow {
    /// Closes with the default reason of the code.
    #[must_use]
    pub const fn close(code: CloseCode) -> Self {
        Self::Close(code, Cow::Borrowed(code.reason()))
    }
}

/// The behavior of one client on a connection. Methods are called one at a time, in order. While one runs, nothing is
/// read from the socket (which is the backpressure), but queued frames are written.
///
/// Sessions limit their own waits. A panic closes only this connection, with code 1011.
pub trait Session: Send + 'static {
    /// The connection is registered: the hub delivers to its ID from now on.
    fn on_open(&mut self, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send {
        let _ = conn;
        async { Flow::Continue }
    }

    /// The client sent a message; the next is read only after this returns.
    fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send;

    /// All messages of one read were handled. For work that is done once per batch.
    fn on_batch_end(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The peer missed a pong (`true`) or is responsive again (`false`). Called on changes only.
    fn on_unresponsive_change(
        &mut self,
        is_unresponsive: bool,
        conn: &Arc<Connection>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (is_unresponsive, conn);
        async {}
    }

    /// The time set with [`Connection::set_timer`] has passed.
    fn on_timer(&mut self, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send {
        let _ = conn;
        async { Flow::Continue }
    }

    /// [`Connection::wake`] was called since the last call of this method.
    fn on_wake(&mut self, conn: &Arc<Connection>) -> impl Future<Output = Flow> + Send {
        let _ = conn;
        async { Flow::Continue }
    }

    /// The client exceeds the message rate; excess messages are dropped. Called at most once a second.
    fn on_rate_limited(
        &mut self,
        retry_after: Duration,
        conn: &Arc<Connection>,
    ) -> impl Future<Output = ()> + Send {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        // If sending fails, the connection is already closing.
        let _ = conn.send_message(&ServerMessage::Error(WireError::rate_limited(millis)));
        async {}
    }

    /// The session ends: nothing more is read or delivered. Called exactly once for each opened session, also after a
    /// panic.
    fn on_close(self, conn: &Arc<Connection>, reason: CloseReason) -> impl Future<Output = ()> + Send;
}
