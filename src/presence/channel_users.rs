//! Whose channel sockets are open on this node: what an administrator's word to a user goes by there.
//!
//! Sockets of presence are in the [roster](super::roster), by device. A channel socket has no device, and may act as
//! several users: as whoever opened it, and in each channel as the holder of the token that the join brought.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{hub::ConnId, model::UserId};

/// A user whose sockets an administrator ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedDisconnect {
    /// Who.
    pub user: UserId,
    /// What the user is told.
    pub reason: Arc<str>,
}

/// The users behind the channel sockets of this node. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ChannelUsers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// On which sockets a user acts, and how often on each: nearly everybody on one.
    sockets: HashMap<UserId, SmallVec<[(ConnId, u32); 1]>>,
    /// What sockets have not heard yet. No longer than there is somebody whom it is about.
    pending_disconnects: HashMap<ConnId, Vec<ForcedDisconnect>>,
}

/// Somebody acts as a user on a socket, until this is dropped.
#[derive(Debug)]
#[must_use = "the user is gone when this is dropped"]
pub struct UserGuard {
    users: ChannelUsers,
    user: UserId,
    conn: ConnId,
}

impl ChannelUsers {
    /// Somebody acts as a user on a socket from now on.
    pub fn register(&self, user: UserId, conn: ConnId) -> UserGuard {
        let mut book = self.0.lock();
        let sockets = book.sockets.entry(user).or_default();
        match sockets.iter_mut().find(|(known, _)| *known == conn) {
            Some((_, times)) => *times += 1,
            None => sockets.push((conn, 1)),
        }
        UserGuard { users: self.clone(), user, conn }
    }

    /// Leaves word for the sockets on which a user acts; returns which, so that they are woken.
    #[must_use]
    pub fn request_disconnect(&self, dismissal: &ForcedDisconnect) -> Vec<ConnId> {
        let mut book = self.0.lock();
        let sockets = book.sockets.get(&dismissal.user).into_iter().flatten();
        let conns: Vec<ConnId> = sockets.map(|(conn, _)| *conn).collect();
        for conn in &conns {
            let waiting = book.pending_disconnects.entry(*conn).or_default();
            // The last word about a user counts.
            waiting.retain(|earlier| earlier.user != dismissal.user);
            waiting.push(dismissal.clone());
        }
        conns
    }

    /// What a socket has not heard yet.
    #[must_use]
    pub fn take_disconnects(&self, conn: ConnId) -> Vec<ForcedDisconnect> {
        self.0.lock().pending_disconnects.remove(&conn).unwrap_or_default()
    }

    fn unregister(&self, user: UserId, conn: ConnId) {
        let mut book = self.0.lock();
        let Some(sockets) = book.sockets.get_mut(&user) else { return };
        let Some(place) = sockets.iter().position(|(known, _)| *known == conn) else { return };
        sockets[place].1 -= 1;
        if sockets[place].1 > 0 {
            return;
        }
        sockets.swap_remove(place);
        if sockets.is_empty() {
            book.sockets.remove(&user);
        }
        if let Some(waiting) = book.pending_disconnects.get_mut(&conn) {
            waiting.retain(|dismissal| dismissal.user != user);
            if waiting.is_empty() {
                book.pending_disconnects.remove(&conn);
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
        let guests = ChannelUsers::default();
        let (ada, bob) = (UserId::random(), UserId::random());
        let [one, two, three] = [1, 2, 3].map(|slot| ConnId::new(0, slot, 1));
        let _held = [guests.register(ada, one), guests.register(ada, one), guests.register(ada, two)];
        let _other = [guests.register(bob, two), guests.register(bob, three)];

        let dismissal = ForcedDisconnect { user: ada, reason: "first".into() };
        assert_eq!(guests.request_disconnect(&dismissal), [one, two]);
        let dismissal = ForcedDisconnect { user: ada, reason: "second".into() };
        assert_eq!(guests.request_disconnect(&dismissal), [one, two]);
        assert_eq!(guests.take_disconnects(one), std::slice::from_ref(&dismissal), "the last word counts");
        assert_eq!(guests.take_disconnects(one), [], "and is heard once");
        assert_eq!(guests.take_disconnects(two), [dismissal]);
        assert_eq!(guests.take_disconnects(three), []);
    }

    #[test]
    fn nothing_is_kept_after_the_last_guard_is_dropped() {
        let guests = ChannelUsers::default();
        let (ada, one) = (UserId::random(), ConnId::new(0, 1, 1));
        let (opened, joined) = (guests.register(ada, one), guests.register(ada, one));
        drop(opened);
        let dismissal = ForcedDisconnect { user: ada, reason: "".into() };
        assert_eq!(guests.request_disconnect(&dismissal), [one], "a channel is left");
        drop(joined);
        assert_eq!(guests.request_disconnect(&dismissal), []);
        let book = guests.0.lock();
        assert!(book.sockets.is_empty() && book.pending_disconnects.is_empty());
    }
}
