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

use super::params::Params;
use crate::{
    channels::{ChannelId, Claimant},
    hub::ConnId,
};

/// The word that confirms a subscription; clients compare it.
pub const SUBSCRIBED: &str = "Subscribed to PostgreSQL";
/// One channel is told of the same trouble again only after so long.
const TROUBLE_AGAIN: Duration = Duration::from_secs(10);

/// Hears what a channel is to be told of its subscription, as `system` messages of the extension `postgres_changes`.
/// Must not block.
pub trait Ears: Send + Sync + 'static {
    /// `status` is `ok` or `error`.
    fn system(&self, is_ok: bool, message: &str);
}

/// One entry of what a channel asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The number of the entry in the reply to the join.
    pub id: u32,
    /// What it asks for.
    pub params: Params,
}

/// What channels of one topic ask for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interest {
    /// The topic without its prefix.
    pub topic: Arc<str>,
    /// In the order of the join.
    pub bindings: Arc<[Binding]>,
    /// The topic itself was the subscription: changes come bare, as events of their operation's name.
    pub is_legacy: bool,
}

/// A channel that hears changes.
pub struct Channel {
    /// Its socket.
    pub conn: ConnId,
    ears: Arc<dyn Ears>,
    is_alive: AtomicBool,
    /// The subscription has been confirmed since the stream last began.
    is_confirmed: AtomicBool,
    told: Mutex<HashMap<String, Instant>>,
}

impl Channel {
    /// Whether it has not been left.
    pub fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Acquire)
    }

    /// Tells the channel that something is wrong, unless it was told the same a moment ago.
    pub fn tell_trouble(&self, message: &str) {
        let now = Instant::now();
        let mut told = self.told.lock();
        told.retain(|_, at| now.duration_since(*at) < TROUBLE_AGAIN);
        if told.insert(message.to_owned(), now).is_none() && self.is_alive() {
            self.ears.system(false, message);
        }
    }

    /// Confirms the subscription, once.
    fn confirm(&self) {
        if !self.is_confirmed.swap(true, Ordering::AcqRel) && self.is_alive() {
            self.ears.system(true, SUBSCRIBED);
        }
    }
}

struct Seat {
    channel: Arc<Channel>,
    interest: Arc<Interest>,
    claimant: Arc<Claimant>,
    /// Errors that come at most once in a subscription, by table.
    hinted: Arc<Mutex<HashSet<(u32, &'static str)>>>,
}

/// A channel in a [`Group`].
#[derive(Clone)]
pub struct Member {
    /// The place of its claimant in [`Snapshot::claimants`].
    pub claimant: usize,
    /// The channel.
    pub channel: Arc<Channel>,
    hinted: Arc<Mutex<HashSet<(u32, &'static str)>>>,
}

impl Member {
    /// Whether this is the first time that the subscription has this error about a table.
    pub fn first_time(&self, table: u32, error: &'static str) -> bool {
        self.hinted.lock().insert((table, error))
    }
}

/// An interest and who shares it.
pub struct Group {
    /// What is asked for.
    pub interest: Arc<Interest>,
    /// By whom.
    pub members: Vec<Member>,
}

/// Everybody at one moment.
#[derive(Default)]
pub struct Snapshot {
    /// All claimants, each once.
    pub claimants: Vec<Arc<Claimant>>,
    /// All interests.
    pub groups: Vec<Group>,
}

#[derive(Default)]
struct Inner {
    seats: HashMap<ChannelId, Seat>,
    snapshot: Option<Arc<Snapshot>>,
    is_streaming: bool,
    empty_since: Option<Instant>,
}

/// Everybody who hears changes on this node.
#[derive(Default)]
pub struct Registry(Mutex<Inner>);

impl Registry {
    /// Seats a channel. `reply` is called before any change can be told; the confirmation follows it, at once if the
    /// stream runs.
    pub fn enter(
        &self,
        (id, conn): (ChannelId, ConnId),
        interest: Interest,
        claimant: Arc<Claimant>,
        ears: Arc<dyn Ears>,
        reply: impl FnOnce(),
    ) {
        let channel = Arc::new(Channel {
            conn,
            ears,
            is_alive: AtomicBool::new(true),
            is_confirmed: AtomicBool::new(false),
            told: Mutex::default(),
        });
        let mut inner = self.0.lock();
        reply();
        if inner.is_streaming {
            channel.confirm();
        }
        let seat = Seat { channel, interest: Arc::new(interest), claimant, hinted: Arc::default() };
        inner.seats.insert(id, seat);
        inner.snapshot = None;
    }

