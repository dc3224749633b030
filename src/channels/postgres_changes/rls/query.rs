//! Queries that the principal runs for rows: row-level security by key (`select`) or by column values, and filters.
//!
//! By values, the query evaluates the policies' expressions as the principal. It can check deleted rows, and it
//! checks rows with equal values in the columns that the policies read only once. Unlike `select`, it resolves the
//! names in the expressions again, for which the principal may lack privileges: PostgreSQL keeps functions and tables of a
//! policy by OID, so users need no usage of their schemas. Then it raises an error, and the next query is tried. The last
//! one is the query by values inside a function that keeps OIDs too.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::pg::ident::quote_identifier;
use crate::{
    channels::postgres_changes::{
        filter::{Filter, Operator},
        types::TypeInfo,
    },
    pg::{
        queries::postgres_changes::{RlsCondition, TableAccess},
        replication::{Cell, RowChange},
    },
};

/// Name of the temporary function of [`RowQuery::in_function`].
const CHECK_FUNCTION: &str = "pg_temp.rollcall_check";
/// PostgreSQL's maximum number of parameters of a function.
const MAX_FUNCTION_PARAMETERS: usize = 100;

/// A query that checks rows of a table.
#[derive(Debug, Clone)]
pub(crate) struct RowQuery {
    statement: Arc<str>,
    /// Number of columns sent as parameters.
    column_count: usize,
    /// The column values to check, without duplicates.
    tuples: Vec<Vec<Option<String>>>,
    /// For each row of the table, the index of its tuple. `None` if the query cannot check the row.
    tuple_of_row: Vec<Option<usize>>,
    /// Statements that create the temporary function that the query calls, if it calls one.
    function: Option<Arc<str>>,
}

/// Builds the `unnest` of the parameters: `$1` holds tuple indexes, `$2` and on hold the columns.
fn unnest_clause(columns: usize) -> String {
    let arrays: String = (0..columns).map(|n| format!(", ${}::text[]", n + 2)).collect();
    let names: String = (0..columns).map(|n| format!(", k{}", n + 1)).collect();
    format!("unnest($1::int4[]{arrays}) as tuples (tuple_index{names})")
}

/// The comparison of `k1`, a value, with `k2`, the operand. Both are texts and not NULL.
fn filter_expression(type_info: &TypeInfo, operator: Operator) -> String {
    let TypeInfo { qualified, equality_schema, pattern_schema, .. } = type_info;
    let compare = |name: &str| {
        format!("tuples.k1::{qualified} operator({equality_schema}.{name}) tuples.k2::{qualified}")
    };
    let operand = if &**qualified == "pg_catalog.bytea" { "tuples.k2::bytea" } else { "tuples.k2" };
    let matches = |name: &str| format!("tuples.k1::{qualified} operator({pattern_schema}.{name}) {operand}");
    match operator {
        Operator::Eq => compare("="),
        Operator::Neq => compare("<>"),
        Operator::Lt => compare("<"),
        Operator::Lte => compare("<="),
        Operator::Gt => compare(">"),
        Operator::Gte => compare(">="),
        Operator::IsDistinct => format!("not ({})", compare("=")),
        Operator::In => {
            format!("tuples.k1::{qualified} operator({equality_schema}.=) any (tuples.k2::{qualified}[])")
        }
        Operator::Like => matches("~~"),
        Operator::ILike => matches("~~*"),
        Operator::Match => matches("~"),
        Operator::IMatch => matches("~*"),
        // Decided in memory.
        Operator::Is => "false".to_owned(),
    }
}

