//! The session of the presence dialects: one user on one device over one socket.

use std::{borrow::Cow, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    auth::{AuthError, Principal, Verifier},
    clock::Clock,
    lifecycle::ErrorChain,
    model::{DeviceId, UserId, sanitize},
    pg::PgError,
    presence::{
        PresenceError, PresenceService, WriteError,
        visibility::{Interest, Resume},
    },
    protocol::{
        ClientMessage, ContextUpdate, ErrorCode, FieldError, Frame, ServerMessage, StatusUpdate,
        Subscription, Token, Welcome, WireError,
    },
    transport::{CloseCode, CloseReason, Connection, Flow, SendError, Session},
};

/// Dependencies shared by all presence sessions.
#[derive(Clone)]
pub struct PresenceServices {
    pub presence: Arc<PresenceService>,
    pub verifier: Arc<Verifier>,
    /// Clock for time stamps and token expiry.
    pub clock: Arc<dyn Clock>,
}

/// Session of one user on one device.
pub struct PresenceSession {
    services: PresenceServices,
    principal: Principal,
    user: UserId,
    device: DeviceId,
    interest: Interest,
    resume: Resume,
}

impl PresenceSession {
    /// Creates a session for a user.
    ///
    /// # Errors
    ///
    /// The token names no user.
    pub fn new(
        services: PresenceServices,
        principal: Principal,
        device: DeviceId,
        interest: Interest,
        resume: Resume,
    ) -> Result<Self, AuthError> {
        let user = principal.require_user()?;
        Ok(Self { services, principal, user, device, interest, resume })
    }