    /// A channel acts as somebody else from now on; it is confirmed again.
    pub fn renew(&self, id: ChannelId, claimant: Arc<Claimant>) {
        let mut inner = self.0.lock();
        let is_streaming = inner.is_streaming;
        let Some(seat) = inner.seats.get_mut(&id) else { return };
        seat.claimant = claimant;
        seat.hinted = Arc::default();
        seat.channel.is_confirmed.store(false, Ordering::Release);
        if is_streaming {
            seat.channel.confirm();
        }
        inner.snapshot = None;
    }

    /// Forgets a channel; nothing is told to it after this.
    pub fn leave(&self, id: ChannelId) {
        let mut inner = self.0.lock();
        if let Some(seat) = inner.seats.remove(&id) {
            seat.channel.is_alive.store(false, Ordering::Release);
            inner.snapshot = None;
        }
        if inner.seats.is_empty() {
            inner.empty_since = Some(Instant::now());
        }
    }

    /// The stream runs: everybody who has not been confirmed is.
    pub fn streaming(&self) {
        let mut inner = self.0.lock();
        inner.is_streaming = true;
        for seat in inner.seats.values() {
            seat.channel.confirm();
        }
    }

    /// The stream ended: who had been confirmed may miss changes from now on, and is told why.
    pub fn interrupted(&self, why: &str) {
        let mut inner = self.0.lock();
        inner.is_streaming = false;
        for Seat { channel, .. } in inner.seats.values() {
            if channel.is_confirmed.swap(false, Ordering::AcqRel) && channel.is_alive() {
                channel.ears.system(false, why);
            }
        }
    }

    /// Changes were skipped while the stream goes on: everybody is told, and confirmed again.
    pub fn skipped(&self, why: &str) {
        self.interrupted(why);
        self.streaming();
    }

    /// Takes out whom a test no longer lets in, and tells each why.
    pub fn dismiss(&self, refuses: impl Fn(&Interest, &Claimant) -> Option<String>) {
        let mut inner = self.0.lock();
        let mut refused = Vec::new();
        for (id, seat) in &inner.seats {
            refused.extend(refuses(&seat.interest, &seat.claimant).map(|why| (*id, why)));
        }
        for (id, why) in refused {
            if let Some(seat) = inner.seats.remove(&id) {
                seat.channel.ears.system(false, &why);
            }
            inner.snapshot = None;
        }
    }

    /// Somebody is about to come: being empty counts from now.
    pub fn expect_somebody(&self) {
        self.0.lock().empty_since = Some(Instant::now());
    }

    /// Whether a channel has a seat.
    pub fn holds(&self, id: ChannelId) -> bool {
        self.0.lock().seats.contains_key(&id)
    }

    /// How long nobody has been here; `None` while somebody is.
    pub fn empty_for(&self) -> Option<Duration> {
        let inner = self.0.lock();
        inner.seats.is_empty().then(|| inner.empty_since.map_or(Duration::MAX, |since| since.elapsed()))
    }

    /// How many channels hear changes.
    pub fn len(&self) -> usize {
        self.0.lock().seats.len()
    }

    /// What is asked for, each once.
    pub fn asked_for(&self) -> HashSet<(Arc<Interest>, Arc<Claimant>)> {
        let inner = self.0.lock();
        inner.seats.values().map(|seat| (Arc::clone(&seat.interest), Arc::clone(&seat.claimant))).collect()
    }

    /// Everybody at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut inner = self.0.lock();
        if let Some(snapshot) = &inner.snapshot {
            return Arc::clone(snapshot);
        }
        let mut snapshot = Snapshot::default();
        let mut claimants = HashMap::new();
        let mut groups: HashMap<Arc<Interest>, usize> = HashMap::new();
        for seat in inner.seats.values() {
            let claimant = *claimants.entry(Arc::clone(&seat.claimant)).or_insert_with(|| {
                snapshot.claimants.push(Arc::clone(&seat.claimant));
                snapshot.claimants.len() - 1
            });
            let group = *groups.entry(Arc::clone(&seat.interest)).or_insert_with(|| {
                snapshot.groups.push(Group { interest: Arc::clone(&seat.interest), members: Vec::new() });
                snapshot.groups.len() - 1
            });
            let hinted = Arc::clone(&seat.hinted);
            let member = Member { claimant, channel: Arc::clone(&seat.channel), hinted };
            snapshot.groups[group].members.push(member);
        }
        let snapshot = Arc::new(snapshot);
        inner.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}
