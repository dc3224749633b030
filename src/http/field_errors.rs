//! Collects the errors of all fields of a JSON object.
//!
//! `serde` stops at the first error. Here an object that does not deserialize is read again without the invalid
//! field, until all remaining fields are valid. The type's OpenAPI schema names the required fields, so what the
//! API description requires and what the server requires cannot differ.

use std::borrow::Cow;

use garde::Validate;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use utoipa::{
    PartialSchema,
    openapi::{RefOr, Schema},
};

use super::{ApiError, FieldError, strict::Strict};
use crate::protocol::GIVEN_TWICE;

/// Maximum length of a parser's message in characters, because it may quote the input.
const MAX_MESSAGE_CHARS: usize = 200;

/// The errors of all fields of `object` as a `T`; `None` if it is valid.
///
/// Malformed fields come first. The code is `UNPROCESSABLE` if every error is an unknown enum value.
pub(super) fn collect<T>(object: Map<String, Value>) -> Option<ApiError>
where
    T: DeserializeOwned + Validate<Context = ()> + PartialSchema,
{
    let fields = FieldNames::of::<T>();
    let (mut malformed, mut unprocessable) = (Vec::new(), Vec::new());
    let mut rest = Value::Object(object);
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(Strict(&rest)) {
            Ok(value) => {
                if let Err(report) = value.validate() {
                    let error = |(path, error): &(garde::Path, garde::Error)| {
                        let path = fields.canonical_path(&path.to_string());
                        let message = describe_rule(error.message(), value_at(&rest, &path, &fields));
                        FieldError::new(path, message)
                    };
                    malformed.extend(report.iter().map(error));
                }
                break;
            }
            Err(error) => error,
        };
        let Value::Object(object) = &mut rest else { break };
        let message = error.inner().to_string();
        let top_level = match error.path().iter().next() {
            Some(Segment::Map { key }) => Some(key.clone()),
            _ => None,
        };
        // Required fields are checked after all fields that are present.
        let Some(name) = top_level.or_else(|| quoted_name(&message, "duplicate field `")) else {
            let found =
                malformed.iter().chain(&unprocessable).map(|error: &FieldError| top_name(&error.field));
            let found: Vec<_> = found.map(str::to_owned).collect();
            let is_missing = |name: &&String| {
                !found.contains(name) && !object.keys().any(|key| fields.canonical(key) == ***name)
            };
            let missing = fields.required.iter().filter(is_missing);
            malformed.extend(missing.map(|name| FieldError::new(name.clone(), "is required")));
            break;
        };
        let path = fields.canonical_path(&field_path(&error.path().to_string(), &message));
        let reported = FieldError::new(path, describe(&message));
        if is_unknown_value(&message) {
            unprocessable.push(reported)
        } else {
            malformed.push(reported)
        }
        let before = object.len();
        let name = fields.canonical(&name).into_owned();
        object.retain(|key, _| fields.canonical(key) != name);
        if object.len() == before {
            break;
        }
    }
    malformed.sort_by_key(|error| fields.position(&error.field));
    let is_malformed = !malformed.is_empty();
    malformed.append(&mut unprocessable);
    match malformed {
        errors if errors.is_empty() => None,
        errors if is_malformed => Some(ApiError::invalid_fields(errors)),
        errors => Some(ApiError::unprocessable_fields(errors)),
    }
}

/// Deserializes a field that may be absent or `null`: `Some(None)` is `null`. Needs `#[serde(default)]`.
pub(super) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Deserializes a field that may be absent but not `null`. Needs `#[serde(default)]`.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Whether serde's message reports an unknown enum value. serde tells only by the text.
pub(super) fn is_unknown_value(message: &str) -> bool {
    message.starts_with("unknown variant")
}

