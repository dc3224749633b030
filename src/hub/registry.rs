//! The connections of a shard by slot, and the tick of each one's next check. The shard's lock protects this data.

use std::sync::Arc;

use super::keepalive::PingState;
use super::{ConnId, timer_wheel::TimerWheel};

/// The connections of one shard. Generic over the connection, so that tests need no sockets.
#[derive(Debug)]
pub(super) struct Registry<C> {
    shard: u8,
    slots: Vec<Slot<C>>,
    free: Vec<u32>,
    /// The epoch of the next connection. 0 is never used.
    epoch: u32,
    wheel: TimerWheel<ConnId>,
    len: usize,
}

#[derive(Debug)]
struct Slot<C> {
    /// The epoch of the current or the last connection in this slot.
    epoch: u32,
    connection: Option<Arc<C>>,
    ping_state: PingState,
    /// The tick of the valid wheel entry. Entries with another tick are stale.
    next_check: u64,
}

/// Slots of the wheel. With ticks of 500 ms they cover 64 s, longer than the default heartbeat looks ahead.
const WHEEL_SLOTS: usize = 128;

impl<C> Registry<C> {
    pub(super) fn new(shard: u8) -> Self {
        Self {
            shard,
            slots: Vec::new(),
            free: Vec::new(),
            epoch: 1,
            wheel: TimerWheel::new(WHEEL_SLOTS),
            len: 0,
        }
    }

    /// Number of open connections.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Creates a connection with its ID and schedules its first check at `tick`. `None` if all slots are occupied.
    pub(super) fn insert(&mut self, tick: u64, make: impl FnOnce(ConnId) -> C) -> Option<Arc<C>> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => u32::try_from(self.slots.len()).ok().filter(|slot| *slot < ConnId::MAX_SLOTS)?,
        };
        let epoch = self.epoch;
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        let id = ConnId::new(self.shard, slot, epoch);
        let connection = Arc::new(make(id));
        let next_check = self.wheel.schedule(tick, id);
        let occupied = Slot {
            epoch,
            connection: Some(Arc::clone(&connection)),
            ping_state: PingState::default(),
            next_check,
        };
        match self.slots.get_mut(id.slot()) {
            Some(free) => *free = occupied,
            None => self.slots.push(occupied),
        }
        self.len += 1;
        Some(connection)
    }

    /// Frees the slot if it still holds this connection.
    pub(super) fn remove(&mut self, id: ConnId) {
        let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.epoch == id.epoch()) else {
            return;
        };
        if slot.connection.take().is_some() {
            #[expect(clippy::cast_possible_truncation, reason = "a slot has 24 bits")]
            self.free.push(id.slot() as u32);
            self.len -= 1;
        }
    }

    /// The connection with this ID, if it is still open.
    pub(super) fn get(&self, id: ConnId) -> Option<&Arc<C>> {
        self.slots.get(id.slot()).filter(|slot| slot.epoch == id.epoch())?.connection.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<C>> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }

    /// Makes sure that the connection is checked at `tick` or earlier.
    pub(super) fn check_by(&mut self, id: ConnId, tick: u64) {
        let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.epoch == id.epoch()) else {
            return;
        };
        if tick < slot.next_check && slot.connection.is_some() {
            slot.next_check = self.wheel.schedule(tick, id);
        }
    }

    /// Checks every connection due up to `tick`. `check` returns the tick of the next check.
    pub(super) fn check_due(&mut self, tick: u64, mut check: impl FnMut(&Arc<C>, &mut PingState) -> u64) {
        let slots = &mut self.slots;
        let mut rescheduled = Vec::new();
        self.wheel.advance(tick, |tick, id| {
            let Some(slot) = slots.get_mut(id.slot()).filter(|slot| slot.epoch == id.epoch()) else {
                return;
            };
            let Some(connection) = slot.connection.as_ref().filter(|_| slot.next_check == tick) else {
                return;
            };
            rescheduled.push((check(connection, &mut slot.ping_state), id));
        });
        for (tick, id) in rescheduled {
            let scheduled = self.wheel.schedule(tick, id);
            if let Some(slot) = self.slots.get_mut(id.slot()) {
                slot.next_check = scheduled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(registry: &mut Registry<ConnId>, tick: u64) -> ConnId {
        *registry.insert(tick, |id| id).expect("a free slot")
    }

    fn checked(registry: &mut Registry<ConnId>, tick: u64, next: u64) -> Vec<ConnId> {
        let mut seen = Vec::new();
        registry.check_due(tick, |id, _| {
            seen.push(**id);
            next
        });
        seen
    }

    #[test]
    fn an_old_id_never_reaches_the_slots_new_connection() {
        let mut registry = Registry::new(3);
        let old = insert(&mut registry, 1);
        registry.remove(old);
        registry.remove(old);
        let new = insert(&mut registry, 1);
        assert_eq!((old.slot(), new.shard()), (new.slot(), 3));
        assert!(registry.get(old).is_none());
        registry.remove(old);
        assert!(registry.get(new).is_some());
        assert_eq!((registry.len(), registry.iter().count()), (1, 1));
    }

    #[test]
    fn each_connection_is_checked_once_per_round() {
        let mut registry = Registry::new(0);
        let a = insert(&mut registry, 2);
        let b = insert(&mut registry, 3);
        assert_eq!(checked(&mut registry, 2, 9), [a]);
        assert_eq!(checked(&mut registry, 8, 9), [b]);
        assert_eq!(checked(&mut registry, 9, 20), [a, b]);
    }

    #[test]
    fn an_earlier_check_replaces_the_later_one() {
        let mut registry = Registry::new(0);
        let a = insert(&mut registry, 50);
        registry.check_by(a, 5);
        registry.check_by(a, 60);
        assert_eq!(checked(&mut registry, 5, 70), [a]);
        assert_eq!(checked(&mut registry, 69, 100), []);
        assert_eq!(checked(&mut registry, 70, 100), [a]);
    }

    #[test]
    fn removed_connections_are_not_checked() {
        let mut registry = Registry::new(0);
        let a = insert(&mut registry, 2);
        registry.remove(a);
        let b = insert(&mut registry, 4);
        assert_eq!(checked(&mut registry, 3, 9), []);
        assert_eq!(checked(&mut registry, 4, 9), [b]);
    }
}
