//! Sessions over server-sent events: the session of the WebSocket, without messages of the client after the first.

use std::{borrow::Cow, sync::Arc};

use super::channels::ChannelsSession;
use crate::{
    hub::Hub,
    protocol::Frame,
    transport::{CloseCode, CloseReason, Connection, Flow, Session, frame::WireFrame},
};

/// First event of each stream.
fn opening() -> WireFrame {
    WireFrame::event("open", None, "{}")
}

/// A session whose client only listens.
pub struct Listening<S>(pub S);

impl<S: Session + Sync> Session for Listening<S> {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        // If this fails the connection is closing, and the transport reports why.
        let _ = conn.send(opening());
        self.0.on_open(conn).await
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        self.0.on_message(frame, conn).await
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        self.0.on_timer(conn).await
    }

    async fn on_wake(&mut self, conn: &Arc<Connection>) -> Flow {
        self.0.on_wake(conn).await
    }

    async fn on_close(self, conn: &Arc<Connection>, reason: CloseReason) {
        self.0.on_close(conn, reason).await;
    }
}

/// A session of channels that joins one channel, and ends with it.
pub struct OneChannel {
    session: ChannelsSession,
    hub: Hub,
    /// The join as the client would send it.
    join: String,
    is_ending: bool,
}

impl OneChannel {
    #[must_use]
    pub const fn new(session: ChannelsSession, hub: Hub, join: String) -> Self {
        Self { session, hub, join, is_ending: false }
    }

    /// Ends the stream behind the last frame of its channel, which says why.
    async fn end_without_channel(&mut self, flow: Flow, conn: &Arc<Connection>) -> Flow {
        if flow == Flow::Continue && !self.is_ending && !self.session.has_channels() {
            self.is_ending = true;
            let reason = "the channel is closed; the last event says why";
            let _ = self.hub.close(conn, CloseCode::Normal, Cow::Borrowed(reason)).await;
        }
        flow
    }
}

impl Session for OneChannel {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        let _ = conn.send(opening());
        let flow = self.session.on_open(conn).await;
        if flow != Flow::Continue {
            return flow;
        }
        let join = std::mem::take(&mut self.join);
        let flow = self.session.on_message(Frame::Text(&join), conn).await;
        self.end_without_channel(flow, conn).await
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        self.session.on_message(frame, conn).await
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        let flow = self.session.on_timer(conn).await;
        self.end_without_channel(flow, conn).await
    }

    async fn on_wake(&mut self, conn: &Arc<Connection>) -> Flow {
        let flow = self.session.on_wake(conn).await;
        self.end_without_channel(flow, conn).await
    }

    async fn on_close(self, conn: &Arc<Connection>, reason: CloseReason) {
        self.session.on_close(conn, reason).await;
    }
}
