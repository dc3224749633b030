//! What the operator is told.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Face, NodeId, milliseconds};

/// A server on the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeState {
    /// Which.
    pub id: NodeId,
    /// Since when.
    #[serde(serialize_with = "milliseconds::always")]
    pub started_at: Timestamp,
    /// When it last renewed its lease.
    #[serde(serialize_with = "milliseconds::always")]
    pub renewed_at: Timestamp,
    /// Until when it counts as alive without renewing again.
    #[serde(serialize_with = "milliseconds::always")]
    pub lease_expires_at: Timestamp,
    /// Whether the lease runs.
    pub alive: bool,
    /// Devices whose sockets it holds.
    pub devices: i64,
}

/// One face that somebody sees of somebody, or that there is none, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisibilityExplanation {
    /// Whether there is something to see.
    pub visible: bool,
    /// Which face.
    pub face: Option<Face>,
    /// What decides: self, block, list, setting, contact, team, policy, `never_seen`, grant, error, or
    /// `row_level_security` where it is off.
    pub decided_by: String,
    /// The policies that allow it, or the one that forbids it.
    pub policy: Option<String>,
    /// The row or setting that decides.
    pub evidence: Option<Value>,
    /// In words.
    pub reason: String,
}
