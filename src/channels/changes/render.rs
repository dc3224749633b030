//! Values as JSON, to the letter as `to_jsonb` writes them, from the text of their type's output function.
//!
//! Exact for every type that [`Types::renders`]; an integration test compares it with PostgreSQL itself.

use std::fmt::Write;

use super::types::{Kind, Types};

/// Appends a value of a type as JSON.
pub fn value(types: &Types, oid: u32, text: &str, out: &mut String) {
    match types.base(oid) {
        Kind::Integer => out.push_str(text),
        Kind::Float => float(text, out),
        Kind::Numeric if text.ends_with(|c: char| c.is_ascii_digit()) => out.push_str(text),
        Kind::Boolean => out.push_str(if text == "t" { "true" } else { "false" }),
        Kind::Jsonb => out.push_str(text),
        Kind::Timestamp => string(&text.replacen(' ', "T", usize::from(!text.ends_with("infinity"))), out),
        Kind::TimestampTz => string(&timestamptz(text), out),
        Kind::Array(of, delimiter) => array(types, *of, *delimiter, text, out),
        Kind::Composite(attributes) => composite(types, attributes, text, out),
        Kind::Numeric
        | Kind::Text
        | Kind::Bytes
        | Kind::Enum
        | Kind::Date
        | Kind::Other
        | Kind::Opaque
        | Kind::Domain(_) => string(text, out),
    }
}

/// Appends a text as a JSON string.
pub fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
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
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("strings take everything");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends an object with its keys in the order of `jsonb`: the shorter first, then by bytes.
pub fn object<'a>(mut members: Vec<(&'a str, std::borrow::Cow<'a, str>)>, out: &mut String) {
    members.sort_by(|(one, _), (other, _)| (one.len(), one.as_bytes()).cmp(&(other.len(), other.as_bytes())));
    out.push('{');
    for (place, (key, json)) in members.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        string(key, out);
        out.push_str(": ");
        out.push_str(json);
    }
    out.push('}');
}

/// `jsonb` holds numbers as `numeric`, which has no exponent, no negative zero, and no words.
fn float(text: &str, out: &mut String) {
    if text.ends_with(|c: char| !c.is_ascii_digit()) {
        return string(text, out);
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        return out.push('0');
    }
    out.push_str(sign);
    // Where the point goes in the row of all digits.
    let point = i32::try_from(whole.len()).unwrap_or(0) + exponent;
    let all = || whole.bytes().chain(fraction.bytes()).map(char::from);
    let length = i32::try_from(whole.len() + fraction.len()).unwrap_or(0);
    if point <= 0 {
        out.push_str("0.");
        out.extend((point..0).map(|_| '0'));
        out.extend(all());
    } else {
        for (place, digit) in (0_i32..).zip(all()) {
            if place == point {
                out.push('.');
            }
            out.push(digit);
        }
        out.extend((length..point).map(|_| '0'));
    }
}

/// From `2026-02-03 02:05:06.1+00` to `2026-02-03T02:05:06.1+00:00`; ` BC` stays behind.
fn timestamptz(text: &str) -> String {
    if text.ends_with("infinity") {
        return text.to_owned();
    }
    let (moment, era) = text.strip_suffix(" BC").map_or((text, ""), |moment| (moment, " BC"));
    let moment = moment.replacen(' ', "T", 1);
    // The sign of the offset is the last one; hours alone get their minutes.
    let offset = moment.rfind(['+', '-']).map_or("", |at| &moment[at..]);
    let minutes = if offset.len() == 3 { ":00" } else { "" };
    format!("{moment}{minutes}{era}")
}

fn array(types: &Types, of: u32, delimiter: char, text: &str, out: &mut String) {
    // Bounds that do not begin at 1 stand in front: `[0:1]={a,b}`.
    let body = if text.starts_with('[') { text.split_once('=').map_or(text, |(_, body)| body) } else { text };
    let mut rest = body;
    elements(types, of, delimiter, &mut rest, out);
}

/// One pair of braces; leaves `rest` behind it.
fn elements(types: &Types, of: u32, delimiter: char, rest: &mut &str, out: &mut String) {
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
                    '{' => elements(types, of, delimiter, rest, out),
                    '"' => {
                        let text = quoted_element(rest);
                        value(types, of, &text, out);
                    }
                    _ => {
                        let end = rest.find([delimiter, '}']).unwrap_or(rest.len());
                        let (element, behind) = rest.split_at(end);
                        *rest = behind;
                        if element == "NULL" {
                            out.push_str("null");
                        } else {
                            value(types, of, element, out);
                        }
                    }
                }
            }
        }
    }
    out.push(']');
}

