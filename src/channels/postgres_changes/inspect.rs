//! Formats values as Elixir's `inspect` does, which Supabase Realtime uses in its errors.

use serde_json::Value;

/// Formats a text in quotes.
#[must_use]
pub(super) fn inspect_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Formats a JSON value.
#[must_use]
pub(super) fn inspect_value(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => inspect_string(text),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(inspect_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{} => {}", inspect_string(key), inspect_value(value)))
                .collect();
            format!("%{{{}}}", members.join(", "))
        }
    }
}