impl RowQuery {
    /// Checks by key which rows `select` returns; cannot check deleted rows. `None` if the table had another key when
    /// the rows were changed.
    ///
    /// The `limit` makes PostgreSQL look up key by key. A join could evaluate the policies for other rows, where they
    /// might raise errors.
    pub(crate) fn by_key(access: &TableAccess, rows: &[&RowChange]) -> Option<Self> {
        let relation = &rows.first()?.relation;
        let index_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
        let key: Vec<usize> = access.key_columns.iter().map(index_of).collect::<Option<_>>()?;
        let equal = access.key_columns.iter().zip(&access.key_types).enumerate();
        let equal: Vec<_> = equal
            .map(|(n, (name, type_name))| {
                format!("t.{} = tuples.k{}::{type_name}", quote_identifier(name), n + 1)
            })
            .collect();
        let statement = format!(
            "select tuples.tuple_index from {} where (select true from {} t where {} limit 1)",
            unnest_clause(key.len()),
            access.qualified_name,
            equal.join(" and "),
        );
        let mut query = Self::new(statement, key.len(), rows.len());
        for (row, change) in rows.iter().enumerate().filter(|(_, change)| change.new.is_some()) {
            let texts: Option<Vec<_>> = key
                .iter()
                .map(|column| change.known_cell(*column)?.text().map(|text| Some(text.to_owned())))
                .collect();
            if let Some(texts) = texts {
                query.tuple_of_row[row] = Some(query.tuples.len());
                query.tuples.push(texts);
            }
        }
        Some(query)
    }

    /// Checks by column values for which rows the policies' condition holds. It cannot check rows with an unknown
    /// value in a column that the condition reads. If the condition is not deterministic, only deleted rows are
    /// checked this way.
    pub(crate) fn by_values(condition: &RlsCondition, rows: &[&RowChange]) -> Option<Self> {
        let relation = &rows.first()?.relation;
        let index_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
        let column_indexes: Vec<usize> = condition.columns.iter().map(index_of).collect::<Option<_>>()?;
        let columns = condition.columns.iter().zip(&condition.column_types).enumerate();
        let columns: String = columns
            .map(|(n, (name, type_name))| {
                format!(", tuples.k{}::{type_name} as {}", n + 1, quote_identifier(name))
            })
            .collect();
        let statement = format!(
            "select \"rollcall tuple index\" from (select tuples.tuple_index as \"rollcall tuple index\"{columns} from {}) as {} where {}",
            unnest_clause(column_indexes.len()),
            condition.table_alias,
            condition.expression,
        );
        let mut query = Self::new(statement, column_indexes.len(), rows.len());
        let mut index_by_values: HashMap<Vec<Option<String>>, usize> = HashMap::new();
        for (row, change) in rows.iter().enumerate() {
            if change.new.is_some() && !condition.is_deterministic {
                continue;
            }
            let cell = |column: &usize| match change.known_cell(*column)? {
                Cell::Null => Some(None),
                cell => Some(Some(cell.text()?.to_owned())),
            };
            let Some(values) = column_indexes.iter().map(cell).collect::<Option<Vec<_>>>() else { continue };
            let next_tuple = query.tuples.len();
            let tuple = if condition.is_deterministic {
                *index_by_values.entry(values.clone()).or_insert(next_tuple)
            } else {
                next_tuple
            };
            if tuple == next_tuple {
                query.tuples.push(values);
            }
            query.tuple_of_row[row] = Some(tuple);
        }
        Some(query)
    }

    /// The same query inside a temporary function that is created by the server's role and runs with the rights of the
    /// principal. Its names are resolved when it is created. `None` if the query has too many parameters for a function.
    pub(crate) fn in_function(mut self, condition: &RlsCondition) -> Option<Self> {
        if self.column_count >= MAX_FUNCTION_PARAMETERS {
            return None;
        }
        let types = format!("int4[]{}", ", text[]".repeat(self.column_count));
        let volatility = if condition.is_deterministic { "stable" } else { "volatile" };
        // Default privileges may keep new functions from the public.
        self.function = Some(
            format!(
                "create function {CHECK_FUNCTION}({types}) returns setof int4 language sql {volatility} \
                 begin atomic {}; end; grant execute on function {CHECK_FUNCTION} to public",
                self.statement
            )
            .into(),
        );
        let params: String = (2..=self.column_count + 1).map(|n| format!(", ${n}::text[]")).collect();
        self.statement = format!("select * from {CHECK_FUNCTION}($1::int4[]{params})").into();
        Some(self)
    }

