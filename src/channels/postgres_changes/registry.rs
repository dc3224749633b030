//! The subscriptions to changes on this node.
//!
//! Channels of one topic with equal bindings share a [`SubscriptionSpec`]; within it, channels of one principal are
//! checked together. The engine uses a [`RegistrySnapshot`], which is rebuilt only after a subscription was added or
//! removed.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::params::SubscriptionParams;
use crate::{
    auth::{Principal, Role},
    hub::ConnId,
    model::ChannelId,
};

/// Message that confirms a subscription; clients compare it.
pub const SUBSCRIBED_MESSAGE: &str = "Subscribed to PostgreSQL";
/// Minimum time between two equal errors to one channel.
const ERROR_REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Receives the `system` messages of a subscription (extension `postgres_changes`). Must not block.
pub trait SystemMessageSink: Send + Sync + 'static {
    /// Sends a message with status `ok` if `is_ok`, else `error`.
    fn send(&self, is_ok: bool, message: &str);
}

/// One `postgres_changes` entry of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Binding {
    /// ID of the entry in the reply to the join.
    pub id: u32,
    pub params: SubscriptionParams,
}

/// The topic and bindings of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SubscriptionSpec {
    /// Topic name without the prefix `realtime:`.
    pub topic: Arc<str>,
    /// The bindings, in the order of the join.
    pub bindings: Arc<[Binding]>,
    /// The topic name itself is the subscription: the event is the operation's name, and the payload is `data` alone.
    pub is_legacy: bool,
}

/// A channel that is subscribed to changes.
pub(super) struct SubscribedChannel {
    pub conn: ConnId,
    system_messages: Arc<dyn SystemMessageSink>,
    is_active: AtomicBool,
    /// The subscription was confirmed since the stream last started.
    is_confirmed: AtomicBool,
    recent_errors: Mutex<HashMap<String, Instant>>,
}

impl SubscribedChannel {
    /// Whether the channel has not been removed.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Acquire)
    }

    /// Sends an error, unless the channel received the same error within the last 10 seconds.
    pub(super) fn send_error_throttled(&self, message: &str) {
        let now = Instant::now();
        let mut recent = self.recent_errors.lock();
        recent.retain(|_, sent_at| now.duration_since(*sent_at) < ERROR_REPEAT_INTERVAL);
        if recent.insert(message.to_owned(), now).is_none() && self.is_active() {
            self.system_messages.send(false, message);
        }
    }

    /// Sends the confirmation, once per start of the stream.
    fn confirm(&self) {
        if !self.is_confirmed.swap(true, Ordering::AcqRel) && self.is_active() {
            self.system_messages.send(true, SUBSCRIBED_MESSAGE);
        }
    }
}

impl SubscribedChannel {
    fn new(conn: ConnId, system_messages: Arc<dyn SystemMessageSink>) -> Arc<Self> {
        Arc::new(Self {
            conn,
            system_messages,
            is_active: AtomicBool::new(true),
            is_confirmed: AtomicBool::new(false),
            recent_errors: Mutex::default(),
        })
    }
}

