//! Bounds on subscriptions: the number of entries and the bytes of their parameters, per connection, user and node.
//!
//! A [`Reservation`] counts until it is dropped, so a bound is free again as soon as its subscription ends. [`Shares`]
//! counts for other bounds of the same kind too.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;

use crate::{hub::ConnId, settings::small_count};

/// Bytes of parameters per permitted entry, on average.
const BYTES_PER_ENTRY: usize = 1_024;

/// Maximum numbers of `postgres_changes` entries. The parameters of the entries may have 1 KiB on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Channels")]
pub struct SubscriptionLimits {
    /// Maximum number of postgres_changes entries on one connection, with 1 KiB of parameters each on average
    #[arg(
        id = "realtime-max-changes-per-client",
        long = "realtime-max-changes-per-client",
        env = "REALTIME_MAX_CHANGES_PER_CLIENT",
        default_value = "500",
        value_parser = small_count::<usize>(1..=1_000_000)
    )]
    pub per_client: usize,
    /// Maximum number of postgres_changes entries of one user on a node; users are told apart by the claim sub
    #[arg(
        id = "realtime-max-changes-per-user",
        long = "realtime-max-changes-per-user",
        env = "REALTIME_MAX_CHANGES_PER_USER",
        default_value = "5000",
        value_parser = small_count::<usize>(1..=1_000_000)
    )]
    pub per_user: usize,
    /// Maximum number of postgres_changes entries on a node
    #[arg(
        id = "realtime-max-changes-per-node",
        long = "realtime-max-changes-per-node",
        env = "REALTIME_MAX_CHANGES_PER_NODE",
        default_value = "100000",
        value_parser = small_count::<usize>(1..=100_000_000)
    )]
    pub per_node: usize,
}

/// A bound that a subscription exceeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{code}: {holder} may hold {max_entries} postgres_changes entries with {max_bytes} bytes of parameters \
     ({setting}); this subscription needs {entries} entries and {bytes} bytes more than the {used_entries} entries and \
     {used_bytes} bytes in use. Leave channels that you do not need, or use fewer and shorter filters."
)]
pub(super) struct BudgetError {
    code: &'static str,
    holder: &'static str,
    setting: &'static str,
    max_entries: usize,
    max_bytes: usize,
    entries: usize,
    bytes: usize,
    used_entries: usize,
    used_bytes: usize,
}

/// Number of entries and bytes that a holder has, or asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub entries: usize,
    pub bytes: usize,
}

/// What a bound applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Connection,
    User,
    Node,
}

