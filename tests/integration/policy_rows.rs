//! Property test of what Rollcall derives from policies: which viewers and subjects a changed row concerns.
//!
//! Policies, rows and changes are random. After each change of a table that the policy reads, Rollcall must ask again
//! about each pair of viewer and subject for which `select` returns something else than before. For presence, the
//! subject is a user; for private channels, it is a topic. `ROLLCALL_SEED` repeats a run.

use std::{collections::BTreeSet, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use testkit::harness::{TestDatabase, User};
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

const CHANGES: usize = 8;
/// Nested conditions and queries.
const MAX_DEPTH: usize = 2;

/// Other tests wait for transactions of this one when they create replication slots.
const STATEMENT_TIMEOUT: &str = "set local statement_timeout = '1s'";
const NO_STATEMENT_TIMEOUT: &str = "set local statement_timeout = 0";
const TABLES: &str = "
    create schema app;
    grant usage on schema app to authenticated;
    create table app.links (a uuid, b uuid, t text, org int, flag boolean);
    create table app.orgs (id int, owner uuid, open boolean);
    create index on app.links (org);
    create index on app.links (a);
    create index on app.orgs (id);
    grant select on all tables in schema app to authenticated;
    create function app.become(p_viewer uuid) returns void language sql as $$
      select set_config('role', 'authenticated', true),
        set_config('request.jwt.claims', json_build_object('sub', p_viewer, 'role', 'authenticated')::text, true) $$;
    create function app.visible(p_users uuid[]) returns table (viewer uuid, subject uuid) language plpgsql as $$
    begin
      foreach viewer in array p_users loop
        perform app.become(viewer);
        return query
          select distinct viewer, p.user_id from rollcall.user_presence p where p.user_id = any (p_users);
        perform set_config('role', 'none', true);
      end loop;
    end $$;
    -- Topics have the IDs of users as names, so that columns can hold either.
    create function app.readable(p_users uuid[]) returns table (viewer uuid, subject uuid) language plpgsql as $$
    begin
      foreach viewer in array p_users loop
        foreach subject in array p_users loop
          perform app.become(viewer), set_config('realtime.topic', subject::text, true);
          if exists (select from realtime.messages m where m.topic = subject::text) then
            return next;
          end if;
          perform set_config('role', 'none', true);
        end loop;
      end loop;
    end $$;
    -- What is notified of channels, without masks.
    create table app.notified (id bigint generated always as identity, channel text, body text);
    create or replace function rollcall_internal.mask(p_nonce text, p_values text[]) returns text[]
      language sql immutable as $$ select p_values $$;
    create or replace function rollcall_internal.notify(p_channel text, p_body text, p_nonce text default null)
      returns void language sql volatile security definer set search_path = '' as $$
        insert into app.notified (channel, body) values (p_channel, p_body) $$";

/// What a policy decides, and how its changes are announced.
struct Target {
    /// The table of the policy, and the function that evaluates it for pairs of users and subjects.
    table: &'static str,
    visible: &'static str,
    purpose: &'static str,
    /// Random policies in a run.
    policies: usize,
    /// The subject as UUID and as text.
    subject: &'static str,
    subject_text: &'static str,
}

const PRESENCE: Target = Target {
    table: "rollcall.user_presence",
    visible: "app.visible",
    purpose: "visibility",
    policies: 60,
    subject: "user_presence.user_id",
    subject_text: "user_presence.user_id::text",
};
const CHANNELS: Target = Target {
    table: "realtime.messages",
    visible: "app.readable",
    purpose: "authorization",
    // Each pair of user and topic is a query of its own.
    policies: 24,
    subject: "realtime.topic()::uuid",
    subject_text: "messages.topic",
};
const LAST: &str = "select coalesce((select max(id) from rollcall_internal.visibility_log), 0),
    coalesce((select max(id) from app.notified), 0)";
const ENTRIES: &str = "
    select coalesce(j.viewers, l.viewers), coalesce(j.subjects, l.subjects), l.policy_join is not null
    from rollcall_internal.visibility_log l
    left join lateral rollcall_internal.users_joined(l.policy_join, array[l.join_value]) j on l.policy_join is not null
    where l.id > $1";
const NOTIFIED: &str =
    "select split_part(body, '|', 2) from app.notified where id > $1 and channel = 'rollcall_rights'";
const HASHES: &str =
    "select rollcall_internal.value_hash(id::text) from unnest($1::uuid[]) with ordinality as u (id, place)
    order by place";

/// Random SQL over `app.links` and `app.orgs`.
struct Generator {
    random: StdRng,
    users: Vec<Uuid>,
    aliases: usize,
    target: &'static Target,
}

impl Generator {
    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices.choose(&mut self.random).expect("a choice")
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("x{}", self.aliases)
    }

    fn viewer(&mut self) -> &'static str {
        self.pick(&["auth.uid()", "(select auth.uid())", "(auth.jwt() ->> 'sub')::uuid"])
    }

    /// A condition on a row of `app.links`; `outer` are aliases of the queries around it.
    fn condition(&mut self, row: &str, outer: &[String], depth: usize) -> String {
        let viewer = self.viewer();
        let (subject, subject_text) = (self.target.subject, self.target.subject_text);
        let outer_row = outer.choose(&mut self.random).cloned();
        match (self.random.random_range(0..22), outer_row) {
            (0..4, _) => format!("{row}.a = {viewer}"),
            (4..6, _) => format!("{row}.b = {subject}"),
            (6, _) => format!("{row}.b = {viewer}"),
            (7, _) => format!("{subject} = {row}.a"),
            (8, _) => format!("{row}.org = 1"),
            (9, _) => format!("{row}.flag"),
            (10, _) => format!("{row}.t = {viewer}::text"),
            (11, _) => format!("{subject_text} = {row}.t"),
            (12, _) => format!("{row}.a <> {viewer}"),
            (13, _) => format!("{row}.b is null"),
            (14, _) if depth < MAX_DEPTH => format!("not ({})", self.condition(row, outer, depth + 1)),
            (15, _) if depth < MAX_DEPTH => {
                let (one, other) =
                    (self.condition(row, outer, depth + 1), self.condition(row, outer, depth + 1));
                format!("({one} or {other})")
            }
            (16, _) => {
                let org = self.alias();
                let owner = format!("{org}.owner = {}", self.pick(&[viewer, subject]));
                let condition = self.pick(&["open", "owner"]);
                let condition = if condition == "open" { format!("{org}.open") } else { owner };
                format!("{row}.org in (select {org}.id from app.orgs {org} where {condition})")
            }
            (17, _) if depth < MAX_DEPTH => {
                let outer: Vec<String> = outer.iter().cloned().chain([row.to_owned()]).collect();
                self.query(&outer, depth + 1)
            }
            (18, Some(outer)) => format!("{row}.a = {outer}.{}", self.pick(&["a", "b"])),
            (19, Some(outer)) => format!("{row}.org = {outer}.org"),
            (20, _) => format!("{row}.a = {row}.b"),
            _ => format!("{row}.a::text = {viewer}::text"),
        }
    }

    fn conditions(&mut self, rows: &[String], outer: &[String], depth: usize) -> String {
        let count = self.random.random_range(1..=3);
        let conditions: Vec<String> = (0..count)
            .map(|_| {
                let row = rows.choose(&mut self.random).expect("a row").clone();
                self.condition(&row, outer, depth)
            })
            .collect();
        conditions.join(" and ")
    }

    /// The `from` part of a query, and the aliases of its rows.
    fn source(&mut self, outer: &[String], depth: usize) -> (String, Vec<String>) {
        let (one, other) = (self.alias(), self.alias());
        match self.random.random_range(0..8) {
            0..4 => (format!("app.links {one}"), vec![one]),
            4 => (format!("app.links {one}, app.links {other}"), vec![one, other]),
            5 | 6 => {
                let kind = self.pick(&["join", "left join", "right join", "full join"]);
                let columns = self.pick(&["org org", "a b", "a a"]);
                let (left, right) = columns.split_once(' ').expect("two columns");
                let mut on = format!("{one}.{left} = {other}.{right}");
                // A full join cannot have other conditions.
                if kind != "full join" && self.chance(0.4) {
                    let row = if self.chance(0.5) { one.clone() } else { other.clone() };
                    on += &format!(" and {}", self.condition(&row, outer, MAX_DEPTH));
                }
                (format!("app.links {one} {kind} app.links {other} on {on}"), vec![one, other])
            }
            _ => {
                let conditions = self.conditions(std::slice::from_ref(&other), outer, depth + 1);
                let limit = self.pick(&["", " order by org limit 1", " offset 1"]);
                let inner = format!("select {other}.* from app.links {other} where {conditions}{limit}");
                (format!("({inner}) {one}"), vec![one])
            }
        }
    }

    /// A condition with a query over `app.links`.
    fn query(&mut self, outer: &[String], depth: usize) -> String {
        let (source, rows) = self.source(outer, depth);
        let conditions = self.conditions(&rows, outer, depth);
        let (row, column, viewer) = (&rows[0], self.pick(&["a", "b"]), self.viewer());
        let subject = self.target.subject;
        let from = format!("from {source} where {conditions}");
        match self.random.random_range(0..12) {
            0..3 => format!("exists (select {from})"),
            3 => format!("not exists (select {from})"),
            4 => format!("{subject} in (select {row}.{column} {from})"),
            5 => format!("{viewer} in (select {row}.{column} {from})"),
            6 => format!("{subject} = any (array(select {row}.{column} {from}))"),
            7 => {
                let operator = self.pick(&["not in", "<> all", "= all"]);
                format!("{subject} {operator} (select {row}.{column} {from})")
            }
            8 => format!("(select count(*) {from}) > 1"),
            9 => format!(
                "coalesce((select {row}.flag {from} order by {row}.org, {row}.t, {row}.a, {row}.b, {row}.flag limit 1), false)"
            ),
            10 => {
                let (other_source, other_rows) = self.source(outer, depth);
                let other_conditions = self.conditions(&other_rows, outer, depth);
                let operator = self.pick(&["union", "except", "intersect"]);
                let other =
                    format!("select {}.a from {other_source} where {other_conditions}", other_rows[0]);
                format!("{subject} in (select {row}.b {from} {operator} {other})")
            }
            _ => {
                let name = self.alias();
                let condition = match self.random.random_range(0..3) {
                    0 => format!("{name}.b = {subject}"),
                    1 => format!("{name}.flag"),
                    _ => format!("{name}.a = {viewer}"),
                };
                format!(
                    "exists (with {name} as (select {row}.* {from}) select from {name} where {condition})"
                )
            }
        }
    }

    fn policy(&mut self) -> String {
        let mut policy = self.query(&[], 0);
        if self.chance(0.5) {
            policy = format!("{policy} {} {}", self.pick(&["and", "or"]), self.query(&[], 0));
        }
        match self.random.random_range(0..6) {
            0 => format!("({policy}) is not true"),
            1 => format!("not ({policy})"),
            2 => format!("{} = {} and ({policy})", self.target.subject, self.viewer()),
            _ => policy,
        }
    }

    fn user(&mut self) -> String {
        let user = *self.users.choose(&mut self.random).expect("a user");
        if self.chance(0.15) { "null".to_owned() } else { format!("'{user}'") }
    }

    fn change(&mut self) -> String {
        let (one, other, org) = (self.user(), self.user(), self.random.random_range(1..=2));
        let text = self.pick(&[&one, "'x'"]).to_owned();
        let (column, flag) = (self.pick(&["a", "b"]), self.pick(&["true", "false", "null"]));
        let which = match self.random.random_range(0..4) {
            0 => format!("{column} is not distinct from {other}"),
            1 => "org = 1".to_owned(),
            2 => "flag".to_owned(),
            _ => format!("{column} is null"),
        };
        match self.random.random_range(0..12) {
            0..5 => format!("insert into app.links values ({one}, {other}, {text}, {org}, {flag})"),
            5 | 6 => format!("update app.links set {column} = {one} where {which}"),
            7 => format!("update app.links set flag = not flag, t = {text} where {which}"),
            8 => format!("update app.links set org = 3 - org where {which}"),
            9 => format!("delete from app.links where {which}"),
            10 => format!("insert into app.orgs values ({org}, {one}, true)"),
            _ => format!("update app.orgs set open = not open, owner = {one} where id = {org}"),
        }
    }
}

