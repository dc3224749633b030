//! The session behind Phoenix channels: one socket with its channels.
//!
//! - `mod` hears the client and sorts what it says by topic; [`Services`] is what all sessions share.
//! - `changes` is what a join asks for of changes of tables.
//! - `joining` brings a channel in and out: `config` reads what a join asks for, `admission` decides about it (beside
//!   the session where that takes time), `error` has the words of refusal, and `farewells` remembers what the client has just left.
//! - `broadcasting` and `presence` are what a joined channel says to its room (`speech` is how it gets there), `rights` is
//!   whether it may, `renewal` and `tokens` keep its token fresh, `ending` is where the server ends it.
//! - `work` is how things that take time are done beside the session. `channel` is a channel's state, `inbox` how other tasks reach the session, `voice` how it answers.
//!
//! Everything about a channel goes through the hub's mailboxes, also replies: so nothing of a channel comes before the
//! reply to its join, and nothing after its close. Heartbeats are answered at once.

mod admission;
mod broadcasting;
mod changes;
mod channel;
mod config;
mod ending;
mod error;
mod farewells;
mod inbox;
mod joining;
mod presence;
mod refusals;
mod renewal;
mod rights;
mod speech;
mod tokens;
mod voice;
mod work;

use std::sync::Arc;

use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use self::{
    channel::{Channel, Stage},
    ending::Ending,
    farewells::Farewells,
    inbox::{Event, Inbox},
    refusals::Refusals,
    speech::Speech,
    voice::Voice,
};
use crate::{
    auth::Verifier,
    channels::{
        Broadcaster, ChannelId, Claimant, Meter, NodeLimits, Place, authorization::Authorizer,
        changes::Changes, database::Messages, presence::ChannelPresence, replay::Replays,
    },
    clock::Clock,
    hub::Hub,
    presence::guests::{Guest, Guests},
    protocol::{
        Frame,
        phoenix::{HEARTBEAT_TOPIC, Push, TOPIC_PREFIX},
    },
    transport::{CloseReason, Connection, Flow, Session},
};

/// The event of a broadcast.
const BROADCAST: &str = "broadcast";

/// What the sessions need, shared by all of them.
pub struct Services {
    /// Changes of tables.
    pub changes: Changes,
    /// Who is connected here.
    pub hub: Hub,
    /// As whom sockets act here.
    pub guests: Guests,
    /// Believes tokens.
    pub verifier: Arc<Verifier>,
    /// For the age of tokens.
    pub clock: Arc<dyn Clock>,
    /// Says things in rooms.
    pub broadcaster: Broadcaster,
    /// Who is present in rooms.
    pub presence: ChannelPresence,
    /// What policies say of private rooms.
    pub authorizer: Authorizer,
    /// What the database has stored for rooms.
    pub messages: Messages,
    /// What comes while that is being sent again.
    pub replays: Replays,
    /// Public rooms are closed.
    pub private_only: bool,
    /// How much is too much.
    pub limits: Arc<NodeLimits>,
    /// On which decisions run that take time.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
}

/// Who opened a socket.
#[derive(Debug, Clone)]
pub struct Opener {
    claimant: Arc<Claimant>,
    /// The hash of the token's text.
    token: u64,
}

impl Opener {
    /// Somebody who came with a token's text, which was believed.
    #[must_use]
    pub fn new(claimant: Claimant, token: &str) -> Self {
        Self { claimant: Arc::new(claimant), token: tokens::hash(token) }
    }
}

/// How much a client says.
#[derive(Debug, Default)]
struct Said {
    messages: Meter,
    bytes: Meter,
}

/// One socket.
pub struct ChannelsSession {
    services: Arc<Services>,
    /// Who opened it.
    opener: Opener,
    /// That one's place among the users here, if it is one.
    guest: Option<Guest>,
    #[expect(clippy::vec_box, reason = "most sockets have one channel, and a vector makes room for four")]
    channels: Vec<Box<Channel>>,
    /// There from the first time on that something happens elsewhere.
    inbox: Option<Inbox>,
    /// What it has said and is still to be passed on, until the end of a read. Boxed, because most listen.
    speech: Option<Box<Speech>>,
    /// How much the client says, if anybody counts. Boxed, because most say nothing for most of the time.
    said: Option<Box<Said>>,
    refusals: Refusals,
    farewells: Farewells,
    _place: Place,
}

impl ChannelsSession {
    /// A session for somebody who has a place.
    #[must_use]
    pub fn new(services: Arc<Services>, opener: Opener, place: Place) -> Self {
        Self {
            services,
            opener,
            guest: None,
            channels: Vec::new(),
            inbox: None,
            speech: None,
            said: None,
            refusals: Refusals::default(),
            farewells: Farewells::default(),
            _place: place,
        }
    }

