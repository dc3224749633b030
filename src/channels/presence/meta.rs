//! What a channel tracks: a JSON object that goes on as the text it came as.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;

use super::PhxRef;

/// Up to this size two payloads that differ as text are compared as JSON too. A client that sends the same again
/// writes the same text; whoever does not, and tracks more than this, gets a diff too many.
const MAX_COMPARED_BYTES: usize = 16 * 1024;
/// And up to this depth: recursion must be bounded.
const MAX_COMPARED_DEPTH: usize = 64;

/// What clients must not name themselves: it would stand beside the server's own.
const RESERVED_KEYS: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// A track payload must be a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Presence track payload must be a map")]
pub struct NotAnObject;

/// The object that a client tracks, without its braces and without `phx_ref` and `phx_ref_prev`; otherwise as it
/// came: numbers of any size, the order of keys and white space are kept. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresencePayload(Arc<str>);

impl PresencePayload {
    /// What a client wants to track.
    ///
    /// # Errors
    ///
    /// When it is no object.
    pub fn new(json: &RawValue) -> Result<Self, NotAnObject> {
        let inner = json.get().trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.ok_or(NotAnObject)?.trim();
        // An escaped key may spell a reserved one too.
        let suspicious = inner.contains("phx_ref") || inner.contains("\\u");
        Ok(Self(if suspicious { without_reserved(inner).into() } else { inner.into() }))
    }

    /// From a row: the text of a whole object, as [`to_json`](Self::to_json) writes it.
    ///
    /// # Errors
    ///
    /// When it is no JSON, or no object.
    pub fn from_json(text: &str) -> Result<Self, NotAnObject> {
        Self::new(serde_json::from_str(text).map_err(|_| NotAnObject)?)
    }

    /// The object itself.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{{{}}}", self.0)
    }

    /// Bytes of text.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the object has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both say the same: as text, or as JSON values where the numbers are written alike.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self == other
            || (self.len().max(other.len()) <= MAX_COMPARED_BYTES
                && json_equivalent(&self.to_json(), &other.to_json(), MAX_COMPARED_DEPTH))
    }

    /// Appends the meta: the object with its refs in front.
    pub fn write_meta(&self, out: &mut Vec<u8>, phx_ref: PhxRef, previous: Option<PhxRef>) {
        out.extend_from_slice(b"{\"phx_ref\":\"");
        out.extend_from_slice(&phx_ref.encode());
        if let Some(previous) = previous {
            out.extend_from_slice(b"\",\"phx_ref_prev\":\"");
            out.extend_from_slice(&previous.encode());
        }
        out.push(b'"');
        if !self.is_empty() {
            out.push(b',');
            out.extend_from_slice(self.0.as_bytes());
        }
        out.push(b'}');
    }
}

/// The members of an object's inside whose names are not reserved, joined again.
fn without_reserved(inner: &str) -> String {
    let kept: Vec<&str> = members(inner).into_iter().filter(|member| !is_reserved(member)).collect();
    kept.join(",")
}

