//! The payload that a channel tracks: a JSON object, forwarded as the text that the client sent.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;

use super::PhxRef;

/// Up to this size payloads with different text are also compared as JSON. Clients repeat the same text; one
/// that does not, with a larger payload, causes one redundant diff.
const MAX_COMPARED_BYTES: usize = 16 * 1024;
/// Maximum depth of the comparison as JSON. Bounds the recursion.
const MAX_COMPARED_DEPTH: usize = 64;

/// Keys that clients must not set: they would duplicate those of the server.
const RESERVED_KEYS: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// The tracked payload is not a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Presence track payload must be a map")]
pub struct NotAnObject;

/// The members of a tracked object, without braces, `phx_ref` and `phx_ref_prev`. Otherwise the text of the
/// client: numbers of any size, order of keys and white space are kept. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresencePayload(Arc<str>);

impl PresencePayload {
    /// Reads the payload that a client tracks.
    ///
    /// # Errors
    ///
    /// The value is not an object.
    pub fn new(json: &RawValue) -> Result<Self, NotAnObject> {
        let inner = json.get().trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.ok_or(NotAnObject)?.trim();
        // An escaped key may also spell a reserved one.
        let suspicious = inner.contains("phx_ref") || inner.contains("\\u");
        Ok(Self(if suspicious { without_reserved(inner).into() } else { inner.into() }))
    }

    /// Reads the object from a row, as written by [`to_json`](Self::to_json).
    ///
    /// # Errors
    ///
    /// The text is not JSON or not an object.
    pub fn from_json(text: &str) -> Result<Self, NotAnObject> {
        Self::new(serde_json::from_str(text).map_err(|_| NotAnObject)?)
    }

    /// The complete object as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{{{}}}", self.0)
    }

    /// Length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the object has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are equal as text, or as JSON values with numbers compared as written.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self == other
            || (self.len().max(other.len()) <= MAX_COMPARED_BYTES
                && json_equivalent(&self.to_json(), &other.to_json(), MAX_COMPARED_DEPTH))
    }

    /// Appends the meta: the object with its refs as first members.
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

/// Removes members with reserved keys.
fn without_reserved(inner: &str) -> String {
    let kept: Vec<&str> = members(inner).into_iter().filter(|member| !is_reserved(member)).collect();
    kept.join(",")
}

/// Splits the inside of a valid JSON object at its top-level commas.
fn members(inner: &str) -> Vec<&str> {
    let (mut members, mut start, mut depth, mut in_string, mut escaped) =
        (Vec::new(), 0, 0_usize, false, false);
    for (index, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                members.push(&inner[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    members.push(&inner[start..]);
    members
}

fn is_reserved(member: &str) -> bool {
    let mut name = serde_json::Deserializer::from_str(member).into_iter::<String>();
    // A key that is not valid Unicode (half a surrogate pair) is not reserved.
    matches!(name.next(), Some(Ok(name)) if RESERVED_KEYS.contains(&name.as_str()))
}

/// Whether two JSON texts have equal values. Numbers are compared as text, so that no rounding makes two
/// equal.
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
    fn the_ref_comes_first_and_the_rest_is_unchanged() {
        assert_eq!(meta("{}"), r#"{"phx_ref":"R"}"#);
        assert_eq!(meta(" { } "), r#"{"phx_ref":"R"}"#);
        assert_eq!(
            meta(r#"{"z": 12345678901234567890123456789, "a":1.10, "t":"a,b}\""}"#),
            r#"{"phx_ref":"R","z": 12345678901234567890123456789, "a":1.10, "t":"a,b}\""}"#
        );
    }

    #[test]
    fn an_update_contains_the_previous_ref() {
        let refs = PhxRefs::new();
        let (old, new) = (refs.next(), refs.next());
        let mut out = Vec::new();
        payload("{}").write_meta(&mut out, new, Some(old));
        assert_eq!(out, format!(r#"{{"phx_ref":"{new}","phx_ref_prev":"{old}"}}"#).as_bytes());
    }

    #[test]
    fn reserved_keys_of_clients_are_removed_even_if_escaped() {
        assert_eq!(meta(r#"{"phx_ref":"mine"}"#), r#"{"phx_ref":"R"}"#);
        assert_eq!(
            meta(r#"{"a":{"phx_ref":[1,2]},"phx_ref":{"b":"},"},"c":"phx_ref, \"","phx_ref_prev":null}"#),
            r#"{"phx_ref":"R","a":{"phx_ref":[1,2]},"c":"phx_ref, \""}"#
        );
        assert_eq!(meta(r#"{"\u0070hx_ref":1,"x":"\ud83d"}"#), r#"{"phx_ref":"R","x":"\ud83d"}"#);
    }

    #[test]
    fn only_objects_are_accepted() {
        for text in ["1", "null", "[]", "\"{}\"", "true"] {
            assert_eq!(PresencePayload::from_json(text), Err(NotAnObject), "{text}");
        }
    }

    #[test]
    fn equal_json_values_are_equivalent() {
        let same = |one, other| payload(one).is_equivalent(&payload(other));
        assert!(same(r#"{"a":1,"b":[1, {"c":"é"}]}"#, r#"{"b": [1,{"c":"\u00e9"}], "a":1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(!same(r#"{"a":[1]}"#, r#"{"a":{"0":1}}"#));
        assert!(!same(r#"{"a":12345678901234567890123}"#, r#"{"a":12345678901234567890124}"#));
    }

    #[test]
    fn deep_or_long_payloads_are_compared_as_text() {
        let deep = |space: &str| format!("{{\"a\":{}{space}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(payload(&deep(" ")).is_equivalent(&payload(&deep(" "))));
        assert!(!payload(&deep(" ")).is_equivalent(&payload(&deep(""))));
        let long = |space: &str| format!("{{\"a\":{space}\"{}\"}}", "x".repeat(MAX_COMPARED_BYTES));
        assert!(!payload(&long(" ")).is_equivalent(&payload(&long(""))));
    }
}
