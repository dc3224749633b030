//! Who has asked for which changes here.
//!
//! Channels that ask for the same under one topic share an [`Interest`]; within it, channels of one claimant are asked
//! about together. The engine works on a [`Snapshot`], which is made anew only after somebody came or went.

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
use crate::{channels::ChannelPrincipal, hub::ConnId, model::ChannelId};

/// The word that confirms a subscription; clients compare it.
pub const SUBSCRIBED_MESSAGE: &str = "Subscribed to PostgreSQL";
/// One channel is told of the same trouble again only after so long.
const ERROR_REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Hears what a channel is to be told of its subscription, as `system` messages of the extension `postgres_changes`.
/// Must not block.
pub trait SystemMessageSink: Send + Sync + 'static {
    /// `status` is `ok` or `error`.
    fn send(&self, is_ok: bool, message: &str);
}

/// One entry of what a channel asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The number of the entry in the reply to the join.
    pub id: u32,
    /// What it asks for.
    pub params: SubscriptionParams,
}

/// What channels of one topic ask for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionSpec {
    /// The topic without its prefix.
    pub topic: Arc<str>,
    /// In the order of the join.
    pub bindings: Arc<[Binding]>,
    /// The topic itself was the subscription: changes come bare, as events of their operation's name.
    pub is_legacy: bool,
}

/// A channel that hears changes.
pub struct SubscribedChannel {
    /// Its socket.
    pub conn: ConnId,
    system_messages: Arc<dyn SystemMessageSink>,
    is_active: AtomicBool,
    /// The subscription has been confirmed since the stream last began.
    is_confirmed: AtomicBool,
    recent_errors: Mutex<HashMap<String, Instant>>,
}

impl SubscribedChannel {
    /// Whether it has not been left.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Acquire)
    }

    /// Tells the channel that something is wrong, unless it was told the same a moment ago.
    pub fn send_error_throttled(&self, message: &str) {
        let now = Instant::now();
        let mut told = self.recent_errors.lock();
        told.retain(|_, at| now.duration_since(*at) < ERROR_REPEAT_INTERVAL);
        if told.insert(message.to_owned(), now).is_none() && self.is_active() {
            self.system_messages.send(false, message);
        }
    }

    /// Confirms the subscription, once.
    fn confirm(&self) {
        if !self.is_confirmed.swap(true, Ordering::AcqRel) && self.is_active() {
            self.system_messages.send(true, SUBSCRIBED_MESSAGE);
        }
    }
}

struct SubscriptionEntry {
    channel: Arc<SubscribedChannel>,
    spec: Arc<SubscriptionSpec>,
    principal: Arc<ChannelPrincipal>,
    /// Errors that come at most once in a subscription, by table.
    reported_errors: Arc<Mutex<HashSet<(u32, &'static str)>>>,
}

/// A channel in a [`Group`].
#[derive(Clone)]
pub struct Member {
    /// The place of its claimant in [`Snapshot::claimants`].
    pub principal: usize,
    /// The channel.
    pub channel: Arc<SubscribedChannel>,
    reported_errors: Arc<Mutex<HashSet<(u32, &'static str)>>>,
}

impl Member {
    /// Whether this is the first time that the subscription has this error about a table.
    pub fn mark_reported(&self, table: u32, error: &'static str) -> bool {
        self.reported_errors.lock().insert((table, error))
    }
}

/// An interest and who shares it.
pub struct SubscriptionGroup {
    /// What is asked for.
    pub spec: Arc<SubscriptionSpec>,
    /// By whom.
    pub members: Vec<Member>,
}

/// Everybody at one moment.
#[derive(Default)]
pub struct RegistrySnapshot {
    /// All claimants, each once.
    pub principals: Vec<Arc<ChannelPrincipal>>,
    /// All interests.
    pub groups: Vec<SubscriptionGroup>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<ChannelId, SubscriptionEntry>,
    snapshot: Option<Arc<RegistrySnapshot>>,
    is_streaming: bool,
    empty_since: Option<Instant>,
}

/// Everybody who hears changes on this node.
#[derive(Default)]
pub struct SubscriptionRegistry(Mutex<Inner>);

impl SubscriptionRegistry {
    /// Seats a channel. `reply` is called before any change can be told; the confirmation follows it, at once if the
    /// stream runs.
    pub fn register(
        &self,
        (id, conn): (ChannelId, ConnId),
        interest: SubscriptionSpec,
        claimant: Arc<ChannelPrincipal>,
        ears: Arc<dyn SystemMessageSink>,
        reply: impl FnOnce(),
    ) {
        let channel = Arc::new(SubscribedChannel {
            conn,
            system_messages: ears,
            is_active: AtomicBool::new(true),
            is_confirmed: AtomicBool::new(false),
            recent_errors: Mutex::default(),
        });
        let mut inner = self.0.lock();
        reply();
        if inner.is_streaming {
            channel.confirm();
        }
        let seat = SubscriptionEntry {
            channel,
            spec: Arc::new(interest),
            principal: claimant,
            reported_errors: Arc::default(),
        };
        inner.entries.insert(id, seat);
        inner.snapshot = None;
    }

