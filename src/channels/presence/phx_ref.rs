//! Refs of presence metas. Clients identify a meta by its ref alone.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const ORIGIN_BYTES: usize = 6;
const BYTES: usize = 12;
/// Length of an encoded ref in characters.
pub const PHX_REF_CHARS: usize = 16;

/// A `phx_ref`: a random prefix per process and a time. Refs are unique across nodes and restarts, and refs of one
/// process are ordered by age. A counter would show to members of a channel how many users track in other channels.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PhxRef([u8; BYTES]);

impl PhxRef {
    /// Encodes the ref for the wire.
    #[must_use]
    pub fn encode(self) -> [u8; PHX_REF_CHARS] {
        let mut text = [0; PHX_REF_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(PHX_REF_CHARS));
        text
    }

    /// Decodes a ref. `None` if the text is not one.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0; BYTES];
        let written = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (written == BYTES).then_some(Self(bytes))
    }

    /// Whether the ref was issued before `other`. False for refs of different processes, which have no order.
    #[must_use]
    pub fn is_older_than(self, other: Self) -> bool {
        self.0[..ORIGIN_BYTES] == other.0[..ORIGIN_BYTES] && self.0 < other.0
    }
}

impl fmt::Display for PhxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PhxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug)]
pub struct PhxRefs {
    origin: [u8; ORIGIN_BYTES],
    started: Instant,
    /// Microseconds of the latest ref after `started`.
    latest: AtomicU64,
}

impl PhxRefs {
    /// Starts with a random prefix.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: rand::random(), started: Instant::now(), latest: AtomicU64::new(0) }
    }

    /// Returns a new ref. The time has 48 bits, which last for eight years.
    #[must_use]
    pub fn next(&self) -> PhxRef {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let next = |latest: u64| now.max(latest + 1);
        let latest = self
            .latest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |latest| Some(next(latest)))
            .unwrap_or_default();
        let number = next(latest);
        let mut bytes = [0; BYTES];
        bytes[..ORIGIN_BYTES].copy_from_slice(&self.origin);
        bytes[ORIGIN_BYTES..].copy_from_slice(&number.to_be_bytes()[2..]);
        PhxRef(bytes)
    }
}

impl Default for PhxRefs {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn refs_round_trip_as_sixteen_url_safe_characters() {
        let given = PhxRefs::new().next();
        let text = given.to_string();
        assert_eq!(text.len(), PHX_REF_CHARS);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
        assert_eq!(text.as_bytes(), given.encode());
        assert_eq!(PhxRef::decode(&text), Some(given));
        assert_eq!(PhxRef::decode("short"), None);
        assert_eq!(PhxRef::decode("seventeen_letters"), None);
    }

    #[test]
    fn refs_do_not_count_the_refs_of_others() {
        let refs = PhxRefs::new();
        let number =
            |given: PhxRef| given.0[ORIGIN_BYTES..].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let first = refs.next();
        while refs.started.elapsed() < Duration::from_millis(2) {}
        // The distance is the time that passed, not the number of refs.
        let between: Vec<_> = (0..100).map(|_| refs.next()).collect();
        assert!(number(between[0]) >= 2_000 && between.is_sorted_by(|one, next| one.is_older_than(*next)));
        while refs.started.elapsed() < Duration::from_millis(4) {}
        assert!(number(refs.next()) - number(first) >= 1_900);
    }

    #[test]
    fn refs_of_one_process_are_ordered_and_others_are_not() {
        let (here, there) = (PhxRefs::new(), PhxRefs::new());
        let (first, second, foreign) = (here.next(), here.next(), there.next());
        assert!(first.is_older_than(second) && !second.is_older_than(first) && !first.is_older_than(first));
        assert!(!first.is_older_than(foreign) && !foreign.is_older_than(first));
    }
}