/// The members of an object's inside, cut at the commas between them. The text is valid JSON.
fn members(inner: &str) -> Vec<&str> {
    let (mut members, mut start, mut depth, mut in_string, mut escaped) =
        (Vec::new(), 0, 0_usize, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                members.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(&inner[start..]);
    members
}

fn is_reserved(member: &str) -> bool {
    let mut name = serde_json::Deserializer::from_str(member).into_iter::<String>();
    // A name that is no text for us (half a surrogate pair) is none of ours either.
    matches!(name.next(), Some(Ok(name)) if RESERVED_KEYS.contains(&name.as_str()))
}

/// Whether two JSON texts say the same. Numbers are compared as written: no float may round two into one.
fn json_equivalent(one: &str, other: &str, depth: usize) -> bool {
    if one == other {
        return true;
    }
    let (Some(kind), true) =
        (one.bytes().next().filter(|kind| other.bytes().next() == Some(*kind)), depth > 0)
    else {
        return false;
    };
    match kind {
        b'{' => parse_both::<BTreeMap<String, &RawValue>>(one, other).is_some_and(|(one, other)| {
            one.len() == other.len()
                && one.iter().zip(&other).all(|((name, value), (other_name, other_value))| {
                    name == other_name && json_equivalent(value.get(), other_value.get(), depth - 1)
                })
        }),
        b'[' => parse_both::<Vec<&RawValue>>(one, other).is_some_and(|(one, other)| {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(&other)
                    .all(|(one, other)| json_equivalent(one.get(), other.get(), depth - 1))
        }),
        b'"' => parse_both::<String>(one, other).is_some_and(|(one, other)| one == other),
        _ => false,
    }
}

fn parse_both<'a, T: serde::Deserialize<'a>>(one: &'a str, other: &'a str) -> Option<(T, T)> {
    Some((serde_json::from_str(one).ok()?, serde_json::from_str(other).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::PhxRefs, *};

    fn payload(text: &str) -> PresencePayload {
        PresencePayload::from_json(text).expect("an object")
    }

    fn meta(text: &str) -> String {
        let phx_ref = PhxRefs::new().next();
        let mut out = Vec::new();
        payload(text).write_meta(&mut out, phx_ref, None);
        let text = String::from_utf8(out).expect("text");
        serde_json::from_str::<&RawValue>(&text).expect("JSON");
        text.replace(&phx_ref.to_string(), "R")
    }

    #[test]
    fn the_ref_goes_in_front_and_the_rest_stays_as_it_was() {
        assert_eq!(meta("{}"), r#"{"phx_ref":"R"}"#);
        assert_eq!(meta(" { } "), r#"{"phx_ref":"R"}"#);
        assert_eq!(
            meta(r#"{"z": 12345678901234567890123456789, "a":1.10, "t":"a,b}\""}"#),
            r#"{"phx_ref":"R","z": 12345678901234567890123456789, "a":1.10, "t":"a,b}\""}"#
        );
    }

    #[test]
    fn an_update_names_the_ref_that_it_replaces() {
        let refs = PhxRefs::new();
        let (old, new) = (refs.next(), refs.next());
        let mut out = Vec::new();
        payload("{}").write_meta(&mut out, new, Some(old));
        assert_eq!(out, format!(r#"{{"phx_ref":"{new}","phx_ref_prev":"{old}"}}"#).as_bytes());
    }

    #[test]
    fn refs_of_the_clients_own_are_dropped_however_they_are_spelt() {
        assert_eq!(meta(r#"{"phx_ref":"mine"}"#), r#"{"phx_ref":"R"}"#);
        assert_eq!(
            meta(r#"{"a":{"phx_ref":[1,2]},"phx_ref":{"b":"},"},"c":"phx_ref, \"","phx_ref_prev":null}"#),
            r#"{"phx_ref":"R","a":{"phx_ref":[1,2]},"c":"phx_ref, \""}"#
        );
        assert_eq!(meta(r#"{"\u0070hx_ref":1,"x":"\ud83d"}"#), r#"{"phx_ref":"R","x":"\ud83d"}"#);
    }

    #[test]
    fn only_objects_are_tracked() {
        for text in ["1", "null", "[]", "\"{}\"", "true"] {
            assert_eq!(PresencePayload::from_json(text), Err(NotAnObject), "{text}");
        }
    }

    #[test]
    fn the_same_said_differently_is_the_same() {
        let same = |one, other| payload(one).is_equivalent(&payload(other));
        assert!(same(r#"{"a":1,"b":[1, {"c":"é"}]}"#, r#"{"b": [1,{"c":"\u00e9"}], "a":1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(!same(r#"{"a":[1]}"#, r#"{"a":{"0":1}}"#));
        assert!(!same(r#"{"a":12345678901234567890123}"#, r#"{"a":12345678901234567890124}"#));
    }

    #[test]
    fn what_is_deep_or_long_is_compared_as_text() {
        let deep = |space: &str| format!("{{\"a\":{}{space}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(payload(&deep(" ")).is_equivalent(&payload(&deep(" "))));
        assert!(!payload(&deep(" ")).is_equivalent(&payload(&deep(""))));
        let long = |space: &str| format!("{{\"a\":{space}\"{}\"}}", "x".repeat(MAX_COMPARED_BYTES));
        assert!(!payload(&long(" ")).is_equivalent(&payload(&long(""))));
    }
}
