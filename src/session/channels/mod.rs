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

mod authorization;
mod background;
mod broadcast;
mod channel;
mod close;
mod config;
mod error;
mod events;
mod join;
mod join_authorization;
mod join_throttle;
mod outgoing;
mod postgres_changes;
mod presence;
mod recent_leaves;
mod replies;
mod token_expiry;
mod token_refresh;

use std::sync::Arc;

use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use self::{
    channel::{Channel, Stage},
    close::CloseCause,
    events::{EventQueue, SessionEvent},
    join_throttle::JoinThrottle,
    outgoing::PendingBroadcasts,
    recent_leaves::RecentLeaves,
    replies::ReplyWriter,
};
use crate::{
    auth::Verifier,
    channels::{
        Broadcaster, ChannelPrincipal, ConnectionPermit, NodeLimits, RateMeter, authorization::Authorizer,
        broadcast_from_db::StoredMessages, postgres_changes::PostgresChanges, presence::ChannelPresence,
        replay::ReplayBuffers,
    },
    clock::Clock,
    hub::Hub,
    model::ChannelId,
    presence::channel_users::{ChannelUsers, UserGuard},
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
    pub changes: PostgresChanges,
    /// Who is connected here.
    pub hub: Hub,
    /// As whom sockets act here.
    pub users: ChannelUsers,
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
    pub messages: StoredMessages,
    /// What comes while that is being sent again.
    pub replay_buffers: ReplayBuffers,
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
pub struct SocketPrincipal {
    principal: Arc<ChannelPrincipal>,
    /// The hash of the token's text.
    token_hash: u64,
}

impl SocketPrincipal {
    /// Somebody who came with a token's text, which was believed.
    #[must_use]
    pub fn new(claimant: ChannelPrincipal, token: &str) -> Self {
        Self { principal: Arc::new(claimant), token_hash: token_expiry::token_hash(token) }
    }
}

/// How much a client says.
#[derive(Debug, Default)]
struct ClientMeters {
    messages: RateMeter,
    bytes: RateMeter,
}

/// One socket.
pub struct ChannelsSession {
    services: Arc<Services>,
    /// Who opened it.
    socket_principal: SocketPrincipal,
    /// That one's place among the users here, if it is one.
    user_guard: Option<UserGuard>,
    #[expect(clippy::vec_box, reason = "most sockets have one channel, and a vector makes room for four")]
    channels: Vec<Box<Channel>>,
    /// There from the first time on that something happens elsewhere.
    events: Option<EventQueue>,
    /// What it has said and is still to be passed on, until the end of a read. Boxed, because most listen.
    pending_broadcasts: Option<Box<PendingBroadcasts>>,
    /// How much the client says, if anybody counts. Boxed, because most say nothing for most of the time.
    meters: Option<Box<ClientMeters>>,
    join_throttle: JoinThrottle,
    recent_leaves: RecentLeaves,
    _connection_permit: ConnectionPermit,
}

impl ChannelsSession {
    /// A session for somebody who has a place.
    #[must_use]
    pub fn new(services: Arc<Services>, opener: SocketPrincipal, place: ConnectionPermit) -> Self {
        Self {
            services,
            socket_principal: opener,
            user_guard: None,
            channels: Vec::new(),
            events: None,
            pending_broadcasts: None,
            meters: None,
            join_throttle: JoinThrottle::default(),
            recent_leaves: RecentLeaves::default(),
            _connection_permit: place,
        }
    }

    /// Where the channel of a topic is, by its name without `realtime:`.
    fn index_of(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|channel| &*channel.topic.name == name)
    }

    fn index_by_id(&self, id: ChannelId) -> Option<usize> {
        self.channels.iter().position(|channel| channel.id == id)
    }

    fn events(&mut self, conn: &Arc<Connection>) -> EventQueue {
        self.events.get_or_insert_with(|| EventQueue::new(conn)).clone()
    }

    fn replies<'a>(&self, conn: &'a Arc<Connection>) -> ReplyWriter<'a> {
        ReplyWriter { hub: self.services.hub.clone(), conn }
    }

    async fn on_push(&mut self, push: &Push<'_>, conn: &Arc<Connection>) {
        if push.event != BROADCAST {
            self.flush_broadcasts().await;
        }
        let Some(name) = push.topic.strip_prefix(TOPIC_PREFIX) else {
            return self.on_unscoped_push(push, conn).await;
        };
        match (&*push.event, self.index_of(name)) {
            ("phx_join", _) => self.on_join(name, push, conn).await,
            ("phx_leave", Some(place)) => self.on_leave(place, push, conn).await,
            ("phx_leave", None) => self.replies(conn).reply_left(push).await,
            (_, Some(place)) => self.on_channel_push(place, push, conn).await,
            (_, None) => self.replies(conn).reply_unmatched(push).await,
        }
    }

    /// Hears what belongs to no channel.
    async fn on_unscoped_push(&mut self, push: &Push<'_>, conn: &Arc<Connection>) {
        let voice = self.replies(conn);
        match (&*push.topic, &*push.event) {
            (HEARTBEAT_TOPIC, "heartbeat") => voice.reply_heartbeat(push),
            (_, "phx_leave") => voice.reply_left(push).await,
            _ => voice.reply_unmatched(push).await,
        }
    }

    /// Hears what is said in a channel.
    async fn on_channel_push(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        if self.channels[place].is_busy() {
            if !self.channels[place].held.push(push) {
                self.replies(conn).reply_unmatched(push).await;
            }
            return;
        }
        match &*push.event {
            _ if self.exceeds_byte_rate(push) => self.close_channel(place, CloseCause::ByteRate, conn).await,
            "access_token" => self.refresh_token(place, push, conn).await,
            "presence" => self.on_presence(place, push, conn).await,
            _ if self.exceeds_message_rate() => {
                self.close_channel(place, CloseCause::MessageRate, conn).await
            }
            BROADCAST => self.on_broadcast(place, push, conn).await,
            // Nothing else means anything, and nothing is said about it.
            _ => {}
        }
    }

    /// Counts the bytes of a message of the client, and says whether there are too many of them.
    fn exceeds_byte_rate(&mut self, push: &Push<'_>) -> bool {
        let limits = &self.services.limits;
        if !limits.limits_bytes() {
            return false;
        }
        let now = limits.elapsed_secs();
        let bytes = &mut self.meters.get_or_insert_default().bytes;
        bytes.count(now, u32::try_from(push.byte_len()).unwrap_or(u32::MAX));
        limits.exceeds_byte_rate(bytes.per_second(now))
    }

    /// Counts a message of the client, and says whether there are too many of them.
    fn exceeds_message_rate(&mut self) -> bool {
        let limits = &self.services.limits;
        if !limits.limits_messages() {
            return false;
        }
        limits.count_pushes(1);
        let now = limits.elapsed_secs();
        let messages = &mut self.meters.get_or_insert_default().messages;
        messages.count(now, 1);
        limits.exceeds_message_rate(messages.per_second(now))
    }

    /// Has a channel's pushes wait for work that is under way.
    fn set_pending_work(&mut self, place: usize, task: AbortOnDropHandle<()>) {
        match &mut self.channels[place].stage {
            Stage::Joining { work, .. } => *work = Some(task),
            Stage::Joined(joined) => joined.work = Some(task),
        }
    }

    /// Hears what was said in a channel while something was being found out.
    async fn replay_held(&mut self, id: ChannelId, conn: &Arc<Connection>) {
        while let Some(place) = self.index_by_id(id)
            && !self.channels[place].is_busy()
            && let Some(push) = self.channels[place].held.pop()
        {
            self.flush_broadcasts().await;
            // Boxed, because a push may lead to more work and so back here.
            Box::pin(self.on_channel_push(place, &push.as_push(), conn)).await;
        }
    }

    /// Does what follows from something that has happened elsewhere.
    async fn on_event(&mut self, event: SessionEvent, conn: &Arc<Connection>) {
        match event {
            SessionEvent::JoinDecided(id, decision) => self.on_join_decided(id, decision, conn).await,
            SessionEvent::SubscriptionMessage(id, is_ok, message) => {
                self.on_subscription_message(id, is_ok, &message, conn).await
            }
            SessionEvent::TokenRefreshed(id, renewed) => self.on_token_refreshed(id, renewed, conn).await,
            SessionEvent::WriteRights(id, answer) => self.on_write_rights(id, answer, conn).await,
            SessionEvent::ReadRights(id, rights) => self.on_read_rights(id, rights, conn).await,
            SessionEvent::Replication(id, is_live) => self.on_replication(id, is_live, conn).await,
        }
    }
}

