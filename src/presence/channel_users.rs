//! Index from users to their channel sockets on this node, used to disconnect a user.
//!
//! Presence sockets are in the [`UserIndex`](crate::hub::UserIndex), by device. A channel socket has no device
//! and may act as several users: the user of the socket's token, and in each channel the user of the join's token.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{hub::ConnId, model::UserId};

/// A user to be disconnected by an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedDisconnect {
    /// ID of the user.
    pub user: UserId,
    /// The reason sent to the user.
    pub reason: Arc<str>,
}

/// The users of the channel sockets on this node. Clones share the index.
#[derive(Debug, Clone, Default)]
pub struct ChannelUsers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The sockets of each user, with a reference count per socket. Almost all users have one socket.
    sockets: HashMap<UserId, SmallVec<[(ConnId, u32); 1]>>,
    /// Disconnects that the sockets' sessions have not taken yet. An entry is removed with its user.
    pending_disconnects: HashMap<ConnId, Vec<ForcedDisconnect>>,
    /// The users of each socket, about 60 bytes for each.
    users: HashMap<ConnId, SmallVec<[UserId; 1]>>,
}

/// Registers that a user acts on a socket until dropped.
#[derive(Debug)]
#[must_use = "dropping this unregisters the user"]
pub struct UserGuard {
    users: ChannelUsers,
    user: UserId,
    conn: ConnId,
}

impl ChannelUsers {
    /// Registers that a user acts on a socket.
    pub fn register(&self, user: UserId, conn: ConnId) -> UserGuard {
        let mut guard = self.0.lock();
        let inner = &mut *guard;
        let sockets = inner.sockets.entry(user).or_default();
        match sockets.iter_mut().find(|(other, _)| *other == conn) {
            Some((_, count)) => *count += 1,
            None => {
                sockets.push((conn, 1));
                inner.users.entry(conn).or_default().push(user);
            }
        }
        drop(guard);
        UserGuard { users: self.clone(), user, conn }
    }

    /// Requests a disconnect for all sockets of a user. Returns the sockets to wake.
    #[must_use]
    pub fn request_disconnect(&self, disconnect: &ForcedDisconnect) -> Vec<ConnId> {
        let mut inner = self.0.lock();
        let sockets = inner.sockets.get(&disconnect.user).into_iter().flatten();
        let conns: Vec<ConnId> = sockets.map(|(conn, _)| *conn).collect();
        for conn in &conns {
            let pending = inner.pending_disconnects.entry(*conn).or_default();
            // A newer request for the same user replaces the older one.
            pending.retain(|previous| previous.user != disconnect.user);
            pending.push(disconnect.clone());
        }
        conns
    }

    /// The sockets on which a user acts.
    #[must_use]
    pub fn connections_of(&self, user: UserId) -> Vec<ConnId> {
        let inner = self.0.lock();
        inner.sockets.get(&user).into_iter().flatten().map(|(conn, _)| *conn).collect()
    }

    /// The users that act on a socket.
    #[must_use]
    pub fn users_of(&self, conn: ConnId) -> Vec<UserId> {
        self.0.lock().users.get(&conn).map(|users| users.to_vec()).unwrap_or_default()
    }

    /// Takes the disconnects requested for a socket.
    #[must_use]
    pub fn take_disconnects(&self, conn: ConnId) -> Vec<ForcedDisconnect> {
        self.0.lock().pending_disconnects.remove(&conn).unwrap_or_default()
    }

    fn unregister(&self, user: UserId, conn: ConnId) {
        let mut inner = self.0.lock();
        let Some(sockets) = inner.sockets.get_mut(&user) else { return };
        let Some(position) = sockets.iter().position(|(other, _)| *other == conn) else { return };
        sockets[position].1 -= 1;
        if sockets[position].1 > 0 {
            return;
        }
        sockets.swap_remove(position);
        if sockets.is_empty() {
            inner.sockets.remove(&user);
        }
        if let Some(users) = inner.users.get_mut(&conn) {
            users.retain(|other| *other != user);
            if users.is_empty() {
                inner.users.remove(&conn);
            }
        }
        if let Some(pending) = inner.pending_disconnects.get_mut(&conn) {
            pending.retain(|disconnect| disconnect.user != user);
            if pending.is_empty() {
                inner.pending_disconnects.remove(&conn);
            }
        }
    }
}

impl Drop for UserGuard {
    fn drop(&mut self) {
        self.users.unregister(self.user, self.conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disconnect_reaches_only_the_users_sockets() {
        let users = ChannelUsers::default();
        let (ada, bob) = (UserId::random(), UserId::random());
        let [one, two, three] = [1, 2, 3].map(|slot| ConnId::new(0, slot, 1));
        let _held = [users.register(ada, one), users.register(ada, one), users.register(ada, two)];
        let _other = [users.register(bob, two), users.register(bob, three)];

        let disconnect = ForcedDisconnect { user: ada, reason: "first".into() };
        assert_eq!(users.request_disconnect(&disconnect), [one, two]);
        let disconnect = ForcedDisconnect { user: ada, reason: "second".into() };
        assert_eq!(users.request_disconnect(&disconnect), [one, two]);
        assert_eq!(
            users.take_disconnects(one),
            std::slice::from_ref(&disconnect),
            "the latest request replaces the earlier one"
        );
        assert_eq!(users.take_disconnects(one), [], "requests are taken once");
        assert_eq!(users.take_disconnects(two), [disconnect]);
        assert_eq!(users.take_disconnects(three), []);
    }

    #[test]
    fn nothing_is_kept_after_the_last_guard_is_dropped() {
        let users = ChannelUsers::default();
        let (ada, one) = (UserId::random(), ConnId::new(0, 1, 1));
        let (opened, joined) = (users.register(ada, one), users.register(ada, one));
        drop(opened);
        let disconnect = ForcedDisconnect { user: ada, reason: "".into() };
        assert_eq!(users.request_disconnect(&disconnect), [one], "one channel remains");
        drop(joined);
        assert_eq!(users.request_disconnect(&disconnect), []);
        let inner = users.0.lock();
        assert!(inner.sockets.is_empty() && inner.users.is_empty() && inner.pending_disconnects.is_empty());
    }
}
