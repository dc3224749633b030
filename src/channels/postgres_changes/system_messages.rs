//! The texts of `system` messages that report missing changes.

/// Sent after a gap in the stream.
pub(super) const STREAM_INTERRUPTED: &str =
    "Changes may have been missed because the change stream was interrupted. Fetch the rows again.";
/// Sent before changes that the subscriber may already have received.
pub(super) const DUPLICATES_POSSIBLE: &str =
    "The change stream was interrupted. Some changes may be delivered twice.";
/// Sent when the stream stops because it has had no subscriptions for the idle timeout.
pub(super) const STREAM_STOPPED: &str = "The change stream was stopped because it was not used.";
/// Sent when a batch could not be processed.
pub(super) const DATABASE_UNAVAILABLE: &str =
    "Changes may have been missed because the database did not respond. Fetch the rows again.";

/// Sent when a policy raised an error. `table` is schema-qualified.
#[must_use]
pub(super) fn policy_error(table: &str, error: &str) -> String {
    format!(
        "Changes of {table} are not delivered to you because a row-level security policy raised an error: {error}"
    )
}

/// Sent when PostgreSQL could not evaluate a filter. `table` is schema-qualified.
#[must_use]
pub(super) fn filter_error(table: &str, column: &str, error: &str) -> String {
    format!(
        "Changes of {table} are not delivered to you because the filter on column {column} raised an error: {error}"
    )
}

/// Sent when a policy or a filter exceeded its timeout, or too many of its deliveries are queued. `table` is schema-qualified.
#[must_use]
pub(super) fn check_timed_out(table: &str) -> String {
    format!(
        "Changes of {table} were skipped because the row-level security check or a filter took too long. Fetch the \
         rows again."
    )
}
