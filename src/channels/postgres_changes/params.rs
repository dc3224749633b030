//! Parses the `postgres_changes` entries of a join, echoes them unchanged, and gives them stable IDs.

use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::{
    filter::{Filter, FilterError},
    inspect::{inspect_string, inspect_value},
};
use crate::pg::replication::Operation;

/// IDs have 27 bits, as in Supabase Realtime; clients store them as signed 32-bit integers.
const ID_BITS: u32 = 27;

/// The operations that a subscription requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventFilter {
    /// `*`, or any text that is not an operation.
    All,
    Only(Operation),
}

impl EventFilter {
    /// The name in errors: `*`, or that of the operation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Only(operation) => operation.as_str(),
        }
    }

    /// Whether the subscription includes an operation.
    #[must_use]
    pub fn includes(self, operation: Operation) -> bool {
        self == Self::All || self == Self::Only(operation)
    }

    fn parse(value: Option<&Value>) -> Self {
        match value.and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
            Some("INSERT") => Self::Only(Operation::Insert),
            Some("UPDATE") => Self::Only(Operation::Update),
            Some("DELETE") => Self::Only(Operation::Delete),
            _ => Self::All,
        }
    }
}

/// The parsed parameters of one `postgres_changes` entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionParams {
    pub event: EventFilter,
    /// Schema name, or `*`.
    pub schema: Box<str>,
    /// Table name, or `*`.
    pub table: Box<str>,
    /// Conditions that must all match.
    pub filters: Box<[Filter]>,
    /// Columns to send beside the primary key; `None` is all columns.
    pub select: Option<Box<[Box<str>]>>,
}

impl SubscriptionParams {
    /// Whether the parameters include a table.
    #[must_use]
    pub fn includes_table(&self, schema: &str, table: &str) -> bool {
        (&*self.schema == "*" || *self.schema == *schema) && (&*self.table == "*" || *self.table == *table)
    }

    /// Approximate memory of the parameters in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let filters: usize = self.filters.iter().map(Filter::size_bytes).sum();
        let select: usize = self.select.iter().flatten().map(|name| name.len() + size_of::<Box<str>>()).sum();
        self.schema.len() + self.table.len() + filters + select
    }

    /// Formats the parameters as Supabase Realtime does in errors.
    #[must_use]
    pub fn describe(&self) -> String {
        let filters: Vec<_> = self.filters.iter().map(Filter::describe).collect();
        let select = self.select.as_ref().map_or_else(
            || "nil".to_owned(),
            |names| {
                format!("[{}]", names.iter().map(|name| inspect_string(name)).collect::<Vec<_>>().join(", "))
            },
        );
        format!(
            "[event: {}, schema: {}, table: {}, filters: [{}], select: {select}]",
            self.event.as_str(),
            self.schema,
            self.table,
            filters.join(", "),
        )
    }

    /// Whether the schema or the table is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        &*self.schema == "*" || &*self.table == "*"
    }
}

/// Invalid parameters. The texts are those of Supabase Realtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Neither schema nor table is given, or one has the wrong type.
    #[error(
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {0}"
    )]
    MissingTarget(String),
    /// The filter does not parse.
    #[error("Error parsing `filter` params: {0}")]
    Filter(#[from] FilterError),
    /// `select` is not a list of column names.
    #[error(
        "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]"
    )]
    Select,
    /// `select` is given without an explicit schema and table.
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
    pub params: Result<SubscriptionParams, ParamsError>,
}

impl RequestedBinding {
    /// Parses an entry. `None` if it is not a JSON object.
    #[must_use]
    pub fn parse(raw: &RawValue) -> Option<Self> {
        let mut members: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
        let params = parse_params(&members);
        let has_own_id = members.remove("id").is_some();
        let id = stable_id(&members);
        // The text is kept unchanged because clients compare it with what they sent. An `id` of the client would
        // shadow the server's.
        let text = if has_own_id { Value::Object(members).to_string() } else { raw.get().trim().to_owned() };
        Some(Self { id, echo_json: with_id(&text, id).into(), params })
    }

    /// ID that changes refer to. Equal entries have equal IDs on every node.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The entry with its ID as JSON, for the reply to the join.
    #[must_use]
    pub fn echo_json(&self) -> &str {
        &self.echo_json
    }
}

/// The array `postgres_changes` for the reply to the join: each entry unchanged, with its ID.
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

/// Computes the ID from the members in any order. It is never 0, which clients take for absent.
fn stable_id(members: &Map<String, Value>) -> u32 {
    // The map of `serde_json` is sorted by key.
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
        event: EventFilter::parse(members.get("event")),
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
            assert!(params.filters.is_empty() && params.event == EventFilter::All);
        }
        let params = parse(r#"{"schema":"s","table":"t_x","event":"update"}"#).params.unwrap();
        assert!(params.event.includes(Operation::Update) && !params.event.includes(Operation::Delete));
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