/// What is asked again after a change.
enum Announcement {
    Visibility {
        viewers: Option<Vec<Uuid>>,
        subjects: Option<Vec<Uuid>>,
        is_joined: bool,
    },
    /// Hashes of users and topics, if no others are asked.
    Channels(Option<Vec<String>>),
}

impl Announcement {
    fn is_narrow(&self) -> bool {
        match self {
            Self::Visibility { viewers, subjects, .. } => viewers.is_some() || subjects.is_some(),
            Self::Channels(hashes) => hashes.is_some(),
        }
    }

    /// Whether another table named whom the change concerns.
    fn is_joined(&self) -> bool {
        matches!(self, Self::Visibility { is_joined: true, .. })
    }

    fn includes(&self, viewer: (Uuid, &String), subject: (Uuid, &String)) -> bool {
        match self {
            Self::Visibility { viewers, subjects, .. } => {
                viewers.as_ref().is_none_or(|ids| ids.contains(&viewer.0))
                    && subjects.as_ref().is_none_or(|ids| ids.contains(&subject.0))
            }
            Self::Channels(hashes) => {
                hashes.as_ref().is_none_or(|hashes| hashes.contains(viewer.1) || hashes.contains(subject.1))
            }
        }
    }
}

struct Run<'a> {
    client: &'a Client,
    target: &'static Target,
    users: &'a [Uuid],
}

