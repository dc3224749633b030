//! The context engine: prompts of a user with much data, warm-ups, and the cost of the triggers for writers.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use rollcall::context::{bundle::WantedBundle, compile::compile};
use serde_json::{Value, json};
use testkit::harness::User;
use tokio_postgres::{Client as Sql, Statement};
use uuid::Uuid;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    http::{Http, request},
    load::{LoadClient, LoadResult, closed_loop, median, quantile},
    report::{Report, ms, ratio, row},
    server::Server,
};

/// Conversation of the measured user.
const CONVERSATION: &str = "md5('c1')";
const CONCURRENT_CLIENTS: usize = 50;

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let database = cluster.database("bench_context").await?;
    let user = User::new();
    let admin = database.connect().await;
    let fill = include_str!("sql/context_fill.sql").replace("$1", &format!("'{}'", user.id));
    admin.batch_execute(&fill).await?;
    prepare_bundles(&database, &admin, &user).await?;
    report.heading("The context engine");
    report.note(
        "One user with 10,000 units, 1,000 memories, 200 bundles and 100 conversations, among 300 other users. Each message \
         names two topics and a person.",
    );
    // Runs first, while no worker uses the queue.
    let cost = triggers(plan, &database, &admin, &user).await?;
    let server = Server::start(&database).await?;
    assemblies(plan, &database, &admin, &server, &user, report).await?;
    warm_ups(plan, &admin, &server, &user, report).await?;
    server.stop().await?;
    report.note(
        "Inserts per second without and with the triggers that mark bundles stale (for messages also with \
         `last_message_at`). Durable: each transaction waits for the disk. Not durable: the cost of the triggers \
         compared with CPU work only, which does not occur in production.",
    );
    report.table(&cost);
    cluster.drop_database("bench_context").await;
    Ok(())
}

/// Compiles and stores all bundles of the user.
async fn prepare_bundles(database: &Database, admin: &Sql, user: &User) -> Result<()> {
    let subjects: Value =
        admin.query_one(include_str!("sql/context_subjects.sql"), &[&user.id]).await?.get(0);
    let reader = connect_as(database, user).await?;
    let read = reader.query_one(include_str!("sql/context_sources.sql"), &[&subjects]).await?;
    let (sources, seeing, read_at): (Value, String, jiff::Timestamp) =
        (read.get(0), read.get(1), read.get(2));
    let mut compiled = Vec::new();
    for source in sources.as_array().context("a list")? {
        let wanted: WantedBundle = serde_json::from_value(source.clone())?;
        compiled.push(compile(wanted.subject, &wanted.sources, None)?);
    }
    let keep = include_str!("sql/context_keep.sql");
    let kept = admin.query(keep, &[&user.id, &json!(compiled), &seeing, &read_at]).await?;
    ensure!(kept.len() == 200, "{} bundles instead of 200", kept.len());
    // The state in which autovacuum leaves the tables.
    database.admin().await.batch_execute("vacuum analyze").await?;
    Ok(())
}

async fn connect_as(database: &Database, user: &User) -> Result<Sql> {
    let client = database.connect().await;
    let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
    client.query_one(include_str!("sql/context_act_as.sql"), &[&claims]).await?;
    Ok(client)
}

/// Requests prompt previews, each with a different message.
struct PromptClient {
    http: Http,
    requests: Vec<Vec<u8>>,
    next: usize,
}

impl PromptClient {
    async fn new(
        server: &Server,
        user: &User,
        conversation: Uuid,
        messages: &[String],
        at: usize,
    ) -> Result<Self> {
        let requests = messages.iter().map(|message| {
            let query = message.replace(' ', "+").replace('?', "%3F").replace(',', "%2C");
            request("GET", &format!("/api/v1/ai/context/{conversation}?message={query}"), &user.token, None)
        });
        Ok(Self { http: Http::connect(server.address).await?, requests: requests.collect(), next: at })
    }
}

impl LoadClient for PromptClient {
    async fn run_once(&mut self) -> Result<()> {
        self.next += 1;
        self.http.call(&self.requests[self.next % self.requests.len()]).await?;
        Ok(())
    }
}

/// The baseline: one row by index as the user, one round trip.
struct StatementClient {
    client: Sql,
    statement: Statement,
    next: usize,
}

impl LoadClient for StatementClient {
    async fn run_once(&mut self) -> Result<()> {
        self.next += 1;
        self.client.query_one(&self.statement, &[&"x".repeat(1 + self.next % 1_000)]).await?;
        Ok(())
    }
}

