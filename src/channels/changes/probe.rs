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

use super::row::Changed;
use crate::pg::{
    queries::changes::{Access, Condition},
    replication::Cell,
};

/// A way to ask about rows of a table.
#[derive(Debug, Clone)]
pub struct Probe {
    statement: Arc<str>,
    /// How many columns are sent.
    width: usize,
    /// What is asked about: the columns' values.
    subjects: Vec<Vec<Option<String>>>,
    /// For each row of the table, which of them stands for it.
    stands_for: Vec<Option<usize>>,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `unnest` of places and columns: `$1` is the places, `$2` and on the columns.
fn unnest(columns: usize) -> String {
    let arrays: String = (0..columns).map(|n| format!(", ${}::text[]", n + 2)).collect();
    let names: String = (0..columns).map(|n| format!(", k{}", n + 1)).collect();
    format!("unnest($1::int4[]{arrays}) as asked (place{names})")
}

impl Probe {
    /// By key: which of some rows `select` finds. None of rows that were deleted. `None` if the table had another key
    /// when the rows were changed.
    ///
    /// Key by key, which the limit sees to: joined as a whole, policies would be evaluated for rows that nobody asked
    /// about, and might raise for those.
    pub fn by_key(access: &Access, rows: &[&Changed]) -> Option<Self> {
        let relation = &rows.first()?.relation;
        let place_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
        let key: Vec<usize> = access.key.iter().map(place_of).collect::<Option<_>>()?;
        let equal = access.key.iter().zip(&access.key_types).enumerate();
        let equal: Vec<_> =
            equal.map(|(n, (name, of))| format!("t.{} = asked.k{}::{of}", quoted(name), n + 1)).collect();
        let statement = format!(
            "select asked.place from {} where (select true from {} t where {} limit 1)",
            unnest(key.len()),
            access.qualified,
            equal.join(" and "),
        );
        let mut probe = Self::new(statement, key.len(), rows.len());
        for (row, changed) in rows.iter().enumerate().filter(|(_, changed)| changed.new.is_some()) {
            let texts: Option<Vec<_>> = key
                .iter()
                .map(|column| changed.subject(*column)?.text().map(|text| Some(text.to_owned())))
                .collect();
            if let Some(texts) = texts {
                probe.stands_for[row] = Some(probe.subjects.len());
                probe.subjects.push(texts);
            }
        }
        Some(probe)
    }

    /// By values: for which rows the policies' condition holds. None of rows of which it reads what is not known, and
    /// of rows that `select` can be asked about, if it is of a kind that may say this now and that then.
    pub fn by_values(condition: &Condition, rows: &[&Changed]) -> Option<Self> {
        let relation = &rows.first()?.relation;
        let place_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
        let read: Vec<usize> = condition.reads.iter().map(place_of).collect::<Option<_>>()?;
        let columns = condition.reads.iter().zip(&condition.read_types).enumerate();
        let columns: String =
            columns.map(|(n, (name, of))| format!(", asked.k{}::{of} as {}", n + 1, quoted(name))).collect();
        let statement = format!(
            "select \"rollcall place\" from (select asked.place as \"rollcall place\"{columns} from {}) as {} where {}",
            unnest(read.len()),
            condition.name,
            condition.text,
        );
        let mut probe = Self::new(statement, read.len(), rows.len());
        let mut alike: HashMap<Vec<Option<String>>, usize> = HashMap::new();
        for (row, changed) in rows.iter().enumerate() {
            if changed.new.is_some() && !condition.is_steady {
                continue;
            }
            let cell = |column: &usize| match changed.subject(*column)? {
                Cell::Null => Some(None),
                cell => Some(Some(cell.text()?.to_owned())),
            };
            let Some(values) = read.iter().map(cell).collect::<Option<Vec<_>>>() else { continue };
            let next = probe.subjects.len();
            let subject =
                if condition.is_steady { *alike.entry(values.clone()).or_insert(next) } else { next };
            if subject == next {
                probe.subjects.push(values);
            }
            probe.stands_for[row] = Some(subject);
        }
        Some(probe)
    }

    fn new(statement: String, width: usize, rows: usize) -> Self {
        Self { statement: statement.into(), width, subjects: Vec::new(), stands_for: vec![None; rows] }
    }

    /// Takes the places of rows as `int4[]`, then each column as `text[]`; returns places.
    pub const fn statement(&self) -> &Arc<str> {
        &self.statement
    }

    /// Whether it can be asked about a row.
    pub fn knows(&self, row: usize) -> bool {
        self.stands_for.get(row).is_some_and(Option::is_some)
    }

    /// What is to be asked about for some rows: the first parameter.
    pub fn places(&self, rows: &[usize]) -> Vec<i32> {
        let mut known = HashSet::with_capacity(rows.len());
        let subjects =
            rows.iter().filter_map(|row| self.stands_for[*row]).filter(|subject| known.insert(*subject));
        subjects.filter_map(|subject| i32::try_from(subject).ok()).collect()
    }

