//! The handle that sessions and routes ask.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    AuthorizationError, ReadRights, WriteRights,
    cache::{AuthorizationCache, CacheKey, CachedWriteRights, EntryId, RightsUpdates},
};
use crate::{channels::ChannelPrincipal, model::Topic, telemetry::metric};

/// How long a question may take altogether, waiting for its turn included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// Who hears that a channel's rights have changed. Is called from the task that asks, so it must not block.
pub trait RightsSubscriber: Send + Sync + 'static {
    /// What may be read from now on, where it differs from what was believed. An error means nothing, and says why.
    fn on_rights_changed(&self, rights: Result<ReadRights, AuthorizationError>);
}

pub(super) struct Shared {
    pub cache: Mutex<AuthorizationCache>,
    /// There is something to ask.
    pub wake: Notify,
    /// Somebody who was to be asked again has been told.
    pub rechecks_done: Notify,
}

impl Shared {
    /// Tells what is new; not under the lock, because whoever hears it may end a watch.
    pub fn notify(news: RightsUpdates) {
        for (watcher, rights) in news {
            watcher.on_rights_changed(rights);
        }
    }
}

/// Answers who may read and write in which room. Cheap to clone.
#[derive(Clone)]
pub struct Authorizer {
    pub(super) shared: Arc<Shared>,
}

impl Authorizer {
    /// What a claimant may read in a room: everything in a public one, otherwise what the policies say. Answers from
    /// memory where the same was asked before and nothing has changed since. Neither of the two rights is
    /// [`Unauthorized`](AuthorizationError::Unauthorized).
    ///
    /// # Errors
    ///
    /// When the policies say no, raise, or cannot be asked.
    pub async fn read_rights(
        &self,
        claimant: &Arc<ChannelPrincipal>,
        room: &Topic,
    ) -> Result<ReadRights, AuthorizationError> {
        let Some(pair) = cache_key(claimant, room) else {
            return if room.private { Err(AuthorizationError::Unauthorized) } else { Ok(ReadRights::ALL) };
        };
        let receiver = match self.shared.cache.lock().read_rights(pair) {
            Ok(known) => return known,
            Err(receiver) => receiver,
        };
        self.await_result(receiver).await
    }

    /// What a claimant may write in a room, as [`read`](Self::read). A channel that holds a [`Watch`] looks there first.
    ///
    /// # Errors
    ///
    /// When the policies raise or cannot be asked; a plain no is [`WriteRights::NONE`].
    pub async fn write_rights(
        &self,
        claimant: &Arc<ChannelPrincipal>,
        room: &Topic,
    ) -> Result<WriteRights, AuthorizationError> {
        let Some(pair) = cache_key(claimant, room) else {
            return Ok(if room.private { WriteRights::NONE } else { WriteRights::ALL });
        };
        let receiver = match self.shared.cache.lock().write_rights(pair) {
            Ok(known) => return known,
            Err(receiver) => receiver,
        };
        self.await_result(receiver).await
    }

    /// Waits until everybody who watches one of these private rooms, and from whom what was announced before this call most
    /// likely took a right, has been asked again and told: whoever a changed row names, or all if the policies themselves
    /// changed. At most `patience`, so that policies that do not come to an end hold up nobody for long.
    pub async fn wait_until_settled(&self, topics: &[&str], patience: Duration) {
        if topics.is_empty() {
            return;
        }
        let settled = async {
            loop {
                let mut told = pin!(self.shared.rechecks_done.notified());
                told.as_mut().enable();
                if self.shared.cache.lock().are_settled(topics) {
                    return;
                }
                told.await;
            }
        };
        if timeout(patience, settled).await.is_err() {
            metrics::counter!(metric::CHANNEL_AUTHORIZATION_WAIT_TIMEOUTS).increment(1);
            tracing::warn!(?topics, "policies take long to say who may still hear in a channel");
        }
    }

    /// Tells `watcher` from now on when the claimant's rights to read become others than `believes`, which is what
    /// [`read`](Self::read) said: nothing falls between the two, because what changed meanwhile is told at once. A token
    /// that is refreshed means a new watch; dropping the old one ends it.
    #[must_use]
    pub fn subscribe(
        &self,
        claimant: &Arc<ChannelPrincipal>,
        room: &Topic,
        believes: ReadRights,
        watcher: Arc<dyn RightsSubscriber>,
    ) -> RightsSubscription {
        let Some(pair) = cache_key(claimant, room) else {
            let known_write = Arc::<CachedWriteRights>::default();
            known_write.set(Some(if room.private { WriteRights::NONE } else { WriteRights::ALL }));
            return RightsSubscription { cached_write: known_write, entry: None };
        };
        let (key, id, known_write, news) = self.shared.cache.lock().subscribe(pair, believes, watcher);
        Shared::notify(news);
        self.shared.wake.notify_one();
        RightsSubscription { cached_write: known_write, entry: Some((self.shared.clone(), key, id)) }
    }

    async fn await_result<T>(
        &self,
        receiver: oneshot::Receiver<Result<T, AuthorizationError>>,
    ) -> Result<T, AuthorizationError> {
        self.shared.wake.notify_one();
        match timeout(REQUEST_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => answer,
            // The asker is gone: the server stops.
            Ok(Err(_)) => Err(AuthorizationError::UnableToConnect),
            Err(_) => Err(AuthorizationError::PoolExhausted),
        }
    }
}

/// What policies are asked about. Public rooms need no asking; and of what PostgreSQL cannot hold in a text no policy can
/// say yes.
fn cache_key(claimant: &Arc<ChannelPrincipal>, room: &Topic) -> Option<CacheKey> {
    let texts = [&*room.name, &*claimant.role, &*claimant.claims, &*claimant.headers];
    let holds_nul = texts.into_iter().chain(claimant.sub.as_deref()).any(|text| text.contains('\0'));
    (room.private && !holds_nul).then(|| CacheKey { principal: claimant.clone(), topic: room.name.clone() })
}

/// That a channel's rights are watched, and its rights to write where they are known. Dropped, it ends.
pub struct RightsSubscription {
    cached_write: Arc<CachedWriteRights>,
    entry: Option<(Arc<Shared>, EntryId, u64)>,
}

impl RightsSubscription {
    /// What the channel may write, if it was asked and nothing concerning it has changed since. Takes no lock, for the
    /// way of every broadcast; where it says nothing, [`Authorizer::write`] asks.
    #[must_use]
    pub fn write_rights(&self) -> Option<WriteRights> {
        self.cached_write.get()
    }
}

impl Drop for RightsSubscription {
    fn drop(&mut self) {
        if let Some((shared, key, id)) = &self.entry {
            shared.cache.lock().unsubscribe(*key, *id);
        }
    }
}
