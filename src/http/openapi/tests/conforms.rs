//! Whether a value is of a schema, for the keywords that our descriptions use. Stricter than JSON Schema: a field that
//! an object's schema does not name is a complaint unless it says `additionalProperties`, since what the server says
//! should be described whole.

use serde_json::{Map, Value};

/// Everything in which `value` is not of `schema`; references are into `document`.
pub fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "", &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(schema) = schema else { panic!("{schema} is no schema") };
    let mut said = Vec::new();
    let mut wrong = |what: String| said.push(format!("{at}: {what}: {value}"));
    for (keyword, wanted) in schema {
        match keyword.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).expect("a reference");
                let target = document.pointer(pointer).expect("leads somewhere");
                check(document, target, value, at, found);
                // A reference beside nothing but a description, as all of ours are.
                return;
            }
            "const" => {
                if value != wanted {
                    wrong(format!("is not {wanted}"));
                }
            }
            "enum" => {
                if !wanted.as_array().expect("a list").contains(value) {
                    wrong(format!("is none of {wanted}"));
                }
            }
            "type" => {
                let kinds = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                if !kinds.iter().any(|kind| is_a(kind.as_str().expect("a type"), value)) {
                    wrong(format!("is no {wanted}"));
                }
            }
            "format" => {
                if let Value::String(text) = value {
                    let fine = match wanted.as_str() {
                        Some("uuid") => text.parse::<uuid::Uuid>().is_ok(),
                        Some("uri-reference") => text.starts_with('/'),
                        Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
                        other => panic!("what is the format {other:?}?"),
                    };
                    if !fine {
                        wrong(format!("is no {wanted}"));
                    }
                }
            }
            "maximum" => {
                if value.as_f64().is_some_and(|number| number > wanted.as_f64().expect("a number")) {
                    wrong(format!("is above {wanted}"));
                }
            }
            "minimum" => {
                if value.as_f64().is_some_and(|number| number < wanted.as_f64().expect("a number")) {
                    wrong(format!("is below {wanted}"));
                }
            }
            "minLength" | "maxLength" | "x-max-length-after-trimming" => {
                if let Value::String(text) = value {
                    let (length, bound) = (text.trim().chars().count(), bound(wanted));
                    if (keyword == "minLength" && length < bound)
                        || (keyword != "minLength" && length > bound)
                    {
                        wrong(format!("has not the length: {keyword} {wanted}"));
                    }
                }
            }
            "minItems" | "maxItems" => {
                let Value::Array(items) = value else { continue };
                let (length, bound) = (items.len(), bound(wanted));
                if (keyword == "minItems" && length < bound) || (keyword == "maxItems" && length > bound) {
                    wrong(format!("has not the length: {keyword} {wanted}"));
                }
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, wanted, item, &format!("{at}[{place}]"), found);
                }
            }
            "required" => {
                for name in wanted.as_array().expect("a list").iter().filter_map(Value::as_str) {
                    if value.as_object().is_some_and(|object| !object.contains_key(name)) {
                        wrong(format!("lacks {name}"));
                    }
                }
            }
            "properties" => {
                let wanted = wanted.as_object().expect("an object");
                fields(document, schema, wanted, value, at, found);
            }
            "additionalProperties" if !schema.contains_key("properties") => {
                if wanted.is_object() {
                    for (name, item) in value.as_object().into_iter().flatten() {
                        check(document, wanted, item, &format!("{at}.{name}"), found);
                    }
                }
            }
            "allOf" => {
                // The parts describe the fields of one object.
                let (mut properties, mut required) = (Map::new(), Vec::new());
                let mut parts: Vec<&Value> = wanted.as_array().expect("a list").iter().collect();
                while let Some(part) = parts.pop() {
                    if let Some(pointer) = part["$ref"].as_str().and_then(|text| text.strip_prefix('#')) {
                        parts.push(document.pointer(pointer).expect("leads somewhere"));
                    }
                    parts.extend(part["allOf"].as_array().into_iter().flatten());
                    properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
                    required.extend(part["required"].as_array().cloned().unwrap_or_default());
                }
                let merged = serde_json::json!({ "properties": properties, "required": required });
                check(document, &merged, value, at, found);
            }
            "anyOf" | "oneOf" => {
                let each = wanted.as_array().expect("a list").iter();
                if !each.clone().any(|one| violations(document, one, value).is_empty()) {
                    wrong("is none of several".to_owned());
                }
            }
            "description" | "additionalProperties" | "propertyNames" | "example" | "default" => {}
            // Read by what produced it: ids joined by commas, and codes, are checked where they are taken apart.
            "pattern" => {}
            other => panic!("what is the keyword {other}?"),
        }
    }
    found.append(&mut said);
}

fn fields(
    document: &Value,
    schema: &Map<String, Value>,
    wanted: &Map<String, Value>,
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) {
    for (name, item) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match wanted.get(name) {
            Some(schema) => check(document, schema, item, &at, found),
            None if schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false)) => {}
            None => found.push(format!("{at}: is not described: {item}")),
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("what is the type {other}?"),
    }
}

fn bound(wanted: &Value) -> usize {
    wanted.as_u64().and_then(|number| usize::try_from(number).ok()).expect("a length")
}
