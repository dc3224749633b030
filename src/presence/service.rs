//! The presence operations that sessions and routes use, independent of the dialect.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{
    device_context,
    devices::{DeviceTracker, SignOff},
    user_shares::UserShares,
    visibility::Visibility,
    writer::{WriteError, Writer},
};
use crate::{
    auth::Principal,
    hub::UserIndex,
    limits::{Allowance, LimitClass, RateLimitExceeded, RateLimiter},
    model::{ConversationKey, DeviceId, Presence, PresenceSummary, Status, UserId, sanitize},
    pg::{
        Database, PgError,
        queries::{
            presence::{self, Change, ListedPresence, VersionedFace},
            typing,
        },
    },
    protocol::{ContextUpdate, StatusUpdate},
};

/// Repeats of the same status within this time are acknowledged without a write.
const REPEAT_WINDOW: Duration = Duration::from_secs(5);
/// Maximum number of remembered statuses; expired ones are removed when it is reached.
const MAX_RECENT_STATUSES: usize = 10_000;
/// Database connections that the typing updates of one user may hold; further ones wait.
const MAX_TYPING_WRITES: usize = 2;
/// Timeout of that wait.
const TYPING_TIMEOUT: Duration = Duration::from_secs(10);

/// Presence could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// The rate limit is exceeded.
    #[error(transparent)]
    Limited(#[from] RateLimitExceeded),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The conversation does not exist or is not visible to the caller.
    #[error("not found")]
    NotFound,
    /// The ID of the conversation has another type than those of the table in use. Says what it must be.
    #[error("conversation_id: {0}")]
    InvalidConversation(String),
    #[error(transparent)]
    Read(#[from] PgError),
}

struct RecentStatus {
    at: Instant,
    device: Option<DeviceId>,
    update: StatusUpdate,
    face: VersionedFace,
}

/// The presence service behind all dialects and routes.
pub struct PresenceService {
    database: Database,
    writer: Writer,
    devices: DeviceTracker,
    user_index: UserIndex,
    visibility: Visibility,
    limits: Arc<RateLimiter>,
    recent_statuses: Mutex<HashMap<UserId, RecentStatus>>,
    typing_shares: UserShares,
}

impl PresenceService {
    /// Creates the service from its parts.
    #[must_use]
    pub fn new(
        database: Database,
        writer: Writer,
        devices: DeviceTracker,
        user_index: UserIndex,
        visibility: Visibility,
        limits: Arc<RateLimiter>,
    ) -> Self {
        Self {
            database,
            writer,
            devices,
            user_index,
            visibility,
            limits,
            recent_statuses: Mutex::default(),
            typing_shares: UserShares::new(MAX_TYPING_WRITES),
        }
    }

    /// The devices with sockets on this node.
    #[must_use]
    pub const fn devices(&self) -> &DeviceTracker {
        &self.devices
    }

    /// The users with sockets on this node.
    #[must_use]
    pub const fn user_index(&self) -> &UserIndex {
        &self.user_index
    }

    /// Handle of the visibility task.
    #[must_use]
    pub const fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// Sets a user's status for one device, or for all live devices if `device` is `None`. `from_socket` tells that the
    /// status came from a socket of the device: after a sign-off it has no effect on the device. Returns the user's own
    /// presence after the commit and the remaining rate limit (`None` for a repeat, which does not count).
    ///
    /// # Errors
    ///
    /// See [`PresenceError`].
    pub async fn set_status(
        &self,
        user: UserId,
        device: Option<DeviceId>,
        from_socket: bool,
        update: StatusUpdate,
    ) -> Result<(Arc<Presence>, Option<Allowance>), PresenceError> {
        // A heartbeat may have ended the background without a change of the face.
        if update.background.is_none()
            && let Some(presence) = self.unchanged_repeat(user, device.as_ref(), &update).await?
        {
            return Ok((presence, None));
        }
        let allowance = self.limits.check(LimitClass::PresenceUpdate, user)?;
        let sign_off = device.as_ref().and_then(|device| self.devices.sign_off_of(user, device));
        let is_offline_by_status = sign_off == Some(SignOff::Status);
        let change = Change::Status {
            device: device.clone(),
            socket: (from_socket && !is_offline_by_status).then(|| self.devices.node()),
            status: update.status,
            custom_status: update.custom_status.clone().map(|text| {
                let text = text.map(|text| sanitize(&text)).filter(|text| !text.is_empty());
                (text, update.custom_status_expires_at.flatten())
            }),
            activity: update.activity.as_ref().map(|text| sanitize(text.as_deref().unwrap_or_default())),
            current_page: update
                .current_page
                .as_ref()
                .map(|page| sanitize(page.as_deref().unwrap_or_default())),
            background_seconds: update
                .background
                .map(|background| self.devices.background_seconds(background)),
        };
        let face = self.writer.apply(user, change).await?.ok_or(WriteError::Rejected)?;
        let presence = face.presence.clone();
        if update.status == Status::Offline {
            self.devices.mark_signed_off(user, device.as_ref(), SignOff::Status);
        } else if !from_socket || is_offline_by_status {
            self.devices.mark_signed_on(user, device.as_ref());
        }
        self.devices.mark_background(user, device.as_ref(), update.background.is_some());
        self.remember_status(user, RecentStatus { at: Instant::now(), device, update, face });
        Ok((presence, Some(allowance)))
    }

    /// Returns the presence to acknowledge if the user set the same status recently and nothing has changed since,
    /// including on other nodes or in psql.
    async fn unchanged_repeat(
        &self,
        user: UserId,
        device: Option<&DeviceId>,
        update: &StatusUpdate,
    ) -> Result<Option<Arc<Presence>>, PgError> {
        let recent = {
            let recent_statuses = self.recent_statuses.lock();
            let same = recent_statuses.get(&user).filter(|recent| {
                recent.at.elapsed() < REPEAT_WINDOW
                    && recent.device.as_ref() == device
                    && recent.update == *update
            });
            match same {
                Some(recent) => recent.face.clone(),
                None => return Ok(None),
            }
        };
        let now = presence::trusted_face(&self.database.server_connection().await?, user).await?;
        Ok(now.filter(|face| *face == recent).map(|face| face.presence))
    }

    fn remember_status(&self, user: UserId, status: RecentStatus) {
        let mut recent_statuses = self.recent_statuses.lock();
        if recent_statuses.len() >= MAX_RECENT_STATUSES {
            recent_statuses.retain(|_, old| old.at.elapsed() < REPEAT_WINDOW);
        }
        if recent_statuses.len() < MAX_RECENT_STATUSES {
            recent_statuses.insert(user, status);
        }
    }

    /// Records a heartbeat of a device without a socket.
    ///
    /// # Errors
    ///
    /// If the rate limit is exceeded or the write fails.
    pub async fn heartbeat(
        &self,
        user: UserId,
        device: Option<DeviceId>,
        active: bool,
    ) -> Result<Allowance, PresenceError> {
        let allowance = self.check_heartbeat_limit(user)?;
        self.writer.apply(user, Change::Heartbeat { device, active }).await?;
        Ok(allowance)
    }

    /// Counts a heartbeat of a socket against the rate limit.
    ///
    /// # Errors
    ///
    /// [`PresenceError::Limited`] if the limit is exceeded.
    pub fn check_heartbeat_limit(&self, user: UserId) -> Result<Allowance, PresenceError> {
        Ok(self.limits.check(LimitClass::Heartbeat, user)?)
    }

    /// Counts a context update against the rate limit. Call it before [`set_context`](Self::set_context).
    ///
    /// # Errors
    ///
    /// [`PresenceError::Limited`] if the limit is exceeded.
    pub fn check_context_limit(&self, user: UserId) -> Result<Allowance, PresenceError> {
        Ok(self.limits.check(LimitClass::Context, user)?)
    }

    /// Stores a device's context; the user's other devices receive it.
    ///
    /// # Errors
    ///
    /// If the write fails.
    pub async fn set_context(
        &self,
        caller: &Principal,
        user: UserId,
        mut update: ContextUpdate,
    ) -> Result<(), PresenceError> {
        update.last_navigation_path = update
            .last_navigation_path
            .map(|path| path.map(|path| sanitize(&path)).filter(|path| !path.is_empty()));
        Ok(device_context::store(&self.database, caller, user, &update).await?)
    }

    /// The presence of one user as the caller may see it, in the format of the devices API.
    ///
    /// # Errors
    ///
    /// If the read fails.
    pub async fn summary(
        &self,
        caller: &Principal,
        user: UserId,
    ) -> Result<Option<PresenceSummary>, PresenceError> {
        Ok(presence::summary(&self.database, caller, user).await?)
    }

    /// Presences as the caller may see them: of the given users, or of all users related to the caller.
    ///
    /// # Errors
    ///
    /// If the read fails.
    pub async fn list(
        &self,
        caller: &Principal,
        users: Option<&[UserId]>,
    ) -> Result<Vec<ListedPresence>, PresenceError> {
        Ok(presence::list(&self.database, caller, users).await?)
    }

    /// Records that `user`, the caller, started or stopped typing in a conversation.
    ///
    /// # Errors
    ///
    /// [`PresenceError::Limited`] if the rate limit is exceeded, [`PresenceError::NotFound`] if the caller does not
    /// participate in the conversation.
    pub async fn set_typing(
        &self,
        caller: &Principal,
        user: UserId,
        conversation: &ConversationKey,
        is_typing: bool,
    ) -> Result<Allowance, PresenceError> {
        let allowance = self.limits.check(LimitClass::Typing, user)?;
        let share = timeout(TYPING_TIMEOUT, self.typing_shares.acquire(user));
        let _share = share.await.map_err(|_| WriteError::Unavailable)?;
        let participates = if is_typing {
            match typing::start(&self.database, caller, conversation).await {
                Err(PgError::PermissionDenied(_)) => false,
                other => other.map(|()| true).map_err(typing_error)?,
            }
        } else {
            typing::stop(&self.database, caller, conversation).await.map_err(typing_error)?
        };
        if participates { Ok(allowance) } else { Err(PresenceError::NotFound) }
    }

    /// Users typing in a conversation, as far as the caller may see them.
    ///
    /// # Errors
    ///
    /// [`PresenceError::NotFound`] if the caller does not participate in the conversation.
    pub async fn typing(
        &self,
        caller: &Principal,
        conversation: &ConversationKey,
    ) -> Result<Vec<(UserId, Timestamp)>, PresenceError> {
        let listed = typing::list(&self.database, caller, conversation).await.map_err(typing_error)?;
        listed.ok_or(PresenceError::NotFound)
    }
}

fn typing_error(error: PgError) -> PresenceError {
    if let Some(limited) = error.rate_limit().and_then(RateLimitExceeded::from_database) {
        return limited.into();
    }
    match error.invalid_value("conversation_id") {
        Some(expected) => PresenceError::InvalidConversation(expected.to_owned()),
        None => error.into(),
    }
}