struct SubscriptionEntry {
    channel: Arc<SubscribedChannel>,
    spec: Arc<SubscriptionSpec>,
    principal: Arc<Principal>,
    /// Generation of the publication for which the subscription was last validated.
    generation: u64,
    /// Row errors that were sent, by table OID. Each is sent once per subscription.
    reported_errors: Arc<Mutex<HashSet<(u32, &'static str)>>>,
}

/// A subscription to a table that is not published, or no longer fits it. It becomes active when a validation succeeds.
struct DormantEntry {
    conn: ConnId,
    spec: Arc<SubscriptionSpec>,
    principal: Arc<Principal>,
    system_messages: Arc<dyn SystemMessageSink>,
    generation: u64,
    /// The error that was last sent.
    reason: String,
}

/// A subscription that is validated: channels with equal ones share the result.
pub(super) type SpecAndPrincipal = (Arc<SubscriptionSpec>, Arc<Principal>);

/// A channel in a [`SubscriptionGroup`].
#[derive(Clone)]
pub(super) struct Member {
    /// Index of its principal in [`RegistrySnapshot::principals`].
    pub principal: usize,
    pub channel: Arc<SubscribedChannel>,
    reported_errors: Arc<Mutex<HashSet<(u32, &'static str)>>>,
}

impl Member {
    /// Marks an error of a table as sent; returns true the first time.
    pub(super) fn mark_reported(&self, table: u32, error: &'static str) -> bool {
        self.reported_errors.lock().insert((table, error))
    }
}

/// The channels that share a specification.
pub(super) struct SubscriptionGroup {
    pub spec: Arc<SubscriptionSpec>,
    pub members: Vec<Member>,
}

/// The subscriptions at one moment.
#[derive(Default)]
pub(super) struct RegistrySnapshot {
    /// The principals, each one once.
    pub principals: Vec<Arc<Principal>>,
    /// The principals' user IDs in the text form of `uuid`. `None` if the `sub` claim is not a UUID; then only
    /// PostgreSQL can compare it.
    pub user_ids: Vec<Option<String>>,
    /// The principals' roles, each one once.
    pub roles: HashSet<Role>,
    /// Schema and table of the bindings; `*` is all.
    targets: HashSet<(Box<str>, Box<str>)>,
    pub groups: Vec<SubscriptionGroup>,
}

impl RegistrySnapshot {
    /// Whether a subscription includes a table.
    #[must_use]
    pub(super) fn includes_table(&self, schema: &str, table: &str) -> bool {
        let is_target = |schema: &str, table: &str| self.targets.contains(&(schema.into(), table.into()));
        is_target(schema, table) || is_target("*", table) || is_target(schema, "*") || is_target("*", "*")
    }
}

#[derive(Default)]
struct Inner {
    entries: HashMap<ChannelId, SubscriptionEntry>,
    dormant: HashMap<ChannelId, DormantEntry>,
    snapshot: Option<Arc<RegistrySnapshot>>,
    is_streaming: bool,
    empty_since: Option<Instant>,
}

impl Inner {
    /// Removes a channel and deactivates it, because an older snapshot or a lane may still refer to it.
    fn remove(&mut self, id: ChannelId) -> Option<SubscriptionEntry> {
        let entry = self.entries.remove(&id)?;
        entry.channel.is_active.store(false, Ordering::Release);
        self.snapshot = None;
        if self.entries.is_empty() {
            self.empty_since = Some(Instant::now());
        }
        Some(entry)
    }

    fn insert(&mut self, id: ChannelId, entry: SubscriptionEntry) {
        if self.is_streaming {
            entry.channel.confirm();
        }
        self.dormant.remove(&id);
        self.entries.insert(id, entry);
        self.snapshot = None;
    }
}

/// A subscription as operators see it.
pub struct SubscriptionInfo {
    pub conn: ConnId,
    pub channel: ChannelId,
    pub principal: Arc<Principal>,
    /// Whether changes are delivered; otherwise it waits for a table.
    pub is_active: bool,
    spec: Arc<SubscriptionSpec>,
}

impl SubscriptionInfo {
    /// Name of the topic without `realtime:`.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.spec.topic
    }

    /// What the subscription requests.
    pub fn params(&self) -> impl Iterator<Item = &SubscriptionParams> {
        self.spec.bindings.iter().map(|binding| &binding.params)
    }
}

/// The subscriptions on this node.
#[derive(Default)]
pub(super) struct SubscriptionRegistry(Mutex<Inner>);

impl SubscriptionRegistry {
    /// Adds a subscription. `reply` is called before any change can be delivered. The confirmation follows: at once
    /// if the stream runs, else when it starts.
    pub(super) fn register(
        &self,
        (id, conn): (ChannelId, ConnId),
        spec: SubscriptionSpec,
        (principal, generation): (Arc<Principal>, u64),
        system_messages: Arc<dyn SystemMessageSink>,
        reply: impl FnOnce(),
    ) {
        let channel = SubscribedChannel::new(conn, system_messages);
        let mut inner = self.0.lock();
        reply();
        let spec = Arc::new(spec);
        let reported_errors = Arc::default();
        inner.insert(id, SubscriptionEntry { channel, spec, principal, generation, reported_errors });
    }

