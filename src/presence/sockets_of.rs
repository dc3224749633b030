//! Which sockets on this node belong to whom.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    hub::ConnId,
    model::{DeviceId, UserId},
};

/// A user's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// By which the hub delivers to it, and can close it.
    pub conn: ConnId,
    /// The device that it is of.
    pub device: DeviceId,
}

/// A handle to the sockets of this node, by user. Whoever has no socket takes no room.
#[derive(Debug, Clone, Default)]
pub struct UserSockets(Arc<Mutex<HashMap<UserId, SmallVec<[Seat; 1]>>>>);

impl UserSockets {
    /// A socket opened.
    pub fn seat(&self, user: UserId, device: &DeviceId, conn: ConnId) {
        self.0.lock().entry(user).or_default().push(Seat { conn, device: device.clone() });
    }

    /// A socket says that it is of another device.
    pub fn move_to(&self, user: UserId, device: &DeviceId, conn: ConnId) {
        let mut sockets = self.0.lock();
        let seats = sockets.get_mut(&user).into_iter().flatten();
        seats.filter(|seat| seat.conn == conn).for_each(|seat| seat.device = device.clone());
    }

    /// A socket closed.
    pub fn leave(&self, user: UserId, conn: ConnId) {
        let mut sockets = self.0.lock();
        if let Some(seats) = sockets.get_mut(&user) {
            seats.retain(|seat| seat.conn != conn);
            if seats.is_empty() {
                sockets.remove(&user);
            }
        }
    }

    /// All sockets of a user here.
    #[must_use]
    pub fn of(&self, user: UserId) -> Vec<Seat> {
        self.0.lock().get(&user).map(|seats| seats.to_vec()).unwrap_or_default()
    }

    /// Whether a user has a socket here.
    #[must_use]
    pub fn has(&self, user: UserId) -> bool {
        self.0.lock().contains_key(&user)
    }

    /// Everybody who has a socket here, in no order.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.0.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_sockets_are_found_until_they_leave() {
        let sockets = UserSockets::default();
        let (user, conn, other) = (UserId::random(), ConnId::for_test(1), ConnId::for_test(2));
        let (web, phone) = (DeviceId::unnamed(), DeviceId::try_from("phone").expect("is an id"));

        sockets.seat(user, &web, conn);
        sockets.seat(user, &web, other);
        sockets.move_to(user, &phone, other);
        assert_eq!(
            sockets.of(user),
            [Seat { conn, device: web.clone() }, Seat { conn: other, device: phone }]
        );
        assert_eq!(sockets.of(UserId::random()), []);

        sockets.leave(user, other);
        sockets.leave(user, other);
        assert_eq!(sockets.of(user), [Seat { conn, device: web }]);
        sockets.leave(user, conn);
        assert!(!sockets.has(user) && sockets.users().is_empty());
    }
}