impl Session for ChannelsSession {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.user_guard = self.register_user(&self.socket_principal.principal, conn);
        Flow::Continue
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        match Push::decode(conn.dialect(), frame) {
            Ok(push) => self.on_push(&push, conn).await,
            // The original says nothing about such a frame, and clients expect nothing.
            Err(malformed) => {
                metrics::counter!("rollcall_channels_malformed_frames_total").increment(1);
                tracing::debug!(conn.id = %conn.id(), %malformed, "dropped a frame");
            }
        }
        Flow::Continue
    }

    async fn on_wake(&mut self, conn: &Arc<Connection>) -> Flow {
        self.flush_broadcasts().await;
        let events = self.events.as_ref().map(EventQueue::take).unwrap_or_default();
        for event in events {
            self.on_event(event, conn).await;
        }
        self.flush_broadcasts().await;
        self.apply_forced_disconnects(conn).await
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        self.close_expired(conn).await;
        Flow::Continue
    }

    async fn on_batch_end(&mut self) {
        self.flush_broadcasts().await;
    }

    async fn on_close(mut self, conn: &Arc<Connection>, _why: CloseReason) {
        self.flush_broadcasts().await;
        while let Some(channel) = self.channels.pop() {
            self.remove_channel(channel, None, conn).await;
        }
    }
}