    /// Adds a subscription that is not valid until the publication or a table changes. `reason` was sent to it.
    pub(super) fn add_dormant(
        &self,
        (id, conn): (ChannelId, ConnId),
        spec: SubscriptionSpec,
        (principal, generation): (Arc<Principal>, u64),
        system_messages: Arc<dyn SystemMessageSink>,
        reason: String,
    ) {
        let spec = Arc::new(spec);
        let entry = DormantEntry { conn, spec, principal, system_messages, generation, reason };
        self.0.lock().dormant.insert(id, entry);
    }

    /// The subscriptions, in no order.
    pub(super) fn list(&self) -> Vec<SubscriptionInfo> {
        let inner = self.0.lock();
        let active = inner
            .entries
            .iter()
            .map(|(id, entry)| (*id, entry.channel.conn, &entry.spec, &entry.principal, true));
        let dormant =
            inner.dormant.iter().map(|(id, entry)| (*id, entry.conn, &entry.spec, &entry.principal, false));
        active
            .chain(dormant)
            .map(|(channel, conn, spec, principal, is_active)| SubscriptionInfo {
                conn,
                channel,
                principal: Arc::clone(principal),
                is_active,
                spec: Arc::clone(spec),
            })
            .collect()
    }

    /// Replaces the principal of a channel and confirms the subscription again.
    pub(super) fn replace_principal(&self, id: ChannelId, principal: Arc<Principal>, generation: u64) {
        let mut inner = self.0.lock();
        let is_streaming = inner.is_streaming;
        let Some(entry) = inner.entries.get_mut(&id) else { return };
        entry.principal = principal;
        entry.generation = generation;
        entry.reported_errors = Arc::default();
        entry.channel.is_confirmed.store(false, Ordering::Release);
        if is_streaming {
            entry.channel.confirm();
        }
        inner.snapshot = None;
    }

    /// Removes a channel. It receives no message after this.
    pub(super) fn remove(&self, id: ChannelId) {
        let mut inner = self.0.lock();
        inner.remove(id);
        inner.dormant.remove(&id);
    }

    /// Confirms the subscriptions that are not confirmed; called when the stream starts.
    pub(super) fn on_stream_started(&self) {
        let mut inner = self.0.lock();
        inner.is_streaming = true;
        for entry in inner.entries.values() {
            entry.channel.confirm();
        }
    }

    /// Sends `reason` as an error to the confirmed subscriptions, which may miss changes from now on; called when the
    /// stream ends.
    pub(super) fn on_stream_interrupted(&self, reason: &str) {
        let mut inner = self.0.lock();
        inner.is_streaming = false;
        for SubscriptionEntry { channel, .. } in inner.entries.values() {
            if channel.is_confirmed.swap(false, Ordering::AcqRel) && channel.is_active() {
                channel.system_messages.send(false, reason);
            }
        }
    }

    /// Sends `reason` as an error and confirms again; called when changes were skipped while the stream continues.
    pub(super) fn on_changes_skipped(&self, reason: &str) {
        self.on_stream_interrupted(reason);
        self.on_stream_started();
    }

    /// The subscriptions that were last validated for another generation of the publication.
    pub(super) fn outdated(&self, generation: u64) -> HashSet<SpecAndPrincipal> {
        let inner = self.0.lock();
        let active = inner.entries.values().map(|entry| (entry.generation, &entry.spec, &entry.principal));
        let dormant = inner.dormant.values().map(|entry| (entry.generation, &entry.spec, &entry.principal));
        active
            .chain(dormant)
            .filter(|(validated, ..)| *validated != generation)
            .map(|(_, spec, principal)| (Arc::clone(spec), Arc::clone(principal)))
            .collect()
    }

