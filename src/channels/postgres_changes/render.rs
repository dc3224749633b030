//! Renders values as JSON from the text of their type's output function, byte for byte as `to_jsonb` does.
//!
//! Exact for every type that [`TypeCache::can_render`]; an integration test compares the result with PostgreSQL.

use std::fmt::Write;

use super::types::{TypeCache, TypeKind};

/// Appends a value of a type as JSON.
pub fn append_value(types: &TypeCache, oid: u32, text: &str, out: &mut String) {
    match types.base_kind(oid) {
        TypeKind::Integer => out.push_str(text),
        TypeKind::Float => append_float(text, out),
        TypeKind::Numeric if text.ends_with(|c: char| c.is_ascii_digit()) => out.push_str(text),
        TypeKind::Boolean => out.push_str(if text == "t" { "true" } else { "false" }),
        TypeKind::Jsonb => out.push_str(text),
        TypeKind::Timestamp => {
            append_string(&text.replacen(' ', "T", usize::from(!text.ends_with("infinity"))), out)
        }
        TypeKind::TimestampTz => append_string(&iso_timestamptz(text), out),
        TypeKind::Array(element_type, delimiter) => append_array(types, *element_type, *delimiter, text, out),
        TypeKind::Composite(attributes) => append_composite(types, attributes, text, out),
        TypeKind::Numeric
        | TypeKind::Text
        | TypeKind::Bytes
        | TypeKind::Enum
        | TypeKind::Date
        | TypeKind::Other
        | TypeKind::Opaque
        | TypeKind::Domain(_) => append_string(text, out),
    }
}

/// Appends a text as a JSON string.
pub fn append_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..index]);
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("writing to a string cannot fail");
        } else {
            out.push_str(escape);
        }
        plain = index + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends an object with its keys in the order of `jsonb`: by length, then by bytes.
pub fn append_object<'a>(mut members: Vec<(&'a str, std::borrow::Cow<'a, str>)>, out: &mut String) {
    members
        .sort_by(|(left, _), (right, _)| (left.len(), left.as_bytes()).cmp(&(right.len(), right.as_bytes())));
    out.push('{');
    for (position, (key, json)) in members.iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        append_string(key, out);
        out.push_str(": ");
        out.push_str(json);
    }
    out.push('}');
}

/// `jsonb` stores numbers as `numeric`, which has no exponent and no negative zero. NaN and infinity are strings.
fn append_float(text: &str, out: &mut String) {
    if text.ends_with(|c: char| !c.is_ascii_digit()) {
        return append_string(text, out);
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        return out.push('0');
    }
    out.push_str(sign);
    // Position of the decimal point within the digits.
    let point = i32::try_from(whole.len()).unwrap_or(0) + exponent;
    let all_digits = || whole.bytes().chain(fraction.bytes()).map(char::from);
    let length = i32::try_from(whole.len() + fraction.len()).unwrap_or(0);
    if point <= 0 {
        out.push_str("0.");
        out.extend((point..0).map(|_| '0'));
        out.extend(all_digits());
    } else {
        for (position, digit) in (0_i32..).zip(all_digits()) {
            if position == point {
                out.push('.');
            }
            out.push(digit);
        }
        out.extend((length..point).map(|_| '0'));
    }
}

/// Converts `2026-02-03 02:05:06.1+00` to `2026-02-03T02:05:06.1+00:00`; a suffix ` BC` is kept.
fn iso_timestamptz(text: &str) -> String {
    if text.ends_with("infinity") {
        return text.to_owned();
    }
    let (date_time, era) = text.strip_suffix(" BC").map_or((text, ""), |date_time| (date_time, " BC"));
    let date_time = date_time.replacen(' ', "T", 1);
    // The last sign starts the offset. An offset of hours gets minutes.
    let offset = date_time.rfind(['+', '-']).map_or("", |index| &date_time[index..]);
    let minutes = if offset.len() == 3 { ":00" } else { "" };
    format!("{date_time}{minutes}{era}")
}

fn append_array(types: &TypeCache, element_type: u32, delimiter: char, text: &str, out: &mut String) {
    // Bounds that do not start at 1 precede the elements: `[0:1]={a,b}`.
    let body = if text.starts_with('[') { text.split_once('=').map_or(text, |(_, body)| body) } else { text };
    let mut rest = body;
    append_elements(types, element_type, delimiter, &mut rest, out);
}

/// Appends the elements of the first pair of braces in `rest`, and removes the pair from `rest`.
fn append_elements(types: &TypeCache, element_type: u32, delimiter: char, rest: &mut &str, out: &mut String) {
    out.push('[');
    *rest = rest.strip_prefix('{').unwrap_or(rest);
    let mut first = true;
    while let Some(next) = rest.chars().next() {
        match next {
            '}' => {
                *rest = &rest[1..];
                break;
            }
            next if next == delimiter => *rest = &rest[next.len_utf8()..],
            next => {
                if !std::mem::take(&mut first) {
                    out.push_str(", ");
                }
                match next {
                    '{' => append_elements(types, element_type, delimiter, rest, out),
                    '"' => {
                        let text = take_quoted(rest);
                        append_value(types, element_type, &text, out);
                    }
                    _ => {
                        let end = rest.find([delimiter, '}']).unwrap_or(rest.len());
                        let (element, after) = rest.split_at(end);
                        *rest = after;
                        if element == "NULL" {
                            out.push_str("null");
                        } else {
                            append_value(types, element_type, element, out);
                        }
                    }
                }
            }
        }
    }
    out.push(']');
}