impl Run<'_> {
    async fn execute(&self, statement: &str) {
        self.client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{error:?}: {statement}"));
    }

    /// The pairs of users and subjects that the policies allow, unless PostgreSQL takes too long: a few random policies
    /// take minutes.
    async fn allowed(&self) -> Option<BTreeSet<(Uuid, Uuid)>> {
        self.execute(STATEMENT_TIMEOUT).await;
        let statement = format!("select viewer, subject from {}($1)", self.target.visible);
        match self.client.query(&statement, &[&self.users]).await {
            Ok(rows) => {
                self.execute(NO_STATEMENT_TIMEOUT).await;
                Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
            }
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn last(&self) -> (i64, i64) {
        let row = self.client.query_one(LAST, &[]).await.expect("the log");
        (row.get(0), row.get(1))
    }

    async fn announced_since(&self, (entry, notification): (i64, i64)) -> Vec<Announcement> {
        if self.target.purpose == "visibility" {
            let rows = self.client.query(ENTRIES, &[&entry]).await.expect("the log");
            return rows
                .iter()
                .map(|row| Announcement::Visibility {
                    viewers: row.get(0),
                    subjects: row.get(1),
                    is_joined: row.get(2),
                })
                .collect();
        }
        let rows = self.client.query(NOTIFIED, &[&notification]).await.expect("notifications");
        let hashes = |body: &str| Some(body.strip_prefix('=')?.split(',').map(str::to_owned).collect());
        rows.iter().map(|row| Announcement::Channels(hashes(row.get(0)))).collect()
    }
}

async fn check(db: &TestDatabase, target: &'static Target) {
    let seed =
        std::env::var("ROLLCALL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("ROLLCALL_SEED={seed}");
    let users = User::many(4);
    for user in &users {
        db.set_status(user, "online").await;
    }
    db.execute(TABLES, &[]).await;
    let users: Vec<Uuid> = users.iter().map(|user| user.id).collect();
    let client = db.connect().await;
    let run = Run { client: &client, target, users: &users };
    let hashes: Vec<String> =
        client.query(HASHES, &[&users]).await.expect("hashes").iter().map(|row| row.get(0)).collect();
    let named = |user: &Uuid| {
        let index = users.iter().position(|known| known == user).expect("a known user");
        (*user, &hashes[index])
    };
    let mut generator =
        Generator { random: StdRng::seed_from_u64(seed), users: users.clone(), aliases: 0, target };
    let pairs = format!(
        "select rollcall_internal.concerned_columns('{0}', 'app.links',
           rollcall_internal.columns_in_policies('{0}', 'app.links'))::text",
        target.purpose
    );

    let (mut narrowed_policies, mut narrowed_changes, mut joined_changes, mut differences) = (0, 0, 0, 0);
    let policies = target.policies;
    for _ in 0..policies {
        let policy = generator.policy();
        run.execute("begin").await;
        for user in &users {
            let message = format!(
                "insert into realtime.messages (topic, extension, private) values ('{user}', 'broadcast', true)"
            );
            run.execute(&message).await;
        }
        run.execute(&format!(
            "create policy random on {} for select to authenticated using ({policy})",
            target.table
        ))
        .await;
        let pairs: Option<String> = client.query_one(&pairs, &[]).await.expect("pairs").get(0);
        narrowed_policies += usize::from(pairs.is_some());
        for _ in 0..3 {
            run.execute(&generator.change()).await;
        }
        let mut before = run.allowed().await;
        for _ in 0..CHANGES {
            let Some(allowed_before) = before else { break };
            let last = run.last().await;
            let change = generator.change();
            run.execute(&change).await;
            let Some(after) = run.allowed().await else { break };
            let announced = run.announced_since(last).await;
            for (viewer, subject) in allowed_before.symmetric_difference(&after) {
                assert!(
                    announced.iter().any(|entry| entry.includes(named(viewer), named(subject))),
                    "{viewer} is not asked again about {subject}: {pairs:?}\n{policy}\n{change}"
                );
                differences += 1;
            }
            narrowed_changes += announced.iter().filter(|entry| entry.is_narrow()).count();
            joined_changes += announced.iter().filter(|entry| entry.is_joined()).count();
            before = Some(after);
        }
        run.execute("rollback").await;
    }
    println!(
        "{narrowed_policies} policies and {narrowed_changes} changes narrowed ({joined_changes} by another table), \
         {differences} differences"
    );
    // Otherwise the test shows nothing.
    assert!(joined_changes > 0 || target.purpose != "visibility");
    assert!(narrowed_policies > policies / 6 && narrowed_changes > policies / 2 && differences > policies);
}

#[testkit::test]
async fn a_changed_row_concerns_the_users_that_policies_on_presence_compare(db: Arc<TestDatabase>) {
    check(&db, &PRESENCE).await;
}

#[testkit::test]
async fn a_changed_row_concerns_the_users_and_topics_that_policies_on_channels_compare(
    db: Arc<TestDatabase>,
) {
    check(&db, &CHANNELS).await;
}
