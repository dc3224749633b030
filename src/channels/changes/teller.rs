//! From a batch of changes to frames: filters, rights, rendering.
//!
//! One pass over a batch asks the database in as few round trips as there are kinds of questions, never once per subscriber
//! where subscribers have anything in common:
//! 1. wait until the batch's transactions are visible, and read what the subscribers' roles may read of its tables;
//! 2. fetch what the log does not repeat, decide filters (in memory where possible);
//! 3. ask row-level security, once per claimant and table for all rows that passed that claimant's filters, unless all
//!    it does is to compare the row's owner with the viewer, which is decided here;
//! 4. render each row once, put together each view of it once, and tell.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, try_join},
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    asker::{Answer, Askers, Question, Table},
    filter::{
        Filter,
        test::{Test, Verdict},
    },
    frame::{self, RowError, View},
    params::Events,
    registry::{Group, Snapshot},
    row::{Changed, Rendered},
    slow::{Later, SlowLane},
    types::Types,
};
use crate::{
    channels::Claimant,
    hub::{ConnId, Delivery, Encodable, Hub},
    pg::{
        Connector, PgError,
        queries::changes::{self, Access},
        replication::{Cell, Identity},
    },
    protocol::phoenix::Said,
};

/// Filters made ready that are kept; over it all are forgotten.
const MOST_TESTS: usize = 50_000;

/// One frame for some channels of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The topic without its prefix.
    pub topic: Arc<str>,
    /// `postgres_changes`, or the operation for channels whose topic is the subscription.
    pub event: &'static str,
    /// JSON.
    pub payload: Box<str>,
    /// The channels' sockets.
    pub to: Vec<ConnId>,
}

/// Who delivers.
pub trait Sink: Send + Sync + 'static {
    /// Delivers in order, waiting for room.
    fn tell(&self, told: Vec<Told>) -> BoxFuture<'_, ()>;
}

impl Sink for Hub {
    fn tell(&self, told: Vec<Told>) -> BoxFuture<'_, ()> {
        let delivery = |Told { topic, event, payload, to }| {
            let message = Encodable::new(Said { topic, event: event.into(), payload });
            Delivery { key: None, message, to }
        };
        let deliveries: Vec<_> = told.into_iter().map(delivery).collect();
        async move {
            // It fails only when the server stops, and then the connections end too.
            let _ = self.fan_out(deliveries).await;
        }
        .boxed()
    }
}

/// Turns batches of changes into frames.
pub struct Teller {
    connector: Connector,
    client: Option<Client>,
    types: Types,
    tests: HashMap<(u32, Filter), Option<Arc<Test>>>,
    askers: Askers,
    sink: Arc<dyn Sink>,
    slow: SlowLane,
}

/// The changes of one table as it was, and who might hear of them.
struct Lot<'a> {
    /// Their places in the batch.
    places: Vec<usize>,
    /// Groups with an entry that means the table.
    groups: Vec<&'a Group>,
    /// For each filter, whether it holds for each change.
    holds: HashMap<&'a Filter, Vec<bool>>,
    /// For each change the groups with entries that match it, and those entries.
    matched: Vec<Vec<(&'a Group, Matches<'a>)>>,
}

/// Ids to name, by the columns that their entries select.
type Matches<'a> = BTreeMap<Option<&'a [Box<str>]>, Vec<u32>>;

impl Teller {
    /// Asks the database through `connector`, and hands frames to `sink`.
    #[must_use]
    pub fn new(connector: Connector, askers: Askers, slow: SlowLane, sink: Arc<dyn Sink>) -> Self {
        let (types, tests) = (Types::default(), HashMap::new());
        Self { connector, client: None, types, tests, askers, sink, slow }
    }

