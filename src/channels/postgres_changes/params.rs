//! What a client asks for in `postgres_changes`: read leniently, echoed to the letter, numbered stably.

use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::filter::{Filter, FilterError};

/// Ids fit 27 bits, as the original's; clients store them in 32 with a sign.
const ID_BITS: u32 = 27;

/// Which operations are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// `*`, and whatever is no operation.
    All,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
}

impl EventType {
    /// The word for it in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// Whether it takes in an operation, which is never [`Self::All`].
    #[must_use]
    pub fn includes(self, operation: Self) -> bool {
        self == Self::All || self == operation
    }

    fn parse(value: Option<&Value>) -> Self {
        match value.and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
            Some("INSERT") => Self::Insert,
            Some("UPDATE") => Self::Update,
            Some("DELETE") => Self::Delete,
            _ => Self::All,
        }
    }
}

/// What a client asked for, understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionParams {
    /// Which operations.
    pub event: EventType,
    /// The schema's name, or `*`.
    pub schema: Box<str>,
    /// The table's name, or `*`.
    pub table: Box<str>,
    /// All of these must hold.
    pub filters: Box<[Filter]>,
    /// Only these columns and the key; `None`: all.
    pub select: Option<Box<[Box<str>]>>,
}

impl SubscriptionParams {
    /// Whether a table is meant.
    #[must_use]
    pub fn includes_table(&self, schema: &str, table: &str) -> bool {
        (&*self.schema == "*" || *self.schema == *schema) && (&*self.table == "*" || *self.table == *table)
    }

    /// As the original shows it in errors.
    #[must_use]
    pub fn describe(&self) -> String {
        let filters: Vec<_> = self.filters.iter().map(Filter::describe).collect();
        let select = self.select.as_ref().map_or_else(
            || "nil".to_owned(),
            |names| format!("[{}]", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
        );
        format!(
            "[event: {}, schema: {}, table: {}, filters: [{}], select: {select}]",
            self.event.as_str(),
            self.schema,
            self.table,
            filters.join(", "),
        )
    }

    /// The same without filters and select, as some errors show it.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        &*self.schema == "*" || &*self.table == "*"
    }
}

/// What is asked for makes no sense. The texts are the original's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Neither schema nor table, or of a wrong kind.
    #[error(
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {0}"
    )]
    MissingTarget(String),
    /// A filter that does not parse.
    #[error("Error parsing `filter` params: {0}")]
    Filter(#[from] FilterError),
    /// A list of columns that is none.
    #[error(
        "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]"
    )]
    Select,
    /// Columns of which table?
    #[error(
        "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
    )]
    SelectWithWildcard,
}

/// One entry of `postgres_changes` in a join.
#[derive(Debug, Clone)]
pub struct RequestedBinding {
    id: u32,
    echo_json: Box<str>,
    /// What it means.
    pub params: Result<SubscriptionParams, ParamsError>,
}

impl RequestedBinding {
    /// Reads an entry. `None` where it is no JSON object.
    #[must_use]
    pub fn parse(raw: &RawValue) -> Option<Self> {
        let mut members: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
        let params = parse_params(&members);
        let has_own_id = members.remove("id").is_some();
        let id = stable_id(&members);
        // To the letter, so that what the client compares is what it sent; an id of its own would hide ours.
        let text = if has_own_id { Value::Object(members).to_string() } else { raw.get().trim().to_owned() };
        Some(Self { id, echo_json: with_id(&text, id).into(), params })
    }

    /// The number under which changes come. Equal for equal entries, on every node.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The entry with its id, for the reply to the join: JSON.
    #[must_use]
    pub fn echo_json(&self) -> &str {
        &self.echo_json
    }
}

/// The member `postgres_changes` of the reply to a join: the entries to the letter, each with its id.
#[must_use]
pub fn echo_bindings(requested: &[RequestedBinding]) -> String {
    let entries: Vec<_> = requested.iter().map(RequestedBinding::echo_json).collect();
    format!("[{}]", entries.join(","))
}

fn with_id(object: &str, id: u32) -> String {
    let rest = object.strip_prefix('{').unwrap_or(object).trim_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    format!("{{\"id\":{id}{comma}{rest}")
}

/// From the members whatever their order; never zero, which clients take for absent.
fn stable_id(members: &Map<String, Value>) -> u32 {
    // A map of serde_json's is ordered by key.
    let digest = Sha256::digest(serde_json::to_vec(members).unwrap_or_default());
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) >> (32 - ID_BITS);
    number.max(1)
}

