//! Whose sockets are open on this node: from a user to connections.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    hub::ConnId,
    model::{DeviceId, UserId},
};

/// A socket and the device that it speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSocket {
    /// The socket.
    pub conn: ConnId,
    /// The device.
    pub device: DeviceId,
}

/// Nearly everybody has one socket: that one lies in the map itself.
type DeviceSockets = SmallVec<[DeviceSocket; 1]>;

/// The open sockets of each user here. Clones share it.
#[derive(Clone, Default)]
pub struct UserIndex(Arc<Mutex<HashMap<UserId, DeviceSockets>>>);

impl UserIndex {
    /// A socket opened.
    pub fn add(&self, user: UserId, device: &DeviceId, conn: ConnId) {
        self.0.lock().entry(user).or_default().push(DeviceSocket { conn, device: device.clone() });
    }

    /// A socket closed.
    pub fn remove(&self, user: UserId, conn: ConnId) {
        let mut users = self.0.lock();
        let Some(seats) = users.get_mut(&user) else { return };
        seats.retain(|seat| seat.conn != conn);
        if seats.is_empty() {
            users.remove(&user);
        }
    }

    /// The sockets of some users.
    #[must_use]
    pub fn connections_of(&self, users: &[UserId]) -> Vec<ConnId> {
        let seated = self.0.lock();
        let seats = users.iter().filter_map(|user| seated.get(user)).flatten();
        seats.map(|seat| seat.conn).collect()
    }

    /// A user's sockets on one device, or on all.
    #[must_use]
    pub fn connections_on(&self, user: UserId, device: Option<&DeviceId>) -> Vec<ConnId> {
        let seated = self.0.lock();
        let seats = seated.get(&user).into_iter().flatten();
        seats
            .filter(|seat| device.is_none_or(|device| seat.device == *device))
            .map(|seat| seat.conn)
            .collect()
    }

    /// A socket speaks for another device from now on.
    pub fn set_device(&self, user: UserId, device: &DeviceId, conn: ConnId) {
        let mut users = self.0.lock();
        let seats = users.get_mut(&user).into_iter().flatten();
        seats.filter(|seat| seat.conn == conn).for_each(|seat| seat.device = device.clone());
    }

    /// A user's sockets with their devices.
    #[must_use]
    pub fn sockets(&self, user: UserId) -> Vec<DeviceSocket> {
        self.0.lock().get(&user).map(|seats| seats.to_vec()).unwrap_or_default()
    }

    /// Whether a user has a socket here.
    #[must_use]
    pub fn is_connected(&self, user: UserId) -> bool {
        self.0.lock().contains_key(&user)
    }

    /// Everybody who has a socket here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.0.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId::try_from(name).expect("is an id")
    }

    #[test]
    fn sockets_are_found_by_user_and_device_until_removed() {
        let roster = UserIndex::default();
        let (ada, bob) = (UserId::random(), UserId::random());
        let [one, two, three] = [1, 2, 3].map(|slot| ConnId::new(0, slot, 1));
        roster.add(ada, &device("web"), one);
        roster.add(ada, &device("phone"), two);
        roster.add(bob, &device("web"), three);

        assert_eq!(roster.connections_of(&[ada, bob, UserId::random()]), [one, two, three]);
        assert_eq!(roster.connections_on(ada, Some(&device("phone"))), [two]);
        assert_eq!(roster.connections_on(ada, None), [one, two]);

        roster.set_device(ada, &device("tablet"), two);
        assert_eq!(roster.sockets(ada)[1], DeviceSocket { conn: two, device: device("tablet") });
        roster.remove(ada, one);
        roster.remove(ada, one);
        roster.remove(ada, two);
        assert_eq!(roster.connections_of(&[ada, bob]), [three]);
        assert_eq!(roster.0.lock().len(), 1, "who has no socket takes no room");
    }
}
