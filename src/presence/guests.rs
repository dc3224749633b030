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
pub struct Dismissal {
    /// Who.
    pub user: UserId,
    /// What the user is told.
    pub reason: Arc<str>,
}

/// The users behind the channel sockets of this node. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Guests(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    /// On which sockets a user acts, and how often on each: nearly everybody on one.
    sockets: HashMap<UserId, SmallVec<[(ConnId, u32); 1]>>,
    /// What sockets have not heard yet. No longer than there is somebody whom it is about.
    dismissals: HashMap<ConnId, Vec<Dismissal>>,
}

/// Somebody acts as a user on a socket, until this is dropped.
#[derive(Debug)]
#[must_use = "the user is gone when this is dropped"]
pub struct Guest {
    guests: Guests,
    user: UserId,
    conn: ConnId,
}

impl Guests {
    /// Somebody acts as a user on a socket from now on.
    pub fn enter(&self, user: UserId, conn: ConnId) -> Guest {
        let mut book = self.0.lock();
        let sockets = book.sockets.entry(user).or_default();
        match sockets.iter_mut().find(|(known, _)| *known == conn) {
            Some((_, times)) => *times += 1,
            None => sockets.push((conn, 1)),
        }
        Guest { guests: self.clone(), user, conn }
    }

    /// Leaves word for the sockets on which a user acts; returns which, so that they are woken.
    #[must_use]
    pub fn dismiss(&self, dismissal: &Dismissal) -> Vec<ConnId> {
        let mut book = self.0.lock();
        let sockets = book.sockets.get(&dismissal.user).into_iter().flatten();
        let conns: Vec<ConnId> = sockets.map(|(conn, _)| *conn).collect();
        for conn in &conns {
            let waiting = book.dismissals.entry(*conn).or_default();
            // The last word about a user counts.
            waiting.retain(|earlier| earlier.user != dismissal.user);
            waiting.push(dismissal.clone());
        }
        conns
    }

    /// What a socket has not heard yet.
    #[must_use]
    pub fn word_for(&self, conn: ConnId) -> Vec<Dismissal> {
        self.0.lock().dismissals.remove(&conn).unwrap_or_default()
    }

    fn leave(&self, user: UserId, conn: ConnId) {
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
        if let Some(waiting) = book.dismissals.get_mut(&conn) {
            waiting.retain(|dismissal| dismissal.user != user);
            if waiting.is_empty() {
                book.dismissals.remove(&conn);
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.leave(self.user, self.conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_reaches_the_sockets_on_which_a_user_acts_and_no_other() {
        let guests = Guests::default();
        let (ada, bob) = (UserId::random(), UserId::random());
        let [one, two, three] = [1, 2, 3].map(|slot| ConnId::new(0, slot, 1));
        let _held = [guests.enter(ada, one), guests.enter(ada, one), guests.enter(ada, two)];
        let _other = [guests.enter(bob, two), guests.enter(bob, three)];

        let dismissal = Dismissal { user: ada, reason: "first".into() };
        assert_eq!(guests.dismiss(&dismissal), [one, two]);
        let dismissal = Dismissal { user: ada, reason: "second".into() };
        assert_eq!(guests.dismiss(&dismissal), [one, two]);
        assert_eq!(guests.word_for(one), std::slice::from_ref(&dismissal), "the last word counts");
        assert_eq!(guests.word_for(one), [], "and is heard once");
        assert_eq!(guests.word_for(two), [dismissal]);
        assert_eq!(guests.word_for(three), []);
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let guests = Guests::default();
        let (ada, one) = (UserId::random(), ConnId::new(0, 1, 1));
        let (opened, joined) = (guests.enter(ada, one), guests.enter(ada, one));
        drop(opened);
        let dismissal = Dismissal { user: ada, reason: "".into() };
        assert_eq!(guests.dismiss(&dismissal), [one], "a channel is left");
        drop(joined);
        assert_eq!(guests.dismiss(&dismissal), []);
        let book = guests.0.lock();
        assert!(book.sockets.is_empty() && book.dismissals.is_empty());
    }
}
