//! Session settings of every connection, and the timeouts of its statements.

use std::{sync::LazyLock, time::Duration};

use super::PgError;

/// Sets everything that a default of the server, the database or the role could change.
const SESSION_SETTINGS: &str = include_str!("../../sql/node/session_settings.sql");

/// The same for one transaction, without what counts between transactions only.
static TRANSACTION_SETTINGS: LazyLock<String> = LazyLock::new(|| {
    SESSION_SETTINGS
        .lines()
        .filter_map(|line| line.strip_prefix("set "))
        .filter(|setting| {
            !setting.starts_with("default_transaction_") && !setting.starts_with("idle_session_")
        })
        .map(|setting| format!("set local {setting} "))
        .collect()
});

/// `statement_timeout` of connections without another limit.
pub(super) const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

/// `statement_timeout` of statements that run as a caller.
pub(super) const CALLER_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time that the client waits beyond the server's timeout, so that the server normally answers first.
const RESPONSE_GRACE: Duration = Duration::from_secs(1);

/// Timeouts of the statements of a connection; zero disables one.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatementLimits {
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
}

impl StatementLimits {
    pub(super) const DEFAULT: Self =
        Self { statement_timeout: DEFAULT_STATEMENT_TIMEOUT, lock_timeout: Duration::ZERO };
    /// For migrations, which may rewrite tables.
    pub(super) const NONE: Self = Self { statement_timeout: Duration::ZERO, lock_timeout: Duration::ZERO };

    /// Statements for a new session.
    pub(super) fn session_sql(self) -> String {
        // First, because a short timeout of the role would end the statements that follow.
        format!("{}; {SESSION_SETTINGS}", self.set_sql())
    }

    /// Statements that set these limits in an open session.
    pub(super) fn set_sql(self) -> String {
        format!(
            "set statement_timeout = {}; set lock_timeout = {}",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis()
        )
    }

    /// Begins a transaction behind a pooler in transaction mode, where session settings would leak to other clients.
    pub(super) fn pooled_begin_sql(self) -> String {
        format!(
            "begin isolation level read committed read write not deferrable; {}\
             set local statement_timeout = {}; set local lock_timeout = {}; \
             select set_config('search_path', rollcall.role_search_path('none'), true)",
            *TRANSACTION_SETTINGS,
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis()
        )
    }
}

/// Server-side timeout of a statement for which the client waits `limit`: 10 % less, but at most 500 ms less.
pub(super) fn server_timeout(limit: Duration) -> Duration {
    let margin = (limit / 10).min(Duration::from_millis(500));
    (limit - margin).max(Duration::from_millis(1))
}

/// How long the client waits for a statement with this server-side timeout.
pub(super) fn client_timeout(statement_timeout: Duration) -> Duration {
    statement_timeout + RESPONSE_GRACE
}

/// Runs `work` for at most `limit`. Dropping a statement in flight cancels it and closes its connection.
///
/// # Errors
///
/// [`PgError::Unavailable`] after `limit`.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(PgError::Unavailable(format!("no response within {} ms", limit.as_millis()).into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_behind_a_pooler_have_the_settings_of_sessions() {
        let begin = StatementLimits::DEFAULT.pooled_begin_sql();
        for setting in
            ["idle_in_transaction_session_timeout = '10s'", "timezone = 'UTC'", "row_security = on"]
        {
            assert!(begin.contains(&format!("; set local {setting}; ")), "{begin}");
        }
        let of_session =
            begin.split("; ").any(|one| one.starts_with("set ") && !one.starts_with("set local "));
        assert!(!of_session && !begin.contains("default_transaction"), "{begin}");
    }

    #[test]
    fn server_timeout_is_below_the_client_timeout() {
        for (limit, server) in [(100, 90), (3_000, 2_700), (5_000, 4_500), (60_000, 59_500)] {
            assert_eq!(server_timeout(Duration::from_millis(limit)), Duration::from_millis(server));
        }
        assert!(server_timeout(Duration::ZERO) > Duration::ZERO, "0 would disable the timeout");
        assert!(client_timeout(DEFAULT_STATEMENT_TIMEOUT) > DEFAULT_STATEMENT_TIMEOUT);
    }
}