impl Amount {
    const fn plus(self, other: Self) -> Self {
        Self { entries: self.entries + other.entries, bytes: self.bytes + other.bytes }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

#[derive(Default)]
struct Usage {
    by_conn: HashMap<ConnId, Amount>,
    by_user: HashMap<Box<str>, Amount>,
    node: Amount,
}

/// What connections, users and the node have reserved.
#[derive(Default)]
pub(super) struct Shares(Mutex<Usage>);

/// The share of one holder, returned when dropped.
pub(super) struct Reservation {
    shares: Arc<Shares>,
    conn: ConnId,
    user: Option<Box<str>>,
    amount: Amount,
}

impl Shares {
    /// Reserves an amount for a connection, its user and the node. `check` is called with what each has already.
    ///
    /// # Errors
    /// The first error of `check`; then nothing is reserved.
    pub(super) fn reserve<E>(
        self: &Arc<Self>,
        conn: ConnId,
        user: Option<&str>,
        amount: Amount,
        check: impl Fn(Holder, Amount) -> Result<(), E>,
    ) -> Result<Reservation, E> {
        let mut usage = self.0.lock();
        check(Holder::Connection, usage.by_conn.get(&conn).copied().unwrap_or_default())?;
        if let Some(user) = user {
            check(Holder::User, usage.by_user.get(user).copied().unwrap_or_default())?;
        }
        check(Holder::Node, usage.node)?;
        usage.node = usage.node.plus(amount);
        let by_conn = usage.by_conn.entry(conn).or_default();
        *by_conn = by_conn.plus(amount);
        if let Some(user) = user {
            let by_user = usage.by_user.entry(user.into()).or_default();
            *by_user = by_user.plus(amount);
        }
        Ok(Reservation { shares: Arc::clone(self), conn, user: user.map(Box::from), amount })
    }
}

/// What the subscriptions of this node use.
pub(super) struct SubscriptionBudget {
    limits: SubscriptionLimits,
    shares: Arc<Shares>,
}

impl SubscriptionBudget {
    #[must_use]
    pub(super) fn new(limits: SubscriptionLimits) -> Self {
        Self { limits, shares: Arc::default() }
    }

    /// Reserves a share for a subscription.
    ///
    /// # Errors
    /// If a bound of the connection, the user or the node would be exceeded.
    pub(super) fn reserve(
        &self,
        conn: ConnId,
        user: Option<&str>,
        entries: usize,
        bytes: usize,
    ) -> Result<Reservation, BudgetError> {
        let needed = Amount { entries, bytes };
        self.shares.reserve(conn, user, needed, |holder, used| self.check(holder, used, needed))
    }

    fn check(&self, holder: Holder, used: Amount, needed: Amount) -> Result<(), BudgetError> {
        let (code, name, setting, max_entries) = match holder {
            Holder::Connection => (
                "too_many_changes_per_client",
                "a connection",
                "REALTIME_MAX_CHANGES_PER_CLIENT",
                self.limits.per_client,
            ),
            Holder::User => {
                ("too_many_changes_per_user", "a user", "REALTIME_MAX_CHANGES_PER_USER", self.limits.per_user)
            }
            Holder::Node => {
                ("too_many_changes_per_node", "a node", "REALTIME_MAX_CHANGES_PER_NODE", self.limits.per_node)
            }
        };
        let max_bytes = max_entries.saturating_mul(BYTES_PER_ENTRY);
        let total = used.plus(needed);
        if total.entries <= max_entries && total.bytes <= max_bytes {
            return Ok(());
        }
        Err(BudgetError {
            code,
            holder: name,
            setting,
            max_entries,
            max_bytes,
            entries: needed.entries,
            bytes: needed.bytes,
            used_entries: used.entries,
            used_bytes: used.bytes,
        })
    }

    /// Bytes of parameters of all subscriptions.
    #[must_use]
    pub(super) fn used_bytes(&self) -> usize {
        self.shares.0.lock().node.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = self.shares.0.lock();
        usage.node = usage.node.minus(self.amount);
        release(&mut usage.by_conn, &self.conn, self.amount);
        if let Some(user) = &self.user {
            release(&mut usage.by_user, user, self.amount);
        }
    }
}

/// Returns a share; an owner without shares takes no memory.
fn release<K: Eq + Hash>(amounts: &mut HashMap<K, Amount>, key: &K, amount: Amount) {
    if let Some(used) = amounts.get_mut(key) {
        *used = used.minus(amount);
        if *used == Amount::default() {
            amounts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_per_client_user_and_node_and_are_returned() {
        let limits = SubscriptionLimits { per_client: 2, per_user: 3, per_node: 4 };
        let budget = SubscriptionBudget::new(limits);
        let conn = |n| ConnId::new(0, n, 0);
        let refused = |conn, user, entries, bytes| {
            budget
                .reserve(conn, user, entries, bytes)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let first = budget.reserve(conn(1), Some("a"), 2, 100).unwrap();
        assert!(
            refused(conn(1), Some("a"), 1, 0)
                .starts_with("too_many_changes_per_client: a connection may hold 2")
        );
        assert!(refused(conn(2), Some("b"), 1, 2_049).contains("2048 bytes of parameters"));
        let second = budget.reserve(conn(2), Some("a"), 1, 100).unwrap();
        assert!(refused(conn(3), Some("a"), 1, 0).starts_with("too_many_changes_per_user"));
        let third = budget.reserve(conn(3), None, 1, 100).unwrap();
        assert!(refused(conn(4), None, 1, 0).starts_with("too_many_changes_per_node"));
        assert_eq!(budget.used_bytes(), 300);
        drop((first, second, third));
        assert_eq!(budget.used_bytes(), 0);
        let usage = budget.shares.0.lock();
        assert!(usage.by_conn.is_empty() && usage.by_user.is_empty());
    }
}