async fn assemblies(
    plan: Plan,
    database: &Database,
    admin: &Sql,
    server: &Server,
    user: &User,
    report: &mut Report,
) -> Result<()> {
    let (rounds, time) = plan.pick((5, Duration::from_secs(3)), (2, Duration::from_secs(2)));
    let conversation: Uuid = admin.query_one(&format!("select {CONVERSATION}::uuid"), &[]).await?.get(0);
    let messages: Vec<String> = {
        let rows = admin.query(include_str!("sql/context_words.sql"), &[&user.id]).await?;
        rows.iter().map(|row| row.get(0)).collect()
    };
    let mut prompt_clients = Vec::new();
    let mut statement_clients = Vec::new();
    for at in 0..CONCURRENT_CLIENTS {
        prompt_clients.push(PromptClient::new(server, user, conversation, &messages, at * 7).await?);
        let client = connect_as(database, user).await?;
        let statement = client.prepare(include_str!("sql/context_row.sql")).await?;
        statement_clients.push(StatementClient { client, statement, next: at * 7 });
    }
    let response = {
        let PromptClient { http, requests, .. } = &mut prompt_clients[0];
        String::from_utf8_lossy(http.call(&requests[0]).await?).into_owned()
    };
    ensure!(response.contains("Topic Context"), "a prompt without a topic: {response}");

    let mut series: [Vec<LoadResult>; 4] = Default::default();
    let mut stale = Vec::new();
    // The first round warms the caches.
    for round in 0..=rounds {
        // After bundles are prepared and tables analyzed, every connection plans its statements again.
        (prompt_clients, _) = closed_loop(prompt_clients, time / 4).await?;
        let mut measured = Vec::new();
        for clients in [1, CONCURRENT_CLIENTS] {
            let some: Vec<StatementClient> = statement_clients.drain(..clients).collect();
            let (some, looks) = closed_loop(some, time / 2).await?;
            statement_clients.extend(some);
            let some: Vec<PromptClient> = prompt_clients.drain(..clients).collect();
            let (some, asks) = closed_loop(some, time).await?;
            prompt_clients.extend(some);
            measured.extend([looks, asks]);
        }
        let mut times = Vec::new();
        let started = Instant::now();
        while started.elapsed() < time {
            admin.execute(include_str!("sql/context_all_dirty.sql"), &[&user.id]).await?;
            let requested_at = Instant::now();
            prompt_clients[0].run_once().await?;
            times.push(requested_at.elapsed());
        }
        prepare_bundles(database, admin, user).await?;
        if round > 0 {
            series.iter_mut().zip(measured).for_each(|(list, one)| list.push(one));
            stale.extend(times);
        }
    }
    stale.sort_unstable();
    let mut rows = vec![row(["", "median", "p99", "per second", "median ÷ SELECT"])];
    let names = [
        "one indexed SELECT as the user, 1 client",
        "prompt over HTTP, bundles ready, 1 client",
        "the SELECT, 50 clients",
        "prompt over HTTP, bundles ready, 50 clients",
    ];
    let all = |list: &[LoadResult], part: f64| {
        let mut times: Vec<Duration> = list.iter().flat_map(|one| one.times.iter().copied()).collect();
        times.sort_unstable();
        quantile(&times, part)
    };
    for (at, (name, list)) in names.iter().zip(&series).enumerate() {
        let baseline = all(&series[at / 2 * 2], 0.5).as_secs_f64();
        let rate = median(&list.iter().map(|one| one.rate).collect::<Vec<_>>());
        let middle = all(list, 0.5);
        rows.push([
            (*name).to_owned(),
            ms(middle),
            ms(all(list, 0.99)),
            format!("{rate:.0}"),
            ratio(middle.as_secs_f64(), baseline),
        ]);
    }
    rows.push([
        "prompt over HTTP, all bundles stale, 1 client".to_owned(),
        ms(quantile(&stale, 0.5)),
        ms(quantile(&stale, 0.99)),
        "—".to_owned(),
        ratio(quantile(&stale, 0.5).as_secs_f64(), all(&series[0], 0.5).as_secs_f64()),
    ]);
    report.table(&rows);
    Ok(())
}

/// Requests the warm-up that a presence signal triggers, repeatedly.
struct WarmUpClient {
    http: Http,
    request: Vec<u8>,
}

impl LoadClient for WarmUpClient {
    async fn run_once(&mut self) -> Result<()> {
        self.http.call(&self.request).await?;
        Ok(())
    }
}

