//! What is asked of the catalogue to tell of changes.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{Client, Row, types::Type as PgType};

use crate::pg::{Connection, PgError};

/// How a type's values become JSON, and how they compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `int2`, `int4`, `int8`.
    Integer,
    /// `float4`, `float8`.
    Float,
    /// `numeric`.
    Numeric,
    /// `bool`.
    Boolean,
    /// `text`, `varchar`: compared by bytes where no order is asked for.
    Text,
    /// `uuid`, `bytea`: their texts sort as they do.
    Bytes,
    /// An enum: equal if its texts are.
    Enum,
    /// `date`.
    Date,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// `jsonb`.
    Jsonb,
    /// Anything else that JSON shows as its text.
    Other,
    /// An array of a type, with the delimiter of its text.
    Array(u32, char),
    /// A composite type: its attributes' names and types.
    Composite(Arc<[(Box<str>, u32)]>),
    /// A domain over a type.
    Domain(u32),
    /// What only PostgreSQL itself can render.
    Opaque,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.typname`.
    pub name: Box<str>,
    /// With its schema and quoted, for casts.
    pub qualified: Box<str>,
    /// What its values are.
    pub kind: Kind,
}

/// A published table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its oid.
    pub relation: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
}

/// What a role may read of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Whether the role exists.
    pub is_known: bool,
    /// The columns that it may select, in the table's order.
    pub columns: Vec<String>,
    /// The columns of the primary key; empty if there is none.
    pub key: Vec<String>,
    /// Their types, for casts.
    pub key_types: Vec<String>,
    /// The table's name, for statements.
    pub qualified: String,
    /// Whether row-level security is on.
    pub is_secured: bool,
    /// Whether it does not apply to the role.
    pub is_exempt: bool,
    /// Whether a DELETE is told only to those who could see the row before.
    pub deletes_are_secured: bool,
    /// If all that row-level security does is to compare these columns with the viewer's id: a row is seen if one of
    /// them holds it. `None`: only `select` tells.
    pub owner_columns: Option<Vec<String>>,
    /// What row-level security says of a row, where it can be asked of values.
    pub condition: Option<Condition>,
}

/// What row-level security says of a row to a role, as a condition over values of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The condition.
    pub text: String,
    /// The table's name, quoted, under which it knows the columns.
    pub name: String,
    /// The columns that it reads.
    pub reads: Vec<String>,
    /// Their types, for casts.
    pub read_types: Vec<String>,
    /// Whether it says the same of equal values.
    pub is_steady: bool,
}

impl Access {
    /// Whether the role may read the columns that a row is known by.
    #[must_use]
    pub fn reads_key(&self) -> bool {
        self.key.iter().all(|column| self.columns.contains(column))
    }
}

/// The published tables that a subscription means.
///
/// # Errors
/// When the database does not answer.
pub async fn published(client: &Connection, schema: &str, table: &str) -> Result<Vec<Published>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/published.sql"), &[&schema, &table]).await?;
    let published = |row: &Row| {
        Ok(Published {
            relation: row.try_get("relation")?,
            schema: row.try_get("schema_name")?,
            table: row.try_get("table_name")?,
        })
    };
    rows.iter().map(published).collect()
}

/// A number that changes when tables join or leave the publication.
///
/// # Errors
/// When the database does not answer.
pub async fn publication_state(client: &Connection) -> Result<i32, PgError> {
    Ok(client.query_one(include_str!("../../../sql/changes/publication_state.sql"), &[]).await?.try_get(0)?)
}

/// The conditions and columns of a subscription to one table.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// Columns of the conditions.
    pub columns: Vec<&'a str>,
    /// Their operators.
    pub operators: Vec<&'a str>,
    /// Their values.
    pub values: Vec<&'a str>,
    /// Columns that are selected; empty: all.
    pub select: Vec<&'a str>,
}

/// Checks what is asked for.
///
/// # Errors
/// With what is wrong, in the original's words.
pub async fn check_params(
    client: &Connection,
    relation: u32,
    role: &str,
    asked: &Asked<'_>,
) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/changes/check_params.sql");
    client
        .query(statement, &[&relation, &role, &asked.columns, &asked.operators, &asked.values, &asked.select])
        .await?;
    Ok(())
}

/// What of a table's changes will never come to a role, and why.
///
/// # Errors
/// When the database does not answer.
pub async fn notes(client: &Connection, relation: u32, role: &str) -> Result<Vec<String>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/notes.sql"), &[&relation, &role]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A persistent slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody reads from it.
    pub is_active: bool,
    /// Bytes of log that PostgreSQL keeps for it.
    pub kept: u64,
}

/// Those of some slots that exist in this database.
///
/// # Errors
/// When the database does not answer.
pub async fn slots(client: &Connection, names: &[String]) -> Result<Vec<Slot>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/slots.sql"), &[&names]).await?;
    let slot = |row: &Row| {
        let kept: i64 = row.try_get("kept")?;
        Ok(Slot {
            name: row.try_get("name")?,
            is_active: row.try_get("is_active")?,
            kept: u64::try_from(kept).unwrap_or(0),
        })
    };
    rows.iter().map(slot).collect()
}

/// Drops a slot.
///
/// # Errors
/// When somebody reads from it, or the database does not answer.
pub async fn drop_slot(client: &Connection, name: &str) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/changes/drop_slot.sql"), &[&name]).await?;
    Ok(())
}

/// Returns once transactions of the log are visible.
///
/// # Errors
/// When the database does not answer.
pub async fn await_commits(client: &Client, xids: &[i64]) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/changes/await_commits.sql");
    client.query_typed(statement, &[(&xids, PgType::INT8_ARRAY)]).await?;
    Ok(())
}

/// What roles may read of tables, by table and role. Tables that are gone are not there.
///
/// # Errors
/// When the database does not answer.
pub async fn access(
    client: &Client,
    relations: &[u32],
    roles: &[&str],
) -> Result<HashMap<(u32, String), Access>, PgError> {
    let statement = include_str!("../../../sql/changes/access.sql");
    let rows = client
        .query_typed(statement, &[(&relations, PgType::OID_ARRAY), (&roles, PgType::TEXT_ARRAY)])
        .await?;
    let access = |row: &Row| {
        let found = Access {
            is_known: row.try_get("is_known")?,
            columns: row.try_get("columns")?,
            key: row.try_get("key")?,
            key_types: row.try_get("key_types")?,
            qualified: row.try_get("qualified")?,
            is_secured: row.try_get("is_secured")?,
            is_exempt: row.try_get("is_exempt")?,
            deletes_are_secured: row.try_get("deletes_are_secured")?,
            owner_columns: row.try_get("owner_columns")?,
            condition: condition(row)?,
        };
        Ok(((row.try_get("relation")?, row.try_get("role")?), found))
    };
    rows.iter().map(access).collect()
}

fn condition(row: &Row) -> Result<Option<Condition>, tokio_postgres::Error> {
    let Some(text) = row.try_get("condition")? else { return Ok(None) };
    Ok(Some(Condition {
        text,
        name: row.try_get("name")?,
        reads: row.try_get("reads")?,
        read_types: row.try_get("read_types")?,
        is_steady: row.try_get("is_steady")?,
    }))
}

/// What types are.
///
/// # Errors
/// When the database does not answer.
pub async fn types(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Type)>, PgError> {
    let rows = client
        .query_typed(include_str!("../../../sql/changes/types.sql"), &[(&oids, PgType::OID_ARRAY)])
        .await?;
    rows.iter().map(|row| Ok((row.try_get("oid")?, type_of(row)?))).collect()
}

fn type_of(row: &Row) -> Result<Type, PgError> {
    let kind: &str = row.try_get("kind")?;
    let element: u32 = row.try_get("element")?;
    let kind = match kind {
        "integer" => Kind::Integer,
        "float" => Kind::Float,
        "numeric" => Kind::Numeric,
        "bool" => Kind::Boolean,
        "text" => Kind::Text,
        "bytes" => Kind::Bytes,
        "enum" => Kind::Enum,
        "date" => Kind::Date,
        "timestamp" => Kind::Timestamp,
        "timestamptz" => Kind::TimestampTz,
        "jsonb" => Kind::Jsonb,
        "opaque" => Kind::Opaque,
        "domain" => Kind::Domain(element),
        "array" => {
            let delimiter: &str = row.try_get("delimiter")?;
            Kind::Array(element, delimiter.chars().next().unwrap_or(','))
        }
        "composite" => {
            let names: Vec<String> = row.try_get("attribute_names")?;
            let types: Vec<u32> = row.try_get("attribute_types")?;
            Kind::Composite(names.into_iter().map(Box::from).zip(types).collect())
        }
        _ => Kind::Other,
    };
    let (name, qualified): (String, String) = (row.try_get("name")?, row.try_get("qualified")?);
    Ok(Type { name: name.into(), qualified: qualified.into(), kind })
}

/// The literals of a filter as values of a type are written.
///
/// # Errors
/// When the value is none of the type, or the database does not answer.
pub async fn canonical_literals(
    client: &Client,
    type_oid: u32,
    operator: &str,
    value: &str,
) -> Result<Vec<Option<String>>, PgError> {
    let statement = include_str!("../../../sql/changes/canonical_literals.sql");
    Ok(client.query_one(statement, &[&type_oid, &operator, &value]).await?.try_get(0)?)
}

/// Which values a filter holds for, in their order.
///
/// # Errors
/// When PostgreSQL cannot tell, or does not answer.
pub async fn filter_holds(
    client: &Client,
    type_oid: u32,
    (operator, negated, value): (&str, bool, &str),
    values: &[&str],
) -> Result<Vec<bool>, PgError> {
    let statement = client.prepare_typed(include_str!("../../../sql/changes/filter_holds.sql"), &[]).await?;
    Ok(client.query_one(&statement, &[&type_oid, &operator, &negated, &value, &values]).await?.try_get(0)?)
}

/// Values of a type as JSON, in their order.
///
/// # Errors
/// When PostgreSQL cannot render them, or does not answer.
pub async fn render_values(client: &Client, type_oid: u32, values: &[&str]) -> Result<Vec<String>, PgError> {
    let statement = include_str!("../../../sql/changes/render_values.sql");
    Ok(client.query_one(statement, &[&type_oid, &values]).await?.try_get(0)?)
}

/// Some columns of one row as text, by its key (names, types for casts, texts). `None` if the row is gone.
///
/// # Errors
/// When the table is not as described, may not be read, or the database does not answer.
pub async fn fetch(
    client: &Client,
    qualified: &str,
    columns: &[&str],
    key: &[(&str, &str, &str)],
) -> Result<Option<Vec<Option<String>>>, PgError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    // By the type's output function, as the log has it: a cast to text differs for some types.
    let written = |name: &str| format!("case when num_nulls({name}) = 0 then format('%s', {name}) end");
    let wanted: Vec<_> = columns.iter().map(|name| written(&quoted(name))).collect();
    let known: Vec<_> = key
        .iter()
        .zip(1..)
        .map(|((name, of, _), place)| format!("{} = ${place}::text::{of}", quoted(name)))
        .collect();
    // Names of tables and columns cannot be parameters.
    let statement = format!("select {} from {qualified} where {}", wanted.join(", "), known.join(" and "));
    let values: Vec<(&(dyn tokio_postgres::types::ToSql + Sync), PgType)> = key
        .iter()
        .map(|(_, _, value)| (value as &(dyn tokio_postgres::types::ToSql + Sync), PgType::TEXT))
        .collect();
    let rows = client.query_typed(&statement, &values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some((0..columns.len()).map(|at| row.try_get(at)).collect::<Result<_, _>>()?))
}