    /// Applies validations for a generation of the publication: active subscriptions that were rejected become dormant
    /// and receive the reason, dormant ones that are valid become active and are confirmed. Returns whether one became
    /// active.
    pub(super) fn apply_validations(
        &self,
        results: &HashMap<SpecAndPrincipal, Result<Vec<Arc<str>>, String>>,
        generation: u64,
    ) -> bool {
        let mut inner = self.0.lock();
        let mut rejected = Vec::new();
        for (id, entry) in &mut inner.entries {
            match results.get(&(Arc::clone(&entry.spec), Arc::clone(&entry.principal))) {
                Some(Ok(_)) => entry.generation = generation,
                Some(Err(reason)) => rejected.push((*id, reason)),
                None => {}
            }
        }
        let mut accepted = Vec::new();
        for (id, entry) in &mut inner.dormant {
            match results.get(&(Arc::clone(&entry.spec), Arc::clone(&entry.principal))) {
                Some(Ok(limitations)) => accepted.push((*id, limitations)),
                Some(Err(reason)) => {
                    entry.generation = generation;
                    if entry.reason != *reason {
                        entry.reason.clone_from(reason);
                        entry.system_messages.send(false, reason);
                    }
                }
                None => {}
            }
        }
        for (id, reason) in rejected {
            let Some(SubscriptionEntry { channel, spec, principal, .. }) = inner.remove(id) else { continue };
            let system_messages = Arc::clone(&channel.system_messages);
            system_messages.send(false, reason);
            let (conn, reason) = (channel.conn, reason.clone());
            let entry = DormantEntry { conn, spec, principal, system_messages, generation, reason };
            inner.dormant.insert(id, entry);
        }
        let has_accepted = !accepted.is_empty();
        for (id, limitations) in accepted {
            let Some(entry) = inner.dormant.remove(&id) else { continue };
            let DormantEntry { conn, spec, principal, system_messages, .. } = entry;
            let channel = SubscribedChannel::new(conn, Arc::clone(&system_messages));
            let reported_errors = Arc::default();
            inner.insert(id, SubscriptionEntry { channel, spec, principal, generation, reported_errors });
            for limitation in limitations {
                system_messages.send(true, limitation);
            }
        }
        has_accepted
    }

    /// Whether there is neither an active nor a dormant subscription.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.0.lock();
        inner.entries.is_empty() && inner.dormant.is_empty()
    }

    /// Restarts the idle time because a subscription is about to be added.
    pub(super) fn restart_idle_timer(&self) {
        self.0.lock().empty_since = Some(Instant::now());
    }

    /// Whether a channel is subscribed.
    pub(super) fn contains(&self, id: ChannelId) -> bool {
        self.0.lock().entries.contains_key(&id)
    }