/// A text in quotes; leaves `rest` behind it. Quotes and backslashes have a backslash in front, or are doubled.
fn quoted_element(rest: &mut &str) -> String {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    let mut end = rest.len();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => out.extend(chars.next().map(|(_, char)| char)),
            '"' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                out.push('"');
            }
            '"' => {
                end = at + 1;
                break;
            }
            char => out.push(char),
        }
    }
    *rest = &rest[end..];
    out
}

fn composite(types: &Types, attributes: &[(Box<str>, u32)], text: &str, out: &mut String) {
    let mut rest = text.strip_prefix('(').unwrap_or(text);
    let mut members = Vec::with_capacity(attributes.len());
    for (name, oid) in attributes {
        let json = match rest.chars().next() {
            None | Some(',' | ')') => "null".to_owned(),
            Some(first) => {
                let text = if first == '"' {
                    quoted_element(&mut rest)
                } else {
                    let end = rest.find([',', ')']).unwrap_or(rest.len());
                    let (element, behind) = rest.split_at(end);
                    rest = behind;
                    element.to_owned()
                };
                let mut json = String::new();
                value(types, *oid, &text, &mut json);
                json
            }
        };
        rest = rest.strip_prefix([',', ')']).unwrap_or(rest);
        members.push((&**name, json.into()));
    }
    object(members, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Kind, text: &str) -> String {
        let composite: std::sync::Arc<[(Box<str>, u32)]> =
            [("name".into(), 2), ("n".into(), 1), ("parts".into(), 5)].into();
        let types = Types::with([
            (0, kind),
            (1, Kind::Integer),
            (2, Kind::Text),
            (3, Kind::TimestampTz),
            (4, Kind::Composite(composite)),
            (5, Kind::Array(2, ',')),
        ]);
        let mut out = String::new();
        value(&types, 0, text, &mut out);
        out
    }

    #[test]
    fn floats_are_written_out() {
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
            assert_eq!(shown(Kind::Float, text), json, "{text}");
        }
        assert_eq!(shown(Kind::Float, "1e+300").len(), 301);
    }

    #[test]
    fn times_have_a_t_and_a_whole_offset() {
        assert_eq!(shown(Kind::Timestamp, "2026-02-03 04:05:06.1"), "\"2026-02-03T04:05:06.1\"");
        assert_eq!(shown(Kind::Timestamp, "-infinity"), "\"-infinity\"");
        assert_eq!(shown(Kind::TimestampTz, "2026-02-03 04:05:06.1+00"), "\"2026-02-03T04:05:06.1+00:00\"");
        assert_eq!(shown(Kind::TimestampTz, "0044-03-15 00:00:00+00 BC"), "\"0044-03-15T00:00:00+00:00 BC\"");
        assert_eq!(shown(Kind::TimestampTz, "infinity"), "\"infinity\"");
    }

    #[test]
    fn arrays_nest_and_quote() {
        assert_eq!(shown(Kind::Array(1, ','), "{}"), "[]");
        assert_eq!(shown(Kind::Array(1, ','), "{1,NULL,3}"), "[1, null, 3]");
        assert_eq!(shown(Kind::Array(1, ','), "[0:1][1:1]={{1},{2}}"), "[[1], [2]]");
        assert_eq!(
            shown(Kind::Array(2, ','), r#"{a b,"c,d","\"e\\","NULL","",ü}"#),
            r#"["a b", "c,d", "\"e\\", "NULL", "", "ü"]"#
        );
        assert_eq!(
            shown(Kind::Array(3, ','), r#"{"2026-01-01 00:00:00+00"}"#),
            r#"["2026-01-01T00:00:00+00:00"]"#
        );
    }

    #[test]
    fn composites_are_objects_in_the_order_of_jsonb() {
        assert_eq!(
            shown(Kind::Array(4, ','), r#"{"(\"a \"\"b\"\"\",5,\"{x,\"\"y z\"\"}\")","(,,)"}"#),
            r#"[{"n": 5, "name": "a \"b\"", "parts": ["x", "y z"]}, {"n": null, "name": null, "parts": null}]"#
        );
    }

    #[test]
    fn texts_are_escaped_as_jsonb_escapes() {
        assert_eq!(shown(Kind::Text, "q\"\\\n\t\u{1}\u{7f}ü"), "\"q\\\"\\\\\\n\\t\\u0001\u{7f}ü\"");
        assert_eq!(shown(Kind::Numeric, "12.50"), "12.50");
        assert_eq!(shown(Kind::Numeric, "NaN"), "\"NaN\"");
        assert_eq!(shown(Kind::Boolean, "t"), "true");
    }
}
