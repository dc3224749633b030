//! Handle for sessions and routes to check and watch rights.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    AuthorizationError, ReadRights, WriteRights,
    cache::{AuthorizationCache, CacheKey, CachedWriteRights, EntryId},
    subscriber::{RightsSubscriber, RightsUpdates},
};
use crate::{
    auth::{Principal, Role},
    model::Topic,
    pg::notification::AffectedCallers,
    telemetry::metric,
};

/// Maximum time of a request, including its wait in the queue.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) struct Shared {
    pub cache: Mutex<AuthorizationCache>,
    pub wake: Notify,
    /// Notified after the results of a batch of rechecks were delivered.
    pub rechecks_done: Notify,
}

impl Shared {
    /// Delivers updates. Must be called without the lock on the cache: a subscriber may end its subscription.
    pub(super) fn notify(updates: RightsUpdates) {
        for (subscriber, rights) in updates {
            subscriber.on_rights_changed(rights);
        }
    }
}

/// Checks who may read and write in which topic. Cheap to clone.
#[derive(Clone)]
pub struct Authorizer {
    pub(super) shared: Arc<Shared>,
}

impl Authorizer {
    /// What a principal may read in a topic: everything if the topic is public, otherwise what the policies
    /// allow. Cached results are used while nothing they depend on has changed. If neither right is granted
    /// the result is [`Unauthorized`](AuthorizationError::Unauthorized).
    ///
    /// # Errors
    ///
    /// The policies deny, raise an error, or cannot be checked.
    pub async fn read_rights(
        &self,
        principal: &Arc<Principal>,
        topic: &Topic,
    ) -> Result<ReadRights, AuthorizationError> {
        let Some(key) = cache_key(principal, topic) else {
            return if topic.private { Err(AuthorizationError::Unauthorized) } else { Ok(ReadRights::ALL) };
        };
        let receiver = match self.shared.cache.lock().read_rights(key) {
            Ok(cached) => return cached,
            Err(receiver) => receiver,
        };
        self.await_result(receiver).await
    }

    /// What a principal may write in a topic; see [`read_rights`](Self::read_rights). A channel with a
    /// [`RightsSubscription`] looks there first.
    ///
    /// # Errors
    ///
    /// The policies raise an error or cannot be checked. A denial is [`WriteRights::NONE`].
    pub async fn write_rights(
        &self,
        principal: &Arc<Principal>,
        topic: &Topic,
    ) -> Result<WriteRights, AuthorizationError> {
        let Some(key) = cache_key(principal, topic) else {
            return Ok(if topic.private { WriteRights::NONE } else { WriteRights::ALL });
        };
        let receiver = match self.shared.cache.lock().write_rights(key) {
            Ok(cached) => return cached,
            Err(receiver) => receiver,
        };
        self.await_result(receiver).await
    }

    /// Evaluates the policies again for all subscribers, as if a policy had changed.
    pub fn invalidate_all(&self) {
        self.shared.cache.lock().invalidate(&AffectedCallers::All);
        self.shared.wake.notify_one();
    }

    /// Waits until all subscribers of these private topics that may have lost a right by a change announced
    /// before this call have been checked again and notified: those named by the changed row, or all if the
    /// policies changed. Waits for at most `limit`, so that slow policies do not delay others for long.
    pub async fn wait_until_settled(&self, topics: &[&str], limit: Duration) {
        if topics.is_empty() {
            return;
        }
        let settled = async {
            loop {
                let mut done = pin!(self.shared.rechecks_done.notified());
                done.as_mut().enable();
                if self.shared.cache.lock().are_settled(topics) {
                    return;
                }
                done.await;
            }
        };
        if timeout(limit, settled).await.is_err() {
            metrics::counter!(metric::CHANNEL_AUTHORIZATION_WAIT_TIMEOUTS).increment(1);
            tracing::warn!(?topics, "waiting for channel authorization rechecks timed out");
        }
    }

    /// Notifies `subscriber` when the read rights of the principal differ from `last_known`, the result of
    /// [`read_rights`](Self::read_rights). A change between that call and this one is notified immediately. A
    /// refreshed token needs a new subscription. Dropping the subscription ends it.
    #[must_use]
    pub fn subscribe(
        &self,
        principal: &Arc<Principal>,
        topic: &Topic,
        last_known: ReadRights,
        subscriber: Arc<dyn RightsSubscriber>,
    ) -> RightsSubscription {
        let Some(key) = cache_key(principal, topic) else {
            let cached_write = Arc::<CachedWriteRights>::default();
            cached_write.set(Some(if topic.private { WriteRights::NONE } else { WriteRights::ALL }));
            return RightsSubscription { cached_write, entry: None };
        };
        let (entry, id, cached_write, updates) =
            self.shared.cache.lock().subscribe(key, last_known, subscriber);
        Shared::notify(updates);
        self.shared.wake.notify_one();
        RightsSubscription { cached_write, entry: Some((self.shared.clone(), entry, id)) }
    }

    async fn await_result<T>(
        &self,
        receiver: oneshot::Receiver<Result<T, AuthorizationError>>,
    ) -> Result<T, AuthorizationError> {
        self.shared.wake.notify_one();
        match timeout(REQUEST_TIMEOUT, receiver).await {
            Ok(Ok(result)) => result,
            // The worker has ended: the server is stopping.
            Ok(Err(_)) => Err(AuthorizationError::UnableToConnect),
            Err(_) => Err(AuthorizationError::PoolExhausted),
        }
    }
}

/// The cache key of a check. `None` for public topics, which need no check, and for what no policy can allow: a role
/// that is not allowed, and texts with a NUL character, which PostgreSQL cannot store.
fn cache_key(principal: &Arc<Principal>, topic: &Topic) -> Option<CacheKey> {
    let texts = [&*topic.name, principal.role.as_str(), &*principal.claims, &*principal.headers];
    let contains_nul = texts.into_iter().chain(principal.sub.as_deref()).any(|text| text.contains('\0'));
    (topic.private && !contains_nul && principal.role != Role::Denied)
        .then(|| CacheKey { principal: principal.clone(), topic: topic.name.clone() })
}

/// Subscription to the rights of a channel, with its cached write rights. Ends when dropped.
pub struct RightsSubscription {
    cached_write: Arc<CachedWriteRights>,
    entry: Option<(Arc<Shared>, EntryId, u64)>,
}

impl RightsSubscription {
    /// The write rights, if they were checked and nothing they depend on has changed. Takes no lock, because
    /// every broadcast reads it. On `None` call [`Authorizer::write_rights`].
    #[must_use]
    pub fn write_rights(&self) -> Option<WriteRights> {
        self.cached_write.get()
    }
}

impl Drop for RightsSubscription {
    fn drop(&mut self) {
        if let Some((shared, entry, id)) = &self.entry {
            shared.cache.lock().unsubscribe(*entry, *id);
        }
    }
}
