//! Database errors by kind. The only place that interprets SQLSTATE codes.

use tokio_postgres::error::{DbError, SqlState};

use super::failing_policies::FailingPolicy;

/// Name under which the database reports that the quota of devices is reached.
const DEVICE_QUOTA: &str = "presence_devices_per_user";
/// SQLSTATE with which the database reports that a user writes too often.
const RATE_LIMIT: &str = "PT429";

#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No connection or response within the timeout, the connection was lost, the server is read-only, or it lacks
    /// resources.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Serialization failure or deadlock; may be retried.
    #[error("the transaction conflicts with another one")]
    Conflict(#[source] tokio_postgres::Error),
    /// `lock_timeout` expired while another transaction held a row.
    #[error("lock timeout: another transaction holds the row")]
    LockTimeout(#[source] tokio_postgres::Error),
    /// Row-level security or a missing grant rejected the statement.
    #[error("permission denied")]
    PermissionDenied(#[source] tokio_postgres::Error),
    /// The statement was cancelled, usually by `statement_timeout`.
    #[error("the statement was cancelled by its timeout")]
    StatementTimeout(#[source] tokio_postgres::Error),
    #[error("the referenced row does not exist")]
    ForeignKeyViolation(#[source] tokio_postgres::Error),
    #[error("the row already exists")]
    UniqueViolation(#[source] tokio_postgres::Error),
    /// A check constraint failed, or a value is too long for its column.
    #[error("a value violates a check constraint or is too long")]
    CheckViolation(#[source] tokio_postgres::Error),
    /// The user has as many devices as allowed, all of them online.
    #[error("too many devices: every device of the user is online")]
    TooManyDevices(#[source] tokio_postgres::Error),
    /// The user writes more often than `rollcall.limits` allows.
    #[error("the user writes too often")]
    RateLimited(#[source] tokio_postgres::Error),
    /// A policy of the application raised an error. The application's operator must correct it.
    #[error("the policy \"{}\" on {} raises {}", policy.policy, policy.relation, policy.state)]
    PolicyFailed {
        policy: FailingPolicy,
        #[source]
        source: tokio_postgres::Error,
    },
    /// Any other error: a bug in the server, or in a function or trigger of the application.
    #[error("the statement failed")]
    Failed(#[source] tokio_postgres::Error),
}

impl PgError {
    /// What a field must be, if a function of Rollcall raised `<field>: <expectation>` for an invalid value.
    #[must_use]
    pub fn invalid_value(&self, field: &str) -> Option<&str> {
        let Self::Failed(error) = self else { return None };
        let error =
            error.as_db_error().filter(|error| *error.code() == SqlState::INVALID_TEXT_REPRESENTATION)?;
        error.message().strip_prefix(field)?.strip_prefix(": ")
    }

    /// The limit and the time to wait, as JSON, if the user writes too often.
    #[must_use]
    pub fn rate_limit(&self) -> Option<&str> {
        let Self::RateLimited(error) = self else { return None };
        error.as_db_error().and_then(DbError::detail)
    }

    /// Whether the same statement may succeed when it is sent again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }

    /// Whether the connection must not be used again: its server shuts down, lacks resources, became read-only, or ended
    /// the session or transaction.
    pub(super) fn needs_new_connection(state: &SqlState) -> bool {
        is_outage(state) || *state == SqlState::T_R_SERIALIZATION_FAILURE
    }

    /// Behind a pooler a transaction begins with `read write`, which a standby refuses as an unsupported feature.
    pub(super) fn after_begin(self) -> Self {
        match self {
            Self::Failed(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => {
                Self::Unavailable(error.into())
            }
            other => other,
        }
    }

    /// Whether the server rejected the connection because `max_connections` is reached.
    #[must_use]
    pub fn is_too_many_connections(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let state = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
            if state == Some(&SqlState::TOO_MANY_CONNECTIONS) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether the database answered and rejected the statement.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        matches!(
            self,
            Self::PermissionDenied(_)
                | Self::CheckViolation(_)
                | Self::TooManyDevices(_)
                | Self::RateLimited(_)
                | Self::PolicyFailed { .. }
                | Self::Failed(_)
        )
    }

    /// Whether a parameter value caused the error, so that other values may succeed.
    #[must_use]
    pub fn is_invalid_value(&self) -> bool {
        match self {
            Self::CheckViolation(_) => true,
            // Class 22: data exception. Class 54: program limit exceeded. Without a code the value could not be encoded.
            Self::Failed(error) => error
                .code()
                .is_none_or(|state| ["22", "54"].iter().any(|class| state.code().starts_with(class))),
            _ => false,
        }
    }

    /// Label for logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Conflict(_) => "collision",
            Self::LockTimeout(_) => "locked",
            Self::PermissionDenied(_) => "denied",
            Self::StatementTimeout(_) => "timed_out",
            Self::ForeignKeyViolation(_) => "broken_reference",
            Self::UniqueViolation(_) => "duplicate",
            Self::CheckViolation(_) => "violation",
            Self::TooManyDevices(_) => "too_many_devices",
            Self::RateLimited(_) => "rate_limited",
            Self::PolicyFailed { .. } => "policy_failed",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // No SQLSTATE: the connection broke, or a value could not be encoded or decoded.
            let broken = error.is_closed()
                || std::error::Error::source(&error).is_some_and(|s| s.is::<std::io::Error>());
            return if broken { Self::Unavailable(error.into()) } else { Self::Failed(error) };
        };
        if error.as_db_error().and_then(DbError::constraint) == Some(DEVICE_QUOTA) {
            return Self::TooManyDevices(error);
        }
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Conflict(error),
            SqlState::LOCK_NOT_AVAILABLE => Self::LockTimeout(error),
            SqlState::INSUFFICIENT_PRIVILEGE => Self::PermissionDenied(error),
            SqlState::QUERY_CANCELED => Self::StatementTimeout(error),
            SqlState::FOREIGN_KEY_VIOLATION => Self::ForeignKeyViolation(error),
            SqlState::UNIQUE_VIOLATION => Self::UniqueViolation(error),
            SqlState::CHECK_VIOLATION | SqlState::STRING_DATA_RIGHT_TRUNCATION => Self::CheckViolation(error),
            ref other if other.code() == RATE_LIMIT => Self::RateLimited(error),
            ref other if is_outage(other) => Self::Unavailable(error.into()),
            _ => Self::Failed(error),
        }
    }
}

/// Class 57P: shutdown, crash, startup or idle timeout. Class 53: insufficient resources. Class 08: connection exception.
/// 25006: read-only, as on a standby. 25P03, 25P04: the server ended the transaction.
fn is_outage(state: &SqlState) -> bool {
    ["57P", "53", "08"].iter().any(|class| state.code().starts_with(class))
        || ["25006", "25P03", "25P04"].contains(&state.code())
}

impl From<deadpool_postgres::PoolError> for PgError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(error.into())
    }
}
