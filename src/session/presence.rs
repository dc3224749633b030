//! The session behind the presence dialects: one user on one device, over one socket.

use std::{borrow::Cow, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    auth::{AuthError, Principal, Verifier},
    clock::Clock,
    model::{DeviceId, UserId},
    presence::{PresenceError, PresenceService, WriteError},
    protocol::{
        ClientMessage, ContextUpdate, ErrorCode, Frame, ServerMessage, StatusUpdate, Token, Welcome,
        WireError,
    },
    transport::{CloseCode, CloseReason, Connection, Flow, SendError, Session},
};

/// What sessions need, shared by all of them.
#[derive(Clone)]
pub struct PresenceServices {
    /// The one model of presence.
    pub presence: Arc<PresenceService>,
    /// Believes fresh tokens.
    pub verifier: Arc<Verifier>,
    /// For time stamps and the age of tokens.
    pub clock: Arc<dyn Clock>,
}

/// One user on one device.
pub struct PresenceSession {
    services: PresenceServices,
    caller: Principal,
    user: UserId,
    device: DeviceId,
    follows: Vec<UserId>,
}

impl PresenceSession {
    /// A session for a caller who is a user.
    ///
    /// # Errors
    ///
    /// When the token names no user.
    pub fn new(
        shared: PresenceServices,
        caller: Principal,
        device: DeviceId,
        follows: Vec<UserId>,
    ) -> Result<Self, AuthError> {
        let user = caller.require_user()?;
        Ok(Self { services: shared, caller, user, device, follows })
    }

    /// Wakes the session when its token runs out.
    fn arm_expiry_timer(&self, conn: &Connection) {
        let left = self.caller.expires_at.duration_since(self.services.clock.now());
        // A token without an end in sight (an API key) needs no timer.
        let left = Duration::try_from(left).unwrap_or_default();
        conn.set_timer(
            Instant::now().checked_add(left).filter(|_| left < Duration::from_secs(10 * 365 * 86_400)),
        );
    }

    async fn on_client_message(
        &mut self,
        message: ClientMessage,
        conn: &Connection,
    ) -> Result<(), MessageError> {
        match message {
            ClientMessage::Status(update) => self.on_status(update, conn).await,
            ClientMessage::Heartbeat { active } => self.on_heartbeat(active, conn).await,
            ClientMessage::Ping => Ok(conn.send_message(&ServerMessage::Pong)?),
            ClientMessage::Context(update) => self.on_context(update, conn).await,
            ClientMessage::Subscribe(subscription) => {
                self.services.presence.visibility().follow(conn.id(), subscription.user_ids).await;
                Ok(())
            }
            ClientMessage::Authenticate(token) => self.on_authenticate(&token, conn).await,
            ClientMessage::Typing { conversation_id, is_typing } => {
                self.services.presence.set_typing(&self.caller, conversation_id, is_typing).await?;
                self.services
                    .presence
                    .devices()
                    .mark_active(self.user, &self.device)
                    .await
                    .map_err(PresenceError::from)?;
                Ok(())
            }
        }
    }

    async fn on_status(&self, mut update: StatusUpdate, conn: &Connection) -> Result<(), MessageError> {
        // Before the write, which may sign the device off.
        self.mark_active().await?;
        let device = update.device_id.take().unwrap_or_else(|| self.device.clone());
        let (own, _) = self.services.presence.set_status(self.user, Some(device), update).await?;
        Ok(conn.send_message(&ServerMessage::StatusAck(own))?)
    }

    async fn on_heartbeat(&self, active: Option<bool>, conn: &Connection) -> Result<(), MessageError> {
        if active == Some(true) {
            self.mark_active().await?;
        }
        Ok(conn.send_message(&ServerMessage::HeartbeatAck { server_time: self.now() })?)
    }

    /// Somebody uses the device.
    async fn mark_active(&self) -> Result<(), PresenceError> {
        Ok(self.services.presence.devices().mark_active(self.user, &self.device).await?)
    }

    async fn on_context(&mut self, update: ContextUpdate, conn: &Connection) -> Result<(), MessageError> {
        // What is left of the allowance is a header's business.
        let _ = self.services.presence.check_context_limit(self.user)?;
        // First, because a device does not hear of itself.
        self.switch_device(update.device_id.clone(), conn).await?;
        self.services.presence.set_context(&self.caller, self.user, update).await?;
        Ok(self.mark_active().await?)
    }

    /// The client says which device this is, if only now: that one lives by this socket from now on, and the one
    /// that it was taken for before does not any more.
    async fn switch_device(&mut self, device: DeviceId, conn: &Connection) -> Result<(), PresenceError> {
        if device == self.device {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.device, device);
        let presence = &self.services.presence;
        presence.user_index().set_device(self.user, &self.device, conn.id());
        let opened = presence.devices().socket_opened(self.user, &self.device).await;
        presence.devices().socket_closed(self.user, &before);
        Ok(opened?)
    }

