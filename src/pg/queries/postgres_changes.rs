//! Catalog queries and other statements for `postgres_changes`.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type as PgType},
};

use crate::pg::{Connection, PgError, ident::quote_identifier, replication::Cell};

/// How values of a type are rendered as JSON and compared. Types without a comment are those of that name; integers and
/// floats have any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    Integer,
    Float,
    Numeric,
    Boolean,
    /// `text`, `varchar`. Equality compares bytes; the order depends on the collation.
    Text,
    /// `uuid`, `bytea`. Their texts sort as the values do.
    Bytes,
    /// An enum. Values are equal if their texts are.
    Enum,
    Date,
    Timestamp,
    TimestampTz,
    Jsonb,
    /// Any other type whose JSON is its text.
    Other,
    /// Array: element type OID, and the delimiter in its text.
    Array(u32, char),
    /// Composite type: attribute names and type OIDs.
    Composite(Arc<[(Box<str>, u32)]>),
    /// Domain: OID of its base type.
    Domain(u32),
    /// A type whose values only PostgreSQL can render.
    Opaque,
}

/// A type from the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeInfo {
    /// The name as in `pg_type.typname`.
    pub name: Box<str>,
    /// Schema-qualified and quoted name, for casts.
    pub qualified: Box<str>,
    pub kind: TypeKind,
    /// Quoted name of the schema of the type's operator `=`, and of the operators that compare it.
    pub equality_schema: Box<str>,
    /// Quoted name of the schema of the type's operator `~~`, and of the other pattern operators.
    pub pattern_schema: Box<str>,
}

impl TypeInfo {
    /// A type with the operators of `pg_catalog`.
    #[must_use]
    pub fn new(name: Box<str>, qualified: &str, kind: TypeKind) -> Self {
        let (equality_schema, pattern_schema) = ("pg_catalog".into(), "pg_catalog".into());
        Self { name, qualified: qualified.into(), kind, equality_schema, pattern_schema }
    }
}

/// A table of the publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// `pg_class.oid` of the table.
    pub oid: u32,
    pub schema: String,
    pub table: String,
}

/// What a role may read of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableAccess {
    pub role_exists: bool,
    /// Columns that the role may select, in the table's order.
    pub readable_columns: Vec<String>,
    /// Columns of the primary key; empty if there is none.
    pub key_columns: Vec<String>,
    /// Types of the key columns, for casts.
    pub key_types: Vec<String>,
    /// Schema-qualified and quoted name of the table.
    pub qualified_name: String,
    /// Whether row-level security is enabled.
    pub has_rls: bool,
    /// Whether row-level security does not apply to the role.
    pub bypasses_rls: bool,
    /// Whether a DELETE is delivered only to principals that could see the row.
    pub checks_rls_on_delete: bool,
    /// Set if the policies only compare these columns with the user's ID: a row is visible if one of them equals it.
    /// `None` if only PostgreSQL can decide.
    pub owner_columns: Option<Vec<String>>,
    /// The policies as a condition over column values, if they can be evaluated that way.
    pub condition: Option<RlsCondition>,
}

/// The policies of a role as a condition over column values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RlsCondition {
    pub expression: String,
    /// The quoted table name that the expression uses.
    pub table_alias: String,
    /// Columns that the expression reads.
    pub columns: Vec<String>,
    /// Types of these columns, for casts.
    pub column_types: Vec<String>,
    /// Whether equal values always have the same result.
    pub is_deterministic: bool,
}

impl TableAccess {
    /// Whether the role may read all key columns.
    #[must_use]
    pub fn can_read_key(&self) -> bool {
        self.key_columns.iter().all(|column| self.readable_columns.contains(column))
    }
}

/// Returns the published tables that a subscription includes.
///
/// # Errors
/// If the database does not respond.
pub async fn published_tables(
    client: &Client,
    schema: &str,
    table: &str,
) -> Result<Vec<PublishedTable>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/published.sql"), &[&schema, &table]).await?;
    let read_table = |row: &Row| {
        Ok(PublishedTable {
            oid: row.try_get("relation")?,
            schema: row.try_get("schema_name")?,
            table: row.try_get("table_name")?,
        })
    };
    rows.iter().map(read_table).collect()
}