async fn warm_ups(plan: Plan, admin: &Sql, server: &Server, user: &User, report: &mut Report) -> Result<()> {
    let versions = async || {
        let rows = admin.query("select id, version from rollcall.context_bundles", &[]).await?;
        Ok::<HashMap<Uuid, i64>, anyhow::Error>(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    let before = versions().await?;
    let clients = (0..4).map(|_| async {
        let path = format!("/api/v1/context/warmup/{}", user.id);
        let request = request("POST", &path, &user.token, Some(r#"{"force":true}"#));
        Ok::<_, anyhow::Error>(WarmUpClient { http: Http::connect(server.address).await?, request })
    });
    let (_, measured) =
        closed_loop(try_join_all(clients).await?, plan.pick(Duration::from_secs(6), Duration::from_secs(3)))
            .await?;
    // Each compilation increases the version of its bundle by one.
    let stored = |(id, version): (&Uuid, &i64)| before.get(id).map_or(1, |earlier| version - earlier);
    let bundles: i64 = versions().await?.iter().map(stored).sum();
    report.note(&format!(
        "Warm-ups with `force`, 4 concurrent: **{:.0} per second**, {:.1} bundles stored by each, median {}, p99 {}.",
        measured.rate,
        bundles as f64 / measured.times.len() as f64,
        ms(quantile(&measured.times, 0.5)),
        ms(quantile(&measured.times, 0.99)),
    ));
    Ok(())
}

const DURABLE: &str = "";
const NOT_DURABLE: &str = "-c synchronous_commit=off";

/// Measures inserts per second with and without triggers, in alternating rounds.
async fn triggers(plan: Plan, database: &Database, admin: &Sql, user: &User) -> Result<Vec<[String; 7]>> {
    let (rounds, seconds) = plan.pick((5, 2), (2, 1));
    let mut rows =
        vec![row(["", "without", "with", "ratio", "with `last_message_at`", "ratio", "ratio, not durable"])];
    let scripts = [
        ("messages, 1 row per transaction", "messages", include_str!("sql/context_insert_message.sql"), 1),
        ("messages, 100 rows", "messages", include_str!("sql/context_insert_message.sql"), 100),
        ("memories against 120 topics, 1 row", "memories", include_str!("sql/context_insert_memory.sql"), 1),
        ("memories, 100 rows", "memories", include_str!("sql/context_insert_memory.sql"), 100),
        ("units, 1 row", "atomic_chat_units", include_str!("sql/context_insert_unit.sql"), 1),
        ("units, 100 rows", "atomic_chat_units", include_str!("sql/context_insert_unit.sql"), 100),
    ];
    for (name, table, script, count) in scripts {
        let script = script.replace("$user", &user.id.to_string()).replace("$rows", &count.to_string());
        let mut rates: [Vec<f64>; 5] = Default::default();
        for _ in 0..rounds {
            for (at, (switch, options)) in [
                (TriggerState::Off, DURABLE),
                (TriggerState::On, DURABLE),
                (TriggerState::All, DURABLE),
                (TriggerState::Off, NOT_DURABLE),
                (TriggerState::On, NOT_DURABLE),
            ]
            .into_iter()
            .enumerate()
            {
                if matches!(switch, TriggerState::All) && table != "messages" {
                    continue;
                }
                switch.set(admin, table).await?;
                let rate = database.pgbench_with(&script, 1, seconds, options).await?;
                rates[at].push(rate * f64::from(count));
                delete_inserted(admin).await?;
            }
        }
        rows.push(table_row(name, &rates));
    }
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds {
        for (at, switch) in [TriggerState::Off, TriggerState::On, TriggerState::All].into_iter().enumerate() {
            switch.set(admin, "messages").await?;
            rates[at].push(time_to_ready(database).await?);
            delete_inserted(admin).await?;
        }
    }
    rows.push(table_row("messages, 1 row, each marking a ready bundle stale", &rates));
    Ok(rows)
}

fn table_row(name: &str, rates: &[Vec<f64>; 5]) -> [String; 7] {
    let [without, with, with_last, bare_without, bare_with] = rates.each_ref().map(|list| median(list));
    let shown = |rate: f64| if rate.is_nan() { "—".to_owned() } else { format!("{rate:.0}") };
    let ratio = |one: f64, other: f64| {
        if one.is_nan() || other.is_nan() { "—".to_owned() } else { ratio(one, other) }
    };
    [
        name.to_owned(),
        shown(without),
        shown(with),
        ratio(without, with),
        shown(with_last),
        ratio(without, with_last),
        ratio(bare_without, bare_with),
    ]
}

/// Which triggers are enabled.
#[derive(Clone, Copy)]
enum TriggerState {
    Off,
    On,
    All,
}

impl TriggerState {
    async fn set(self, admin: &Sql, table: &str) -> Result<()> {
        let action = |on: bool| if on { "enable" } else { "disable" };
        if table != "atomic_chat_units" {
            let fresh = action(!matches!(self, Self::Off));
            admin
                .batch_execute(&format!("alter table rollcall.{table} {fresh} trigger context_after_insert"))
                .await?;
        }
        if table == "messages" {
            let last = action(matches!(self, Self::All));
            admin
                .batch_execute(&format!("alter table rollcall.messages {last} trigger set_last_message"))
                .await?;
        }
        Ok(())
    }
}

async fn delete_inserted(admin: &Sql) -> Result<()> {
    let statements = include_str!("sql/context_clean_up.sql");
    for statement in statements.split_inclusive(';') {
        admin.batch_execute(statement).await?;
    }
    Ok(())
}

/// Inserts one message into each conversation whose bundle is ready.
async fn time_to_ready(database: &Database) -> Result<f64> {
    let client = database.connect().await;
    let insert = client.prepare(include_str!("sql/context_message_in.sql")).await?;
    let others = client.query(include_str!("sql/context_others.sql"), &[]).await?;
    let started = Instant::now();
    for other in &others {
        let (conversation, user): (Uuid, Uuid) = (other.get(0), other.get(1));
        client.execute(&insert, &[&conversation, &user]).await?;
    }
    Ok(others.len() as f64 / started.elapsed().as_secs_f64())
}