    /// Evaluates a filter for values of visible rows. The rows of the query are the indexes of the values.
    pub(crate) fn by_filter(type_info: &TypeInfo, filter: &Filter, values: &[&str]) -> Self {
        let statement = format!(
            "select tuples.tuple_index from {} where ({}) = {}",
            unnest_clause(2),
            filter_expression(type_info, filter.operator),
            !filter.negated,
        );
        let mut query = Self::new(statement, 2, values.len());
        for (row, value) in values.iter().enumerate() {
            query.tuple_of_row[row] = Some(row);
            query.tuples.push(vec![Some((*value).to_owned()), Some(filter.value.to_string())]);
        }
        query
    }

    fn new(statement: String, column_count: usize, rows: usize) -> Self {
        Self {
            statement: statement.into(),
            column_count,
            tuples: Vec::new(),
            tuple_of_row: vec![None; rows],
            function: None,
        }
    }

    /// Statements that create the temporary function that the query calls, if it calls one.
    pub(crate) fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// The statement. Parameters: tuple indexes as `int4[]`, then each column as `text[]`. Returns the indexes of
    /// visible tuples.
    pub(crate) const fn statement(&self) -> &Arc<str> {
        &self.statement
    }

    /// Bytes of the values to check.
    pub(crate) fn size_bytes(&self) -> usize {
        self.tuples.iter().flatten().flatten().map(|value| value.len() + 24).sum()
    }

    /// Whether the query can check a row.
    pub(crate) fn covers(&self, row: usize) -> bool {
        self.tuple_of_row.get(row).is_some_and(Option::is_some)
    }

    /// Value of the first parameter: the distinct tuple indexes of some rows.
    pub(crate) fn tuple_indexes(&self, rows: &[usize]) -> Vec<i32> {
        let mut seen = HashSet::with_capacity(rows.len());
        let tuples =
            rows.iter().filter_map(|row| self.tuple_of_row[*row]).filter(|tuple| seen.insert(*tuple));
        tuples.filter_map(|tuple| i32::try_from(tuple).ok()).collect()
    }

    /// Values of the other parameters: one array per column.
    pub(crate) fn column_values(&self, tuple_indexes: &[i32]) -> Vec<Vec<Option<&str>>> {
        let tuples =
            || tuple_indexes.iter().filter_map(|index| self.tuples.get(usize::try_from(*index).ok()?));
        (0..self.column_count)
            .map(|column| tuples().map(|values| values[column].as_deref()).collect())
            .collect()
    }

