//! One random history: a few users, some with sockets, and changes of every kind.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use testkit::{
    client::{HttpResponse, Socket, SocketEvent as Said, try_send},
    harness::{TestServer, User},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::{
    changes::Relations,
    connection::{Connection, ids, rows_by_user},
    oracle::{self, ReceivedStates, Rule, ShownState, is_hidden, state_of_frame, state_of_row},
    world::World,
};

/// Users per history, and how many of them have a socket.
const USERS: usize = 5;
const VIEWERS: usize = 3;
/// Rounds, and the maximum number of concurrent changes in one.
const ROUNDS: usize = 8;
const MAX_CONCURRENT_STEPS: usize = 4;
/// Maximum time between two rounds with outages, in milliseconds.
const MAX_PAUSE: u64 = 2_000;
/// Time after which a statement that has not ended waits for a lock of a transaction that overlaps.
const MAX_LOCK_WAIT: Duration = Duration::from_millis(200);
/// Time limit for sockets to reach the expected state at a quiet point.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The same while faults go on.
const FAULTY_SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Counters of a history.
#[derive(Debug)]
pub struct HistoryStats {
    pub frames: usize,
    pub steps: usize,
    /// Connections that were told differences only.
    pub resumed: usize,
}

/// A change and the interface it uses.
#[derive(Debug, Clone)]
enum Step {
    Rest {
        user: usize,
        status: &'static str,
        custom: String,
    },
    Type {
        user: usize,
        is_typing: bool,
    },
    Frame {
        viewer: usize,
        status: &'static str,
        custom: String,
    },
    Sql(String),
    /// Two transactions that both execute their statements before one commits.
    Overlap {
        changes: [String; 2],
        /// Whether the second one commits first.
        reversed: bool,
    },
    /// `closes`: with a close handshake. `reads`: what was sent before was received.
    Reconnect {
        viewer: usize,
        resumes: bool,
        closes: bool,
        reads: bool,
    },
}

struct Viewer {
    user: usize,
    socket: Option<Socket>,
    received: ReceivedStates,
    /// Node of the socket.
    node: usize,
    /// Position of the last state or later, to resume from.
    position: String,
    /// Typing users according to the socket.
    typists: HashSet<Uuid>,
}

/// The acknowledged write of a user that no earlier one may overwrite.
#[derive(Debug, Clone, Copy)]
struct AcknowledgedWrite {
    /// The lowest number of a custom status that the user may have: the first of the round of the write.
    lowest: u32,
    /// When its request started.
    started: Instant,
}

struct History {
    world: Arc<World>,
    /// The last one of each user.
    acknowledged: Mutex<HashMap<Uuid, AcknowledgedWrite>>,
    rng: StdRng,
    users: Vec<User>,
    relations: Relations,
    tag: u32,
    viewers: Vec<Viewer>,
    /// Frames of earlier sockets of the viewers.
    past_connections: Vec<ReceivedStates>,
    /// Sockets that their clients left without closing them.
    abandoned: Vec<Socket>,
    resumed: usize,
    /// Commit log entries of these users have a higher number.
    log_start: i64,
    /// Losses before the history began.
    earlier_losses: usize,
    connections: Vec<Connection>,
}

/// Runs the history of a seed.
pub async fn run(world: Arc<World>, seed: u64) -> Result<HistoryStats, String> {
    let users: Vec<User> = (0..USERS).map(|_| User::new()).collect();
    let ids = users.iter().map(|user| user.id).collect();
    let mut history = History {
        acknowledged: Mutex::default(),
        rng: StdRng::seed_from_u64(seed),
        users,
        relations: Relations::new(world.rule, ids),
        tag: 0,
        viewers: Vec::new(),
        past_connections: Vec::new(),
        abandoned: Vec::new(),
        resumed: 0,
        log_start: 0,
        earlier_losses: world.losses().await.len(),
        // One for each concurrent change of a round, since a connection executes one statement at a time, and one for
        // the second transaction of an overlap.
        connections: world.connections(MAX_CONCURRENT_STEPS + 1),
        world: world.clone(),
    };
    history.set_up().await;
    let mut steps = 0;
    for _ in 0..ROUNDS {
        steps += history.run_round().await;
        if world.has_outages() {
            // A history takes long enough for several outages.
            sleep(Duration::from_millis(history.rng.random_range(0..MAX_PAUSE))).await;
        }
        if history.rng.random_bool(0.3) {
            history.settle().await?;
        }
    }
    history.settle().await?;
    history.check_explanations().await?;
    history.check_commit_log().await?;
    let frames = history
        .viewers
        .iter()
        .map(|viewer_state| viewer_state.socket.as_ref().map_or(0, |socket| socket.frames));
    let frames = frames.sum();
    if world.has_outages() {
        history.check_disconnected().await?;
    } else {
        for socket in history.viewers.iter_mut().filter_map(|viewer_state| viewer_state.socket.take()) {
            socket.close().await;
        }
    }
    world.give_back(history.connections);
    Ok(HistoryStats { frames, steps, resumed: history.resumed })
}

