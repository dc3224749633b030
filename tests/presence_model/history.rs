//! One random history: clients of one topic, their actions, and the points at which all state must agree.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::send,
    harness::{TestDatabase, TestServer, service_user},
    presence_client_state::PresenceClientState,
};
use tokio::time::{Instant, sleep};

use crate::simulated_client::{SimulatedClient, pause_ms};

const CLIENTS: usize = 7;
const ROUNDS: usize = 3;
const STEPS: usize = 10;
/// Time limit for agreement. A cut database connection takes a moment to reconnect.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Counters of a history.
#[derive(Debug, Default)]
pub struct HistoryStats {
    steps: usize,
    frames: usize,
    quiet_points: usize,
}

impl HistoryStats {
    /// Adds the counters of another history.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.frames += other.frames;
        self.quiet_points += other.quiet_points;
    }
}

/// Tracked payloads by key, sorted.
type TrackedPayloads = BTreeMap<String, Vec<Value>>;

/// Runs one history; returns a description of the first disagreement.
pub async fn run(
    db: Arc<TestDatabase>,
    nodes: Arc<[Arc<TestServer>; 2]>,
    seed: u64,
) -> Result<HistoryStats, String> {
    let mut random = StdRng::seed_from_u64(seed);
    // A topic name with characters that URLs and JSON must escape.
    let topic = format!("room {seed}/\"ä\u{1f44b}:%2F?");
    let mut clients: Vec<SimulatedClient> = (0..CLIENTS)
        .map(|_| {
            let key = format!("key \"{}\"", random.random_range(0..4));
            SimulatedClient::new(&topic, key)
        })
        .collect();
    let mut stats = HistoryStats::default();
    for _ in 0..ROUNDS {
        let tasks = clients.into_iter().map(|client| {
            let task = run_steps(client, nodes.clone(), StdRng::seed_from_u64(random.random()));
            tokio::spawn(task)
        });
        clients = Vec::new();
        for finished in join_all(tasks).await {
            clients.push(finished.map_err(|panic| panic.to_string())?);
        }
        stats.steps += CLIENTS * STEPS;
        stats.quiet_points += 1;
        wait_for_agreement(&db, &nodes, &topic, &clients).await?;
    }
    stats.frames = clients.iter().map(SimulatedClient::frame_count).sum();
    for client in &mut clients {
        client.disconnect(true).await;
    }
    Ok(stats)
}

async fn run_steps(
    mut client: SimulatedClient,
    nodes: Arc<[Arc<TestServer>; 2]>,
    mut random: StdRng,
) -> SimulatedClient {
    for _ in 0..STEPS {
        step(&mut client, &nodes, &mut random).await;
        if random.random_bool(0.5) {
            pause_ms(random.random_range(0..4)).await;
        }
    }
    client
}

async fn step(client: &mut SimulatedClient, nodes: &[Arc<TestServer>; 2], random: &mut StdRng) {
    if !client.is_connected() {
        let node = &nodes[random.random_range(0..2)];
        client.connect(node.address, random.random()).await;
        client.join(random.random_bool(0.3)).await;
        return;
    }
    if !client.is_joined() {
        client.join(random.random_bool(0.3)).await;
        return;
    }
    match random.random_range(0..20) {
        // Few distinct values, so that some clients repeat a payload.
        0..10 => {
            let text = ["a", "b", "with \"quotes\", {braces} and \u{1f44b}"][random.random_range(0..3)];
            client.track(json!({"n": random.random_range(0..3), "text": text, "key": client.key()})).await;
        }
        10..13 => client.untrack().await,
        13..15 => client.leave(false).await,
        // What the official client does when a join times out.
        15 => {
            client.leave(true).await;
            client.join(random.random()).await;
        }
        // What some clients do after a reconnect that they did not notice.
        16 => client.join(random.random()).await,
        _ => client.disconnect(random.random()).await,
    }
}

/// Waits until clients, REST and rows agree.
async fn wait_for_agreement(
    db: &TestDatabase,
    nodes: &[Arc<TestServer>; 2],
    topic: &str,
    clients: &[SimulatedClient],
) -> Result<(), String> {
    let mut expected = TrackedPayloads::new();
    for client in clients {
        if let Some(payload) = &client.tracked {
            expected.entry(client.key().to_owned()).or_default().push(payload.clone());
        }
    }
    expected.values_mut().for_each(|payloads| payloads.sort_by_key(Value::to_string));
    let started = Instant::now();
    loop {
        let wrong = differences(db, nodes, topic, clients, &expected).await;
        if wrong.is_empty() {
            return Ok(());
        }
        if started.elapsed() > AGREEMENT_TIMEOUT {
            return Err(format!("{} instead of {expected:#?}", wrong.join("\n")));
        }
        sleep(Duration::from_millis(15)).await;
    }
}

async fn differences(
    db: &TestDatabase,
    nodes: &[Arc<TestServer>; 2],
    topic: &str,
    clients: &[SimulatedClient],
    expected: &TrackedPayloads,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, client) in clients.iter().enumerate().filter(|(_, client)| client.is_joined()) {
        let seen = client.presence().payloads();
        if seen != *expected {
            wrong.push(format!("client {number} sees {seen:#?}"));
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    for (number, node) in nodes.iter().enumerate() {
        let name = utf8_percent_encode(topic, NON_ALPHANUMERIC);
        let request = node
            .request(Method::GET, &format!("/realtime/v1/api/presence/{name}"))
            .bearer_auth(service_user().token);
        let mut state = PresenceClientState::default();
        state.apply_state(&send(request).await.expect_status(200)["presence"]);
        if state.payloads() != *expected {
            wrong.push(format!("node {number} returns {:#?}", state.payloads()));
        }
    }
    let rows = "select p.key, p.meta from rollcall.channel_presence p
        where p.topic = $1 and not p.private order by p.key, p.meta::text";
    let mut stored = TrackedPayloads::new();
    for row in db.sql.query(rows, &[&topic]).await.expect("rows can be read") {
        stored.entry(row.get(0)).or_default().push(row.get(1));
    }
    stored.values_mut().for_each(|payloads| payloads.sort_by_key(Value::to_string));
    if stored != *expected {
        wrong.push(format!("the rows contain {stored:#?}"));
    }
    wrong
}
