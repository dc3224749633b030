//! What operators ask nodes, and what nodes answer. As JSON, also between nodes of different versions.

use serde::{Deserialize, Serialize};

use crate::model::{
    ChannelState, ConnectionName, ConnectionState, DeviceId, LoadSample, MessageState, NodeReport,
    SubscriptionState, UserId,
};

/// Maximum items in one answer, whatever the query says.
pub(super) const MAX_ITEMS: usize = 201;

/// A request to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    Report,
    History,
    Connections(ConnectionQuery),
    Channels(ChannelQuery),
    Subscriptions(SubscriptionQuery),
    /// Closes a connection. `rollcall.disconnect_connection` sends it.
    Disconnect {
        connection: ConnectionName,
        reason: String,
    },
    /// Messages of a connection from a position on. The first one starts the ring.
    Watch {
        connection: ConnectionName,
        position: u64,
        payloads: bool,
    },
}

/// Which connections to list, in the order of their IDs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionQuery {
    pub user_id: Option<UserId>,
    pub device_id: Option<DeviceId>,
    pub dialect: Option<String>,
    /// Beginning of the remote address.
    pub address: Option<String>,
    /// Minimum bytes that wait until the client reads.
    pub min_queued_bytes: Option<usize>,
    pub after: Option<ConnectionName>,
    pub limit: usize,
}

/// Which channels to list, in the order of their topics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelQuery {
    pub search: Option<String>,
    /// Topic before the first one, and whether it is private.
    pub after: Option<(String, bool)>,
    pub limit: usize,
}

/// Which subscriptions to list, in the order of their IDs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionQuery {
    pub user_id: Option<UserId>,
    pub schema: Option<String>,
    pub table: Option<String>,
    /// Connection and channel of the subscription before the first one.
    pub after: Option<(ConnectionName, i64)>,
    pub limit: usize,
}

/// The answer of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Report(NodeReport),
    History(Vec<LoadSample>),
    Connections(Part<ConnectionState>),
    Channels(Part<ChannelState>),
    Subscriptions(Part<SubscriptionState>),
    /// Whether the connection was open.
    Disconnected(bool),
    /// `None` if the connection is not open.
    Watched(Option<WatchedPart>),
    /// The node does not know the query, or is too busy.
    Refused,
}

/// The first items of a list on one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Part<T> {
    pub items: Vec<T>,
    /// Number of items on the node, in all pages.
    pub total: usize,
}

/// Messages of a watched connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchedPart {
    pub messages: Vec<MessageState>,
    /// Messages before these that are lost, because the reader was too slow.
    pub dropped: u64,
    /// Position of the next query.
    pub next: u64,
}
