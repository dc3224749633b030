//! Reads the fields of a JSON object and names the field in each error.
//!
//! `serde` stops at the first error and reports a column instead of a field. This reader collects all errors of an
//! object and treats an alias as the field it stands for.

use std::{fmt::Display, str::FromStr};

use garde::{Report, Validate};
use serde_json::{Map, Value};

use super::{ErrorCode, FieldError, GIVEN_TWICE, WireError};
use crate::model::ConversationKey;

/// A JSON object being read, with the errors found so far.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Prefix of field names in errors: `data.` or empty.
    prefix: &'static str,
    malformed: Vec<FieldError>,
    unprocessable: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Reads `object`. Errors name fields as `prefix` + name.
    #[must_use]
    pub(crate) fn new(object: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, prefix, malformed: Vec::new(), unprocessable: Vec::new() }
    }

    /// An optional string; `Some(None)` for `null`.
    pub(crate) fn nullable_text(&mut self, names: &[&'static str]) -> Option<Option<&'a str>> {
        match self.find(names)? {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text)),
            other => {
                self.add_type_error(names, "a string or null", other);
                None
            }
        }
    }

    /// An optional or `null` string, parsed as a `T`.
    pub(crate) fn optional<T>(&mut self, names: &[&'static str]) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        self.nullable(names).flatten()
    }

    /// An optional string, parsed as a `T`; `Some(None)` for `null`.
    pub(crate) fn nullable<T>(&mut self, names: &[&'static str]) -> Option<Option<T>>
    where
        T: FromStr<Err: Display>,
    {
        match self.nullable_text(names)? {
            None => Some(None),
            Some(text) => self.parse(names, text).map(Some),
        }
    }

    /// A required string, parsed as a `T`.
    pub(crate) fn required<T>(&mut self, names: &[&'static str]) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.required_text(names)?;
        self.parse(names, text)
    }

    /// A required ID of a conversation: a string or an integer.
    pub(crate) fn required_conversation(&mut self, names: &[&'static str]) -> Option<ConversationKey> {
        let Some(value) = self.find(names) else {
            self.add_error(names, "is required");
            return None;
        };
        match ConversationKey::from_json(value) {
            Some(Ok(key)) => Some(key),
            Some(Err(error)) => {
                self.add_error(names, error.to_string());
                None
            }
            None => {
                self.add_type_error(names, "a string or an integer", value);
                None
            }
        }
    }

    /// A required string from a closed set of values. Other values are `UNPROCESSABLE` (HTTP 422).
    pub(crate) fn required_enum<T>(&mut self, names: &[&'static str]) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.required_text(names)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let error = FieldError::new(self.path(names), error.to_string());
                self.unprocessable.push(error);
                None
            }
        }
    }

    pub(crate) fn required_text(&mut self, names: &[&'static str]) -> Option<&'a str> {
        match self.find(names) {
            None => {
                self.add_error(names, "is required");
                None
            }
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                self.add_type_error(names, "a string", other);
                None
            }
        }
    }

    /// An optional or `null` boolean.
    pub(crate) fn optional_bool(&mut self, names: &[&'static str]) -> Option<bool> {
        match self.find(names)? {
            Value::Null => None,
            Value::Bool(value) => Some(*value),
            other => {
                self.add_type_error(names, "true or false", other);
                None
            }
        }
    }

    /// An optional or `null` integer of a range.
    pub(crate) fn optional_integer(
        &mut self,
        names: &[&'static str],
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        match self.find(names)? {
            Value::Null => None,
            Value::Number(number) => {
                let value = number.as_u64().and_then(|value| u32::try_from(value).ok());
                let value = value.filter(|value| range.contains(value));
                if value.is_none() {
                    self.add_error(
                        names,
                        format!("must be an integer from {} to {}", range.start(), range.end()),
                    );
                }
                value
            }
            other => {
                self.add_type_error(names, "an integer", other);
                None
            }
        }
    }

    pub(crate) fn required_bool(&mut self, names: &[&'static str]) -> Option<bool> {
        match self.find(names) {
            None => {
                self.add_error(names, "is required");
                None
            }
            Some(Value::Bool(value)) => Some(*value),
            Some(other) => {
                self.add_type_error(names, "true or false", other);
                None
            }
        }
    }

    /// A required array of at most `max` strings, each parsed as a `T`. Reading stops at the first invalid item. The
    /// length is checked before the items.
    pub(crate) fn required_list<T>(&mut self, names: &[&'static str], max: usize) -> Option<Vec<T>>
    where
        T: FromStr<Err: Display>,
    {
        match self.find(names) {
            None => {
                self.add_error(names, "is required");
                None
            }
            Some(value) => self.list(names, value, max),
        }
    }

    /// As [`Self::required_list`] for an optional array; `null` reads as an empty one.
    pub(crate) fn optional_list<T>(&mut self, names: &[&'static str], max: usize) -> Option<Vec<T>>
    where
        T: FromStr<Err: Display>,
    {
        match self.find(names)? {
            Value::Null => Some(Vec::new()),
            value => self.list(names, value, max),
        }
    }

    fn list<T>(&mut self, names: &[&'static str], value: &Value, max: usize) -> Option<Vec<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Value::Array(items) = value else {
            self.add_type_error(names, "a list", value);
            return None;
        };
        if items.len() > max {
            self.add_error(names, format!("must have at most {max} items"));
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path(names));
            match item.as_str().map(str::parse::<T>) {
                Some(Ok(value)) => values.push(value),
                Some(Err(error)) => {
                    self.malformed.push(FieldError::new(path, error.to_string()));
                    return None;
                }
                None => {
                    self.malformed
                        .push(FieldError::new(path, format!("must be a string (got {})", json_type(item))));
                    return None;
                }
            }
        }
        Some(values)
    }

    /// Finishes reading: returns the value if all fields are valid and its own validation succeeds.
    ///
    /// # Errors
    /// All errors found: `INVALID_REQUEST` if any field is malformed, else `UNPROCESSABLE`.
    pub(crate) fn finish<T: Validate<Context = ()>>(mut self, value: Option<T>) -> Result<T, WireError> {
        if let Some(Err(report)) = value.as_ref().map(Validate::validate) {
            self.add_validation_errors(&report);
        }
        match value {
            Some(value) if self.malformed.is_empty() && self.unprocessable.is_empty() => Ok(value),
            _ => Err(self.into_error()),
        }
    }

    /// As [`Self::finish`] for values without their own validation.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn finish_plain<T>(self, value: Option<T>) -> Result<T, WireError> {
        match value {
            Some(value) if self.malformed.is_empty() && self.unprocessable.is_empty() => Ok(value),
            _ => Err(self.into_error()),
        }
    }

    fn into_error(mut self) -> WireError {
        let code = if self.malformed.is_empty() && !self.unprocessable.is_empty() {
            ErrorCode::Unprocessable
        } else {
            ErrorCode::InvalidRequest
        };
        self.malformed.append(&mut self.unprocessable);
        WireError::fields(code, self.malformed)
    }

    fn add_validation_errors(&mut self, report: &Report) {
        for (path, error) in report.iter() {
            let field = format!("{}{path}", self.prefix);
            self.malformed.push(FieldError::new(field, error.to_string()));
        }
    }

    /// The value under the field's name or an alias. Giving both is an error, since they may differ.
    fn find(&mut self, names: &[&'static str]) -> Option<&'a Value> {
        let object = self.object;
        let mut present = names.iter().filter_map(|name| object.get(*name).map(|value| (name, value)));
        let (_, value) = present.next()?;
        if present.next().is_some() {
            self.add_error(names, GIVEN_TWICE);
        }
        Some(value)
    }

    fn parse<T>(&mut self, names: &[&'static str], text: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.add_error(names, error.to_string());
                None
            }
        }
    }

    fn add_type_error(&mut self, names: &[&'static str], expected: &str, got: &Value) {
        self.add_error(names, format!("must be {expected} (got {})", json_type(got)));
    }

    fn add_error(&mut self, names: &[&'static str], message: impl Into<std::borrow::Cow<'static, str>>) {
        let error = FieldError::new(self.path(names), message);
        self.malformed.push(error);
    }

    fn path(&self, names: &[&'static str]) -> String {
        format!("{}{}", self.prefix, names.first().copied().unwrap_or_default())
    }
}

/// The type of a JSON value with an article, for use after "got".
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn all_field_errors_are_collected() {
        let map = object(json!({"a": 1, "b": []}));
        let mut fields = Fields::new(&map, "data.");
        let a = fields.required_text(&["a"]);
        let b = fields.required_bool(&["b"]);
        let c = fields.required_text(&["c"]);
        assert_eq!((a, b, c), (None, None, None));
        let error = fields.finish_plain::<()>(None).expect_err("three errors");
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        let names: Vec<_> = error.details.iter().map(|detail| detail.field.as_ref()).collect();
        assert_eq!(names, ["data.a", "data.b", "data.c"]);
        let expected = "data.a: must be a string (got a number); data.b: must be true or false (got a list); \
                        data.c: is required";
        assert_eq!(error.message, expected);
    }

    #[test]
    fn a_field_given_together_with_its_alias_is_an_error() {
        let map = object(json!({"device_id": "x", "deviceId": "y"}));
        let mut fields = Fields::new(&map, "");
        fields.nullable_text(&["device_id", "deviceId"]);
        let error = fields.finish_plain(Some(())).expect_err("given twice");
        assert_eq!(error.message, "device_id: must not be given twice, also not under another spelling");
    }
}