    /// Those of `rows` whose tuple is in `tuple_indexes`.
    pub(crate) fn rows_for(&self, tuple_indexes: &[i32], rows: &[usize]) -> Vec<usize> {
        let visible: HashSet<usize> =
            tuple_indexes.iter().filter_map(|index| usize::try_from(*index).ok()).collect();
        let is_visible = |row: &usize| self.tuple_of_row[*row].is_some_and(|tuple| visible.contains(&tuple));
        rows.iter().copied().filter(is_visible).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::replication::{Column, Operation, Relation, ReplicaIdentity, Row, Transaction};

    fn row(texts: [Option<&str>; 3]) -> Row {
        texts.map(|text| text.map_or(Cell::Null, |text| Cell::Text(text.to_owned().into()))).into()
    }

    fn changes() -> Vec<RowChange> {
        let column = |name: &str| Column {
            name: name.into(),
            type_oid: 25,
            type_modifier: -1,
            in_identity: name == "id",
        };
        let relation: Arc<Relation> = Relation {
            oid: 1,
            schema: "public".into(),
            table: "T".into(),
            identity: ReplicaIdentity::Default,
            columns: [column("id"), column("a\"b"), column("room")].into(),
        }
        .into();
        let change = |operation, new, old| {
            let relation = Arc::clone(&relation);
            RowChange { relation, operation, new, old, transaction: Transaction::default() }
        };
        let insert = |texts| change(Operation::Insert, Some(row(texts)), None);
        vec![
            insert([Some("1"), Some("x"), Some("7")]),
            insert([Some("2"), Some("x"), None]),
            insert([Some("3"), Some("y"), Some("7")]),
            change(Operation::Delete, None, Some(row([Some("4"), None, None]))),
        ]
    }

    fn access(condition: Option<RlsCondition>) -> TableAccess {
        TableAccess {
            role_exists: true,
            readable_columns: vec!["id".into()],
            key_columns: vec!["id".into(), "a\"b".into()],
            key_types: vec!["pg_catalog.int8".into(), "pg_catalog.text".into()],
            qualified_name: "public.\"T\"".into(),
            has_rls: true,
            bypasses_rls: false,
            checks_rls_on_delete: true,
            owner_columns: None,
            condition,
        }
    }

    fn condition(is_deterministic: bool) -> RlsCondition {
        RlsCondition {
            expression: "(room = 7)".into(),
            table_alias: "\"T\"".into(),
            columns: vec!["room".into()],
            column_types: vec!["integer".into()],
            is_deterministic,
        }
    }

    #[test]
    fn by_key_selects_existing_rows_by_the_whole_key() {
        let changes = changes();
        let rows: Vec<&RowChange> = changes.iter().collect();
        let query = RowQuery::by_key(&access(None), &rows).unwrap();
        assert_eq!(
            &**query.statement(),
            "select tuples.tuple_index from unnest($1::int4[], $2::text[], $3::text[]) as tuples (tuple_index, k1, k2) \
             where (select true from public.\"T\" t where t.\"id\" = tuples.k1::pg_catalog.int8 \
             and t.\"a\"\"b\" = tuples.k2::pg_catalog.text limit 1)"
        );
        assert_eq!((0..4).filter(|row| query.covers(*row)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(
            query.column_values(&query.tuple_indexes(&[1, 2])),
            [[Some("2"), Some("3")], [Some("x"), Some("y")]]
        );
    }

    #[test]
    fn by_values_checks_equal_rows_once() {
        let changes = changes();
        let rows: Vec<&RowChange> = changes.iter().collect();
        let query = RowQuery::by_values(&condition(true), &rows).unwrap();
        assert_eq!(
            &**query.statement(),
            "select \"rollcall tuple index\" from (select tuples.tuple_index as \"rollcall tuple index\", tuples.k1::integer as \"room\" \
             from unnest($1::int4[], $2::text[]) as tuples (tuple_index, k1)) as \"T\" where (room = 7)"
        );
        // The value of `room` in the deleted row is unknown.
        assert_eq!((0..4).filter(|row| query.covers(*row)).collect::<Vec<_>>(), [0, 1, 2]);
        let tuple_indexes = query.tuple_indexes(&[0, 1, 2]);
        assert_eq!(query.column_values(&tuple_indexes), [[Some("7"), None]]);
        assert_eq!(query.rows_for(&tuple_indexes[..1], &[0, 1, 2]), [0, 2]);
    }

    #[test]
    fn by_values_uses_volatile_conditions_for_deleted_rows_only() {
        let changes = changes();
        let rows: Vec<&RowChange> = changes.iter().collect();
        let reads_nothing =
            RlsCondition { columns: Vec::new(), column_types: Vec::new(), ..condition(false) };
        let query = RowQuery::by_values(&reads_nothing, &rows).unwrap();
        assert_eq!((0..4).filter(|row| query.covers(*row)).collect::<Vec<_>>(), [3]);
        assert!(
            RowQuery::by_values(&RlsCondition { columns: vec!["gone".into()], ..condition(true) }, &rows)
                .is_none()
        );
    }
}