/// Returns a hash of the publication's tables; it changes when tables are added or removed.
///
/// # Errors
/// If the database does not respond.
pub async fn publication_state(client: &Client) -> Result<i32, PgError> {
    Ok(client.query_one(include_str!("../../../sql/changes/publication_state.sql"), &[]).await?.try_get(0)?)
}

/// The filters and selected columns of a subscription to one table.
#[derive(Debug, Clone, Default)]
pub struct ParamsToCheck<'a> {
    /// Columns of the filters.
    pub columns: Vec<&'a str>,
    /// Operators of the filters.
    pub operators: Vec<&'a str>,
    /// Values of the filters.
    pub values: Vec<&'a str>,
    /// Selected columns; empty is all columns.
    pub select: Vec<&'a str>,
}

/// Validates the parameters of a subscription.
///
/// # Errors
/// If the parameters are invalid, with the text of Supabase Realtime, or the database does not respond.
pub async fn check_params(
    client: &Client,
    oid: u32,
    role: &str,
    params: &ParamsToCheck<'_>,
) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/changes/check_params.sql");
    client
        .query(statement, &[&oid, &role, &params.columns, &params.operators, &params.values, &params.select])
        .await?;
    Ok(())
}

/// Returns the reasons why some changes of a table are never delivered to a role.
///
/// # Errors
/// If the database does not respond.
pub async fn limitations(client: &Client, oid: u32, role: &str) -> Result<Vec<String>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/notes.sql"), &[&oid, &role]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A persistent replication slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    pub name: String,
    /// Whether a connection reads from it.
    pub is_active: bool,
    /// Bytes of WAL that PostgreSQL retains for it.
    pub retained_bytes: u64,
}

/// Returns the status of those slots that exist in this database.
///
/// # Errors
/// If the database does not respond.
pub async fn slot_statuses(client: &Connection, names: &[String]) -> Result<Vec<SlotStatus>, PgError> {
    let rows = client.query(include_str!("../../../sql/changes/slots.sql"), &[&names]).await?;
    let read_slot = |row: &Row| {
        let retained: i64 = row.try_get("kept")?;
        Ok(SlotStatus {
            name: row.try_get("name")?,
            is_active: row.try_get("is_active")?,
            retained_bytes: u64::try_from(retained).unwrap_or(0),
        })
    };
    rows.iter().map(read_slot).collect()
}

/// Drops a slot.
///
/// # Errors
/// If the slot is active, or the database does not respond.
pub async fn drop_slot(client: &Connection, name: &str) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/changes/drop_slot.sql"), &[&name]).await?;
    Ok(())
}

/// Waits until transactions from the WAL are visible to snapshots.
///
/// # Errors
/// If the database does not respond.
pub async fn wait_until_visible(client: &Client, xids: &[i64]) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/changes/await_commits.sql");
    client.query_typed(statement, &[(&xids, PgType::INT8_ARRAY)]).await?;
    Ok(())
}

/// Returns the access of roles to tables, by table OID and role. Dropped tables are omitted.
///
/// # Errors
/// If the database does not respond.
pub async fn table_access(
    client: &Client,
    oids: &[u32],
    roles: &[&str],
) -> Result<HashMap<(u32, String), TableAccess>, PgError> {
    let statement = include_str!("../../../sql/changes/access.sql");
    let rows =
        client.query_typed(statement, &[(&oids, PgType::OID_ARRAY), (&roles, PgType::TEXT_ARRAY)]).await?;
    let read_access = |row: &Row| {
        let access = TableAccess {
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
        Ok(((row.try_get("relation")?, row.try_get("role")?), access))
    };
    rows.iter().map(read_access).collect()
}

fn read_condition(row: &Row) -> Result<Option<RlsCondition>, tokio_postgres::Error> {
    let Some(expression) = row.try_get("condition")? else { return Ok(None) };
    Ok(Some(RlsCondition {
        expression,
        table_alias: row.try_get("name")?,
        columns: row.try_get("reads")?,
        column_types: row.try_get("read_types")?,
        is_deterministic: row.try_get("is_steady")?,
    }))
}

/// Loads types from the catalog.
///
/// # Errors
/// If the database does not respond.
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
    let text = |column: &str| row.try_get::<_, String>(column).map(String::into_boxed_str);
    Ok(TypeInfo {
        name: text("name")?,
        qualified: text("qualified")?,
        kind,
        equality_schema: text("equality_schema")?,
        pattern_schema: text("pattern_schema")?,
    })
}