/// The parser's message in the wording of `docs/errors.md`.
pub(super) fn describe(message: &str) -> String {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((got, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("must be {} (got {})", expected_type(expected), got_type(got));
    }
    if let Some((got, expected)) =
        message.strip_prefix("unknown variant `").and_then(|it| it.rsplit_once("`, expected "))
    {
        let expected = expected.replace('`', "");
        let got = truncate(got);
        return match expected.strip_prefix("one of ") {
            Some(values) => format!("must be one of {values} (got {got:?})"),
            None => format!("must be {expected} (got {got:?})"),
        };
    }
    if message.starts_with("missing field") {
        return "is required".to_owned();
    }
    if message.starts_with("duplicate field") {
        return GIVEN_TWICE.to_owned();
    }
    if message.starts_with("UUID parsing failed") {
        return "must be a UUID".to_owned();
    }
    truncate(message).into_owned()
}

/// serde's name of an expected type as clients know it.
fn expected_type(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer from 0",
        other if other.contains("UUID") => "a UUID",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// The type of a value that serde reports, without the value.
fn got_type(got: &str) -> &str {
    match got.split([' ', '`']).next() {
        Some("string") => "a string",
        Some("integer" | "floating") => "a number",
        Some("boolean") => "a boolean",
        Some("map") => "an object",
        Some("sequence") => "a list",
        Some("null" | "unit") => "null",
        _ => got,
    }
}

/// garde's message about `value` in the wording of `docs/errors.md`.
fn describe_rule(message: &str, value: Option<&Value>) -> String {
    let unit = match value {
        Some(Value::Array(_)) => "items",
        Some(Value::Object(_)) => "entries",
        _ => "characters",
    };
    for (prefix, start, end) in [
        ("length is lower than ", "must have at least", Some(unit)),
        ("length is greater than ", "must have at most", Some(unit)),
        ("lower than ", "must be at least", None),
        ("greater than ", "must be at most", None),
    ] {
        if let Some(bound) = message.strip_prefix(prefix) {
            return [Some(start), Some(bound), end].into_iter().flatten().collect::<Vec<_>>().join(" ");
        }
    }
    message.to_owned()
}

/// Path of the invalid field. The parser reports "missing field `name`" and "duplicate field `name`" with the
/// path of the enclosing object.
pub(super) fn field_path(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    let name = message.strip_prefix("missing field `").or_else(|| message.strip_prefix("duplicate field `"));
    match name.and_then(|name| name.strip_suffix('`')) {
        Some(name) if path.is_empty() => name.to_owned(),
        // For a duplicate, the parser has already read the second value.
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    }
}

pub(super) fn truncate(message: &str) -> Cow<'_, str> {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]).into(),
        None => message.into(),
    }
}

/// The value of a top-level field.
fn value_at<'a>(object: &'a Value, path: &str, fields: &FieldNames) -> Option<&'a Value> {
    if path != top_name(path) {
        return None;
    }
    object.as_object()?.iter().find(|(key, _)| fields.canonical(key) == path).map(|(_, value)| value)
}

fn quoted_name(message: &str, prefix: &str) -> Option<String> {
    message.strip_prefix(prefix)?.split_once('`').map(|(name, _)| name.to_owned())
}