    /// Wakes the session when its token expires.
    fn arm_expiry_timer(&self, conn: &Connection) {
        let remaining = self.principal.expires_at.duration_since(self.services.clock.now());
        // Tokens that expire in more than ten years (API keys) need no timer.
        let remaining = Duration::try_from(remaining).unwrap_or_default();
        conn.set_timer(
            Instant::now()
                .checked_add(remaining)
                .filter(|_| remaining < Duration::from_secs(10 * 365 * 86_400)),
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
            ClientMessage::Subscribe(Subscription { user_ids, current_page }) => {
                let visibility = self.services.presence.visibility();
                if let Some(user_ids) = user_ids {
                    visibility.follow(conn.id(), user_ids).await;
                }
                if let Some(page) = current_page {
                    visibility.set_page(conn.id(), page.map(|page| sanitize(&page).into())).await;
                }
                Ok(())
            }
            ClientMessage::Authenticate(token) => self.on_authenticate(&token, conn).await,
            ClientMessage::Typing { conversation_id, is_typing } => {
                let typing = self
                    .services
                    .presence
                    .set_typing(&self.principal, self.user, &conversation_id, is_typing)
                    .await;
                // The remaining quota is only returned in HTTP headers.
                let _ = typing.map_err(|error| match error {
                    PresenceError::InvalidConversation(expected) => {
                        let field = format!("{}conversation_id", conn.dialect().body_prefix());
                        let error = FieldError::new(field, expected);
                        MessageError::Reply(WireError::field(ErrorCode::InvalidRequest, error))
                    }
                    other => other.into(),
                })?;
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
        // Before the write, which may sign the device off. A device that goes to the background is not in use.
        if update.background.is_none() {
            self.mark_active().await?;
        }
        let device = update.device_id.take().unwrap_or_else(|| self.device.clone());
        let from_socket = device == self.device;
        let (own, _) =
            self.services.presence.set_status(self.user, Some(device), from_socket, update).await?;
        Ok(conn.send_message(&ServerMessage::StatusAck(own))?)
    }

    async fn on_heartbeat(&self, active: Option<bool>, conn: &Connection) -> Result<(), MessageError> {
        let _ = self.services.presence.check_heartbeat_limit(self.user)?;
        if active == Some(true) {
            self.mark_active().await?;
        }
        Ok(conn.send_message(&ServerMessage::HeartbeatAck { server_time: self.now() })?)
    }

    /// Records that the user is active on the device.
    async fn mark_active(&self) -> Result<(), PresenceError> {
        Ok(self.services.presence.devices().mark_active(self.user, &self.device).await?)
    }

    async fn on_context(&mut self, update: ContextUpdate, conn: &Connection) -> Result<(), MessageError> {
        // The remaining quota is only returned in HTTP headers.
        let _ = self.services.presence.check_context_limit(self.user)?;
        // Before the write: a device does not receive its own changes.
        self.switch_device(update.device_id.clone(), conn).await?;
        self.services.presence.set_context(&self.principal, self.user, update).await?;
        Ok(self.mark_active().await?)
    }

    /// The client names its device in a later message: from now on the socket keeps this device online and no
    /// longer the assumed one.
    async fn switch_device(&mut self, device: DeviceId, conn: &Connection) -> Result<(), PresenceError> {
        if device == self.device {
            return Ok(());
        }
        let previous = std::mem::replace(&mut self.device, device);
        let presence = &self.services.presence;
        presence.user_index().set_device(self.user, &self.device, conn.id());
        let result = presence.devices().socket_opened(self.user, &self.device).await;
        presence.devices().socket_closed(self.user, &previous);
        Ok(result?)
    }

    fn welcome(&self, conn: &Connection) -> Welcome {
        // Random, because slot numbers count the connections of users that the client may not see.
        let client_id = Uuid::new_v4();
        tracing::debug!(conn.id = %conn.id(), %client_id, "presence session opened");
        Welcome {
            client_id,
            user_id: self.user,
            device_id: self.device.clone(),
            server_time: self.now(),
            heartbeat_interval: conn.ping_interval(),
        }
    }

    async fn on_authenticate(&mut self, token: &Token, conn: &Connection) -> Result<(), MessageError> {
        let principal = self.services.verifier.verify(token.expose()).await?;
        if principal.user_id != Some(self.user) {
            return Err(WireError::new(ErrorCode::Forbidden, "the token belongs to another user").into());
        }
        self.principal = principal;
        self.arm_expiry_timer(conn);
        // No effect on dialects without other users' presence, which are not registered there.
        self.services.presence.visibility().set_principal(conn.id(), self.principal.clone()).await;
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}

impl Session for PresenceSession {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.arm_expiry_timer(conn);
        // If this fails the connection is closing, and the transport reports why.
        let _ = conn.send_message(&ServerMessage::Connected(self.welcome(conn)));
        self.services.presence.user_index().add(self.user, &self.device, conn.id());
        if conn.dialect().includes_other_users() {
            let interest = std::mem::take(&mut self.interest);
            self.services
                .presence
                .visibility()
                .join(conn.id(), self.user, self.principal.clone(), interest, self.resume)
                .await;
        }
        match self.services.presence.devices().socket_opened(self.user, &self.device).await {
            Ok(()) => Flow::Continue,
            // The socket stays open: the device is written as connected once the database is back.
            Err(error) => send_error(conn, MessageError::from(PresenceError::from(error))),
        }
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        let result = match conn.dialect().decode(frame) {
            Ok(message) => self.on_client_message(message, conn).await,
            Err(error) => Err(error.into()),
        };
        result.map_or_else(|error| send_error(conn, error), |()| Flow::Continue)
    }

    async fn on_unresponsive_change(&mut self, unresponsive: bool, conn: &Arc<Connection>) {
        let devices = self.services.presence.devices();
        let result = if unresponsive {
            devices.mark_unresponsive(self.user, &self.device, conn.idle_time()).await
        } else {
            devices.mark_responsive(self.user, &self.device).await
        };
        if let Err(error) = result {
            tracing::warn!(error = %ErrorChain(&error), unresponsive, "writing device responsiveness failed");
        }
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        if self.principal.expires_at > self.now() {
            self.arm_expiry_timer(conn);
            return Flow::Continue;
        }
        let error = WireError::new(ErrorCode::TokenExpired, "the token has expired");
        match conn.send_message(&ServerMessage::Error(error)) {
            Ok(()) | Err(SendError::Closed | SendError::Slow) => Flow::close(CloseCode::TokenExpired),
        }
    }

    async fn on_close(self, conn: &Arc<Connection>, _reason: CloseReason) {
        self.services.presence.user_index().remove(self.user, conn.id());
        self.services.presence.devices().socket_closed(self.user, &self.device);
        self.services.presence.visibility().leave(conn.id()).await;
    }
}

/// Why a message was not processed.
enum MessageError {
    /// Report the error to the client and continue.
    Reply(WireError),
    /// The connection is closed.
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
        let error = match error {
            PresenceError::Limited(limited) => {
                let millis = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
                WireError::rate_limited(millis.max(1))
            }
            PresenceError::NotFound => WireError::new(ErrorCode::NotFound, "not found"),
            PresenceError::InvalidConversation(expected) => {
                WireError::field(ErrorCode::InvalidRequest, FieldError::new("conversation_id", expected))
            }
            PresenceError::Write(WriteError::TooManyDevices)
            | PresenceError::Read(PgError::TooManyDevices(_)) => WireError::new(
                ErrorCode::TooManyDevices,
                "too many devices: sign a device off, or use the ID of an existing one",
            ),
            PresenceError::Write(WriteError::Rejected) => {
                WireError::new(ErrorCode::InternalError, "something went wrong on our side")
            }
            PresenceError::Write(_) | PresenceError::Read(_) => {
                WireError::new(ErrorCode::ServiceUnavailable, "the database is out of reach, try again soon")
            }
        };
        Self::Reply(error)
    }
}

fn send_error(conn: &Connection, error: MessageError) -> Flow {
    match error {
        // If this fails the connection is closing, and the transport reports why.
        MessageError::Reply(error) => drop(conn.send_message(&ServerMessage::Error(error))),
        MessageError::ConnectionClosed => {}
    }
    Flow::Continue
}
