//! What a member of a topic tracks.

use std::sync::Arc;

use super::{PhxRef, PresencePayload};
use crate::model::{ChannelId, NodeId, UserId};

/// Presence key. Several channels may use the same key. Cheap to clone.
pub type PresenceKey = Arc<str>;

/// A channel of any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    /// The node that holds the socket.
    pub node: NodeId,
    /// The channel on that node.
    pub channel: ChannelId,
}

/// What one channel tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Ref of this version of the meta.
    pub phx_ref: PhxRef,
    /// Ref of the version before, as sent to the members on this node.
    pub previous: Option<PhxRef>,
    /// The tracked object.
    pub payload: PresencePayload,
    /// User of the channel's token, written to the row.
    pub user: Option<UserId>,
    /// Time of the first track, in milliseconds since 1970.
    pub joined_ms: i64,
    /// Time of this version, in milliseconds since 1970.
    pub updated_ms: i64,
}