fn parse_params(members: &Map<String, Value>) -> Result<SubscriptionParams, ParamsError> {
    let name = |key| members.get(key).map(Value::as_str);
    let (schema, table, filter) = match (name("schema"), name("table"), name("filter")) {
        (Some(Some(schema)), Some(Some(table)), filter @ (None | Some(Some(_)))) => {
            (schema, table, filter.flatten().unwrap_or_default())
        }
        (Some(Some(schema)), None, None) => (schema, "*", ""),
        (None, Some(Some(table)), None) => ("public", table, ""),
        _ => return Err(ParamsError::MissingTarget(inspect_value(&Value::Object(members.clone())))),
    };
    let filters = Filter::parse_all(filter)?;
    let select = match members.get("select") {
        None | Some(Value::Null) => None,
        Some(Value::Array(names)) => {
            let names: Option<Box<[Box<str>]>> =
                names.iter().map(|name| name.as_str().map(Box::from)).collect();
            Some(names.ok_or(ParamsError::Select)?).filter(|names| !names.is_empty())
        }
        Some(_) => return Err(ParamsError::Select),
    };
    let params = SubscriptionParams {
        event: EventType::parse(members.get("event")),
        schema: schema.into(),
        table: table.into(),
        filters,
        select,
    };
    if params.select.is_some() && params.is_wildcard() {
        return Err(ParamsError::SelectWithWildcard);
    }
    Ok(params)
}

/// A text as the original shows it in errors.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A value as the original shows it in errors.
fn inspect_value(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(inspect_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{} => {}", quoted(key), inspect_value(value)))
                .collect();
            format!("%{{{}}}", members.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RequestedBinding {
        RequestedBinding::parse(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    fn error(text: &str) -> String {
        parse(text).params.unwrap_err().to_string()
    }

    #[test]
    fn echo_is_the_sent_text_with_the_id_first() {
        let entry = parse(
            r#"{ "table":"todos", "schema":"public","event":"INSERT","extra":12345678901234567890.10}"#,
        );
        let id = entry.id();
        assert_eq!(
            entry.echo_json(),
            format!(
                r#"{{"id":{id},"table":"todos", "schema":"public","event":"INSERT","extra":12345678901234567890.10}}"#
            )
        );
        assert_eq!(parse("{}").echo_json(), format!(r#"{{"id":{}}}"#, parse("{}").id()));
        let own = parse(r#"{"table":"a","id":7}"#);
        assert_eq!(own.echo_json(), format!(r#"{{"id":{},"table":"a"}}"#, own.id()));
    }

    #[test]
    fn equal_entries_have_equal_27_bit_ids() {
        let one = parse(r#"{"event":"*","schema":"public"}"#);
        assert_eq!(one.id(), parse(r#"{"schema":"public",  "event":"*"}"#).id());
        assert_ne!(one.id(), parse(r#"{"schema":"public"}"#).id());
        for table in 0..500 {
            let id = parse(&format!(r#"{{"table":"t{table}"}}"#)).id();
            assert!(id > 0 && id < 1 << 27, "{id}");
        }
    }

    #[test]
    fn missing_schema_or_table_gets_its_default() {
        for (entry, schema, table) in [
            (r#"{"schema":"s","table":"t"}"#, "s", "t"),
            (r#"{"schema":"s"}"#, "s", "*"),
            (r#"{"table":"t"}"#, "public", "t"),
            (r#"{"schema":"*","table":"*","filter":""}"#, "*", "*"),
        ] {
            let params = parse(entry).params.unwrap();
            assert_eq!((&*params.schema, &*params.table), (schema, table), "{entry}");
            assert!(params.filters.is_empty() && params.event == EventType::All);
        }
        let params = parse(r#"{"schema":"s","table":"t_x","event":"update"}"#).params.unwrap();
        assert!(params.event.includes(EventType::Update) && !params.event.includes(EventType::Delete));
        assert!(params.includes_table("s", "t_x") && !params.includes_table("s", "tax"));
    }

    #[test]
    fn errors_have_the_texts_of_supabase_realtime() {
        let missing = "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: ";
        for (entry, shown) in [
            (r#"{"event":"*"}"#, r#"%{"event" => "*"}"#),
            ("{}", "%{}"),
            (
                r#"{"event":"*","schema":"public","table":5}"#,
                r#"%{"event" => "*", "schema" => "public", "table" => 5}"#,
            ),
            (
                r#"{"event":"*","schema":"public","table":"notes","filter":null}"#,
                r#"%{"event" => "*", "filter" => nil, "schema" => "public", "table" => "notes"}"#,
            ),
            (r#"{"schema":null,"table":"notes"}"#, r#"%{"schema" => nil, "table" => "notes"}"#),
        ] {
            assert_eq!(error(entry), format!("{missing}{shown}"));
        }
        assert_eq!(
            error(r#"{"schema":"public","table":"notes","select":"id,title"}"#),
            r#"Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]"#
        );
        assert_eq!(
            error(r#"{"schema":"public","select":["id"]}"#),
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
        );
    }

    #[test]
    fn describe_matches_supabase_realtime() {
        let params = parse(
            r#"{"schema":"public","table":"notes","filter":"rank=not.in.(1,2)","select":["id","nope"]}"#,
        );
        assert_eq!(
            params.params.unwrap().describe(),
            r#"[event: *, schema: public, table: notes, filters: [{"rank", "in", "{1,2}", true}], select: ["id", "nope"]]"#
        );
    }
}