/// Returns the operands of a filter in the text form of the type's output function.
///
/// # Errors
/// If the value does not fit the type, or the database does not respond.
pub async fn canonical_literals(
    client: &Client,
    type_oid: u32,
    operator: &str,
    value: &str,
) -> Result<Vec<Option<String>>, PgError> {
    let statement = include_str!("../../../sql/changes/canonical_literals.sql");
    Ok(client.query_one(statement, &[&type_oid, &operator, &value]).await?.try_get(0)?)
}

/// Renders values of a type as JSON; returns them in their order.
///
/// # Errors
/// If PostgreSQL cannot render the values, or does not respond.
pub async fn render_values(client: &Client, type_oid: u32, values: &[&str]) -> Result<Vec<String>, PgError> {
    let statement = include_str!("../../../sql/changes/render_values.sql");
    Ok(client.query_one(statement, &[&type_oid, &values]).await?.try_get(0)?)
}

/// Fetches columns of rows by key: `keys` has, for each key column of `access`, the texts of all rows. Returns the
/// index of each row that exists, and its values in the order of `columns`; a value of more than `max_bytes` is `None`.
///
/// # Errors
/// If the table was altered, the server may not read it, or the database does not respond.
pub async fn fetch_columns_by_key(
    client: &Client,
    access: &TableAccess,
    columns: &[&str],
    keys: &[Vec<Option<&str>>],
    max_bytes: usize,
) -> Result<Vec<(usize, Vec<Option<Cell>>)>, PgError> {
    let quote = quote_identifier;
    let max_bytes = i32::try_from(max_bytes).unwrap_or(i32::MAX);
    // `format` uses the type's output function, as the WAL does: a cast to text differs for some types. Each column
    // yields whether the value is NULL, and the value if it is not too long.
    let selected: String = (1..=columns.len())
        .map(|n| format!(", v{n} is null, case when octet_length(v{n}) <= $1 then v{n} end"))
        .collect();
    let texts: Vec<_> = columns
        .iter()
        .zip(1..)
        .map(|(name, n)| {
            format!("case when num_nulls(t.{0}) = 0 then format('%s', t.{0}) end as v{n}", quote(name))
        })
        .collect();
    let conditions: Vec<_> = access
        .key_columns
        .iter()
        .zip(&access.key_types)
        .zip(1..)
        .map(|((name, type_name), n)| format!("t.{} = keys.k{n}::{type_name}", quote(name)))
        .collect();
    let arrays: String = (0..keys.len()).map(|n| format!(", ${}::text[]", n + 3)).collect();
    let names: String = (1..=keys.len()).map(|n| format!(", k{n}")).collect();
    // Identifiers cannot be parameters. `offset 0` prevents that the expressions are copied and evaluated repeatedly.
    let statement = format!(
        "select row{selected} from unnest($2::int4[]{arrays}) as keys (row{names}) \
         cross join lateral (select {} from {} t where {} offset 0) found",
        texts.join(", "),
        access.qualified_name,
        conditions.join(" and "),
    );
    let rows: Vec<i32> =
        (0..keys.first().map_or(0, Vec::len)).filter_map(|row| i32::try_from(row).ok()).collect();
    let mut params: Vec<(&(dyn ToSql + Sync), PgType)> =
        vec![(&max_bytes, PgType::INT4), (&rows, PgType::INT4_ARRAY)];
    params.extend(keys.iter().map(|key| (key as &(dyn ToSql + Sync), PgType::TEXT_ARRAY)));
    let read_row = |row: &Row| {
        let index: i32 = row.try_get(0)?;
        let value = |column: usize| {
            if row.try_get(1 + 2 * column)? {
                return Ok(Some(Cell::Null));
            }
            let text: Option<String> = row.try_get(2 + 2 * column)?;
            Ok::<_, tokio_postgres::Error>(text.map(|text| Cell::Text(text.into())))
        };
        let values = (0..columns.len()).map(value).collect::<Result<_, _>>()?;
        Ok((usize::try_from(index).unwrap_or(usize::MAX), values))
    };
    client.query_typed(&statement, &params).await?.iter().map(read_row).collect()
}
