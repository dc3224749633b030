//! Responses of the operator API.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Face, NodeId, UserId, milliseconds};

/// A node (server process) and its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Node)]
pub struct NodeState {
    /// ID of the node (UUID).
    #[schema(value_type = uuid::Uuid)]
    pub id: NodeId,
    /// Time at which the node started.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub started_at: Timestamp,
    /// Time at which the node last renewed its lease.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub renewed_at: Timestamp,
    /// Time at which the lease expires if it is not renewed.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub lease_expires_at: Timestamp,
    /// Whether the lease of the node is valid.
    pub alive: bool,
    /// Number of devices whose sockets the node holds.
    #[schema(minimum = 0)]
    pub devices: i64,
    /// Version of the server; `null` if the node did not answer.
    #[schema(required)]
    pub version: Option<String>,
    /// Seconds since the start of the node; `null` if the node did not answer.
    #[schema(required)]
    pub uptime_seconds: Option<u64>,
    /// Number of open connections; `null` if the node did not answer.
    #[schema(required)]
    pub connections: Option<usize>,
}

/// An action of an operator, as the audit log holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditEntry {
    /// ID of the entry. Later entries have higher IDs.
    pub id: i64,
    /// Time of the action.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub at: Timestamp,
    /// `sub` of the token; without one its role, or in SQL the database login.
    pub actor: String,
    /// Role of the token, or the database login.
    pub role: String,
    /// Login of the database session.
    pub login: String,
    /// `disconnect_user`, `disconnect_device`, `disconnect_connection`, `publish` or `watch_connection`.
    pub action: String,
    /// ID of the user whom the action concerns; `null` if it concerns none.
    #[schema(required)]
    pub user_id: Option<UserId>,
    /// What the action was applied to.
    #[schema(value_type = Object, additional_properties = true)]
    pub target: Value,
    /// Reason that the operator gave.
    #[schema(required)]
    pub reason: Option<String>,
    /// `x-request-id` of the request; `null` for SQL.
    #[schema(required)]
    pub request_id: Option<String>,
}

/// Explains why a viewer sees a face of a user, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VisibilityExplanation {
    /// Whether the viewer sees the user.
    pub visible: bool,
    /// The form that the viewer sees; `null` if the user is not visible.
    #[schema(required)]
    pub face: Option<Face>,
    /// The deciding rule: `self`, `block`, `list`, `setting`, `contact`, `team`, `policy`, `never_seen`, `grant`,
    /// `error`, or `row_level_security` if it is disabled.
    pub decided_by: String,
    /// The policies that allow it, or the policy that denies it.
    #[schema(required)]
    pub policy: Option<String>,
    /// The deciding row or setting; `null` without one.
    #[schema(required, value_type = Option<Object>, additional_properties = true)]
    pub evidence: Option<Value>,
    /// The reason in one English sentence.
    pub reason: String,
}
