//! The texts of `system` messages that report missing changes.

/// Sent after a gap in the stream.
pub const STREAM_INTERRUPTED: &str =
    "Changes may have been missed because the change stream was interrupted. Fetch the rows again.";
/// Sent before changes that the subscriber may already have received.
pub const DUPLICATES_POSSIBLE: &str =
    "The change stream was interrupted. Some changes may be delivered twice.";
/// Sent when the stream stops because it has had no subscriptions for the idle timeout.
pub const STREAM_STOPPED: &str = "The change stream was stopped because it was not used.";
/// Sent when a batch could not be processed.
pub const DATABASE_UNAVAILABLE: &str =
    "Changes may have been missed because the database did not respond. Fetch the rows again.";

/// Sent when a policy raised an error. `table` is schema-qualified.
#[must_use]
pub fn policy_error(table: &str, error: &str) -> String {
    format!(
        "Changes of {table} are not delivered to you because a row-level security policy raised an error: {error}"
    )
}

/// Sent when a check exceeded its timeout or the slow queue is full. `table` is schema-qualified.
#[must_use]
pub fn check_timed_out(table: &str) -> String {
    format!(
        "Changes of {table} were skipped because the row-level security check took too long. Fetch the rows again."
    )
}
