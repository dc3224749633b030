//! What a client asks for in `postgres_changes`: read leniently, echoed to the letter, numbered stably.

use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::filter::{Filter, FilterError};

/// Ids fit 27 bits, as the original's; clients store them in 32 with a sign.
const ID_BITS: u32 = 27;

/// Which operations are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Events {
    /// `*`, and whatever is no operation.
    All,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
}

impl Events {
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
    pub fn takes(self, operation: Self) -> bool {
        self == Self::All || self == operation
    }

    fn read(value: Option<&Value>) -> Self {
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
pub struct Params {
    /// Which operations.
    pub events: Events,
    /// The schema's name, or `*`.
    pub schema: Box<str>,
    /// The table's name, or `*`.
    pub table: Box<str>,
    /// All of these must hold.
    pub filters: Box<[Filter]>,
    /// Only these columns and the key; `None`: all.
    pub select: Option<Box<[Box<str>]>>,
}

impl Params {
    /// Whether a table is meant.
    #[must_use]
    pub fn means(&self, schema: &str, table: &str) -> bool {
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
            self.events.as_str(),
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
    Missing(String),
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
    SelectOfMany,
}

/// One entry of `postgres_changes` in a join.
#[derive(Debug, Clone)]
pub struct Requested {
    id: u32,
    echo: Box<str>,
    /// What it means.
    pub params: Result<Params, ParamsError>,
}

impl Requested {
    /// Reads an entry. `None` where it is no JSON object.
    #[must_use]
    pub fn read(raw: &RawValue) -> Option<Self> {
        let mut members: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
        let params = params(&members);
        let has_own_id = members.remove("id").is_some();
        let id = stable_id(&members);
        // To the letter, so that what the client compares is what it sent; an id of its own would hide ours.
        let text = if has_own_id { Value::Object(members).to_string() } else { raw.get().trim().to_owned() };
        Some(Self { id, echo: echoed(&text, id).into(), params })
    }

    /// The number under which changes come. Equal for equal entries, on every node.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The entry with its id, for the reply to the join: JSON.
    #[must_use]
    pub fn echo(&self) -> &str {
        &self.echo
    }
}

/// The member `postgres_changes` of the reply to a join: the entries to the letter, each with its id.
#[must_use]
pub fn echo_all(requested: &[Requested]) -> String {
    let entries: Vec<_> = requested.iter().map(Requested::echo).collect();
    format!("[{}]", entries.join(","))
}

fn echoed(object: &str, id: u32) -> String {
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

fn params(members: &Map<String, Value>) -> Result<Params, ParamsError> {
    let name = |key| members.get(key).map(Value::as_str);
    let (schema, table, filter) = match (name("schema"), name("table"), name("filter")) {
        (Some(Some(schema)), Some(Some(table)), filter @ (None | Some(Some(_)))) => {
            (schema, table, filter.flatten().unwrap_or_default())
        }
        (Some(Some(schema)), None, None) => (schema, "*", ""),
        (None, Some(Some(table)), None) => ("public", table, ""),
        _ => return Err(ParamsError::Missing(inspect(&Value::Object(members.clone())))),
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
    let params = Params {
        events: Events::read(members.get("event")),
        schema: schema.into(),
        table: table.into(),
        filters,
        select,
    };
    if params.select.is_some() && params.is_wildcard() {
        return Err(ParamsError::SelectOfMany);
    }
    Ok(params)
}

/// A text as the original shows it in errors.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A value as the original shows it in errors.
fn inspect(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => format!("[{}]", values.iter().map(inspect).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("{} => {}", quoted(key), inspect(value))).collect();
            format!("%{{{}}}", members.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Requested {
        Requested::read(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    fn error(text: &str) -> String {
        read(text).params.unwrap_err().to_string()
    }

    #[test]
    fn an_entry_is_echoed_to_the_letter_with_an_id_in_front() {
        let entry =
            read(r#"{ "table":"todos", "schema":"public","event":"INSERT","extra":12345678901234567890.10}"#);
        let id = entry.id();
        assert_eq!(
            entry.echo(),
            format!(
                r#"{{"id":{id},"table":"todos", "schema":"public","event":"INSERT","extra":12345678901234567890.10}}"#
            )
        );
        assert_eq!(read("{}").echo(), format!(r#"{{"id":{}}}"#, read("{}").id()));
        let own = read(r#"{"table":"a","id":7}"#);
        assert_eq!(own.echo(), format!(r#"{{"id":{},"table":"a"}}"#, own.id()));
    }

    #[test]
    fn equal_entries_have_equal_ids_that_clients_can_hold() {
        let one = read(r#"{"event":"*","schema":"public"}"#);
        assert_eq!(one.id(), read(r#"{"schema":"public",  "event":"*"}"#).id());
        assert_ne!(one.id(), read(r#"{"schema":"public"}"#).id());
        for table in 0..500 {
            let id = read(&format!(r#"{{"table":"t{table}"}}"#)).id();
            assert!(id > 0 && id < 1 << 27, "{id}");
        }
    }

    #[test]
    fn schema_and_table_stand_for_what_the_reference_says() {
        for (entry, schema, table) in [
            (r#"{"schema":"s","table":"t"}"#, "s", "t"),
            (r#"{"schema":"s"}"#, "s", "*"),
            (r#"{"table":"t"}"#, "public", "t"),
            (r#"{"schema":"*","table":"*","filter":""}"#, "*", "*"),
        ] {
            let params = read(entry).params.unwrap();
            assert_eq!((&*params.schema, &*params.table), (schema, table), "{entry}");
            assert!(params.filters.is_empty() && params.events == Events::All);
        }
        let params = read(r#"{"schema":"s","table":"t_x","event":"update"}"#).params.unwrap();
        assert!(params.events.takes(Events::Update) && !params.events.takes(Events::Delete));
        assert!(params.means("s", "t_x") && !params.means("s", "tax"));
    }

    #[test]
    fn what_makes_no_sense_is_answered_in_the_originals_words() {
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
    fn a_description_shows_everything_as_the_original_does() {
        let params = read(
            r#"{"schema":"public","table":"notes","filter":"rank=not.in.(1,2)","select":["id","nope"]}"#,
        );
        assert_eq!(
            params.params.unwrap().describe(),
            r#"[event: *, schema: public, table: notes, filters: [{"rank", "in", "{1,2}", true}], select: ["id", "nope"]]"#
        );
    }
}
