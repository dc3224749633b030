//! One random history: clients of one topic, their actions, and the points at which all state must agree.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    client::send,
    harness::{TestDatabase, TestServer, service_user},
    presence_client_state::PresenceClientState,
    simulated_client::{SimulatedClient, pause_ms},
};

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
pub async fn execute(
    world: Arc<TestDatabase>,
    nodes: Arc<[Arc<TestServer>; 2]>,
    seed: u64,
) -> Result<HistoryStats, String> {
    let mut random = StdRng::seed_from_u64(seed);
    // A topic name with characters that URLs and JSON must escape.
    let room = format!("room {seed}/\"ä\u{1f44b}:%2F?");
    let mut visitors: Vec<SimulatedClient> = (0..CLIENTS)
        .map(|_| {
            let key = format!("key \"{}\"", random.random_range(0..4));
            SimulatedClient::new(&room, key)
        })
        .collect();
    let mut told = HistoryStats::default();
    for _ in 0..ROUNDS {
        let walks = visitors.into_iter().map(|visitor| {
            let walk = run_steps(visitor, nodes.clone(), StdRng::seed_from_u64(random.random()));
            tokio::spawn(walk)
        });
        visitors = Vec::new();
        for walked in join_all(walks).await {
            visitors.push(walked.map_err(|panic| panic.to_string())?);
        }
        told.steps += CLIENTS * STEPS;
        told.quiet_points += 1;
        wait_for_agreement(&world, &nodes, &room, &visitors).await?;
    }
    told.frames = visitors.iter().map(SimulatedClient::frame_count).sum();
    for visitor in &mut visitors {
        visitor.disconnect(true).await;
    }
    Ok(told)
}

async fn run_steps(
    mut visitor: SimulatedClient,
    nodes: Arc<[Arc<TestServer>; 2]>,
    mut random: StdRng,
) -> SimulatedClient {
    for _ in 0..STEPS {
        step(&mut visitor, &nodes, &mut random).await;
        if random.random_bool(0.5) {
            pause_ms(random.random_range(0..4)).await;
        }
    }
    visitor
}

async fn step(visitor: &mut SimulatedClient, nodes: &[Arc<TestServer>; 2], random: &mut StdRng) {
    if !visitor.is_connected() {
        let node = &nodes[random.random_range(0..2)];
        visitor.connect(node.address, random.random()).await;
        visitor.join(random.random_bool(0.3)).await;
        return;
    }
    if !visitor.is_joined() {
        visitor.join(random.random_bool(0.3)).await;
        return;
    }
    match random.random_range(0..20) {
        // Few distinct values, so that some clients repeat a payload.
        0..10 => {
            let text = ["a", "b", "with \"quotes\", {braces} and \u{1f44b}"][random.random_range(0..3)];
            visitor.track(json!({"n": random.random_range(0..3), "text": text, "key": visitor.key()})).await;
        }
        10..13 => visitor.untrack().await,
        13..15 => visitor.leave(false).await,
        // What the official client does when a join times out.
        15 => {
            visitor.leave(true).await;
            visitor.join(random.random()).await;
        }
        // What some clients do after a reconnect that they did not notice.
        16 => visitor.join(random.random()).await,
        _ => visitor.disconnect(random.random()).await,
    }
}

/// Waits until clients, REST and rows agree.
async fn wait_for_agreement(
    world: &TestDatabase,
    nodes: &[Arc<TestServer>; 2],
    room: &str,
    visitors: &[SimulatedClient],
) -> Result<(), String> {
    let mut wanted = TrackedPayloads::new();
    for visitor in visitors {
        if let Some(payload) = &visitor.tracked {
            wanted.entry(visitor.key().to_owned()).or_default().push(payload.clone());
        }
    }
    wanted.values_mut().for_each(|payloads| payloads.sort_by_key(Value::to_string));
    let started = Instant::now();
    loop {
        let wrong = differences(world, nodes, room, visitors, &wanted).await;
        if wrong.is_empty() {
            return Ok(());
        }
        if started.elapsed() > AGREEMENT_TIMEOUT {
            return Err(format!("{} instead of {wanted:#?}", wrong.join("\n")));
        }
        sleep(Duration::from_millis(15)).await;
    }
}

async fn differences(
    world: &TestDatabase,
    nodes: &[Arc<TestServer>; 2],
    room: &str,
    visitors: &[SimulatedClient],
    wanted: &TrackedPayloads,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, visitor) in visitors.iter().enumerate().filter(|(_, visitor)| visitor.is_joined()) {
        let seen = visitor.presence().payloads();
        if seen != *wanted {
            wrong.push(format!("client {number} sees {seen:#?}"));
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    for (number, node) in nodes.iter().enumerate() {
        let name = utf8_percent_encode(room, NON_ALPHANUMERIC);
        let request = node
            .request(Method::GET, &format!("/realtime/v1/api/presence/{name}"))
            .bearer_auth(service_user().token);
        let mut picture = PresenceClientState::default();
        picture.apply_state(send(request).await.expect_status(200)["presence"].to_string().as_bytes());
        if picture.payloads() != *wanted {
            wrong.push(format!("node {number} returns {:#?}", picture.payloads()));
        }
    }
    let rows = "select p.key, p.meta from rollcall.channel_presence p
        where p.topic = $1 and not p.private order by p.key, p.meta::text";
    let mut stored = TrackedPayloads::new();
    for row in world.sql.query(rows, &[&room]).await.expect("rows can be read") {
        stored.entry(row.get(0)).or_default().push(row.get(1));
    }
    stored.values_mut().for_each(|payloads| payloads.sort_by_key(Value::to_string));
    if stored != *wanted {
        wrong.push(format!("the rows contain {stored:#?}"));
    }
    wrong
}