/// The first name of a path: `pages` of `pages[1].path`.
fn top_name(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

/// The fields of an object by the names of its schema.
struct FieldNames {
    names: Vec<String>,
    required: Vec<String>,
}

impl FieldNames {
    fn of<T: PartialSchema>() -> Self {
        let mut fields = Self { names: Vec::new(), required: Vec::new() };
        fields.add(T::schema());
        fields
    }

    fn add(&mut self, schema: RefOr<Schema>) {
        match schema {
            RefOr::T(Schema::Object(object)) => {
                self.names.extend(object.properties.into_keys());
                self.required.extend(object.required);
            }
            // A struct with flattened fields.
            RefOr::T(Schema::AllOf(parts)) => parts.items.into_iter().for_each(|part| self.add(part)),
            _ => {}
        }
    }

    /// The documented spelling of a field that is written in snake_case or camelCase.
    fn canonical<'a>(&'a self, key: &'a str) -> Cow<'a, str> {
        if self.names.iter().any(|name| name == key) {
            return key.into();
        }
        let plain = |name: &str| name.replace('_', "").to_lowercase();
        let wanted = plain(key);
        self.names.iter().find(|name| plain(name) == wanted).map_or(key, |name| name).into()
    }

    fn canonical_path(&self, path: &str) -> String {
        let top = top_name(path);
        format!("{}{}", self.canonical(top), &path[top.len()..])
    }

    fn position(&self, path: &str) -> usize {
        let top = top_name(path);
        self.names.iter().position(|name| name == top).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use utoipa::ToSchema;

    use super::*;
    use crate::model::{Status, UserId};

    #[derive(Debug, Deserialize, Validate, ToSchema, PartialEq)]
    #[garde(allow_unvalidated)]
    struct Body {
        #[serde(alias = "userId")]
        user_id: UserId,
        status: Status,
        #[serde(default, deserialize_with = "nullable")]
        #[garde(inner(inner(length(max = 3))))]
        text: Option<Option<String>>,
        #[serde(alias = "isActive")]
        is_active: bool,
        users: Option<Vec<UserId>>,
    }

    fn errors(body: &str) -> (&'static str, Vec<(String, String)>) {
        let error = collect::<Body>(serde_json::from_str(body).expect("is an object")).expect("is invalid");
        let code = error.code();
        let (ApiError::InvalidRequest { details, .. } | ApiError::Unprocessable { details, .. }) = error
        else {
            panic!("{error}")
        };
        let details = details.into_iter().map(|error| (error.field.into_owned(), error.message.into_owned()));
        (code, details.collect())
    }

    fn names(body: &str) -> (&'static str, Vec<String>) {
        let (code, errors) = errors(body);
        (code, errors.into_iter().map(|(field, _)| field).collect())
    }

    const USER: &str = "a0000000-0000-4000-8000-000000000001";

    #[test]
    fn every_invalid_field_is_reported_in_order() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (body, code, expected) in [
            ("{}".to_owned(), "INVALID_REQUEST", list(&["user_id", "status", "is_active"])),
            (
                r#"{"users":["x"],"isActive":"no","status":"idle","text":7,"userId":"x"}"#.to_owned(),
                "INVALID_REQUEST",
                list(&["user_id", "text", "is_active", "users[0]", "status"]),
            ),
            (r#"{"isActive":1}"#.to_owned(), "INVALID_REQUEST", list(&["user_id", "status", "is_active"])),
            (
                format!(r#"{{"user_id":"{USER}","userId":"{USER}","status":"away","is_active":true}}"#),
                "INVALID_REQUEST",
                list(&["user_id"]),
            ),
            (
                format!(r#"{{"user_id":"{USER}","status":"idle","is_active":true}}"#),
                "UNPROCESSABLE",
                list(&["status"]),
            ),
            (
                format!(r#"{{"user_id":"{USER}","status":"away","text":"abcd","users":7,"is_active":true}}"#),
                "INVALID_REQUEST",
                list(&["text", "users"]),
            ),
        ] {
            assert_eq!(names(&body), (code, expected), "{body}");
        }
    }

    #[test]
    fn messages_say_what_was_expected() {
        let (_, errors) = errors(r#"{"user_id":"x","status":"idle","is_active":"no"}"#);
        let messages: Vec<_> = errors.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "must be a UUID",
                "must be true or false (got a string)",
                "must be one of online, away, busy, dnd, invisible, offline (got \"idle\")",
            ]
        );
    }

    #[test]
    fn each_kind_of_error_has_one_wording() {
        #[derive(Debug, Deserialize, Validate, ToSchema)]
        #[garde(allow_unvalidated)]
        struct Kinds {
            #[expect(dead_code, reason = "read for its errors")]
            flag: Option<bool>,
            #[expect(dead_code, reason = "read for its errors")]
            user: Option<UserId>,
            #[garde(inner(range(min = 1, max = 5)))]
            count: Option<i32>,
            #[garde(inner(length(min = 1, max = 2)))]
            list: Option<Vec<u8>>,
            #[garde(inner(length(chars, min = 1, max = 2)))]
            text: Option<String>,
            #[expect(dead_code, reason = "read for its errors")]
            part: Option<std::collections::BTreeMap<String, f64>>,
        }
        for (body, expected) in [
            (r#"{"flag":"no"}"#, "flag: must be true or false (got a string)"),
            (r#"{"user":7}"#, "user: must be a UUID (got a number)"),
            (r#"{"user":"x"}"#, "user: must be a UUID"),
            (r#"{"count":"x"}"#, "count: must be an integer (got a string)"),
            (r#"{"count":1.5}"#, "count: must be an integer (got a number)"),
            (r#"{"count":9}"#, "count: must be at most 5"),
            (r#"{"count":0}"#, "count: must be at least 1"),
            (r#"{"list":{}}"#, "list: must be a list (got an object)"),
            (r#"{"list":[]}"#, "list: must have at least 1 items"),
            (r#"{"list":[1,2,3]}"#, "list: must have at most 2 items"),
            (r#"{"list":[-1]}"#, "list[0]: must be an integer from 0 (got a number)"),
            (r#"{"text":["x"]}"#, "text: must be a string (got a list)"),
            (r#"{"text":"xyz"}"#, "text: must have at most 2 characters"),
            (r#"{"part":null,"text":true}"#, "text: must be a string (got a boolean)"),
            (r#"{"part":[]}"#, "part: must be an object (got a list)"),
            (r#"{"part":{"a":null}}"#, "part.a: must be a number (got null)"),
        ] {
            let error = collect::<Kinds>(serde_json::from_str(body).expect("is an object")).expect(body);
            assert_eq!(error.to_string(), expected, "{body}");
        }
    }

    #[test]
    fn absent_and_null_are_distinguished() {
        let body = |text: &str| format!(r#"{{"userId":"{USER}","status":"away","isActive":true{text}}}"#);
        let parse = |text: &str| serde_json::from_str::<Body>(&body(text)).expect("is valid").text;
        assert_eq!(parse(""), None);
        assert_eq!(parse(r#","text":null"#), Some(None));
        assert_eq!(parse(r#","text":"a""#), Some(Some("a".to_owned())));
    }
}