/// Removes a quoted text from `rest` and returns it unescaped. Quotes and backslashes are escaped with a backslash or
/// doubled.
fn take_quoted(rest: &mut &str) -> String {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    let mut end = rest.len();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' => out.extend(chars.next().map(|(_, char)| char)),
            '"' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                out.push('"');
            }
            '"' => {
                end = index + 1;
                break;
            }
            char => out.push(char),
        }
    }
    *rest = &rest[end..];
    out
}

fn append_composite(types: &TypeCache, attributes: &[(Box<str>, u32)], text: &str, out: &mut String) {
    let mut rest = text.strip_prefix('(').unwrap_or(text);
    let mut members = Vec::with_capacity(attributes.len());
    for (name, oid) in attributes {
        let json = match rest.chars().next() {
            None | Some(',' | ')') => "null".to_owned(),
            Some(first) => {
                let text = if first == '"' {
                    take_quoted(&mut rest)
                } else {
                    let end = rest.find([',', ')']).unwrap_or(rest.len());
                    let (element, after) = rest.split_at(end);
                    rest = after;
                    element.to_owned()
                };
                let mut json = String::new();
                append_value(types, *oid, &text, &mut json);
                json
            }
        };
        rest = rest.strip_prefix([',', ')']).unwrap_or(rest);
        members.push((&**name, json.into()));
    }
    append_object(members, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(kind: TypeKind, text: &str) -> String {
        let composite: std::sync::Arc<[(Box<str>, u32)]> =
            [("name".into(), 2), ("n".into(), 1), ("parts".into(), 5)].into();
        let types = TypeCache::for_test([
            (0, kind),
            (1, TypeKind::Integer),
            (2, TypeKind::Text),
            (3, TypeKind::TimestampTz),
            (4, TypeKind::Composite(composite)),
            (5, TypeKind::Array(2, ',')),
        ]);
        let mut out = String::new();
        append_value(&types, 0, text, &mut out);
        out
    }

    #[test]
    fn floats_are_rendered_without_exponent() {
        for (text, json) in [
            ("0.1", "0.1"),
            ("1e+20", "100000000000000000000"),
            ("1.5e+02", "150"),
            ("1.2345e+02", "123.45"),
            ("-1.5e-07", "-0.00000015"),
            ("-0", "0"),
            ("-12", "-12"),
            ("NaN", "\"NaN\""),
            ("-Infinity", "\"-Infinity\""),
        ] {
            assert_eq!(rendered(TypeKind::Float, text), json, "{text}");
        }
        assert_eq!(rendered(TypeKind::Float, "1e+300").len(), 301);
    }

    #[test]
    fn timestamps_are_rendered_as_iso_8601() {
        assert_eq!(rendered(TypeKind::Timestamp, "2026-02-03 04:05:06.1"), "\"2026-02-03T04:05:06.1\"");
        assert_eq!(rendered(TypeKind::Timestamp, "-infinity"), "\"-infinity\"");
        assert_eq!(
            rendered(TypeKind::TimestampTz, "2026-02-03 04:05:06.1+00"),
            "\"2026-02-03T04:05:06.1+00:00\""
        );
        assert_eq!(
            rendered(TypeKind::TimestampTz, "0044-03-15 00:00:00+00 BC"),
            "\"0044-03-15T00:00:00+00:00 BC\""
        );
        assert_eq!(rendered(TypeKind::TimestampTz, "infinity"), "\"infinity\"");
    }

    #[test]
    fn arrays_are_rendered_with_nesting_and_quotes() {
        assert_eq!(rendered(TypeKind::Array(1, ','), "{}"), "[]");
        assert_eq!(rendered(TypeKind::Array(1, ','), "{1,NULL,3}"), "[1, null, 3]");
        assert_eq!(rendered(TypeKind::Array(1, ','), "[0:1][1:1]={{1},{2}}"), "[[1], [2]]");
        assert_eq!(
            rendered(TypeKind::Array(2, ','), r#"{a b,"c,d","\"e\\","NULL","",ü}"#),
            r#"["a b", "c,d", "\"e\\", "NULL", "", "ü"]"#
        );
        assert_eq!(
            rendered(TypeKind::Array(3, ','), r#"{"2026-01-01 00:00:00+00"}"#),
            r#"["2026-01-01T00:00:00+00:00"]"#
        );
    }

    #[test]
    fn composites_are_objects_in_jsonb_key_order() {
        assert_eq!(
            rendered(TypeKind::Array(4, ','), r#"{"(\"a \"\"b\"\"\",5,\"{x,\"\"y z\"\"}\")","(,,)"}"#),
            r#"[{"n": 5, "name": "a \"b\"", "parts": ["x", "y z"]}, {"n": null, "name": null, "parts": null}]"#
        );
    }

    #[test]
    fn strings_are_escaped_like_jsonb() {
        assert_eq!(rendered(TypeKind::Text, "q\"\\\n\t\u{1}\u{7f}ü"), "\"q\\\"\\\\\\n\\t\\u0001\u{7f}ü\"");
        assert_eq!(rendered(TypeKind::Numeric, "12.50"), "12.50");
        assert_eq!(rendered(TypeKind::Numeric, "NaN"), "\"NaN\"");
        assert_eq!(rendered(TypeKind::Boolean, "t"), "true");
    }
}
