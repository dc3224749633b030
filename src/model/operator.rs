//! Responses of the operator API.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Face, NodeId, milliseconds};

/// A node (server process) and its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeState {
    /// ID of the node.
    pub id: NodeId,
    /// When the node started.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub started_at: Timestamp,
    /// When it last renewed its lease.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub renewed_at: Timestamp,
    /// When the lease expires if it is not renewed.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub lease_expires_at: Timestamp,
    /// Whether the lease is valid.
    pub alive: bool,
    /// Number of devices whose sockets the node holds.
    pub devices: i64,
}

/// Explains why a viewer sees a face of a user, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisibilityExplanation {
    /// Whether the viewer sees the user.
    pub visible: bool,
    pub face: Option<Face>,
    /// The deciding rule: self, block, list, setting, contact, team, policy, `never_seen`, grant, error, or
    /// `row_level_security` if it is disabled.
    pub decided_by: String,
    /// The policies that allow it, or the policy that denies it.
    pub policy: Option<String>,
    /// The deciding row or setting.
    pub evidence: Option<Value>,
    pub reason: String,
}
