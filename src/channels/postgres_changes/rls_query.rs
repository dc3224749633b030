//! How row-level security is asked about rows: by their key, which is `select` itself, or by their values.
//!
//! By values, the policies' own expressions are asked, as the claimant. So a row that is gone can be asked about, and of
//! rows that are alike in all that the policies read, one is asked about. It is less than `select` in one way: names in
//! the expressions are looked up again, for which the claimant may lack a right that `select` does not take. Then it
//! raises, and the next probe is tried.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::row_change::RowChange;
use crate::pg::{
    queries::postgres_changes::{RlsCondition, TableAccess},
    replication::Cell,
};

/// A way to ask about rows of a table.
#[derive(Debug, Clone)]
pub struct RlsQuery {
    statement: Arc<str>,
    /// How many columns are sent.
    column_count: usize,
    /// What is asked about: the columns' values.
    tuples: Vec<Vec<Option<String>>>,
    /// For each row of the table, which of them stands for it.
    tuple_of_row: Vec<Option<usize>>,
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `unnest` of places and columns: `$1` is the places, `$2` and on the columns.
fn unnest_clause(columns: usize) -> String {
    let arrays: String = (0..columns).map(|n| format!(", ${}::text[]", n + 2)).collect();
    let names: String = (0..columns).map(|n| format!(", k{}", n + 1)).collect();
    format!("unnest($1::int4[]{arrays}) as asked (place{names})")
}

impl RlsQuery {
    /// By key: which of some rows `select` finds. None of rows that were deleted. `None` if the table had another key
    /// when the rows were changed.
    ///
    /// Key by key, which the limit sees to: joined as a whole, policies would be evaluated for rows that nobody asked
    /// about, and might raise for those.
    pub fn by_key(access: &TableAccess, rows: &[&RowChange]) -> Option<Self> {
        let relation = &rows.first()?.relation;
        let place_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
        let key: Vec<usize> = access.key_columns.iter().map(place_of).collect::<Option<_>>()?;
        let equal = access.key_columns.iter().zip(&access.key_types).enumerate();
        let equal: Vec<_> = equal
            .map(|(n, (name, of))| format!("t.{} = asked.k{}::{of}", quote_identifier(name), n + 1))
            .collect();
        let statement = format!(
            "select asked.place from {} where (select true from {} t where {} limit 1)",
            unnest_clause(key.len()),
            access.qualified_name,
            equal.join(" and "),
        );
        let mut probe = Self::new(statement, key.len(), rows.len());
        for (row, changed) in rows.iter().enumerate().filter(|(_, changed)| changed.new.is_some()) {
            let texts: Option<Vec<_>> = key
                .iter()
                .map(|column| changed.known_cell(*column)?.text().map(|text| Some(text.to_owned())))
                .collect();
            if let Some(texts) = texts {
                probe.tuple_of_row[row] = Some(probe.tuples.len());
                probe.tuples.push(texts);
            }
        }
        Some(probe)
    }

    /// By values: for which rows the policies' condition holds. None of rows of which it reads what is not known, and
    /// of rows that `select` can be asked about, if it is of a kind that may say this now and that then.
    pub fn by_values(condition: &RlsCondition, rows: &[&RowChange]) -> Option<Self> {
        let relation = &rows.first()?.relation;
        let place_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
        let read: Vec<usize> = condition.columns.iter().map(place_of).collect::<Option<_>>()?;
        let columns = condition.columns.iter().zip(&condition.column_types).enumerate();
        let columns: String = columns
            .map(|(n, (name, of))| format!(", asked.k{}::{of} as {}", n + 1, quote_identifier(name)))
            .collect();
        let statement = format!(
            "select \"rollcall place\" from (select asked.place as \"rollcall place\"{columns} from {}) as {} where {}",
            unnest_clause(read.len()),
            condition.table_alias,
            condition.expression,
        );
        let mut probe = Self::new(statement, read.len(), rows.len());
        let mut alike: HashMap<Vec<Option<String>>, usize> = HashMap::new();
        for (row, changed) in rows.iter().enumerate() {
            if changed.new.is_some() && !condition.is_deterministic {
                continue;
            }
            let cell = |column: &usize| match changed.known_cell(*column)? {
                Cell::Null => Some(None),
                cell => Some(Some(cell.text()?.to_owned())),
            };
            let Some(values) = read.iter().map(cell).collect::<Option<Vec<_>>>() else { continue };
            let next = probe.tuples.len();
            let subject =
                if condition.is_deterministic { *alike.entry(values.clone()).or_insert(next) } else { next };
            if subject == next {
                probe.tuples.push(values);
            }
            probe.tuple_of_row[row] = Some(subject);
        }
        Some(probe)
    }

    fn new(statement: String, width: usize, rows: usize) -> Self {
        Self {
            statement: statement.into(),
            column_count: width,
            tuples: Vec::new(),
            tuple_of_row: vec![None; rows],
        }
    }

