//! Moments on the wire: RFC 3339 in UTC with three decimals, which is what `Date.toISOString` gives and what every
//! client's parser takes.

use jiff::Timestamp;
use serde::Serializer;

/// For `#[serde(serialize_with)]` on a moment.
///
/// # Errors
/// The serializer's own.
pub fn always<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// For `#[serde(serialize_with)]` on a moment that may be missing: `null`.
///
/// # Errors
/// The serializer's own.
pub fn option<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => always(time, serializer),
        None => serializer.serialize_none(),
    }
}