/// Executes two changes in transactions that overlap. If the second change waits for a lock of the first one, the first
/// transaction commits.
async fn overlap([one, other]: [&Connection; 2], changes: &[String; 2], reversed: bool) {
    let [first, second] = changes.each_ref().map(|change| format!("begin; {change}"));
    one.execute(&first).await;
    let mut second = pin!(other.execute(&second));
    if timeout(MAX_LOCK_WAIT, &mut second).await.is_err() {
        one.execute("commit").await;
        second.await;
        other.execute("commit").await;
        return;
    }
    let in_order = if reversed { [other, one] } else { [one, other] };
    for connection in in_order {
        connection.execute("commit").await;
    }
}

impl History {
    async fn set_up(&mut self) {
        let begins = "select coalesce(max(seq), 0) from public.commit_log";
        self.log_start = self.connections[0].query(begins, &[]).await[0].get(0);
        let mut setup = self.relations.groups();
        for _ in 0..14 {
            setup += &self.relations.random_change(&mut self.rng);
        }
        self.connections[0].execute(&setup).await;
        for user in 0..VIEWERS {
            // The first viewer follows two users in addition to its relations.
            let follows: HashSet<Uuid> = if user == 0 {
                self.users[USERS - 2..].iter().map(|user| user.id).collect()
            } else {
                HashSet::new()
            };
            let viewer = self.users[user].id;
            let received = ReceivedStates { viewer, follows, frames: HashMap::new() };
            self.viewers.push(Viewer {
                user,
                socket: None,
                received,
                node: 0,
                position: String::new(),
                typists: HashSet::new(),
            });
            self.connect(user, false).await;
        }
    }

    async fn connect(&mut self, viewer: usize, resumes: bool) {
        // Only the node of the last connection can resume it.
        let stays = resumes && self.rng.random_bool(0.8);
        let other = self.rng.random_range(0..self.world.node_count());
        let viewer_state = &mut self.viewers[viewer];
        if !stays {
            viewer_state.node = other;
        }
        let ids: Vec<String> = viewer_state.received.follows.iter().map(Uuid::to_string).collect();
        let mut query = if ids.is_empty() { String::new() } else { format!("&user_ids={}", ids.join(",")) };
        query += "&resume=";
        if resumes {
            query += &viewer_state.position;
        }
        let user = &self.users[viewer_state.user];
        // Server-sent events are the same session over another transport.
        let node = self.world.node(viewer_state.node);
        let socket = if self.world.has_faults() {
            let deadline = Instant::now() + FAULTY_SETTLE_TIMEOUT;
            loop {
                // The handshake is answered with 503 while the database cannot be read. The node may have been replaced.
                match self.world.node(viewer_state.node).socket_for_token(&user.token, &query).await {
                    Ok(socket) => break socket,
                    Err(error) => assert!(Instant::now() < deadline, "{error}"),
                }
                sleep(Duration::from_millis(200)).await;
            }
        } else if self.rng.random_bool(0.4) {
            node.events_with(user, &query).await
        } else {
            node.socket_with(user, &query).await
        };
        viewer_state.socket = Some(socket);
    }