    /// A channel acts as somebody else from now on; it is confirmed again.
    pub fn replace_principal(&self, id: ChannelId, claimant: Arc<ChannelPrincipal>) {
        let mut inner = self.0.lock();
        let is_streaming = inner.is_streaming;
        let Some(seat) = inner.entries.get_mut(&id) else { return };
        seat.principal = claimant;
        seat.reported_errors = Arc::default();
        seat.channel.is_confirmed.store(false, Ordering::Release);
        if is_streaming {
            seat.channel.confirm();
        }
        inner.snapshot = None;
    }

    /// Forgets a channel; nothing is told to it after this.
    pub fn remove(&self, id: ChannelId) {
        let mut inner = self.0.lock();
        if let Some(seat) = inner.entries.remove(&id) {
            seat.channel.is_active.store(false, Ordering::Release);
            inner.snapshot = None;
        }
        if inner.entries.is_empty() {
            inner.empty_since = Some(Instant::now());
        }
    }

    /// The stream runs: everybody who has not been confirmed is.
    pub fn on_stream_started(&self) {
        let mut inner = self.0.lock();
        inner.is_streaming = true;
        for seat in inner.entries.values() {
            seat.channel.confirm();
        }
    }

    /// The stream ended: who had been confirmed may miss changes from now on, and is told why.
    pub fn on_stream_interrupted(&self, why: &str) {
        let mut inner = self.0.lock();
        inner.is_streaming = false;
        for SubscriptionEntry { channel, .. } in inner.entries.values() {
            if channel.is_confirmed.swap(false, Ordering::AcqRel) && channel.is_active() {
                channel.system_messages.send(false, why);
            }
        }
    }

    /// Changes were skipped while the stream goes on: everybody is told, and confirmed again.
    pub fn on_changes_skipped(&self, why: &str) {
        self.on_stream_interrupted(why);
        self.on_stream_started();
    }

    /// Takes out whom a test no longer lets in, and tells each why.
    pub fn evict(&self, refuses: impl Fn(&SubscriptionSpec, &ChannelPrincipal) -> Option<String>) {
        let mut inner = self.0.lock();
        let mut refused = Vec::new();
        for (id, seat) in &inner.entries {
            refused.extend(refuses(&seat.spec, &seat.principal).map(|why| (*id, why)));
        }
        for (id, why) in refused {
            if let Some(seat) = inner.entries.remove(&id) {
                seat.channel.system_messages.send(false, &why);
            }
            inner.snapshot = None;
        }
    }

    /// Somebody is about to come: being empty counts from now.
    pub fn restart_idle_timer(&self) {
        self.0.lock().empty_since = Some(Instant::now());
    }

    /// Whether a channel has a seat.
    pub fn contains(&self, id: ChannelId) -> bool {
        self.0.lock().entries.contains_key(&id)
    }

    /// How long nobody has been here; `None` while somebody is.
    pub fn idle_time(&self) -> Option<Duration> {
        let inner = self.0.lock();
        inner.entries.is_empty().then(|| inner.empty_since.map_or(Duration::MAX, |since| since.elapsed()))
    }

    /// How many channels hear changes.
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// What is asked for, each once.
    pub fn distinct_specs(&self) -> HashSet<(Arc<SubscriptionSpec>, Arc<ChannelPrincipal>)> {
        let inner = self.0.lock();
        inner.entries.values().map(|seat| (Arc::clone(&seat.spec), Arc::clone(&seat.principal))).collect()
    }

    /// Everybody at this moment.
    pub fn snapshot(&self) -> Arc<RegistrySnapshot> {
        let mut inner = self.0.lock();
        if let Some(snapshot) = &inner.snapshot {
            return Arc::clone(snapshot);
        }
        let mut snapshot = RegistrySnapshot::default();
        let mut claimants = HashMap::new();
        let mut groups: HashMap<Arc<SubscriptionSpec>, usize> = HashMap::new();
        for seat in inner.entries.values() {
            let claimant = *claimants.entry(Arc::clone(&seat.principal)).or_insert_with(|| {
                snapshot.principals.push(Arc::clone(&seat.principal));
                snapshot.principals.len() - 1
            });
            let group = *groups.entry(Arc::clone(&seat.spec)).or_insert_with(|| {
                snapshot.groups.push(SubscriptionGroup { spec: Arc::clone(&seat.spec), members: Vec::new() });
                snapshot.groups.len() - 1
            });
            let hinted = Arc::clone(&seat.reported_errors);
            let member =
                Member { principal: claimant, channel: Arc::clone(&seat.channel), reported_errors: hinted };
            snapshot.groups[group].members.push(member);
        }
        let snapshot = Arc::new(snapshot);
        inner.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}
