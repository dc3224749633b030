//! Asking row-level security which rows a claimant sees: `select` by primary key, as that claimant.
//!
//! Each question is a transaction of its own on a connection that does nothing else, so a policy that raises or does
//! not end is its claimant's trouble alone. Questions are pipelined, their statements planned once a role, and a question
//! is about all rows of a table at once: what costs is the question, not the row.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join, join_all},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Statement,
    error::SqlState,
    types::{ToSql, Type as PgType},
};

use crate::{
    channels::Claimant,
    pg::{Connector, PgError},
    telemetry::metric,
};

const BECOME: &str = include_str!("../../../sql/changes/become.sql");
/// Plans are made once a role and table; see `sql/node/plan_once.sql`.
const PLAN_ONCE: &str = include_str!("../../../sql/node/plan_once.sql");
/// Questions under way on one connection. `join_all` polls so many in order, which the pipeline relies on.
const WINDOW: usize = 24;
/// Statements kept by one connection; over it all are forgotten.
const MOST_STATEMENTS: usize = 500;

/// A table whose rows are asked about.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name, quoted.
    pub qualified: String,
    /// The columns of its primary key.
    pub key: Vec<String>,
    /// Their types.
    pub key_types: Vec<String>,
    /// For each row its key.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Which of some keys `select` finds: `place` is the place in the arrays, from 1. Key by key, which the limit sees
    /// to: joined as a whole, policies would be evaluated for rows that nobody asked about, and might raise for those.
    fn statement(&self) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let arrays: Vec<_> = (1..=self.key.len()).map(|n| format!("${n}::text[]")).collect();
        let names: Vec<_> = (1..=self.key.len()).map(|n| format!("k{n}")).collect();
        let equal = self.key.iter().zip(&self.key_types).zip(&names);
        let equal: Vec<_> = equal.map(|((c, of), k)| format!("t.{} = asked.{k}::{of}", quoted(c))).collect();
        format!(
            "select asked.place::int4 from unnest({}) with ordinality as asked ({}, place) \
             where (select true from {} t where {} limit 1)",
            arrays.join(", "),
            names.join(", "),
            self.qualified,
            equal.join(" and "),
        )
    }
}

/// Which of some rows of a table somebody sees.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who.
    pub claimant: Arc<Claimant>,
    /// The place of the table among those asked about.
    pub table: usize,
    /// Places of rows in the table.
    pub rows: Vec<usize>,
}

/// What became of a question.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The rows that are seen.
    pub seen: Vec<usize>,
    /// The policies took too long: nothing is known.
    pub is_late: bool,
    /// A policy raised for some rows, which are not seen: what it said.
    pub trouble: Option<String>,
}

/// Connections for questions.
pub struct Askers {
    connector: Connector,
    lanes: Vec<Lane>,
    /// The longest that one question may take.
    limit: Duration,
}

#[derive(Default)]
struct Lane {
    client: Option<Client>,
    statements: HashMap<(String, Box<str>), Statement>,
}

impl Askers {
    /// So many connections, opened when they are needed.
    #[must_use]
    pub fn new(connector: Connector, lanes: usize, limit: Duration) -> Self {
        Self { connector, lanes: (0..lanes).map(|_| Lane::default()).collect(), limit }
    }

    /// Asks everything, and answers in the order of the questions.
    ///
    /// # Errors
    /// When the database is out of reach; then nothing is known.
    pub async fn ask(&mut self, tables: &[Table], questions: &[Question]) -> Result<Vec<Answer>, PgError> {
        let started = Instant::now();
        let share = questions.len().div_ceil(self.lanes.len()).max(1);
        let (connector, limit) = (&self.connector, self.limit);
        let mut asked: Vec<BoxFuture<'_, Result<Vec<Answer>, PgError>>> =
            Vec::with_capacity(self.lanes.len());
        for (lane, part) in self.lanes.iter_mut().zip(questions.chunks(share)) {
            asked.push(lane.ask(connector, limit, tables, part).boxed());
        }
        let mut all = Vec::with_capacity(questions.len());
        for part in join_all(asked).await {
            all.extend(part?);
        }
        metrics::histogram!(metric::RLS_QUERY).record(started.elapsed().as_secs_f64());
        Ok(all)
    }
}

impl Lane {
    async fn ask(
        &mut self,
        connector: &Connector,
        limit: Duration,
        tables: &[Table],
        questions: &[Question],
    ) -> Result<Vec<Answer>, PgError> {
        let mut answers = Vec::with_capacity(questions.len());
        for window in questions.chunks(WINDOW) {
            answers.extend(self.ask_window(connector, limit, tables, window).await?);
        }
        // Who raised for all rows together is asked about each, so that the others are told.
        for (question, answer) in questions.iter().zip(&mut answers) {
            if answer.trouble.is_some() && question.rows.len() > 1 {
                let single = |row: &usize| Question { rows: vec![*row], ..question.clone() };
                let singles: Vec<_> = question.rows.iter().map(single).collect();
                for window in singles.chunks(WINDOW) {
                    for one in self.ask_window(connector, limit, tables, window).await? {
                        answer.seen.extend(one.seen);
                        answer.is_late |= one.is_late;
                    }
                }
            }
        }
        Ok(answers)
    }

