//! Authorization errors and the texts sent to clients, which are those of Supabase Realtime.

use crate::pg::{PgError, queries::rights::ProbeFailure};

/// A check failed or denied the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// The policies deny it, or the token's role does not exist.
    #[error("the policies deny access")]
    Unauthorized,
    /// A policy raised this SQLSTATE. Clients get the same texts as for a denial.
    #[error("a policy raised {}", String::from_utf8_lossy(.0))]
    Policy([u8; 5]),
    /// The policies exceeded their timeout.
    #[error("the policies exceeded their timeout")]
    QueryCanceled,
    /// Too many checks are queued.
    #[error("too many policy checks are queued")]
    PoolExhausted,
    /// `realtime.messages` has no partition for today. One is being created.
    #[error("realtime.messages has no partition for today")]
    MissingPartition,
    /// The database cannot be reached.
    #[error("the database cannot be reached")]
    UnableToConnect,
    /// The database accepts no further connections.
    #[error("the database accepts no further connections")]
    LackOfConnections,
}

impl AuthorizationError {
    /// Reason in the reply to a join: `<Code>: <message>`.
    #[must_use]
    pub fn join_reason(self, topic: &str) -> String {
        match self {
            Self::Unauthorized | Self::Policy(_) => {
                format!("Unauthorized: You do not have permissions to read from this Channel topic: {topic}")
            }
            Self::QueryCanceled => "QueryCanceled: Query was cancelled, please try again".into(),
            Self::PoolExhausted => "IncreaseConnectionPool: Please increase your connection pool size".into(),
            Self::MissingPartition => {
                "MissingPartition: Realtime was unable to find the expected messages partition".into()
            }
            Self::UnableToConnect => "Realtime was unable to connect to the project database".into(),
            Self::LackOfConnections => {
                "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect"
                    .into()
            }
        }
    }

    /// Reason in the reply to a broadcast or track without the right to write.
    #[must_use]
    pub fn write_reason(self, topic: &str) -> String {
        match self {
            Self::Unauthorized | Self::Policy(_) => {
                format!("Unauthorized: You do not have permissions to write to this Channel topic: {topic}")
            }
            other => other.join_reason(topic),
        }
    }

    /// Message of the `system` event before the channel is closed.
    #[must_use]
    pub fn system_message(self, topic: &str) -> String {
        match self {
            Self::Unauthorized | Self::Policy(_) => {
                format!("You do not have permissions to read from this Channel topic: {topic}")
            }
            Self::QueryCanceled => "Query was cancelled, please try again".into(),
            Self::PoolExhausted => "Please increase your connection pool size".into(),
            Self::MissingPartition => "Realtime was unable to find the expected messages partition".into(),
            Self::UnableToConnect => "Realtime was unable to connect to the project database".into(),
            Self::LackOfConnections => {
                "Database can't accept more connections, Realtime won't connect".into()
            }
        }
    }

    /// Status and message of the REST route that sends one private broadcast.
    #[must_use]
    pub const fn http_status(self) -> (u16, &'static str) {
        match self {
            Self::Unauthorized => (403, "Unauthorized"),
            Self::Policy(_) => (422, "RLS policy error"),
            Self::QueryCanceled => (422, "Query canceled"),
            Self::PoolExhausted => (429, "Connection pool exhausted"),
            Self::MissingPartition => (422, "Missing messages partition"),
            Self::UnableToConnect => (422, "Tenant database unavailable"),
            Self::LackOfConnections => (422, "Tenant database has too many connections"),
        }
    }

    /// Whether a retry may succeed: the error says nothing about the policies.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        !matches!(self, Self::Unauthorized | Self::Policy(_))
    }
}

impl From<ProbeFailure> for AuthorizationError {
    fn from(failure: ProbeFailure) -> Self {
        match failure {
            ProbeFailure::Denied => Self::Unauthorized,
            ProbeFailure::NoPartition => Self::MissingPartition,
            ProbeFailure::Raised(state) => Self::Policy(state),
        }
    }
}

impl From<&PgError> for AuthorizationError {
    fn from(error: &PgError) -> Self {
        match error {
            PgError::StatementTimeout(_) => Self::QueryCanceled,
            PgError::CheckViolation(_) => Self::MissingPartition,
            error if error.is_too_many_connections() => Self::LackOfConnections,
            _ => Self::UnableToConnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_error_has_the_text_of_a_denial() {
        let raised = AuthorizationError::Policy(*b"22012");
        assert_eq!(raised.join_reason("a:b"), AuthorizationError::Unauthorized.join_reason("a:b"));
        assert_eq!(
            raised.join_reason("a:b"),
            "Unauthorized: You do not have permissions to read from this Channel topic: a:b"
        );
        assert_eq!(raised.to_string(), "a policy raised 22012");
    }
}
