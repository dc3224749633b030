//! How much of a shared resource each user may hold at a time. Others of the same user wait; other users do not.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::UserId;

/// The shares in use. Users without one take no memory.
pub(super) struct UserShares {
    per_user: usize,
    users: Mutex<HashMap<UserId, Shares>>,
}

struct Shares {
    permits: Arc<Semaphore>,
    /// Callers that hold a share or wait for one.
    callers: usize,
}

/// One share, given back on drop.
pub(super) struct Share<'a> {
    // Dropped before the entry of the user.
    _permit: Option<OwnedSemaphorePermit>,
    _caller: Caller<'a>,
}

struct Caller<'a> {
    shares: &'a UserShares,
    user: UserId,
}

impl UserShares {
    /// Each user may hold that many shares.
    pub(super) fn new(per_user: usize) -> Self {
        Self { per_user, users: Mutex::default() }
    }

    /// Waits for a share of the user, in order.
    pub(super) async fn acquire(&self, user: UserId) -> Share<'_> {
        let permits = {
            let mut users = self.users.lock();
            let shares = users
                .entry(user)
                .or_insert_with(|| Shares { permits: Arc::new(Semaphore::new(self.per_user)), callers: 0 });
            shares.callers += 1;
            shares.permits.clone()
        };
        let caller = Caller { shares: self, user };
        // Never closed, so never an error.
        Share { _permit: permits.acquire_owned().await.ok(), _caller: caller }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let mut users = self.shares.users.lock();
        let Some(shares) = users.get_mut(&self.user) else { return };
        shares.callers -= 1;
        if shares.callers == 0 {
            users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_user_waits_for_own_shares_only_and_leaves_nothing() {
        let shares = UserShares::new(2);
        let (user, other) = (UserId::random(), UserId::random());
        let first = shares.acquire(user).now_or_never().expect("is free");
        let second = shares.acquire(user).now_or_never().expect("is free");
        assert!(shares.acquire(user).now_or_never().is_none(), "a third has to wait");
        assert!(shares.acquire(other).now_or_never().is_some());
        drop(first);
        let third = shares.acquire(user).now_or_never();
        assert!(third.is_some(), "a share was given back");
        drop((second, third));
        assert!(shares.users.lock().is_empty());
    }
}
