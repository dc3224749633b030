//! What can go wrong with the database. SQLSTATE is read here and nowhere else.

use tokio_postgres::error::SqlState;

/// A statement did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No connection in time, or it was lost.
    #[error("the database is out of reach")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Two transactions wanted each other's rows; it may be tried again.
    #[error("the transaction collided with another")]
    Conflict(#[source] tokio_postgres::Error),
    /// Another transaction holds a row for longer than one waits.
    #[error("another transaction holds a row for too long")]
    LockTimeout(#[source] tokio_postgres::Error),
    /// Row-level security or a missing grant.
    #[error("not allowed")]
    PermissionDenied(#[source] tokio_postgres::Error),
    /// It took longer than it may.
    #[error("the statement took too long")]
    StatementTimeout(#[source] tokio_postgres::Error),
    /// A row that must be there is not.
    #[error("a row that it refers to does not exist")]
    ForeignKeyViolation(#[source] tokio_postgres::Error),
    /// A row that must not be there is.
    #[error("there is one already")]
    UniqueViolation(#[source] tokio_postgres::Error),
    /// A value breaks a rule of its table.
    #[error("a value breaks a rule of its table")]
    CheckViolation(#[source] tokio_postgres::Error),
    /// Anything else: a fault of ours, or of a policy.
    #[error("the statement failed")]
    Failed(#[source] tokio_postgres::Error),
}

impl PgError {
    /// Whether the same statement may well succeed when sent again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }

    /// Whether the database is there but takes no further connection.
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

    /// Whether the database answered, and the answer is that it will not do this.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        matches!(self, Self::PermissionDenied(_) | Self::CheckViolation(_) | Self::Failed(_))
    }

    /// Whether it was a value that the database cannot take, so that other values might do.
    #[must_use]
    pub fn is_invalid_value(&self) -> bool {
        match self {
            Self::CheckViolation(_) => true,
            // Class 22: data exceptions. Class 54: something is too large. Without a code the value was not even sent.
            Self::Failed(error) => error
                .code()
                .is_none_or(|state| ["22", "54"].iter().any(|class| state.code().starts_with(class))),
            _ => false,
        }
    }

    /// A word for logs and metrics.
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
            Self::Failed(_) => "failed",
        }
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // No SQLSTATE: the conversation itself broke, or a value could not be read.
            let broken = error.is_closed()
                || std::error::Error::source(&error).is_some_and(|s| s.is::<std::io::Error>());
            return if broken { Self::Unavailable(error.into()) } else { Self::Failed(error) };
        };
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Conflict(error),
            SqlState::LOCK_NOT_AVAILABLE => Self::LockTimeout(error),
            SqlState::INSUFFICIENT_PRIVILEGE => Self::PermissionDenied(error),
            SqlState::QUERY_CANCELED => Self::StatementTimeout(error),
            SqlState::FOREIGN_KEY_VIOLATION => Self::ForeignKeyViolation(error),
            SqlState::UNIQUE_VIOLATION => Self::UniqueViolation(error),
            SqlState::CHECK_VIOLATION | SqlState::STRING_DATA_RIGHT_TRUNCATION => Self::CheckViolation(error),
            // Class 57P: shut down, crashed, starting up. Class 53: out of connections, memory, disk. Class 08: wire.
            ref other if ["57P", "53", "08"].iter().any(|class| other.code().starts_with(class)) => {
                Self::Unavailable(error.into())
            }
            _ => Self::Failed(error),
        }
    }
}

impl From<deadpool_postgres::PoolError> for PgError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(error.into())
    }
}