    /// The further parameters.
    pub fn columns(&self, places: &[i32]) -> Vec<Vec<Option<&str>>> {
        let subjects = || places.iter().filter_map(|place| self.subjects.get(usize::try_from(*place).ok()?));
        (0..self.width).map(|column| subjects().map(|values| values[column].as_deref()).collect()).collect()
    }

    /// Those of some rows that are meant by places that came back.
    pub fn rows_at(&self, places: &[i32], rows: &[usize]) -> Vec<usize> {
        let seen: HashSet<usize> = places.iter().filter_map(|place| usize::try_from(*place).ok()).collect();
        let is_seen = |row: &usize| self.stands_for[*row].is_some_and(|subject| seen.contains(&subject));
        rows.iter().copied().filter(is_seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::changes::row::commit_time,
        pg::replication::{Change, Column, Identity, Operation, Relation, pgoutput::Row},
    };

    fn row(texts: [Option<&str>; 3]) -> Row {
        texts.map(|text| text.map_or(Cell::Null, |text| Cell::Text(text.to_owned().into()))).into()
    }

    fn changes() -> Vec<Changed> {
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
            identity: Identity::Default,
            columns: [column("id"), column("a\"b"), column("room")].into(),
        }
        .into();
        let changed = |operation| {
            Changed::new(Change { relation: Arc::clone(&relation), operation }, commit_time(0), 3)
        };
        vec![
            changed(Operation::Insert { new: row([Some("1"), Some("x"), Some("7")]) }),
            changed(Operation::Insert { new: row([Some("2"), Some("x"), None]) }),
            changed(Operation::Insert { new: row([Some("3"), Some("y"), Some("7")]) }),
            changed(Operation::Delete { old: row([Some("4"), None, None]) }),
        ]
    }

    fn access(condition: Option<Condition>) -> Access {
        Access {
            is_known: true,
            columns: vec!["id".into()],
            key: vec!["id".into(), "a\"b".into()],
            key_types: vec!["pg_catalog.int8".into(), "pg_catalog.text".into()],
            qualified: "public.\"T\"".into(),
            is_secured: true,
            is_exempt: false,
            deletes_are_secured: true,
            owner_columns: None,
            condition,
        }
    }

    fn condition(is_steady: bool) -> Condition {
        Condition {
            text: "(room = 7)".into(),
            name: "\"T\"".into(),
            reads: vec!["room".into()],
            read_types: vec!["integer".into()],
            is_steady,
        }
    }

    #[test]
    fn by_key_it_is_a_select_by_the_whole_key_of_rows_that_are_there() {
        let changes = changes();
        let rows: Vec<&Changed> = changes.iter().collect();
        let probe = Probe::by_key(&access(None), &rows).unwrap();
        assert_eq!(
            &**probe.statement(),
            "select asked.place from unnest($1::int4[], $2::text[], $3::text[]) as asked (place, k1, k2) \
             where (select true from public.\"T\" t where t.\"id\" = asked.k1::pg_catalog.int8 \
             and t.\"a\"\"b\" = asked.k2::pg_catalog.text limit 1)"
        );
        assert_eq!((0..4).filter(|row| probe.knows(*row)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(probe.columns(&probe.places(&[1, 2])), [[Some("2"), Some("3")], [Some("x"), Some("y")]]);
    }

    #[test]
    fn by_values_one_row_stands_for_all_that_are_alike_in_what_is_read() {
        let changes = changes();
        let rows: Vec<&Changed> = changes.iter().collect();
        let probe = Probe::by_values(&condition(true), &rows).unwrap();
        assert_eq!(
            &**probe.statement(),
            "select \"rollcall place\" from (select asked.place as \"rollcall place\", asked.k1::integer as \"room\" \
             from unnest($1::int4[], $2::text[]) as asked (place, k1)) as \"T\" where (room = 7)"
        );
        // Of the deleted row the room is not known.
        assert_eq!((0..4).filter(|row| probe.knows(*row)).collect::<Vec<_>>(), [0, 1, 2]);
        let places = probe.places(&[0, 1, 2]);
        assert_eq!(probe.columns(&places), [[Some("7"), None]]);
        assert_eq!(probe.rows_at(&places[..1], &[0, 1, 2]), [0, 2]);
    }

    #[test]
    fn what_may_say_this_now_and_that_then_is_asked_of_rows_that_are_gone_only() {
        let changes = changes();
        let rows: Vec<&Changed> = changes.iter().collect();
        let everything = Condition { reads: Vec::new(), read_types: Vec::new(), ..condition(false) };
        let probe = Probe::by_values(&everything, &rows).unwrap();
        assert_eq!((0..4).filter(|row| probe.knows(*row)).collect::<Vec<_>>(), [3]);
        assert!(
            Probe::by_values(&Condition { reads: vec!["gone".into()], ..condition(true) }, &rows).is_none()
        );
    }
}
