//! From verdicts to frames: each row is rendered once, each view of it put together once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    frame::{self, View},
    judge::Seen,
    lot::Lot,
    registry::Group,
    rights::{Asking, Rights},
    row::{Changed, Rendered},
    slow::Later,
    teller::Told,
    types::Types,
};
use crate::{
    hub::ConnId,
    pg::{
        PgError,
        queries::changes::{self, Access},
        replication::Cell,
    },
};

/// The JSON of values that only PostgreSQL can render, by type and text.
pub type Opaque = HashMap<u32, HashMap<String, String>>;

/// Asks for the JSON of values that cannot be rendered here.
///
/// # Errors
/// When the database is out of reach.
pub async fn render_opaque(
    client: &Client,
    types: &Types,
    batch: &[Changed],
    lots: &[Lot<'_>],
) -> Result<Opaque, PgError> {
    let mut opaque = Opaque::default();
    for lot in lots {
        for (at, column) in lot.relation(batch).columns.iter().enumerate() {
            if types.renders(column.type_oid) {
                continue;
            }
            let cells = lot.places.iter().flat_map(|place| {
                let changed = &batch[*place];
                [changed.new.as_ref().and_then(|row| row.get(at)), changed.old_cell(at)]
            });
            let texts: HashSet<&str> = cells.flatten().filter_map(Cell::text).collect();
            let texts: Vec<&str> = texts.into_iter().collect();
            match changes::render_values(client, column.type_oid, &texts).await {
                Ok(json) => {
                    let known = texts.iter().map(|text| (*text).to_owned()).zip(json);
                    opaque.entry(column.type_oid).or_default().extend(known);
                }
                Err(error @ PgError::Unavailable(_)) => return Err(error),
                // The type has gone: its text has to do.
                Err(error) => {
                    tracing::warn!(%error, column = &*column.name, "values could not be rendered")
                }
            }
        }
    }
    Ok(opaque)
}

/// What is needed to write to everybody.
pub struct Letters<'a> {
    /// The changes.
    pub batch: &'a [Changed],
    /// The same by table.
    pub lots: &'a [Lot<'a>],
    /// By lot and claimant.
    pub rights: &'a [Vec<Option<Rights<'a>>>],
    /// What row-level security said.
    pub seen: &'a Seen,
    /// How values are shown.
    pub types: &'a Types,
    /// Those that are not shown here.
    pub opaque: &'a Opaque,
}

impl Letters<'_> {
    /// Frames, in the order of the changes; and those for whom row-level security has not answered yet.
    pub fn write(&self) -> (Vec<Told>, Vec<Later>) {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (number, lot) in self.lots.iter().enumerate() {
            order.extend(lot.places.iter().enumerate().map(|(row, at)| (*at, number, row)));
        }
        order.sort_unstable();
        let mut told = Vec::new();
        let mut later: HashMap<(usize, usize), Later> = HashMap::new();
        for (at, number, row) in order {
            let changed = &self.batch[at];
            let mut sheet =
                Sheet { changed, types: self.types, opaque: self.opaque, rendered: None, views: Vec::new() };
            for (group, matched) in &self.lots[number].matched[row] {
                for (select, ids) in matched {
                    let one = One { group, changed, select: *select, ids, number, row };
                    self.write_to(&one, &mut sheet, &mut told, &mut later);
                }
            }
        }
        (told, later.into_values().collect())
    }

    /// To the members of a group for whom a change matches the same entries.
    fn write_to<'b>(
        &self,
        one: &One<'_, 'b>,
        sheet: &mut Sheet<'b>,
        told: &mut Vec<Told>,
        later: &mut HashMap<(usize, usize), Later>,
    ) {
        let One { group, changed, select, number, row, .. } = *one;
        // Few views, many members.
        let mut to: Vec<(Arc<str>, Vec<ConnId>)> = Vec::new();
        for member in &group.members {
            let Some(rights) = &self.rights[number][member.claimant] else { continue };
            let data = match rights.to(changed) {
                Ok(Asking::Pointless) => continue,
                _ if !member.channel.is_alive() => continue,
                Err(error) if member.first_time(changed.relation.oid, error.as_str()) => {
                    frame::error_data(changed, error).into()
                }
                Err(_) => continue,
                Ok(Asking::Nobody) => sheet.data(rights.access, select),
                Ok(Asking::RowSecurity) => {
                    let place = (number, member.claimant);
                    if let Some(verdicts) = self.seen.verdicts.get(&place) {
                        if let Some(trouble) = &verdicts.trouble {
                            member.channel.tell_trouble(&raised(changed, trouble));
                        }
                        if !verdicts.seen[row] {
                            continue;
                        }
                        sheet.data(rights.access, select)
                    } else {
                        let Some(question) = self.seen.later.get(&place) else { continue };
                        let later =
                            later.entry(place).or_insert_with(|| Later::new(question, &self.seen.tables));
                        let told = one.told(&sheet.data(rights.access, select), vec![member.channel.conn]);
                        later.rows.push((row, told, Arc::clone(&member.channel)));
                        continue;
                    }
                }
            };
            match to.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &data)) {
                Some((_, conns)) => conns.push(member.channel.conn),
                None => to.push((data, vec![member.channel.conn])),
            }
        }
        told.extend(to.into_iter().map(|(data, to)| one.told(&data, to)));
    }
}

