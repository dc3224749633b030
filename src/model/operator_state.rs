//! What nodes report to operators: connections, channels, subscriptions, samples and messages of a connection.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DeviceId, NodeId, UserId, milliseconds};

/// An open connection of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Connection)]
pub struct ConnectionState {
    /// ID of the connection: its node and its number there.
    pub id: String,
    /// ID of the node that holds the connection (UUID).
    #[schema(value_type = uuid::Uuid)]
    pub node: NodeId,
    /// Dialect of the connection, such as `presence` or `phoenix_v1`.
    pub dialect: String,
    /// Address and port of the peer. Behind a proxy, that of the proxy.
    pub remote_address: String,
    /// IDs of the users that act on the connection. A channel socket may have several, or none.
    pub user_ids: Vec<UserId>,
    /// ID of the device; `null` for channel sockets.
    #[schema(required)]
    pub device_id: Option<DeviceId>,
    /// Time at which the connection was opened.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub connected_at: Timestamp,
    /// Seconds since the client last sent data.
    pub idle_seconds: u64,
    /// Messages received from the client.
    pub messages_received: u64,
    /// Messages sent to the client, pings included.
    pub messages_sent: u64,
    /// Received messages per second, over about the last minute.
    pub received_per_second: f64,
    /// Sent messages per second, over about the last minute.
    pub sent_per_second: f64,
    /// Frames that wait until the client reads.
    pub queued_messages: usize,
    /// Bytes that wait until the client reads, including the entries of the queue.
    pub queued_bytes: usize,
}

/// A channel and its occupancy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OperatorChannel)]
pub struct ChannelState {
    /// Topic of the channel, without `realtime:`.
    pub topic: String,
    /// Whether the channel is private.
    pub private: bool,
    /// Number of connections that have joined the channel.
    pub members: usize,
}

/// A subscription to changes of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionState {
    /// ID of the subscription: its connection and its channel there.
    pub id: String,
    /// ID of the connection.
    pub connection_id: String,
    /// Topic of the channel, without `realtime:`.
    pub topic: String,
    /// ID of the user that row-level security is evaluated for; `null` without one.
    #[schema(required)]
    pub user_id: Option<UserId>,
    /// Role that row-level security is evaluated for.
    pub role: String,
    /// Whether changes are delivered. A subscription that is not active waits until its table can be subscribed to.
    pub active: bool,
    /// What the subscription requests.
    pub bindings: Vec<BindingState>,
}

/// One entry of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SubscriptionBinding)]
pub struct BindingState {
    /// `INSERT`, `UPDATE`, `DELETE` or `*`.
    pub event: String,
    /// Name of the schema, or `*`.
    pub schema: String,
    /// Name of the table, or `*`.
    pub table: String,
    /// Conditions that must all match, such as `room_id=eq.7`.
    pub filters: Vec<String>,
    /// Columns that are sent beside the primary key; `null` for all.
    #[schema(required)]
    pub select: Option<Vec<String>>,
}

/// What a node reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Version of the server.
    pub version: String,
    /// Seconds since the start of the node.
    pub uptime_seconds: u64,
    /// Number of open connections.
    pub connections: usize,
}

/// Load of a node at one time. Rates are those of the ten seconds before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = LoadSample)]
pub struct LoadSample {
    /// Time of the sample, a multiple of ten seconds.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub at: Timestamp,
    /// Number of open connections.
    pub connections: u64,
    /// Frames per second that fan-out put into the queues of connections.
    pub deliveries_per_second: f64,
    /// Bytes per second written to connections.
    pub bytes_per_second: f64,
    /// Connections per second that were closed because they read too slowly.
    pub slow_closed_per_second: f64,
}

/// A message of a connection that an operator watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WatchedMessage)]
pub struct MessageState {
    /// Time at which the message was received, or queued for the client.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub at: Timestamp,
    /// `in` from the client, `out` to it.
    pub direction: String,
    /// `text`, `binary`, `event`, `ping`, `pong` or `close`.
    pub kind: String,
    /// Type of the message: `type`, or the event of a channel message. `null` if it is not known.
    #[schema(required)]
    pub r#type: Option<String>,
    /// Topic of a channel message.
    #[schema(required)]
    pub topic: Option<String>,
    /// Size of the payload in bytes.
    pub bytes: usize,
    /// The message without tokens, if payloads were requested and the message has at most 8 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<String>,
}

/// The text is not the ID of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the ID of a connection, as in GET /api/v1/system/connections")]
pub struct InvalidConnectionName;

/// ID of a connection among all nodes: `<node>.<shard>.<slot>.<epoch>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionName {
    pub node: NodeId,
    /// Number on the node.
    pub number: String,
}

impl FromStr for ConnectionName {
    type Err = InvalidConnectionName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, number) = text.split_once('.').ok_or(InvalidConnectionName)?;
        let is_number =
            |part: &str| matches!(part.len(), 1..=10) && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_valid = number.split('.').count() == 3 && number.split('.').all(is_number);
        let node = node.parse().map_err(|_| InvalidConnectionName)?;
        // The canonical form only, which SQL compares.
        let name = Self { node, number: number.to_owned() };
        if is_valid && name.to_string() == text { Ok(name) } else { Err(InvalidConnectionName) }
    }
}

impl TryFrom<String> for ConnectionName {
    type Error = InvalidConnectionName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ConnectionName> for String {
    fn from(name: ConnectionName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.number)
    }
}
