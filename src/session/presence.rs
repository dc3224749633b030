//! The session behind the presence dialects: one user on one device, over one socket.

use std::{borrow::Cow, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    auth::{AuthError, Caller, Verifier},
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
pub struct Shared {
    /// The one model of presence.
    pub presence: Arc<PresenceService>,
    /// Believes fresh tokens.
    pub verifier: Arc<Verifier>,
    /// For time stamps and the age of tokens.
    pub clock: Arc<dyn Clock>,
}

/// One user on one device.
pub struct PresenceSession {
    shared: Shared,
    caller: Caller,
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
        shared: Shared,
        caller: Caller,
        device: DeviceId,
        follows: Vec<UserId>,
    ) -> Result<Self, AuthError> {
        let user = caller.require_user()?;
        Ok(Self { shared, caller, user, device, follows })
    }

    /// Wakes the session when its token runs out.
    fn arm(&self, conn: &Connection) {
        let left = self.caller.expires_at.duration_since(self.shared.clock.now());
        // A token without an end in sight (an API key) needs no timer.
        let left = Duration::try_from(left).unwrap_or_default();
        conn.wake_at(
            Instant::now().checked_add(left).filter(|_| left < Duration::from_secs(10 * 365 * 86_400)),
        );
    }

    async fn obey(&mut self, message: ClientMessage, conn: &Connection) -> Result<(), Complaint> {
        match message {
            ClientMessage::Status(update) => self.status(update, conn).await,
            ClientMessage::Heartbeat { active } => self.heartbeat(active, conn).await,
            ClientMessage::Ping => Ok(conn.say(&ServerMessage::Pong)?),
            ClientMessage::Context(update) => self.context(update, conn).await,
            ClientMessage::Subscribe(subscription) => {
                self.shared.presence.visibility().follow(conn.id(), subscription.user_ids).await;
                Ok(())
            }
            ClientMessage::Authenticate(token) => self.authenticate(&token, conn).await,
            ClientMessage::Typing { conversation_id, is_typing } => {
                self.shared.presence.set_typing(&self.caller, conversation_id, is_typing).await?;
                self.shared
                    .presence
                    .liveness()
                    .active(self.user, &self.device)
                    .await
                    .map_err(PresenceError::from)?;
                Ok(())
            }
        }
    }

    async fn status(&self, mut update: StatusUpdate, conn: &Connection) -> Result<(), Complaint> {
        // Before the write, which may sign the device off.
        self.active().await?;
        let device = update.device_id.take().unwrap_or_else(|| self.device.clone());
        let (own, _) = self.shared.presence.set_status(self.user, Some(device), update).await?;
        Ok(conn.say(&ServerMessage::StatusAck(own))?)
    }

    async fn heartbeat(&self, active: Option<bool>, conn: &Connection) -> Result<(), Complaint> {
        if active == Some(true) {
            self.active().await?;
        }
        Ok(conn.say(&ServerMessage::HeartbeatAck { server_time: self.now() })?)
    }

    /// Somebody uses the device.
    async fn active(&self) -> Result<(), PresenceError> {
        Ok(self.shared.presence.liveness().active(self.user, &self.device).await?)
    }

    async fn context(&mut self, update: ContextUpdate, conn: &Connection) -> Result<(), Complaint> {
        // What is left of the allowance is a header's business.
        let _ = self.shared.presence.allow_context(self.user)?;
        // First, because a device does not hear of itself.
        self.be_of(update.device_id.clone(), conn).await?;
        self.shared.presence.set_context(&self.caller, self.user, update).await?;
        Ok(self.active().await?)
    }

    /// The client says which device this is, if only now: that one lives by this socket from now on, and the one
    /// that it was taken for before does not any more.
    async fn be_of(&mut self, device: DeviceId, conn: &Connection) -> Result<(), PresenceError> {
        if device == self.device {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.device, device);
        let presence = &self.shared.presence;
        presence.roster().move_to(self.user, &self.device, conn.id());
        let opened = presence.liveness().opened(self.user, &self.device).await;
        presence.liveness().closed(self.user, &before);
        Ok(opened?)
    }

    fn welcome(&self, conn: &Connection) -> Welcome {
        Welcome {
            client_id: conn.id().to_string().into(),
            user_id: self.user,
            device_id: self.device.clone(),
            server_time: self.now(),
            heartbeat_interval: conn.ping_every(),
        }
    }

    async fn authenticate(&mut self, token: &Token, conn: &Connection) -> Result<(), Complaint> {
        let caller = self.shared.verifier.verify(token.expose()).await?;
        if caller.user_id != Some(self.user) {
            return Err(WireError::new(ErrorCode::Forbidden, "the token is of another user").into());
        }
        self.caller = caller;
        self.arm(conn);
        // Unknown to visibility where the dialect has no words for others: then this does nothing.
        self.shared.presence.visibility().act_as(conn.id(), self.caller.clone()).await;
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

impl Session for PresenceSession {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.arm(conn);
        // Should it not get through, the connection is ending, and the transport says why.
        let _ = conn.say(&ServerMessage::Connected(self.welcome(conn)));
        self.shared.presence.roster().enter(self.user, &self.device, conn.id());
        if conn.dialect().tells_of_others() {
            let follows = std::mem::take(&mut self.follows);
            self.shared.presence.visibility().join(conn.id(), self.user, self.caller.clone(), follows).await;
        }
        match self.shared.presence.liveness().opened(self.user, &self.device).await {
            Ok(()) => Flow::Continue,
            // The socket stays: it is written as connected as soon as the database is back.
            Err(error) => tell(conn, Complaint::from(PresenceError::from(error))),
        }
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        let done = match conn.dialect().decode(frame) {
            Ok(message) => self.obey(message, conn).await,
            Err(error) => Err(error.into()),
        };
        done.map_or_else(|complaint| tell(conn, complaint), |()| Flow::Continue)
    }

    async fn on_silence(&mut self, silent: bool, conn: &Arc<Connection>) {
        let liveness = self.shared.presence.liveness();
        let written = if silent {
            liveness.silent(self.user, &self.device, conn.quiet()).await
        } else {
            liveness.awake(self.user, &self.device).await
        };
        if let Err(error) = written {
            tracing::warn!(%error, silent, "could not write that a device fell silent or woke up");
        }
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        if self.caller.expires_at > self.now() {
            self.arm(conn);
            return Flow::Continue;
        }
        let error = WireError::new(ErrorCode::TokenExpired, "the token has expired");
        match conn.say(&ServerMessage::Error(error)) {
            Ok(()) | Err(SendError::Closed | SendError::Slow) => Flow::close(CloseCode::TokenExpired),
        }
    }

    async fn on_close(self, conn: &Arc<Connection>, _why: CloseReason) {
        self.shared.presence.roster().leave(self.user, conn.id());
        self.shared.presence.liveness().closed(self.user, &self.device);
        self.shared.presence.visibility().leave(conn.id()).await;
    }
}

/// Why a message was not obeyed.
enum Complaint {
    /// The client is told, and goes on.
    Told(WireError),
    /// There is nobody to tell any more.
    Gone,
}

impl From<WireError> for Complaint {
    fn from(error: WireError) -> Self {
        Self::Told(error)
    }
}

impl From<SendError> for Complaint {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl From<AuthError> for Complaint {
    fn from(error: AuthError) -> Self {
        let code = if error.is_transient() { ErrorCode::ServiceUnavailable } else { ErrorCode::InvalidToken };
        Self::Told(WireError::new(code, Cow::Owned(error.to_string())))
    }
}

impl From<PresenceError> for Complaint {
    fn from(error: PresenceError) -> Self {
        let told = match error {
            PresenceError::Limited(limited) => {
                let millis = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
                WireError::rate_limited(millis.max(1))
            }
            PresenceError::NotFound => WireError::new(ErrorCode::NotFound, "not found"),
            PresenceError::Write(WriteError::Refused) => {
                WireError::new(ErrorCode::InternalError, "something went wrong on our side")
            }
            PresenceError::Write(_) | PresenceError::Read(_) => {
                WireError::new(ErrorCode::ServiceUnavailable, "the database is out of reach, try again soon")
            }
        };
        Self::Told(told)
    }
}

fn tell(conn: &Connection, complaint: Complaint) -> Flow {
    match complaint {
        // Should it not get through, the connection is ending, and the transport says why.
        Complaint::Told(error) => drop(conn.say(&ServerMessage::Error(error))),
        Complaint::Gone => {}
    }
    Flow::Continue
}