    async fn ask_window(
        &mut self,
        connector: &Connector,
        limit: Duration,
        tables: &[Table],
        window: &[Question],
    ) -> Result<Vec<Answer>, PgError> {
        let most = limit * u32::try_from(window.len() + 1).unwrap_or(u32::MAX);
        let answered = timeout(most, self.pipeline(connector, limit, tables, window)).await;
        let answers =
            answered.unwrap_or_else(|_| Err(PgError::Unavailable("it did not answer in time".into())));
        if answers.is_err() {
            // Whatever state it is in: the next question opens another.
            *self = Self::default();
        }
        answers
    }

    async fn pipeline(
        &mut self,
        connector: &Connector,
        limit: Duration,
        tables: &[Table],
        window: &[Question],
    ) -> Result<Vec<Answer>, PgError> {
        let client = match &self.client {
            Some(client) if !client.is_closed() => client,
            _ => {
                let client = connector.client("changes").await?;
                let limit = format!("set statement_timeout = {}; {PLAN_ONCE}", limit.as_millis());
                client.batch_execute(&limit).await?;
                self.statements.clear();
                self.client.insert(client)
            }
        };
        if self.statements.len() > MOST_STATEMENTS {
            self.statements.clear();
        }
        let keys: Vec<_> = window
            .iter()
            .map(|question| (tables[question.table].statement(), question.claimant.role.clone()))
            .collect();
        if keys.iter().any(|key| !self.statements.contains_key(key)) {
            // Names are looked up as the server: the last claimant may not even see the schema.
            client.batch_execute("reset role").await?;
        }
        for key in &keys {
            if !self.statements.contains_key(key) {
                // One for each role, because it is planned for the role that runs it.
                let statement = match client.prepare(&key.0).await {
                    Ok(statement) => Ok(statement),
                    Err(error) if error.code().is_some() => Err(error),
                    Err(error) => return Err(error.into()),
                };
                if let Ok(statement) = statement {
                    self.statements.insert(key.clone(), statement);
                }
            }
        }
        let mut asked: Vec<BoxFuture<'_, Result<Answer, PgError>>> = Vec::with_capacity(window.len());
        for (question, key) in window.iter().zip(&keys) {
            let statement = self.statements.get(key);
            asked.push(ask_one(client, &tables[question.table], question, statement).boxed());
        }
        join_all(asked).await.into_iter().collect()
    }
}

/// Becomes the claimant and asks, without waiting for the first answer before the second question.
async fn ask_one(
    client: &Client,
    table: &Table,
    question: &Question,
    statement: Option<&Statement>,
) -> Result<Answer, PgError> {
    let Some(statement) = statement else {
        // The table is gone, or not what it was.
        return Ok(Answer::default());
    };
    let claimant = &*question.claimant;
    let sub = claimant.sub.as_deref().unwrap_or_default();
    let (role, claims) = (&*claimant.role, &*claimant.claims);
    let identity: [(&(dyn ToSql + Sync), PgType); 3] =
        [(&role, PgType::TEXT), (&claims, PgType::TEXT), (&sub, PgType::TEXT)];
    let mut columns: Vec<Vec<&str>> = Vec::with_capacity(table.key.len());
    for column in 0..table.key.len() {
        columns.push(question.rows.iter().map(|row| table.rows[*row][column].as_str()).collect());
    }
    let keys: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|keys| keys as &(dyn ToSql + Sync)).collect();
    let (became, found) = join(client.query_typed(BECOME, &identity), client.query(statement, &keys)).await;
    // If it did not become the claimant, the second answer is somebody else's.
    answer(question, became.and(found))
}

fn answer(
    question: &Question,
    found: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> Result<Answer, PgError> {
    match found {
        Ok(rows) => {
            let place = |row: &tokio_postgres::Row| {
                let place: i32 = row.try_get(0)?;
                Ok(usize::try_from(place)
                    .ok()
                    .and_then(|place| question.rows.get(place.checked_sub(1)?))
                    .copied())
            };
            let seen =
                rows.iter().filter_map(|row| place(row).transpose()).collect::<Result<_, PgError>>()?;
            Ok(Answer { seen, ..Answer::default() })
        }
        Err(error) => match error.as_db_error() {
            Some(db) if *db.code() == SqlState::QUERY_CANCELED => {
                Ok(Answer { is_late: true, ..Answer::default() })
            }
            // Shut down or crashed: nobody's policy.
            Some(db) if !db.code().code().starts_with("57P") => {
                Ok(Answer { trouble: Some(db.message().to_owned()), ..Answer::default() })
            }
            _ => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_select_by_the_whole_key() {
        let table = Table {
            qualified: "public.\"T\"".into(),
            key: vec!["id".into(), "a\"b".into()],
            key_types: vec!["pg_catalog.int8".into(), "pg_catalog.text".into()],
            rows: Vec::new(),
        };
        assert_eq!(
            table.statement(),
            "select asked.place::int4 from unnest($1::text[], $2::text[]) with ordinality as asked (k1, k2, place) \
             where (select true from public.\"T\" t where t.\"id\" = asked.k1::pg_catalog.int8 \
             and t.\"a\"\"b\" = asked.k2::pg_catalog.text limit 1)"
        );
    }
}