    /// Takes the places of rows as `int4[]`, then each column as `text[]`; returns places.
    pub const fn statement(&self) -> &Arc<str> {
        &self.statement
    }

    /// Whether it can be asked about a row.
    pub fn covers(&self, row: usize) -> bool {
        self.tuple_of_row.get(row).is_some_and(Option::is_some)
    }

    /// What is to be asked about for some rows: the first parameter.
    pub fn tuple_indexes(&self, rows: &[usize]) -> Vec<i32> {
        let mut known = HashSet::with_capacity(rows.len());
        let subjects =
            rows.iter().filter_map(|row| self.tuple_of_row[*row]).filter(|subject| known.insert(*subject));
        subjects.filter_map(|subject| i32::try_from(subject).ok()).collect()
    }

    /// The further parameters.
    pub fn column_values(&self, places: &[i32]) -> Vec<Vec<Option<&str>>> {
        let subjects = || places.iter().filter_map(|place| self.tuples.get(usize::try_from(*place).ok()?));
        (0..self.column_count)
            .map(|column| subjects().map(|values| values[column].as_deref()).collect())
            .collect()
    }

    /// Those of some rows that are meant by places that came back.
    pub fn rows_for(&self, places: &[i32], rows: &[usize]) -> Vec<usize> {
        let seen: HashSet<usize> = places.iter().filter_map(|place| usize::try_from(*place).ok()).collect();
        let is_seen = |row: &usize| self.tuple_of_row[*row].is_some_and(|subject| seen.contains(&subject));
        rows.iter().copied().filter(is_seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::postgres_changes::row_change::format_commit_time,
        pg::replication::{Column, DecodedChange, Operation, Relation, ReplicaIdentity, pgoutput::Row},
    };

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
        let changed = |operation| {
            RowChange::new(
                DecodedChange { relation: Arc::clone(&relation), operation },
                format_commit_time(0),
                3,
            )
        };
        vec![
            changed(Operation::Insert { new: row([Some("1"), Some("x"), Some("7")]) }),
            changed(Operation::Insert { new: row([Some("2"), Some("x"), None]) }),
            changed(Operation::Insert { new: row([Some("3"), Some("y"), Some("7")]) }),
            changed(Operation::Delete { old: row([Some("4"), None, None]) }),
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

    fn condition(is_steady: bool) -> RlsCondition {
        RlsCondition {
            expression: "(room = 7)".into(),
            table_alias: "\"T\"".into(),
            columns: vec!["room".into()],
            column_types: vec!["integer".into()],
            is_deterministic: is_steady,
        }
    }

    #[test]
    fn by_key_selects_existing_rows_by_the_whole_key() {
        let changes = changes();
        let rows: Vec<&RowChange> = changes.iter().collect();
        let probe = RlsQuery::by_key(&access(None), &rows).unwrap();
        assert_eq!(
            &**probe.statement(),
            "select asked.place from unnest($1::int4[], $2::text[], $3::text[]) as asked (place, k1, k2) \
             where (select true from public.\"T\" t where t.\"id\" = asked.k1::pg_catalog.int8 \
             and t.\"a\"\"b\" = asked.k2::pg_catalog.text limit 1)"
        );
        assert_eq!((0..4).filter(|row| probe.covers(*row)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(
            probe.column_values(&probe.tuple_indexes(&[1, 2])),
            [[Some("2"), Some("3")], [Some("x"), Some("y")]]
        );
    }

    #[test]
    fn by_values_checks_equal_rows_once() {
        let changes = changes();
        let rows: Vec<&RowChange> = changes.iter().collect();
        let probe = RlsQuery::by_values(&condition(true), &rows).unwrap();
        assert_eq!(
            &**probe.statement(),
            "select \"rollcall place\" from (select asked.place as \"rollcall place\", asked.k1::integer as \"room\" \
             from unnest($1::int4[], $2::text[]) as asked (place, k1)) as \"T\" where (room = 7)"
        );
        // Of the deleted row the room is not known.
        assert_eq!((0..4).filter(|row| probe.covers(*row)).collect::<Vec<_>>(), [0, 1, 2]);
        let places = probe.tuple_indexes(&[0, 1, 2]);
        assert_eq!(probe.column_values(&places), [[Some("7"), None]]);
        assert_eq!(probe.rows_for(&places[..1], &[0, 1, 2]), [0, 2]);
    }

    #[test]
    fn by_values_uses_volatile_conditions_for_deleted_rows_only() {
        let changes = changes();
        let rows: Vec<&RowChange> = changes.iter().collect();
        let everything = RlsCondition { columns: Vec::new(), column_types: Vec::new(), ..condition(false) };
        let probe = RlsQuery::by_values(&everything, &rows).unwrap();
        assert_eq!((0..4).filter(|row| probe.covers(*row)).collect::<Vec<_>>(), [3]);
        assert!(
            RlsQuery::by_values(&RlsCondition { columns: vec!["gone".into()], ..condition(true) }, &rows)
                .is_none()
        );
    }
}