    /// Where the channel of a topic is, by its name without `realtime:`.
    fn place_of(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|channel| &*channel.room.topic == name)
    }

    fn place_by_id(&self, id: ChannelId) -> Option<usize> {
        self.channels.iter().position(|channel| channel.id == id)
    }

    fn inbox(&mut self, conn: &Arc<Connection>) -> Inbox {
        self.inbox.get_or_insert_with(|| Inbox::new(conn)).clone()
    }

    fn voice<'a>(&self, conn: &'a Arc<Connection>) -> Voice<'a> {
        Voice { hub: self.services.hub.clone(), conn }
    }

    async fn hear(&mut self, push: &Push<'_>, conn: &Arc<Connection>) {
        if push.event != BROADCAST {
            self.speak().await;
        }
        let Some(name) = push.topic.strip_prefix(TOPIC_PREFIX) else {
            return self.hear_elsewhere(push, conn).await;
        };
        match (&*push.event, self.place_of(name)) {
            ("phx_join", _) => self.join(name, push, conn).await,
            ("phx_leave", Some(place)) => self.leave(place, push, conn).await,
            ("phx_leave", None) => self.voice(conn).left(push).await,
            (_, Some(place)) => self.hear_in(place, push, conn).await,
            (_, None) => self.voice(conn).unmatched(push).await,
        }
    }

    /// Hears what belongs to no channel.
    async fn hear_elsewhere(&mut self, push: &Push<'_>, conn: &Arc<Connection>) {
        let voice = self.voice(conn);
        match (&*push.topic, &*push.event) {
            (HEARTBEAT_TOPIC, "heartbeat") => voice.pulse(push),
            (_, "phx_leave") => voice.left(push).await,
            _ => voice.unmatched(push).await,
        }
    }

    /// Hears what is said in a channel.
    async fn hear_in(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        if self.channels[place].is_busy() {
            if !self.channels[place].held.keep(push) {
                self.voice(conn).unmatched(push).await;
            }
            return;
        }
        match &*push.event {
            _ if self.sends_too_much(push) => self.expel(place, Ending::Bytes, conn).await,
            "access_token" => self.renew(place, push, conn).await,
            "presence" => self.presence(place, push, conn).await,
            _ if self.says_too_much() => self.expel(place, Ending::Rate, conn).await,
            BROADCAST => self.broadcast(place, push, conn).await,
            // Nothing else means anything, and nothing is said about it.
            _ => {}
        }
    }

    /// Counts the bytes of a message of the client, and says whether there are too many of them.
    fn sends_too_much(&mut self, push: &Push<'_>) -> bool {
        let limits = &self.services.limits;
        if !limits.counts_bytes() {
            return false;
        }
        let now = limits.now();
        let bytes = &mut self.said.get_or_insert_default().bytes;
        bytes.count(now, u32::try_from(push.bytes()).unwrap_or(u32::MAX));
        limits.is_too_heavy(bytes.per_second(now))
    }

    /// Counts a message of the client, and says whether there are too many of them.
    fn says_too_much(&mut self) -> bool {
        let limits = &self.services.limits;
        if !limits.counts_messages() {
            return false;
        }
        limits.count_pushes(1);
        let now = limits.now();
        let messages = &mut self.said.get_or_insert_default().messages;
        messages.count(now, 1);
        limits.is_flooder(messages.per_second(now))
    }

    /// Has a channel's pushes wait for work that is under way.
    fn hold(&mut self, place: usize, task: AbortOnDropHandle<()>) {
        match &mut self.channels[place].stage {
            Stage::Joining { work, .. } => *work = Some(task),
            Stage::Joined(joined) => joined.work = Some(task),
        }
    }

    /// Hears what was said in a channel while something was being found out.
    async fn catch_up(&mut self, id: ChannelId, conn: &Arc<Connection>) {
        while let Some(place) = self.place_by_id(id)
            && !self.channels[place].is_busy()
            && let Some(push) = self.channels[place].held.next()
        {
            self.speak().await;
            // Boxed, because a push may lead to more work and so back here.
            Box::pin(self.hear_in(place, &push.as_push(), conn)).await;
        }
    }

    /// Does what follows from something that has happened elsewhere.
    async fn happen(&mut self, event: Event, conn: &Arc<Connection>) {
        match event {
            Event::Decided(id, decision) => self.decided(id, decision, conn).await,
            Event::OfChanges(id, is_ok, message) => self.of_changes(id, is_ok, &message, conn).await,
            Event::Renewed(id, renewed) => self.renewed(id, renewed, conn).await,
            Event::Writes(id, answer) => self.answered(id, answer, conn).await,
            Event::Rights(id, rights) => self.rights_changed(id, rights, conn).await,
            Event::Live(id, is_live) => self.live(id, is_live, conn).await,
        }
    }
}

impl Session for ChannelsSession {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.guest = self.admit(&self.opener.claimant, conn);
        Flow::Continue
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        match Push::decode(conn.dialect(), frame) {
            Ok(push) => self.hear(&push, conn).await,
            // The original says nothing about such a frame, and clients expect nothing.
            Err(malformed) => {
                metrics::counter!("rollcall_channels_malformed_frames_total").increment(1);
                tracing::debug!(conn.id = %conn.id(), %malformed, "dropped a frame");
            }
        }
        Flow::Continue
    }

    async fn on_nudge(&mut self, conn: &Arc<Connection>) -> Flow {
        self.speak().await;
        let events = self.inbox.as_ref().map(Inbox::take).unwrap_or_default();
        for event in events {
            self.happen(event, conn).await;
        }
        self.speak().await;
        self.heed_dismissals(conn).await
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        self.end_expired(conn).await;
        Flow::Continue
    }

    async fn on_pause(&mut self) {
        self.speak().await;
    }

    async fn on_close(mut self, conn: &Arc<Connection>, _why: CloseReason) {
        self.speak().await;
        while let Some(channel) = self.channels.pop() {
            self.depart(channel, None, conn).await;
        }
    }
}
