//! What sessions and routes may ask of presence, whatever the dialect.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    device_context,
    devices::DeviceTracker,
    visibility::Visibility,
    writer::{WriteError, Writer},
};
use crate::{
    auth::Principal,
    hub::UserIndex,
    limits::{Allowance, LimitClass, RateLimitExceeded, RateLimiter},
    model::{ConversationId, DeviceId, Presence, PresenceSummary, Status, UserId, sanitize},
    pg::{
        Database, PgError,
        queries::{
            presence::{self, Change, ListedPresence, VersionedFace},
            typing,
        },
    },
    protocol::{ContextUpdate, StatusUpdate},
};

/// A repeat of the same state within this is acknowledged without a write (source B).
const REPEAT_WINDOW: Duration = Duration::from_secs(5);
/// Repeats that are remembered before the old ones are looked for.
const MAX_RECENT_STATUSES: usize = 10_000;

/// Presence could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// Too many updates.
    #[error(transparent)]
    Limited(#[from] RateLimitExceeded),
    /// The write did not happen.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no such conversation, as far as the caller may know.
    #[error("not found")]
    NotFound,
    /// The read did not happen.
    #[error(transparent)]
    Read(#[from] PgError),
}

struct RecentStatus {
    at: Instant,
    device: Option<DeviceId>,
    update: StatusUpdate,
    face: VersionedFace,
}

/// The one model of presence behind every dialect and route.
pub struct PresenceService {
    database: Database,
    writer: Writer,
    devices: DeviceTracker,
    user_index: UserIndex,
    visibility: Visibility,
    limits: Arc<RateLimiter>,
    recent_statuses: Mutex<HashMap<UserId, RecentStatus>>,
}

impl PresenceService {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        database: Database,
        writer: Writer,
        liveness: DeviceTracker,
        roster: UserIndex,
        visibility: Visibility,
        limits: Arc<RateLimiter>,
    ) -> Self {
        Self {
            database,
            writer,
            devices: liveness,
            user_index: roster,
            visibility,
            limits,
            recent_statuses: Mutex::default(),
        }
    }

    /// Which devices have sockets here.
    #[must_use]
    pub const fn devices(&self) -> &DeviceTracker {
        &self.devices
    }

    /// Whose sockets are open here.
    #[must_use]
    pub const fn user_index(&self) -> &UserIndex {
        &self.user_index
    }

    /// Who hears of whom.
    #[must_use]
    pub const fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// Sets a user's status, for one device or, without one, for all live ones. Returns the user's own presence after
    /// the commit, and what is left of the limit (`None` for a repeat, which does not count).
    ///
    /// # Errors
    ///
    /// See [`PresenceError`].
    pub async fn set_status(
        &self,
        user: UserId,
        device: Option<DeviceId>,
        update: StatusUpdate,
    ) -> Result<(Arc<Presence>, Option<Allowance>), PresenceError> {
        if let Some(presence) = self.unchanged_repeat(user, device.as_ref(), &update).await? {
            return Ok((presence, None));
        }
        let allowance = self.limits.check(LimitClass::PresenceUpdate, user)?;
        let change = Change::Status {
            device: device.clone(),
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
        };
        let face = self.writer.apply(user, change).await?.ok_or(WriteError::Rejected)?;
        let presence = face.presence.clone();
        if update.status == Status::Offline {
            self.devices.mark_signed_off(user, device.as_ref());
        } else {
            self.devices.mark_signed_on(user, device.as_ref());
        }
        self.remember_status(user, RecentStatus { at: Instant::now(), device, update, face });
        Ok((presence, Some(allowance)))
    }

    /// The presence to acknowledge, where the user said the same a moment ago and nothing has changed since, here or
    /// on another node or in psql.
    async fn unchanged_repeat(
        &self,
        user: UserId,
        device: Option<&DeviceId>,
        update: &StatusUpdate,
    ) -> Result<Option<Arc<Presence>>, PgError> {
        let version = {
            let said = self.recent_statuses.lock();
            let same = said.get(&user).filter(|said| {
                said.at.elapsed() < REPEAT_WINDOW && said.device.as_ref() == device && said.update == *update
            });
            match same {
                Some(said) => said.face.version,
                None => return Ok(None),
            }
        };
        let now = presence::trusted_face(&self.database.server_connection().await?, user).await?;
        Ok(now.filter(|face| face.version == version).map(|face| face.presence))
    }

    fn remember_status(&self, user: UserId, new: RecentStatus) {
        let mut said = self.recent_statuses.lock();
        if said.len() >= MAX_RECENT_STATUSES {
            said.retain(|_, old| old.at.elapsed() < REPEAT_WINDOW);
        }
        if said.len() < MAX_RECENT_STATUSES {
            said.insert(user, new);
        }
    }

    /// Notes that a device without a socket is alive.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub async fn heartbeat(
        &self,
        user: UserId,
        device: Option<DeviceId>,
        active: bool,
    ) -> Result<(), PresenceError> {
        self.writer.apply(user, Change::Heartbeat { device, active }).await?;
        Ok(())
    }

    /// Counts a context update, before [`set_context`](Self::set_context).
    ///
    /// # Errors
    ///
    /// [`PresenceError::Limited`] when there were too many.
    pub fn check_context_limit(&self, user: UserId) -> Result<Allowance, PresenceError> {
        Ok(self.limits.check(LimitClass::Context, user)?)
    }

    /// Notes what a user does on a device; the user's other devices hear of it.
    ///
    /// # Errors
    ///
    /// When it could not be written.
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

    /// One user as the caller may see them, for source D.
    ///
    /// # Errors
    ///
    /// When it could not be read.
    pub async fn summary(
        &self,
        caller: &Principal,
        user: UserId,
    ) -> Result<Option<PresenceSummary>, PresenceError> {
        Ok(presence::summary(&self.database, caller, user).await?)
    }

    /// Presences as the caller may see them: of those named, or of everybody related to the caller.
    ///
    /// # Errors
    ///
    /// When they could not be read.
    pub async fn list(
        &self,
        caller: &Principal,
        users: Option<&[UserId]>,
    ) -> Result<Vec<ListedPresence>, PresenceError> {
        Ok(presence::list(&self.database, caller, users).await?)
    }

    /// The caller types in a conversation, or has stopped.
    ///
    /// # Errors
    ///
    /// [`PresenceError::NotFound`] where the caller takes no part in it.
    pub async fn set_typing(
        &self,
        caller: &Principal,
        conversation: ConversationId,
        is_typing: bool,
    ) -> Result<(), PresenceError> {
        if is_typing {
            return match typing::start(&self.database, caller, conversation).await {
                Err(PgError::PermissionDenied(_)) => Err(PresenceError::NotFound),
                other => Ok(other?),
            };
        }
        if typing::stop(&self.database, caller, conversation).await? {
            Ok(())
        } else {
            Err(PresenceError::NotFound)
        }
    }

    /// Who types in a conversation, as far as the caller may see.
    ///
    /// # Errors
    ///
    /// [`PresenceError::NotFound`] where the caller takes no part in it.
    pub async fn typing(
        &self,
        caller: &Principal,
        conversation: ConversationId,
    ) -> Result<Vec<(UserId, Timestamp)>, PresenceError> {
        typing::list(&self.database, caller, conversation).await?.ok_or(PresenceError::NotFound)
    }
}
