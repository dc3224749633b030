//! Timestamps on the wire: RFC 3339 in UTC with three decimals, as `Date.toISOString` writes them and all clients parse
//! them.

use jiff::Timestamp;
use serde::Serializer;

/// For `#[serde(serialize_with)]` on a timestamp.
///
/// # Errors
/// The serializer's error.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// For `#[serde(serialize_with)]` on an optional timestamp; `None` becomes `null`.
///
/// # Errors
/// The serializer's error.
pub fn option<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, serializer),
        None => serializer.serialize_none(),
    }
}