    /// Tells everybody in the snapshot what they asked for and may see.
    ///
    /// # Errors
    /// When the database is out of reach. Nothing has been told then, and the batch may be told again.
    pub fn tell<'a>(
        &'a mut self,
        batch: &'a mut [Changed],
        snapshot: &'a Snapshot,
    ) -> BoxFuture<'a, Result<(), PgError>> {
        async move {
            let Some(mut lots) = lots(batch, snapshot) else { return Ok(()) };
            let client = self.client().await?;
            let told = self.tell_with(&client, batch, snapshot, &mut lots).await;
            if told.is_ok() {
                self.client = Some(client);
            }
            told
        }
        .boxed()
    }

    async fn client(&mut self) -> Result<Client, PgError> {
        match self.client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => {
                let client = self.connector.client("changes").await?;
                // Values are compared and shown in the forms in which the log has them.
                client
                    .batch_execute("set timezone = 'UTC'; set datestyle = 'ISO'; set statement_timeout = '30s'; set jit = off")
                    .await?;
                Ok(client)
            }
        }
    }

    async fn tell_with(
        &mut self,
        client: &Client,
        batch: &mut [Changed],
        snapshot: &Snapshot,
        lots: &mut [Lot<'_>],
    ) -> Result<(), PgError> {
        let access = self.look_around(client, batch, snapshot, lots).await?;
        complete(client, batch, lots, &access).await?;
        for lot in &mut *lots {
            self.filter(client, batch, lot).await?;
            lot.matched =
                (0..lot.places.len()).map(|row| matched(lot, row, &batch[lot.places[row]])).collect();
        }
        let seen = self.ask(batch, snapshot, lots, &access).await?;
        let opaque = self.render_opaque(client, batch, lots).await?;
        let (told, later) = self.put_together(batch, snapshot, lots, &access, &seen, &opaque);
        self.sink.tell(told).await;
        self.slow.take_on(later);
        Ok(())
    }

    /// What the roles may read, after the batch's transactions have become visible.
    async fn look_around(
        &mut self,
        client: &Client,
        batch: &[Changed],
        snapshot: &Snapshot,
        lots: &[Lot<'_>],
    ) -> Result<HashMap<(u32, String), Access>, PgError> {
        let places = || lots.iter().flat_map(|lot| lot.places.iter().map(|at| &batch[*at]));
        let xids: HashSet<i64> = places().map(|changed| i64::from(changed.xid)).collect();
        let xids: Vec<i64> = xids.into_iter().collect();
        let oids: HashSet<u32> = places().map(|changed| changed.relation.oid).collect();
        let oids: Vec<u32> = oids.into_iter().collect();
        let members = lots.iter().flat_map(|lot| &lot.groups).flat_map(|group| &group.members);
        let roles: HashSet<&str> = members.map(|member| &*snapshot.claimants[member.claimant].role).collect();
        let roles: Vec<&str> = roles.into_iter().collect();
        // Sent together; the second begins when the first has been answered.
        let ((), access) =
            try_join(changes::await_commits(client, &xids), changes::access(client, &oids, &roles)).await?;
        let columns: HashSet<u32> = places()
            .flat_map(|changed| changed.relation.columns.iter().map(|column| column.type_oid))
            .collect();
        self.types.learn(client, &columns).await?;
        Ok(access)
    }

    async fn filter<'a>(
        &mut self,
        client: &Client,
        batch: &[Changed],
        lot: &mut Lot<'a>,
    ) -> Result<(), PgError> {
        let relation = Arc::clone(&batch[lot.places[0]].relation);
        let groups = lot.groups.iter().flat_map(|group| group.interest.bindings.iter());
        let meant = groups.filter(|binding| binding.params.means(&relation.schema, &relation.table));
        let filters: HashSet<&'a Filter> = meant.flat_map(|binding| &binding.params.filters).collect();
        if self.tests.len() > MOST_TESTS {
            self.tests.clear();
        }
        for filter in filters {
            let Some(column) = relation.columns.iter().position(|column| column.name == filter.column) else {
                lot.holds.insert(filter, vec![false; lot.places.len()]);
                continue;
            };
            let oid = relation.columns[column].type_oid;
            let key = (oid, filter.clone());
            if !self.tests.contains_key(&key) {
                let made = self.make_test(client, oid, filter).await?;
                self.tests.insert(key.clone(), made);
            }
            let Some(test) = self.tests.get(&key).and_then(Option::as_ref) else {
                lot.holds.insert(filter, vec![false; lot.places.len()]);
                continue;
            };
            let cells: Vec<_> = lot.places.iter().map(|at| batch[*at].subject(column)).collect();
            let verdicts: Vec<_> =
                cells.iter().map(|cell| cell.map_or(Verdict::Fails, |cell| test.of(cell.text()))).collect();
            let mut holds: Vec<bool> = verdicts.iter().map(|verdict| *verdict == Verdict::Holds).collect();
            let open: Vec<usize> = (0..cells.len()).filter(|at| verdicts[*at] == Verdict::Ask).collect();
            if !open.is_empty() {
                let values: Vec<_> = open.iter().filter_map(|at| cells[*at].and_then(Cell::text)).collect();
                let condition = (filter.operator.as_str(), filter.negated, &*filter.value);
                let answers = match changes::filter_holds(client, oid, condition, &values).await {
                    Ok(answers) => answers,
                    Err(error @ PgError::Unavailable(_)) => return Err(error),
                    // The column is no longer of a type that the value fits.
                    Err(_) => Vec::new(),
                };
                for (at, answer) in open.into_iter().zip(answers) {
                    holds[at] = answer;
                }
            }
            lot.holds.insert(filter, holds);
        }
        Ok(())
    }

    /// `None` where the value does not fit the column any more.
    async fn make_test(
        &self,
        client: &Client,
        oid: u32,
        filter: &Filter,
    ) -> Result<Option<Arc<Test>>, PgError> {
        match changes::canonical_literals(client, oid, filter.operator.as_str(), &filter.value).await {
            Ok(literals) => {
                let kind = self.types.base(oid).clone();
                Ok(Some(Arc::new(Test::new(filter.operator, filter.negated, kind, literals))))
            }
            Err(error @ PgError::Unavailable(_)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Which rows each claimant sees, of those that are secured and that it would hear of.
    async fn ask(
        &mut self,
        batch: &[Changed],
        snapshot: &Snapshot,
        lots: &[Lot<'_>],
        access: &HashMap<(u32, String), Access>,
    ) -> Result<Seen, PgError> {
        let mut seen = Seen::default();
        let viewers: Vec<_> = snapshot.claimants.iter().map(|claimant| viewer(claimant)).collect();
        for (number, lot) in lots.iter().enumerate() {
            let relation = &batch[lot.places[0]].relation;
            let access_of = by_claimant(access, relation.oid, snapshot);
            let mut wanted: HashMap<usize, Vec<usize>> = HashMap::new();
            for (row, at) in lot.places.iter().enumerate() {
                for (group, _) in &lot.matched[row] {
                    for member in &group.members {
                        let Some(access) = access_of[member.claimant] else { continue };
                        if matches!(
                            rights(&batch[*at], access, viewers[member.claimant].as_ref()),
                            Ok(Asking::RowSecurity)
                        ) {
                            let rows = wanted.entry(member.claimant).or_default();
                            if rows.last() != Some(&row) {
                                rows.push(row);
                            }
                        }
                    }
                }
            }
            if wanted.is_empty() {
                continue;
            }
            let Some(any) =
                access.iter().find(|((oid, _), _)| *oid == relation.oid).map(|(_, access)| access)
            else {
                continue;
            };
            let key: Vec<_> = any
                .key
                .iter()
                .map(|name| relation.columns.iter().position(|column| *column.name == **name))
                .collect();
            let Some(key) = key.into_iter().collect::<Option<Vec<_>>>() else { continue };
            let keys = |at: &usize| {
                let text = |column: &usize| {
                    batch[*at].subject(*column).and_then(Cell::text).unwrap_or_default().to_owned()
                };
                key.iter().map(text).collect()
            };
            seen.tables.push(Table {
                qualified: any.qualified.clone(),
                key: any.key.clone(),
                key_types: any.key_types.clone(),
                rows: lot.places.iter().map(keys).collect(),
            });
            let table = seen.tables.len() - 1;
            // One role after another, so that a connection need not switch its plans.
            let mut wanted: Vec<_> = wanted.into_iter().collect();
            wanted.sort_by(|(one, _), (other, _)| {
                snapshot.claimants[*one].role.cmp(&snapshot.claimants[*other].role)
            });
            for (claimant, rows) in wanted {
                let question = Question { claimant: Arc::clone(&snapshot.claimants[claimant]), table, rows };
                if self.slow.keeps(&question.claimant) {
                    seen.later.insert((number, claimant), question);
                } else {
                    seen.asked.push((number, claimant));
                    seen.questions.push(question);
                }
            }
        }
        let answers = if seen.questions.is_empty() {
            Vec::new()
        } else {
            self.askers.ask(&seen.tables, &seen.questions).await?
        };
        for ((place, question), answer) in seen.asked.iter().zip(seen.questions.drain(..)).zip(answers) {
            if answer.is_late {
                self.slow.keep(&question.claimant);
                seen.later.insert(*place, question);
            } else {
                let rows = lots[place.0].places.len();
                seen.verdicts.insert(*place, Verdicts::new(answer, rows));
            }
        }
        Ok(seen)
    }

    /// The JSON of values that only PostgreSQL can render.
    async fn render_opaque(
        &self,
        client: &Client,
        batch: &[Changed],
        lots: &[Lot<'_>],
    ) -> Result<Opaque, PgError> {
        let mut opaque = Opaque::default();
        for lot in lots {
            for (at, column) in batch[lot.places[0]].relation.columns.iter().enumerate() {
                if self.types.renders(column.type_oid) {
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

    fn put_together(
        &self,
        batch: &[Changed],
        snapshot: &Snapshot,
        lots: &[Lot<'_>],
        access: &HashMap<(u32, String), Access>,
        seen: &Seen,
        opaque: &Opaque,
    ) -> (Vec<Told>, Vec<Later>) {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (number, lot) in lots.iter().enumerate() {
            order.extend(lot.places.iter().enumerate().map(|(row, at)| (*at, number, row)));
        }
        order.sort_unstable();
        let oid = |lot: &Lot<'_>| batch[lot.places[0]].relation.oid;
        let access: Vec<_> = lots.iter().map(|lot| by_claimant(access, oid(lot), snapshot)).collect();
        let viewers: Vec<_> = snapshot.claimants.iter().map(|claimant| viewer(claimant)).collect();
        let mut told = Vec::new();
        let mut later: HashMap<(usize, usize), Later> = HashMap::new();
        for (at, number, row) in order {
            let (lot, changed) = (&lots[number], &batch[at]);
            let mut sheet = Sheet { changed, types: &self.types, opaque, rendered: None, views: Vec::new() };
            for (group, matched) in &lot.matched[row] {
                for (select, ids) in matched {
                    // Few views, many members.
                    let mut to: Vec<(Arc<str>, Vec<ConnId>)> = Vec::new();
                    for member in group.members.iter().filter(|member| member.channel.is_alive()) {
                        let Some(access) = access[number][member.claimant] else { continue };
                        let place = (number, member.claimant);
                        let viewer = viewers[member.claimant].as_ref();
                        let data = match (rights(changed, access, viewer), seen.verdicts.get(&place)) {
                            (Err(error), _) if member.first_time(changed.relation.oid, error.as_str()) => {
                                frame::error_data(changed, error).into()
                            }
                            (Err(_), _) | (Ok(Asking::Pointless), _) => continue,
                            (Ok(Asking::Nobody), _) => sheet.data(access, *select),
                            (Ok(Asking::RowSecurity), Some(verdicts)) => {
                                if let Some(trouble) = &verdicts.trouble {
                                    member.channel.tell_trouble(&raised(changed, trouble));
                                }
                                if !verdicts.seen[row] {
                                    continue;
                                }
                                sheet.data(access, *select)
                            }
                            (Ok(Asking::RowSecurity), None) => {
                                let Some(question) = seen.later.get(&place) else { continue };
                                let later =
                                    later.entry(place).or_insert_with(|| Later::new(question, &seen.tables));
                                let data = sheet.data(access, *select);
                                let told = one(group, changed, &data, ids, vec![member.channel.conn]);
                                later.rows.push((row, told, Arc::clone(&member.channel)));
                                continue;
                            }
                        };
                        match to.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &data)) {
                            Some((_, conns)) => conns.push(member.channel.conn),
                            None => to.push((data, vec![member.channel.conn])),
                        }
                    }
                    told.extend(to.into_iter().map(|(data, to)| one(group, changed, &data, ids, to)));
                }
            }
        }
        (told, later.into_values().collect())
    }
}

fn one(group: &Group, changed: &Changed, data: &Arc<str>, ids: &[u32], to: Vec<ConnId>) -> Told {
    let topic = Arc::clone(&group.interest.topic);
    if group.interest.is_legacy {
        Told { topic, event: changed.operation.as_str(), payload: (&**data).into(), to }
    } else {
        Told { topic, event: "postgres_changes", payload: frame::payload(data, ids).into(), to }
    }
}

fn raised(changed: &Changed, trouble: &str) -> String {
    let relation = &changed.relation;
    format!(
        "Changes of {}.{} are withheld: its row-level security raised an error for you: {trouble}",
        relation.schema, relation.table
    )
}

/// Who has to be asked before a change is told to somebody.
enum Asking {
    /// It may be told.
    Nobody,
    /// It may not.
    Pointless,
    /// Row-level security.
    RowSecurity,
}

/// The viewer's id as `auth.uid()` has it and as the log writes it; `None` where only PostgreSQL can tell.
fn viewer(claimant: &Claimant) -> Option<String> {
    Some(Uuid::parse_str(claimant.sub.as_deref()?).ok()?.to_string())
}

/// What row-level security says, if all it does is to compare columns with the viewer's id. The truth test of changes
/// holds this against `select`.
fn owns(changed: &Changed, columns: &[String], viewer: Option<&String>) -> Asking {
    if columns.is_empty() {
        // No policy lets the role see anything.
        return Asking::Pointless;
    }
    let Some(viewer) = viewer else { return Asking::RowSecurity };
    for name in columns {
        match changed.column(name).and_then(|column| changed.subject(column)) {
            None => return Asking::RowSecurity,
            Some(cell) if cell.text() == Some(viewer) => return Asking::Nobody,
            Some(_) => {}
        }
    }
    Asking::Pointless
}

fn rights(changed: &Changed, access: &Access, viewer: Option<&String>) -> Result<Asking, RowError> {
    if access.columns.is_empty() || !access.reads_key() {
        return Err(RowError::Unauthorized);
    }
    let is_bound = access.is_secured && !access.is_exempt;
    if changed.operation == Events::Delete {
        return Ok(if is_bound && access.deletes_are_secured { Asking::Pointless } else { Asking::Nobody });
    }
    if access.key.is_empty() {
        return Err(RowError::NoKey);
    }
    Ok(match &access.owner_columns {
        _ if !is_bound => Asking::Nobody,
        Some(columns) => owns(changed, columns, viewer),
        None => Asking::RowSecurity,
    })
}

/// What each claimant may read of a table; none where it is gone.
fn by_claimant<'a>(
    access: &'a HashMap<(u32, String), Access>,
    oid: u32,
    snapshot: &Snapshot,
) -> Vec<Option<&'a Access>> {
    let roles: HashMap<&str, &Access> = access
        .iter()
        .filter(|((of, _), _)| *of == oid)
        .map(|((_, role), access)| (&**role, access))
        .collect();
    snapshot.claimants.iter().map(|claimant| roles.get(&*claimant.role).copied()).collect()
}

/// What is known after row-level security has been asked; by lot and claimant.
#[derive(Default)]
struct Seen {
    tables: Vec<Table>,
    asked: Vec<(usize, usize)>,
    questions: Vec<Question>,
    verdicts: HashMap<(usize, usize), Verdicts>,
    /// Questions whose claimants' policies take long.
    later: HashMap<(usize, usize), Question>,
}

struct Verdicts {
    seen: Vec<bool>,
    trouble: Option<String>,
}

impl Verdicts {
    fn new(answer: Answer, rows: usize) -> Self {
        let mut seen = vec![false; rows];
        for row in answer.seen {
            seen[row] = true;
        }
        Self { seen, trouble: answer.trouble }
    }
}

type Opaque = HashMap<u32, HashMap<String, String>>;

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

/// The changes by table, with those who might hear of them. `None` if nobody might.
fn lots<'a>(batch: &[Changed], snapshot: &'a Snapshot) -> Option<Vec<Lot<'a>>> {
    let mut lots: Vec<Lot<'a>> = Vec::new();
    let mut known: HashMap<*const crate::pg::replication::Relation, Option<usize>> = HashMap::new();
    for (at, changed) in batch.iter().enumerate() {
        let lot = *known.entry(Arc::as_ptr(&changed.relation)).or_insert_with(|| {
            let relation = &changed.relation;
            let means = |group: &&Group| {
                group
                    .interest
                    .bindings
                    .iter()
                    .any(|binding| binding.params.means(&relation.schema, &relation.table))
            };
            let groups: Vec<_> = snapshot.groups.iter().filter(means).collect();
            if groups.is_empty() {
                return None;
            }
            lots.push(Lot { places: Vec::new(), groups, holds: HashMap::new(), matched: Vec::new() });
            Some(lots.len() - 1)
        });
        if let Some(lot) = lot {
            lots[lot].places.push(at);
        }
    }
    (!lots.is_empty()).then_some(lots)
}

/// The groups with entries that a change matches: the ids of those, by what they select.
fn matched<'a>(lot: &Lot<'a>, row: usize, changed: &Changed) -> Vec<(&'a Group, Matches<'a>)> {
    let of = |group: &'a Group| {
        let mut matched = Matches::new();
        for binding in group.interest.bindings.iter() {
            let params = &binding.params;
            let holds = |filter| lot.holds.get(filter).is_some_and(|holds| holds[row]);
            if params.events.takes(changed.operation)
                && params.means(&changed.relation.schema, &changed.relation.table)
                && params.filters.iter().all(holds)
            {
                matched.entry(params.select.as_deref()).or_default().push(binding.id);
            }
        }
        (!matched.is_empty()).then_some((group, matched))
    };
    lot.groups.iter().filter_map(|group| of(group)).collect()
}

/// Fetches what an update did not touch and the log therefore does not repeat.
async fn complete(
    client: &Client,
    batch: &mut [Changed],
    lots: &[Lot<'_>],
    access: &HashMap<(u32, String), Access>,
) -> Result<(), PgError> {
    for lot in lots {
        let relation = Arc::clone(&batch[lot.places[0]].relation);
        if relation.identity == Identity::Full {
            continue;
        }
        let Some(any) = access.iter().find(|((oid, _), _)| *oid == relation.oid).map(|(_, access)| access)
        else {
            continue;
        };
        for at in &lot.places {
            let Some(new) = &batch[*at].new else { continue };
            let missing: Vec<usize> =
                (0..new.len()).filter(|column| new[*column] == Cell::Unchanged).collect();
            if missing.is_empty() || any.key.is_empty() {
                continue;
            }
            let names: Vec<&str> = missing.iter().map(|column| &*relation.columns[*column].name).collect();
            let key: Vec<(&str, &str, &str)> = any
                .key
                .iter()
                .zip(&any.key_types)
                .filter_map(|(name, of)| {
                    let column = batch[*at].column(name)?;
                    Some((&**name, &**of, new[column].text()?))
                })
                .collect();
            match changes::fetch(client, &any.qualified, &names, &key).await {
                Ok(Some(values)) => {
                    if let Some(new) = &mut batch[*at].new {
                        for (column, value) in missing.into_iter().zip(values) {
                            new[column] = value.map_or(Cell::Null, |text| Cell::Text(text.into()));
                        }
                    }
                }
                Ok(None) => {}
                Err(error @ PgError::Unavailable(_)) => return Err(error),
                // The table is not what it was, or not ours to read: the value stays unknown.
                Err(error) => tracing::debug!(%error, "an untouched value could not be fetched"),
            }
        }
    }
    Ok(())
}
