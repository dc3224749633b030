//! Positions of server-sent events.

use std::fmt;

use jiff::Timestamp;

/// Time before a join in which broadcasts may not have been delivered, in milliseconds.
const MARGIN_MS: i64 = 10_000;
/// Distinguishes a time from the ID of a broadcast.
const PREFIX: &str = "since-";

/// Position of a client that has received nothing yet: the time from which broadcasts are replayed, in milliseconds since
/// 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SincePosition(pub i64);

impl SincePosition {
    /// The position of a client that joins now.
    #[must_use]
    pub fn now() -> Self {
        Self(Timestamp::now().as_millisecond() - MARGIN_MS)
    }

    /// Reads a position; `None` if it is the ID of a broadcast, or of something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix(PREFIX)?.parse().ok().map(Self)
    }
}

impl fmt::Display for SincePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let position = SincePosition::now();
        assert_eq!(SincePosition::parse(&position.to_string()), Some(position));
        for text in ["", "since-", "since-x", "0198c1de-5f0e-4b52-9d7a-0c6b3f1a2e44"] {
            assert_eq!(SincePosition::parse(text), None, "{text}");
        }
    }
}