/// A change for a group.
#[derive(Clone, Copy)]
struct One<'a, 'b> {
    group: &'a Group,
    changed: &'a Changed,
    select: Option<&'b [Box<str>]>,
    ids: &'a [u32],
    /// The lot, and the row in it.
    number: usize,
    row: usize,
}

impl One<'_, '_> {
    fn told(&self, data: &Arc<str>, to: Vec<ConnId>) -> Told {
        let topic = Arc::clone(&self.group.interest.topic);
        if self.group.interest.is_legacy {
            Told { topic, event: self.changed.operation.as_str(), payload: (&**data).into(), to }
        } else {
            Told { topic, event: "postgres_changes", payload: frame::payload(data, self.ids).into(), to }
        }
    }
}

fn raised(changed: &Changed, trouble: &str) -> String {
    let relation = &changed.relation;
    format!(
        "Changes of {}.{} are withheld: its row-level security raised an error for you: {trouble}",
        relation.schema, relation.table
    )
}

/// A view that was put together: for a role's access and a selection of columns.
type SeenView<'a> = (*const Access, Option<&'a [Box<str>]>, View, Arc<str>);

/// One change, rendered at most once, and put together once for each view of it.
struct Sheet<'a> {
    changed: &'a Changed,
    types: &'a Types,
    opaque: &'a Opaque,
    rendered: Option<Rendered>,
    views: Vec<SeenView<'a>>,
}

impl<'a> Sheet<'a> {
    fn data(&mut self, access: &Access, select: Option<&'a [Box<str>]>) -> Arc<str> {
        let known =
            self.views.iter().find(|(of, selected, ..)| std::ptr::eq(*of, access) && *selected == select);
        if let Some((.., data)) = known {
            return Arc::clone(data);
        }
        let is_key = |name: &str| access.key.iter().any(|key| key == name);
        let selected =
            |name: &str| select.is_none_or(|names| is_key(name) || names.iter().any(|one| **one == *name));
        let columns = self.changed.relation.columns.iter();
        let shown: Box<[bool]> = columns
            .clone()
            .map(|column| selected(&column.name) && access.columns.iter().any(|name| **name == *column.name))
            .collect();
        // Nobody was asked whether the old row was theirs to see: of secured tables the key alone is told.
        let deleted =
            columns.zip(&shown).map(|(column, shown)| *shown && (!access.is_secured || is_key(&column.name)));
        let view = View { deleted: deleted.collect(), columns: shown };
        let (changed, types, opaque) = (self.changed, self.types, self.opaque);
        let rendered = self.rendered.get_or_insert_with(|| {
            Rendered::of(changed, types, |oid, text| {
                opaque.get(&oid).and_then(|known| known.get(text)).cloned()
            })
        });
        // Another role may have the same view.
        let same =
            self.views.iter().find(|(_, _, known, _)| *known == view).map(|(.., data)| Arc::clone(data));
        let data = same.unwrap_or_else(|| frame::data(changed, rendered, types, &view).into());
        self.views.push((access, select, view, Arc::clone(&data)));
        data
    }
}