    /// Time since the last subscription ended; `None` while there are subscriptions.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let inner = self.0.lock();
        inner.entries.is_empty().then(|| inner.empty_since.map_or(Duration::MAX, |since| since.elapsed()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// The current subscriptions; cached until they change.
    pub(super) fn snapshot(&self) -> Arc<RegistrySnapshot> {
        let mut inner = self.0.lock();
        if let Some(snapshot) = &inner.snapshot {
            return Arc::clone(snapshot);
        }
        let mut snapshot = RegistrySnapshot::default();
        let mut principals = HashMap::new();
        let mut groups: HashMap<Arc<SubscriptionSpec>, usize> = HashMap::new();
        for entry in inner.entries.values() {
            let principal = *principals.entry(Arc::clone(&entry.principal)).or_insert_with(|| {
                snapshot.user_ids.push(entry.principal.user_id.map(|id| id.to_string()));
                snapshot.roles.insert(entry.principal.role.clone());
                snapshot.principals.push(Arc::clone(&entry.principal));
                snapshot.principals.len() - 1
            });
            let group = *groups.entry(Arc::clone(&entry.spec)).or_insert_with(|| {
                let targets = entry.spec.bindings.iter().map(|binding| &binding.params);
                snapshot.targets.extend(targets.map(|params| (params.schema.clone(), params.table.clone())));
                snapshot
                    .groups
                    .push(SubscriptionGroup { spec: Arc::clone(&entry.spec), members: Vec::new() });
                snapshot.groups.len() - 1
            });
            let reported_errors = Arc::clone(&entry.reported_errors);
            let member = Member { principal, channel: Arc::clone(&entry.channel), reported_errors };
            snapshot.groups[group].members.push(member);
        }
        let snapshot = Arc::new(snapshot);
        inner.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[derive(Default)]
    struct Messages(Mutex<Vec<String>>);

    impl SystemMessageSink for Messages {
        fn send(&self, _: bool, message: &str) {
            self.0.lock().push(message.to_owned());
        }
    }

    fn principal() -> Arc<Principal> {
        Arc::new(Principal::with_claims(Role::Anon, None, "{}".into()))
    }

    fn results(
        registry: &SubscriptionRegistry,
        generation: u64,
        result: &Result<Vec<Arc<str>>, String>,
    ) -> HashMap<SpecAndPrincipal, Result<Vec<Arc<str>>, String>> {
        registry.outdated(generation).into_iter().map(|key| (key, result.clone())).collect()
    }

    #[test]
    fn a_rejected_channel_is_inactive_in_older_snapshots_and_starts_the_idle_time() {
        let registry = SubscriptionRegistry::default();
        let spec = SubscriptionSpec { topic: "t".into(), bindings: [].into(), is_legacy: false };
        let messages = Arc::new(Messages::default());
        let ids = (ChannelId::next(), ConnId::new(0, 1, 0));
        registry.register(ids, spec, (principal(), 0), messages.clone(), || {});
        let snapshot = registry.snapshot();
        let channel = &snapshot.groups[0].members[0].channel;
        assert!(channel.is_active() && registry.idle_time().is_none());

        let reason = "the table is no longer published".to_owned();
        assert!(!registry.apply_validations(&results(&registry, 1, &Err(reason.clone())), 1));
        assert!(!channel.is_active());
        assert!(registry.idle_time().is_some_and(|idle| idle < Duration::from_secs(60)));
        channel.send_error_throttled("late");
        assert_eq!(*messages.0.lock(), [reason]);
    }

    #[test]
    fn a_dormant_channel_becomes_active_once_it_is_valid_unless_it_was_removed() {
        let registry = SubscriptionRegistry::default();
        registry.on_stream_started();
        let spec =
            |topic: &str| SubscriptionSpec { topic: topic.into(), bindings: [].into(), is_legacy: false };
        let messages = Arc::new(Messages::default());
        let dormant = |topic: &str| {
            let id = ChannelId::next();
            let reason = "unpublished".to_owned();
            let ids = (id, ConnId::new(0, 1, 0));
            registry.add_dormant(ids, spec(topic), (principal(), 0), messages.clone(), reason);
            id
        };
        let (kept, removed) = (dormant("kept"), dormant("removed"));
        assert!(registry.outdated(0).is_empty() && !registry.is_empty() && registry.idle_time().is_some());
        // An equal reason is not repeated.
        registry.apply_validations(&results(&registry, 1, &Err("unpublished".to_owned())), 1);
        assert!(registry.outdated(1).is_empty() && messages.0.lock().is_empty());
        let valid = results(&registry, 2, &Ok(vec!["a note".into()]));
        registry.remove(removed);
        assert!(registry.apply_validations(&valid, 2));
        assert!(registry.contains(kept) && registry.len() == 1);
        assert_eq!(*messages.0.lock(), [SUBSCRIBED_MESSAGE, "a note"]);
    }
}