    async fn run_round(&mut self) -> usize {
        let first_tag = self.tag + 1;
        let mut steps: Vec<Step> =
            (0..self.rng.random_range(1..=MAX_CONCURRENT_STEPS)).map(|_| self.random_step()).collect();
        // There is one connection for the second transaction.
        let overlaps = steps.iter_mut().filter(|step| matches!(step, Step::Overlap { .. }));
        for step in overlaps.skip(1) {
            if let Step::Overlap { changes: [change, _], .. } = step {
                *step = Step::Sql(std::mem::take(change));
            }
        }
        let mut concurrent = Vec::new();
        for step in &steps {
            match step {
                Step::Reconnect { viewer, resumes, closes, reads } => {
                    self.reconnect(*viewer, *resumes, *closes, *reads).await;
                }
                Step::Frame { viewer, status, custom } => self.send_frame(*viewer, status, custom).await,
                Step::Rest { .. } | Step::Type { .. } | Step::Sql(_) | Step::Overlap { .. } => {
                    concurrent.push(step);
                }
            }
        }
        let (this, node) = (&*self, self.world.node(steps.len() % self.world.node_count()));
        let tasks = concurrent.into_iter().enumerate().map(|(index, step)| {
            let node = node.clone();
            async move {
                match step {
                    Step::Rest { user, status, custom } => {
                        let body = json!({"status": status, "custom_status": custom, "activity": custom, "device_id": "rest"});
                        let (user, started) = (&this.users[*user], Instant::now());
                        let response = this.post(&node, user, "/api/presence/status", body).await;
                        // Without faults, frames that are not acknowledged set the text too.
                        if this.is_success(response.as_ref()) && this.world.has_faults() {
                            let write = AcknowledgedWrite { lowest: first_tag, started };
                            this.acknowledged.lock().insert(user.id, write);
                        }
                    }
                    Step::Type { user, is_typing } => {
                        let path = format!("/api/conversations/{}/typing", this.relations.conversation_id());
                        let body = json!({ "is_typing": is_typing });
                        let response = this.post(&node, &this.users[*user], &path, body).await;
                        // A user who is not a participant at that moment gets 404.
                        let is_unknown = response.as_ref().is_some_and(|response| response.status == 404);
                        assert!(
                            is_unknown || this.is_success(response.as_ref()) || this.world.has_faults(),
                            "{response:?}"
                        );
                    }
                    Step::Sql(text) => this.connections[index].execute(text).await,
                    Step::Overlap { changes, reversed } => {
                        let connections = [index, MAX_CONCURRENT_STEPS];
                        overlap(connections.map(|index| &this.connections[index]), changes, *reversed).await;
                    }
                    Step::Frame { .. } | Step::Reconnect { .. } => {}
                }
            }
        });
        join_all(tasks).await;
        steps.len()
    }

    /// Sends a status over the socket of a viewer.
    async fn send_frame(&mut self, viewer: usize, status: &str, custom: &str) {
        let mut frame = json!({"type": "status", "data": {"status": status, "custom_status": custom}});
        if self.world.has_faults() {
            // Such a write is not acknowledged, so that it may overwrite one of a later round.
            frame["data"].as_object_mut().expect("an object").remove("custom_status");
        }
        let Some(socket) = self.viewers[viewer].socket.as_mut() else { return };
        if socket.only_receives() {
            let mut body = frame["data"].clone();
            body["device_id"] = json!("default");
            let user = &self.users[self.viewers[viewer].user];
            let response = self.post(&self.world.node(0), user, "/api/presence/status", body).await;
            self.is_success(response.as_ref());
        } else {
            let sent = socket.try_send_frame(Message::text(frame.to_string())).await;
            assert!(sent.is_ok() || self.world.has_outages(), "{sent:?}");
        }
    }

    /// Sends a request; `None` if the node ended before it responded.
    async fn post(&self, node: &TestServer, user: &User, path: &str, body: Value) -> Option<HttpResponse> {
        let request = node.request(reqwest::Method::POST, path).bearer_auth(&user.token).json(&body);
        match try_send(request).await {
            Ok(response) => Some(response),
            Err(error) => {
                assert!(self.world.has_outages(), "{error}");
                None
            }
        }
    }

    /// Whether a write was acknowledged. One that was not may have been applied.
    fn is_success(&self, response: Option<&HttpResponse>) -> bool {
        let Some(response) = response else { return false };
        let status = response.status.as_u16();
        assert!(status == 200 || self.world.has_faults() && status == 503, "{response:?}");
        status == 200
    }

