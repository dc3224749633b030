//! Index from users to their open sockets on this node.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    hub::ConnId,
    model::{DeviceId, UserId},
};

/// A socket and its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSocket {
    pub conn: ConnId,
    pub device: DeviceId,
}

/// Inline capacity 1, because almost all users have one socket.
type DeviceSockets = SmallVec<[DeviceSocket; 1]>;

/// The open sockets of each user on this node. Clones share the index.
#[derive(Clone, Default)]
pub struct UserIndex {
    sockets: Arc<Mutex<HashMap<UserId, DeviceSockets>>>,
    /// The user of each socket, about 40 bytes for each.
    owners: Arc<Mutex<HashMap<ConnId, UserId>>>,
}

impl UserIndex {
    /// Adds an opened socket.
    pub fn add(&self, user: UserId, device: &DeviceId, conn: ConnId) {
        self.sockets.lock().entry(user).or_default().push(DeviceSocket { conn, device: device.clone() });
        self.owners.lock().insert(conn, user);
    }

    /// Removes a closed socket.
    pub fn remove(&self, user: UserId, conn: ConnId) {
        self.owners.lock().remove(&conn);
        let mut users = self.sockets.lock();
        let Some(sockets) = users.get_mut(&user) else { return };
        sockets.retain(|socket| socket.conn != conn);
        if sockets.is_empty() {
            users.remove(&user);
        }
    }

    /// The sockets of the given users.
    #[must_use]
    pub fn connections_of(&self, users: &[UserId]) -> Vec<ConnId> {
        let users_by_id = self.sockets.lock();
        let sockets = users.iter().filter_map(|user| users_by_id.get(user)).flatten();
        sockets.map(|socket| socket.conn).collect()
    }

    /// A user's sockets on one device, or on all devices.
    #[must_use]
    pub fn connections_on(&self, user: UserId, device: Option<&DeviceId>) -> Vec<ConnId> {
        let users_by_id = self.sockets.lock();
        let sockets = users_by_id.get(&user).into_iter().flatten();
        sockets
            .filter(|socket| device.is_none_or(|device| socket.device == *device))
            .map(|socket| socket.conn)
            .collect()
    }

    /// Assigns a socket to another device.
    pub fn set_device(&self, user: UserId, device: &DeviceId, conn: ConnId) {
        let mut users = self.sockets.lock();
        let sockets = users.get_mut(&user).into_iter().flatten();
        sockets.filter(|socket| socket.conn == conn).for_each(|socket| socket.device = device.clone());
    }

    /// A user's sockets with their devices.
    #[must_use]
    pub fn sockets(&self, user: UserId) -> Vec<DeviceSocket> {
        self.sockets.lock().get(&user).map(|sockets| sockets.to_vec()).unwrap_or_default()
    }

    /// The user and device of a socket.
    #[must_use]
    pub fn owner(&self, conn: ConnId) -> Option<(UserId, DeviceId)> {
        let user = *self.owners.lock().get(&conn)?;
        let sockets = self.sockets.lock();
        let socket = sockets.get(&user)?.iter().find(|socket| socket.conn == conn)?;
        Some((user, socket.device.clone()))
    }

    /// Whether the user has a socket on this node.
    #[must_use]
    pub fn is_connected(&self, user: UserId) -> bool {
        self.sockets.lock().contains_key(&user)
    }

    /// All users with a socket on this node.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.sockets.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId::try_from(name).expect("a valid ID")
    }

    #[test]
    fn sockets_are_found_by_user_and_device_until_removed() {
        let index = UserIndex::default();
        let (ada, bob) = (UserId::random(), UserId::random());
        let [one, two, three] = [1, 2, 3].map(|slot| ConnId::new(0, slot, 1));
        index.add(ada, &device("web"), one);
        index.add(ada, &device("phone"), two);
        index.add(bob, &device("web"), three);

        assert_eq!(index.connections_of(&[ada, bob, UserId::random()]), [one, two, three]);
        assert_eq!(index.connections_on(ada, Some(&device("phone"))), [two]);
        assert_eq!(index.connections_on(ada, None), [one, two]);

        index.set_device(ada, &device("tablet"), two);
        assert_eq!(index.sockets(ada)[1], DeviceSocket { conn: two, device: device("tablet") });
        assert_eq!(index.owner(two), Some((ada, device("tablet"))));
        index.remove(ada, one);
        index.remove(ada, one);
        index.remove(ada, two);
        assert_eq!(index.connections_of(&[ada, bob]), [three]);
        assert_eq!((index.owner(two), index.owners.lock().len()), (None, 1));
        assert_eq!(index.sockets.lock().len(), 1, "users without sockets are removed");
    }
}