    fn welcome(&self, conn: &Connection) -> Welcome {
        Welcome {
            client_id: conn.id().to_string().into(),
            user_id: self.user,
            device_id: self.device.clone(),
            server_time: self.now(),
            heartbeat_interval: conn.ping_interval(),
        }
    }

    async fn on_authenticate(&mut self, token: &Token, conn: &Connection) -> Result<(), MessageError> {
        let caller = self.services.verifier.verify(token.expose()).await?;
        if caller.user_id != Some(self.user) {
            return Err(WireError::new(ErrorCode::Forbidden, "the token is of another user").into());
        }
        self.caller = caller;
        self.arm_expiry_timer(conn);
        // Unknown to visibility where the dialect has no words for others: then this does nothing.
        self.services.presence.visibility().set_principal(conn.id(), self.caller.clone()).await;
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}

impl Session for PresenceSession {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.arm_expiry_timer(conn);
        // Should it not get through, the connection is ending, and the transport says why.
        let _ = conn.send_message(&ServerMessage::Connected(self.welcome(conn)));
        self.services.presence.user_index().add(self.user, &self.device, conn.id());
        if conn.dialect().includes_other_users() {
            let follows = std::mem::take(&mut self.follows);
            self.services
                .presence
                .visibility()
                .join(conn.id(), self.user, self.caller.clone(), follows)
                .await;
        }
        match self.services.presence.devices().socket_opened(self.user, &self.device).await {
            Ok(()) => Flow::Continue,
            // The socket stays: it is written as connected as soon as the database is back.
            Err(error) => send_error(conn, MessageError::from(PresenceError::from(error))),
        }
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        let done = match conn.dialect().decode(frame) {
            Ok(message) => self.on_client_message(message, conn).await,
            Err(error) => Err(error.into()),
        };
        done.map_or_else(|complaint| send_error(conn, complaint), |()| Flow::Continue)
    }

    async fn on_unresponsive_change(&mut self, silent: bool, conn: &Arc<Connection>) {
        let liveness = self.services.presence.devices();
        let written = if silent {
            liveness.mark_unresponsive(self.user, &self.device, conn.idle_time()).await
        } else {
            liveness.mark_responsive(self.user, &self.device).await
        };
        if let Err(error) = written {
            tracing::warn!(%error, silent, "could not write that a device fell silent or woke up");
        }
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        if self.caller.expires_at > self.now() {
            self.arm_expiry_timer(conn);
            return Flow::Continue;
        }
        let error = WireError::new(ErrorCode::TokenExpired, "the token has expired");
        match conn.send_message(&ServerMessage::Error(error)) {
            Ok(()) | Err(SendError::Closed | SendError::Slow) => Flow::close(CloseCode::TokenExpired),
        }
    }

    async fn on_close(self, conn: &Arc<Connection>, _why: CloseReason) {
        self.services.presence.user_index().remove(self.user, conn.id());
        self.services.presence.devices().socket_closed(self.user, &self.device);
        self.services.presence.visibility().leave(conn.id()).await;
    }
}

/// Why a message was not obeyed.
enum MessageError {
    /// The client is told, and goes on.
    Reply(WireError),
    /// There is nobody to tell any more.
    ConnectionClosed,
}

impl From<WireError> for MessageError {
    fn from(error: WireError) -> Self {
        Self::Reply(error)
    }
}

impl From<SendError> for MessageError {
    fn from(_: SendError) -> Self {
        Self::ConnectionClosed
    }
}

impl From<AuthError> for MessageError {
    fn from(error: AuthError) -> Self {
        let code = if error.is_transient() { ErrorCode::ServiceUnavailable } else { ErrorCode::InvalidToken };
        Self::Reply(WireError::new(code, Cow::Owned(error.to_string())))
    }
}

impl From<PresenceError> for MessageError {
    fn from(error: PresenceError) -> Self {
        let told = match error {
            PresenceError::Limited(limited) => {
                let millis = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
                WireError::rate_limited(millis.max(1))
            }
            PresenceError::NotFound => WireError::new(ErrorCode::NotFound, "not found"),
            PresenceError::Write(WriteError::Rejected) => {
                WireError::new(ErrorCode::InternalError, "something went wrong on our side")
            }
            PresenceError::Write(_) | PresenceError::Read(_) => {
                WireError::new(ErrorCode::ServiceUnavailable, "the database is out of reach, try again soon")
            }
        };
        Self::Reply(told)
    }
}

fn send_error(conn: &Connection, complaint: MessageError) -> Flow {
    match complaint {
        // Should it not get through, the connection is ending, and the transport says why.
        MessageError::Reply(error) => drop(conn.send_message(&ServerMessage::Error(error))),
        MessageError::ConnectionClosed => {}
    }
    Flow::Continue
}