    async fn reconnect(&mut self, viewer: usize, resumes: bool, closes: bool, reads: bool) {
        if reads {
            self.receive_until(viewer, Instant::now()).await;
        }
        let has_outages = self.world.has_outages();
        let viewer_state = &mut self.viewers[viewer];
        if let Some(socket) = viewer_state.socket.take() {
            viewer_state.position = socket.last_state().position;
            if closes && !has_outages {
                socket.close().await;
            } else {
                self.abandoned.push(socket);
            }
        }
        self.connect(viewer, resumes).await;
    }

    fn random_step(&mut self) -> Step {
        match self.rng.random_range(0..100) {
            0..25 => {
                let user = self.random_user();
                let (status, custom) = (self.random_status(user), self.next_custom_status());
                Step::Rest { user, status, custom }
            }
            25..37 => {
                let viewer = self.rng.random_range(0..VIEWERS);
                let (status, custom) = (self.random_status(viewer), self.next_custom_status());
                Step::Frame { viewer, status, custom }
            }
            37..47 => {
                let user = self.random_user();
                let status = self.random_status(user);
                Step::Sql(format!("select rollcall.set_status('{}', '{status}');", self.users[user].id))
            }
            47..52 => {
                let user = self.random_user();
                Step::Sql(format!(
                    "delete from rollcall.presence_devices where user_id = '{}';",
                    self.users[user].id
                ))
            }
            52..60 => Step::Type { user: self.random_user(), is_typing: self.rng.random_bool(0.7) },
            60..66 => Step::Reconnect {
                viewer: self.rng.random_range(0..VIEWERS),
                resumes: self.rng.random_bool(0.8),
                closes: self.rng.random_bool(0.6),
                reads: self.rng.random_bool(0.5),
            },
            66..72 => {
                // In one transaction: visibility changes together with a new state.
                let user = self.random_user();
                let status = self.random_status(user);
                let relation = self.relations.random_change(&mut self.rng);
                let tag = self.next_custom_status();
                let id = self.users[user].id;
                Step::Sql(format!(
                    "begin; {relation} select rollcall.set_status('{id}', '{status}');
                     insert into rollcall.presence_choices (user_id, custom_status) values ('{id}', '{tag}')
                       on conflict (user_id) do update set custom_status = excluded.custom_status; commit;"
                ))
            }
            72..86 => Step::Overlap {
                changes: self.relations.overlapping_changes(&mut self.rng),
                reversed: self.rng.random_bool(0.5),
            },
            _ => Step::Sql(self.relations.random_change(&mut self.rng)),
        }
    }

    fn random_user(&mut self) -> usize {
        self.rng.random_range(0..USERS)
    }

