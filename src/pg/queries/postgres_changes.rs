//! What is asked of the catalogue to tell of changes.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{Client, Row, types::Type as PgType};

use crate::pg::{Connection, PgError};

/// How a type's values become JSON, and how they compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
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
pub struct TypeInfo {
    /// `pg_type.typname`.
    pub name: Box<str>,
    /// With its schema and quoted, for casts.
    pub qualified: Box<str>,
    /// What its values are.
    pub kind: TypeKind,
}

/// A published table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
}

/// What a role may read of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableAccess {
    /// Whether the role exists.
    pub role_exists: bool,
    /// The columns that it may select, in the table's order.
    pub readable_columns: Vec<String>,
    /// The columns of the primary key; empty if there is none.
    pub key_columns: Vec<String>,
    /// Their types, for casts.
    pub key_types: Vec<String>,
    /// The table's name, for statements.
    pub qualified_name: String,
    /// Whether row-level security is on.
    pub has_rls: bool,
    /// Whether it does not apply to the role.
    pub bypasses_rls: bool,
    /// Whether a DELETE is told only to those who could see the row before.
    pub checks_rls_on_delete: bool,
    /// If all that row-level security does is to compare these columns with the viewer's id: a row is seen if one of
    /// them holds it. `None`: only `select` tells.
    pub owner_columns: Option<Vec<String>>,
    /// What row-level security says of a row, where it can be asked of values.
    pub condition: Option<RlsCondition>,
}

/// What row-level security says of a row to a role, as a condition over values of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RlsCondition {
    /// The condition.
    pub expression: String,
    /// The table's name, quoted, under which it knows the columns.
    pub table_alias: String,
    /// The columns that it reads.
    pub columns: Vec<String>,
    /// Their types, for casts.
    pub column_types: Vec<String>,
    /// Whether it says the same of equal values.
    pub is_deterministic: bool,
}

impl TableAccess {
    /// Whether the role may read the columns that a row is known by.
    #[must_use]
    pub fn can_read_key(&self) -> bool {
        self.key_columns.iter().all(|column| self.readable_columns.contains(column))
    }
}

/// The published tables that a subscription means.
///
/// # Errors
/// When the database does not answer.
pub async fn published_tables(
    client: &Connection,
    schema: &str,
    table: &str,
) -> Result<Vec<PublishedTable>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/published.sql"), &[&schema, &table]).await?;
    let published = |row: &Row| {
        Ok(PublishedTable {
            oid: row.try_get("relation")?,
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
pub struct ParamsToCheck<'a> {
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
    asked: &ParamsToCheck<'_>,
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
pub async fn limitations(client: &Connection, relation: u32, role: &str) -> Result<Vec<String>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/notes.sql"), &[&relation, &role]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A persistent slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    /// Its name.
    pub name: String,
    /// Whether somebody reads from it.
    pub is_active: bool,
    /// Bytes of log that PostgreSQL keeps for it.
    pub retained_bytes: u64,
}

/// Those of some slots that exist in this database.
///
/// # Errors
/// When the database does not answer.
pub async fn slot_statuses(client: &Connection, names: &[String]) -> Result<Vec<SlotStatus>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/slots.sql"), &[&names]).await?;
    let slot = |row: &Row| {
        let kept: i64 = row.try_get("kept")?;
        Ok(SlotStatus {
            name: row.try_get("name")?,
            is_active: row.try_get("is_active")?,
            retained_bytes: u64::try_from(kept).unwrap_or(0),
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
pub async fn wait_until_visible(client: &Client, xids: &[i64]) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/changes/await_commits.sql");
    client.query_typed(statement, &[(&xids, PgType::INT8_ARRAY)]).await?;
    Ok(())
}

/// What roles may read of tables, by table and role. Tables that are gone are not there.
///
/// # Errors
/// When the database does not answer.
pub async fn table_access(
    client: &Client,
    relations: &[u32],
    roles: &[&str],
) -> Result<HashMap<(u32, String), TableAccess>, PgError> {
    let statement = include_str!("../../../sql/changes/access.sql");
    let rows = client
        .query_typed(statement, &[(&relations, PgType::OID_ARRAY), (&roles, PgType::TEXT_ARRAY)])
        .await?;
    let access = |row: &Row| {
        let found = TableAccess {
            role_exists: row.try_get("is_known")?,
            readable_columns: row.try_get("columns")?,
            key_columns: row.try_get("key")?,
            key_types: row.try_get("key_types")?,
            qualified_name: row.try_get("qualified")?,
            has_rls: row.try_get("is_secured")?,
            bypasses_rls: row.try_get("is_exempt")?,
            checks_rls_on_delete: row.try_get("deletes_are_secured")?,
            owner_columns: row.try_get("owner_columns")?,
            condition: read_condition(row)?,
        };
        Ok(((row.try_get("relation")?, row.try_get("role")?), found))
    };
    rows.iter().map(access).collect()
}

fn read_condition(row: &Row) -> Result<Option<RlsCondition>, tokio_postgres::Error> {
    let Some(text) = row.try_get("condition")? else { return Ok(None) };
    Ok(Some(RlsCondition {
        expression: text,
        table_alias: row.try_get("name")?,
        columns: row.try_get("reads")?,
        column_types: row.try_get("read_types")?,
        is_deterministic: row.try_get("is_steady")?,
    }))
}

/// What types are.
///
/// # Errors
/// When the database does not answer.
pub async fn load_types(client: &Client, oids: &[u32]) -> Result<Vec<(u32, TypeInfo)>, PgError> {
    let rows = client
        .query_typed(include_str!("../../../sql/changes/types.sql"), &[(&oids, PgType::OID_ARRAY)])
        .await?;
    rows.iter().map(|row| Ok((row.try_get("oid")?, read_type(row)?))).collect()
}

fn read_type(row: &Row) -> Result<TypeInfo, PgError> {
    let kind: &str = row.try_get("kind")?;
    let element: u32 = row.try_get("element")?;
    let kind = match kind {
        "integer" => TypeKind::Integer,
        "float" => TypeKind::Float,
        "numeric" => TypeKind::Numeric,
        "bool" => TypeKind::Boolean,
        "text" => TypeKind::Text,
        "bytes" => TypeKind::Bytes,
        "enum" => TypeKind::Enum,
        "date" => TypeKind::Date,
        "timestamp" => TypeKind::Timestamp,
        "timestamptz" => TypeKind::TimestampTz,
        "jsonb" => TypeKind::Jsonb,
        "opaque" => TypeKind::Opaque,
        "domain" => TypeKind::Domain(element),
        "array" => {
            let delimiter: &str = row.try_get("delimiter")?;
            TypeKind::Array(element, delimiter.chars().next().unwrap_or(','))
        }
        "composite" => {
            let names: Vec<String> = row.try_get("attribute_names")?;
            let types: Vec<u32> = row.try_get("attribute_types")?;
            TypeKind::Composite(names.into_iter().map(Box::from).zip(types).collect())
        }
        _ => TypeKind::Other,
    };
    let (name, qualified): (String, String) = (row.try_get("name")?, row.try_get("qualified")?);
    Ok(TypeInfo { name: name.into(), qualified: qualified.into(), kind })
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
pub async fn evaluate_filter(
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
pub async fn fetch_columns_by_key(
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
