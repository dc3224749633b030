//! Compares received with recorded frames, ignoring values that differ between runs.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use testkit::phoenix::Frame;
use uuid::Uuid;

/// One-to-one mapping between recorded values and values of this run.
#[derive(Default)]
pub struct Bindings {
    ours: HashMap<String, String>,
    theirs: HashMap<String, String>,
}

impl Bindings {
    /// Compares two frames; returns the first difference.
    pub fn compare_frame(&mut self, theirs: &Frame, ours: &Frame) -> Result<(), String> {
        let difference = |what: &str| format!("{what}: expected {theirs:?}, got {ours:?}");
        if theirs.data.is_some() != ours.data.is_some() {
            return Err(difference("binary or text"));
        }
        if (&theirs.topic, &theirs.event) != (&ours.topic, &ours.event) {
            return Err(difference("topic and event"));
        }
        if (&theirs.join_ref, &theirs.reference) != (&ours.join_ref, &ours.reference) {
            return Err(difference("refs"));
        }
        self.compare_value("payload", &theirs.payload, &ours.payload).map_err(|at| difference(&at))
    }

    /// Compares two values. `path` is their position, for the error text.
    pub fn compare_value(&mut self, path: &str, theirs: &Value, ours: &Value) -> Result<(), String> {
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => self.compare_fields(path, theirs, ours),
            (Value::Array(theirs), Value::Array(ours)) if path.ends_with("/ids") => {
                self.compare_ids(path, theirs, ours)
            }
            (Value::Array(theirs), Value::Array(ours)) => {
                if theirs.len() != ours.len() {
                    return Err(format!("{path}: {} elements, not {}", ours.len(), theirs.len()));
                }
                for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                    self.compare_value(&format!("{path}/{at}"), theirs, ours)?;
                }
                Ok(())
            }
            (Value::String(theirs), Value::String(ours)) if path.ends_with("/commit_timestamp") => {
                // UTC with three decimals; the time itself may differ.
                let fine =
                    ours.len() == theirs.len() && ours.ends_with('Z') && ours.parse::<Timestamp>().is_ok();
                if fine { Ok(()) } else { Err(format!("{path}: {ours:?} is not written as {theirs:?}")) }
            }
            (Value::String(theirs), Value::String(ours)) if varies(path, theirs) => {
                self.bind(path, theirs, ours)
            }
            (Value::String(theirs), Value::String(ours)) => {
                let same = without_seconds(theirs) == without_seconds(ours);
                if same { Ok(()) } else { Err(format!("{path}: {ours:?}, not {theirs:?}")) }
            }
            // Server-generated subscription IDs.
            (Value::Number(theirs), Value::Number(ours))
                if path.ends_with("/id") && path.contains("postgres_changes") =>
            {
                self.bind(path, &theirs.to_string(), &ours.to_string())
            }
            _ if theirs == ours => Ok(()),
            _ => Err(format!("{path}: {ours}, not {theirs}")),
        }
    }

    fn compare_fields(
        &mut self,
        path: &str,
        theirs: &Map<String, Value>,
        ours: &Map<String, Value>,
    ) -> Result<(), String> {
        if theirs.len() != ours.len() {
            let names = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            return Err(format!("{path}: fields {:?}, not {:?}", names(ours), names(theirs)));
        }
        // A server-generated key: the only one without a counterpart.
        let mut strangers = ours.keys().filter(|name| !theirs.contains_key(*name));
        for (name, value) in theirs {
            let name_here = match ours.get_key_value(name) {
                Some((name, _)) => name,
                None => {
                    let stranger = strangers.next().ok_or_else(|| format!("{path}: no {name}"))?;
                    if !varies("key", name) {
                        return Err(format!("{path}: {stranger}, not {name}"));
                    }
                    self.bind(path, name, stranger)?;
                    stranger
                }
            };
            self.compare_value(&format!("{path}/{name}"), value, &ours[name_here])?;
        }
        Ok(())
    }

    /// Compares the subscription IDs of a change, in any order.
    fn compare_ids(&mut self, path: &str, theirs: &[Value], ours: &[Value]) -> Result<(), String> {
        let mut expected: Vec<_> = theirs
            .iter()
            .map(|id| {
                self.ours.get(&id.to_string()).cloned().ok_or_else(|| format!("{path}: unknown ID {id}"))
            })
            .collect::<Result<_, _>>()?;
        let mut given: Vec<_> = ours.iter().map(Value::to_string).collect();
        expected.sort();
        given.sort();
        if expected == given { Ok(()) } else { Err(format!("{path}: {given:?}, not {expected:?}")) }
    }

    fn bind(&mut self, path: &str, theirs: &str, ours: &str) -> Result<(), String> {
        let here = self.ours.entry(theirs.to_owned()).or_insert_with(|| ours.to_owned());
        let there = self.theirs.entry(ours.to_owned()).or_insert_with(|| theirs.to_owned());
        if here == ours && there == theirs {
            return Ok(());
        }
        Err(format!("{path}: {ours} instead of {here}, recorded {theirs} instead of {there}"))
    }
}

/// Whether the value is generated by the server.
fn varies(path: &str, text: &str) -> bool {
    let users = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];
    path.ends_with("/phx_ref")
        || path.ends_with("/phx_ref_prev")
        || text.parse::<Uuid>().is_ok() && !users.contains(&text)
}

/// Removes the number of seconds since expiry, which differs between runs.
fn without_seconds(text: &str) -> String {
    let Some((before, rest)) = text.split_once("has expired ") else { return text.to_owned() };
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}has expired {rest}")
}