    /// With outages no viewer signs off, so that each one with a socket must be connected at every quiet point.
    fn random_status(&mut self, user: usize) -> &'static str {
        let all = ["online", "away", "busy", "dnd", "invisible", "offline"];
        let signs_off = user >= VIEWERS || !self.world.has_outages();
        all[..if signs_off { 6 } else { 5 }].choose(&mut self.rng).expect("five")
    }

    /// Every state has a unique text, so that a frame identifies its state.
    fn next_custom_status(&mut self) -> String {
        self.tag += 1;
        format!("state {}", self.tag)
    }

    /// Reads the frames that arrive until a deadline, and records them.
    async fn receive_until(&mut self, viewer: usize, until: Instant) {
        let (has_faults, has_outages) = (self.world.has_faults(), self.world.has_outages());
        let Self { viewers, past_connections, resumed, .. } = self;
        let Viewer { socket: socket_of_viewer, received, typists, position, .. } = &mut viewers[viewer];
        let Some(socket) = socket_of_viewer else { return };
        while let Some(event) = socket.receive(until).await {
            let frame = match event {
                Said::Frame(frame) => frame,
                // Its node ended. `settle` opens another one.
                _ if has_outages => {
                    *position = socket.last_state().position;
                    *socket_of_viewer = None;
                    return;
                }
                other => panic!("a socket ended: {other:?}"),
            };
            if frame["type"] == "typing_update" {
                let typist =
                    frame["data"]["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a user's id");
                if frame["data"]["is_typing"] == true {
                    typists.insert(typist)
                } else {
                    typists.remove(&typist)
                };
                continue;
            }
            let faces = match frame["type"].as_str() {
                Some("initial_state") => {
                    // A new socket starts with the users typing at that time; it does not report who stopped.
                    typists.clear();
                    if frame["data"]["resumed"] == true {
                        *resumed += 1;
                    } else {
                        // A full state replaces what the client shows.
                        let follows = received.follows.clone();
                        let fresh = ReceivedStates { frames: HashMap::new(), follows, ..*received };
                        past_connections.push(std::mem::replace(received, fresh));
                    }
                    frame["data"]["presences"].as_array().cloned().unwrap_or_default()
                }
                Some("presence_update") => vec![frame["data"].clone()],
                Some("error") if has_faults => Vec::new(),
                other => panic!("an unexpected frame {other:?}: {frame}"),
            };
            for face in faces {
                let subject = face["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a user's id");
                received.frames.entry(subject).or_default().push(state_of_frame(&face));
            }
        }
    }

    /// A quiet point: every socket must reach the state that `SELECT` as its viewer returns, and keep it. With outages,
    /// its user must be connected too.
    async fn settle(&mut self) -> Result<(), String> {
        let limit = if self.world.has_faults() { FAULTY_SETTLE_TIMEOUT } else { SETTLE_TIMEOUT };
        for viewer in 0..VIEWERS {
            let deadline = Instant::now() + limit;
            loop {
                self.receive_until(viewer, Instant::now() + Duration::from_millis(20)).await;
                if self.viewers[viewer].socket.is_none() {
                    let resumes = self.rng.random_bool(0.8);
                    self.connect(viewer, resumes).await;
                }
                let (selected, typing) = self.selected_presences(viewer).await;
                let (shown, typists) = (self.shown_presences(viewer), &self.viewers[viewer].typists);
                let is_connected = !self.world.has_outages() || self.is_connected(viewer).await;
                if selected == shown && typing == *typists && is_connected {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!(
                        "viewer {} (connected: {is_connected}) shows\n{shown:#?} {typists:?}\n\
                         but select returns\n{selected:#?} {typing:?}",
                        self.users[self.viewers[viewer].user].id
                    ));
                }
            }
        }
        self.check_acknowledged_writes().await
    }

    /// Whether the database says that the viewer has a connection.
    async fn is_connected(&self, viewer: usize) -> bool {
        let user = self.users[self.viewers[viewer].user].id;
        let connected = "select exists (select from rollcall.presence_devices where user_id = $1 and live
          and nodes <> '{}')";
        self.connections[0].query(connected, &[&user]).await[0].get(0)
    }

    /// Ends all sockets and checks that no node holds a device of their users any more, also if it has crashed.
    async fn check_disconnected(&mut self) -> Result<(), String> {
        self.viewers.iter_mut().for_each(|viewer_state| drop(viewer_state.socket.take()));
        self.abandoned.clear();
        let users: Vec<Uuid> = self.users.iter().map(|user| user.id).collect();
        let deadline = Instant::now() + FAULTY_SETTLE_TIMEOUT;
        loop {
            let held = "select to_jsonb(d) from rollcall.presence_devices d where user_id = any ($1) and nodes <> '{}'";
            let held = self.connections[0].query(held, &[&users]).await;
            let Some(row) = held.first() else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(format!("a device is still connected: {}", row.get::<_, Value>(0)));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Checks that no acknowledged write is lost or overwritten by one of an earlier round.
    async fn check_acknowledged_writes(&self) -> Result<(), String> {
        let losses = self.world.losses().await;
        let acknowledged = self.acknowledged.lock().clone();
        let is_kept = |write: &AcknowledgedWrite| losses.iter().all(|loss| write.started > loss.ended);
        for (user, AcknowledgedWrite { lowest, .. }) in
            acknowledged.into_iter().filter(|(_, write)| is_kept(write))
        {
            let statement = "select custom_status from rollcall.presence_choices where user_id = $1";
            let rows = self.connections[0].query(statement, &[&user]).await;
            let text: Option<String> = rows.first().and_then(|row| row.get(0));
            let number = text.as_ref().and_then(|text| text.strip_prefix("state ")?.parse::<u32>().ok());
            if number.is_none_or(|number| number < lowest) {
                return Err(format!(
                    "{user} has {text:?}, but `state {lowest}` or a later one was acknowledged"
                ));
            }
        }
        Ok(())
    }

    fn shown_presences(&self, viewer: usize) -> HashMap<Uuid, ShownState> {
        let received = &self.viewers[viewer].received;
        let last =
            received.frames.iter().map(|(subject, frames)| (*subject, frames.last().cloned().flatten()));
        last.filter(|(_, shown)| !is_hidden(shown)).collect()
    }

    /// Returns what `SELECT` as the viewer returns about the users of its socket, and which other users are typing.
    async fn selected_presences(&self, viewer: usize) -> (HashMap<Uuid, ShownState>, HashSet<Uuid>) {
        let Viewer { user, received, .. } = &self.viewers[viewer];
        let follows: Vec<Uuid> = received.follows.iter().copied().collect();
        let about = "select to_jsonb(p) from rollcall.user_presence p
            where p.user_id = any ($1) or p.user_id in (select rollcall.my_relations())";
        let typing = "select user_id from rollcall.typing_indicators where user_id <> auth.uid()";
        let [rows, typing] =
            self.connections[0].query_as(self.users[*user].id, [(about, &[&follows]), (typing, &[])]).await;
        let seen = rows_by_user(&rows).into_iter().map(|(subject, row)| (subject, Some(state_of_row(&row))));
        // An offline user without last_seen looks like a hidden user.
        let seen = seen.filter(|(_, shown)| !is_hidden(shown)).collect();
        (seen, ids(&typing))
    }

    /// Checks that `explain_visibility` agrees with `SELECT` as a user, for all users.
    async fn check_explanations(&mut self) -> Result<(), String> {
        let viewer = self.users[self.rng.random_range(0..USERS)].id;
        let users: Vec<Uuid> = self.users.iter().map(|user| user.id).collect();
        let client = &self.connections[0];
        // Faults may change a state between the two answers.
        let (seen, explained) = loop {
            let seen = self.faces(viewer, &users).await;
            let explained = "select s.id, e.visible, e.face::text, e.decided_by, e.policy, e.reason
                from unnest($1::uuid[]) as s (id) cross join lateral rollcall.explain_visibility($2, s.id) e";
            let explained = client.query(explained, &[&users, &viewer]).await;
            if seen == self.faces(viewer, &users).await {
                break (seen, explained);
            }
        };
        assert_eq!(explained.len(), USERS, "one row per user, since no user shows two faces here");
        for row in explained {
            let (subject, visible): (Uuid, bool) = (row.get("id"), row.get("visible"));
            let (face, policy): (Option<String>, Option<String>) = (row.get("face"), row.get("policy"));
            let (decided, reason): (String, String) = (row.get("decided_by"), row.get("reason"));
            let by_policy = self.world.rule == Rule::ByGrant && subject != viewer && visible;
            if face.as_ref() != seen.get(&subject)
                || visible != face.is_some()
                || visible != policy.is_some()
                || by_policy != (policy.as_deref() == Some("by grant only"))
            {
                return Err(format!(
                    "{viewer} sees {:?} of {subject}, but it is explained as {face:?}, by {decided} ({policy:?}): {reason}",
                    seen.get(&subject)
                ));
            }
        }
        Ok(())
    }

    /// The faces of users that a viewer may select.
    async fn faces(&self, viewer: Uuid, users: &[Uuid]) -> HashMap<Uuid, String> {
        let faces = "select user_id, face::text from rollcall.user_presence where user_id = any ($1)";
        let [faces] = self.connections[0].query_as(viewer, [(faces, &[&users])]).await;
        faces.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Checks all received frames against the commit log.
    async fn check_commit_log(&mut self) -> Result<(), String> {
        let users: Vec<String> = self.users.iter().map(|user| user.id.to_string()).collect();
        let log =
            self.world.commit_log(&self.connections[0], &users, self.log_start, self.earlier_losses).await;
        let mut received = std::mem::take(&mut self.past_connections);
        received.extend(self.viewers.iter_mut().map(|viewer_state| {
            let empty = ReceivedStates {
                viewer: viewer_state.received.viewer,
                follows: HashSet::new(),
                frames: HashMap::new(),
            };
            std::mem::replace(&mut viewer_state.received, empty)
        }));
        oracle::check(self.world.rule, &log, &received)
    }
}
