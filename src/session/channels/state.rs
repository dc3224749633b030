//! State of a session: its dependencies, its channels and what waits to be published.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    channel::Channel, events::EventQueue, join_throttle::JoinThrottle, recent_leaves::RecentLeaves,
    replies::ReplyWriter, token::token_hash,
};
use crate::{
    auth::{Principal, Verifier},
    channels::{
        Broadcaster, ConnectionPermit, NodeLimits, PreparedBroadcast, RateMeter, authorization::Authorizer,
        broadcast_from_db::StoredMessages, history::ChannelHistory, postgres_changes::PostgresChanges,
        presence::ChannelPresence, replay::ReplayBuffers,
    },
    clock::Clock,
    hub::Hub,
    model::{ChannelId, Topic},
    presence::channel_users::{ChannelUsers, UserGuard},
    transport::Connection,
};

/// Dependencies shared by all channel sessions.
pub struct Services {
    pub changes: PostgresChanges,
    /// Connections and topic members of this node.
    pub hub: Hub,
    /// Users of this node's sockets, for forced disconnects.
    pub users: ChannelUsers,
    pub verifier: Arc<Verifier>,
    /// Clock for token expiry.
    pub clock: Arc<dyn Clock>,
    /// Publishes broadcasts on all nodes.
    pub broadcaster: Broadcaster,
    /// Kept broadcasts of channels with a history.
    pub history: ChannelHistory,
    pub presence: ChannelPresence,
    /// Checks the policies of private topics.
    pub authorizer: Authorizer,
    /// Stored broadcasts of private topics.
    pub messages: StoredMessages,
    /// Broadcasts received while a replay is read.
    pub replay_buffers: ReplayBuffers,
    /// Whether public topics are disabled.
    pub private_only: bool,
    /// Whether a join without `presence.enabled` receives presence.
    pub presence_by_default: bool,
    /// Rate and size limits of this node.
    pub limits: Arc<NodeLimits>,
    /// Runs background tasks of sessions.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
}

/// Principal of a socket.
#[derive(Debug, Clone)]
pub struct SocketPrincipal {
    pub(super) principal: Arc<Principal>,
    /// Hash of the token's text.
    pub(super) token_hash: u64,
}

impl SocketPrincipal {
    /// A verified principal with the text of its token.
    #[must_use]
    pub fn new(principal: Principal, token: &str) -> Self {
        Self { principal: Arc::new(principal), token_hash: token_hash(token) }
    }
}

/// Rates of one client.
#[derive(Debug, Default)]
pub(super) struct ClientMeters {
    pub(super) messages: RateMeter,
    pub(super) bytes: RateMeter,
}

/// Session of one socket.
pub struct ChannelsSession {
    pub(super) services: Arc<Services>,
    pub(super) socket_principal: SocketPrincipal,
    /// Registers the socket for forced disconnects, if the token names a user.
    pub(super) user_guard: Option<UserGuard>,
    #[expect(clippy::vec_box, reason = "most sockets have one channel, and a vector has space for four")]
    pub(super) channels: Vec<Box<Channel>>,
    /// Created on first use.
    pub(super) events: Option<EventQueue>,
    /// Broadcasts to publish at the end of the current read. Boxed, because most sockets only receive.
    pub(super) pending_broadcasts: Option<Box<PendingBroadcasts>>,
    /// Rates of the client, if limited. Boxed, because most sockets rarely send.
    pub(super) meters: Option<Box<ClientMeters>>,
    pub(super) join_throttle: JoinThrottle,
    pub(super) recent_leaves: RecentLeaves,
    _connection_permit: ConnectionPermit,
}

impl ChannelsSession {
    /// Creates a session that holds `permit` until it ends.
    #[must_use]
    pub fn new(services: Arc<Services>, socket_principal: SocketPrincipal, permit: ConnectionPermit) -> Self {
        Self {
            services,
            socket_principal,
            user_guard: None,
            channels: Vec::new(),
            events: None,
            pending_broadcasts: None,
            meters: None,
            join_throttle: JoinThrottle::default(),
            recent_leaves: RecentLeaves::default(),
            _connection_permit: permit,
        }
    }

    /// Index of the channel with this topic, without `realtime:`.
    pub(super) fn index_of(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|channel| &*channel.topic.name == name)
    }

    /// Whether a channel is joined, or being joined.
    #[must_use]
    pub const fn has_channels(&self) -> bool {
        !self.channels.is_empty()
    }

    pub(super) fn index_by_id(&self, id: ChannelId) -> Option<usize> {
        self.channels.iter().position(|channel| channel.id == id)
    }

    pub(super) fn events(&mut self, conn: &Arc<Connection>) -> EventQueue {
        self.events.get_or_insert_with(|| EventQueue::new(conn)).clone()
    }

    pub(super) fn replies<'a>(&self, conn: &'a Arc<Connection>) -> ReplyWriter<'a> {
        ReplyWriter { hub: self.services.hub.clone(), conn }
    }
}

/// Broadcasts to one topic that wait for the end of the read. They are flushed
/// ([`ChannelsSession::flush_broadcasts`]) before the session does anything else with a visible effect.
#[derive(Debug)]
pub(super) struct PendingBroadcasts {
    pub(super) topic: Topic,
    pub(super) broadcasts: Vec<PreparedBroadcast>,
}
