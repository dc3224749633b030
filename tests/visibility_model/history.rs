//! One random history: a few users, some with sockets, and changes of every kind.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use testkit::{
    client::{HttpResponse, Socket, SocketEvent as Said},
    harness::{TestDatabase, TestServer, User},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

use crate::oracle::{
    self, LogEntry, ReceivedStates, Rule, ShownState, is_hidden, state_of_frame, state_of_row,
};

/// Users per history, and how many of them have a socket.
const USERS: usize = 5;
const VIEWERS: usize = 3;
/// Rounds, and the maximum number of concurrent changes in one.
const ROUNDS: usize = 8;
const MAX_CONCURRENT_STEPS: usize = 4;
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

struct History {
    nodes: Arc<[Arc<TestServer>; 2]>,
    rule: Rule,
    /// Whether the database has faults: requests may be answered with 503.
    has_faults: bool,
    /// The lowest number of a custom status that each user may have: the first of the round in which a write of the user
    /// was acknowledged last. Writes of earlier rounds must not overwrite it.
    acknowledged: Mutex<HashMap<Uuid, u32>>,
    rng: StdRng,
    users: Vec<User>,
    team: Uuid,
    conversation: Uuid,
    tag: u32,
    viewers: Vec<Viewer>,
    /// Frames of earlier sockets of the viewers.
    past_connections: Vec<ReceivedStates>,
    /// Sockets that their clients left without closing them.
    abandoned: Vec<Socket>,
    resumed: usize,
    /// Commit log entries of these users have a higher number.
    log_start: i64,
    connections: Vec<Client>,
}

/// Connections of finished histories for reuse: opening one costs more than a history uses.
pub type IdleConnections = Mutex<Vec<Vec<Client>>>;

/// Runs the history of a seed.
pub async fn run(
    db: Arc<TestDatabase>,
    idle_connections: Arc<IdleConnections>,
    nodes: Arc<[Arc<TestServer>; 2]>,
    rule: Rule,
    has_faults: bool,
    seed: u64,
) -> Result<HistoryStats, String> {
    let taken = idle_connections.lock().pop();
    let connections = match taken {
        Some(connections) => connections,
        // One for each concurrent change of a round, since a connection executes one statement at a time.
        None => join_all((0..MAX_CONCURRENT_STEPS).map(|_| connect(&db))).await,
    };
    let mut history = History {
        nodes,
        rule,
        has_faults,
        acknowledged: Mutex::default(),
        rng: StdRng::seed_from_u64(seed),
        users: (0..USERS).map(|_| User::new()).collect(),
        team: Uuid::new_v4(),
        conversation: Uuid::new_v4(),
        tag: 0,
        viewers: Vec::new(),
        past_connections: Vec::new(),
        abandoned: Vec::new(),
        resumed: 0,
        log_start: 0,
        connections,
    };
    history.set_up().await;
    let mut steps = 0;
    for _ in 0..ROUNDS {
        steps += history.run_round().await;
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
    for viewer_state in &mut history.viewers {
        if let Some(socket) = viewer_state.socket.take() {
            socket.close().await;
        }
    }
    idle_connections.lock().push(history.connections);
    Ok(HistoryStats { frames, steps, resumed: history.resumed })
}

impl History {
    async fn set_up(&mut self) {
        let begins = "select coalesce(max(seq), 0) from public.commit_log";
        self.log_start = self.connections[0].query_one(begins, &[]).await.expect("the log").get(0);
        let owner = self.users[0].id;
        let mut setup = format!(
            "insert into rollcall.teams (id, name, owner_id) values ('{}', 't', '{owner}');
             insert into rollcall.conversations (id, created_by) values ('{}', '{owner}');",
            self.team, self.conversation
        );
        for _ in 0..14 {
            setup += &self.random_relation_change();
        }
        execute_with_retry(&self.connections[0], &setup).await;
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
        let other = self.rng.random_range(0..self.nodes.len());
        let viewer_state = &mut self.viewers[viewer];
        if !stays {
            viewer_state.node = other;
        }
        let node = self.nodes[viewer_state.node].clone();
        let ids: Vec<String> = viewer_state.received.follows.iter().map(Uuid::to_string).collect();
        let mut query = if ids.is_empty() { String::new() } else { format!("&user_ids={}", ids.join(",")) };
        query += "&resume=";
        if resumes {
            query += &viewer_state.position;
        }
        let user = &self.users[viewer_state.user];
        // Server-sent events are the same session over another transport.
        let socket = if self.has_faults {
            let deadline = Instant::now() + FAULTY_SETTLE_TIMEOUT;
            loop {
                // The handshake is answered with 503 while the database cannot be read.
                match node.socket_for_token(&user.token, &query).await {
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
        let steps: Vec<Step> =
            (0..self.rng.random_range(1..=MAX_CONCURRENT_STEPS)).map(|_| self.random_step()).collect();
        let mut concurrent = Vec::new();
        for step in &steps {
            match step {
                Step::Reconnect { viewer, resumes, closes, reads } => {
                    self.reconnect(*viewer, *resumes, *closes, *reads).await;
                }
                Step::Frame { viewer, status, custom } => {
                    let mut frame =
                        json!({"type": "status", "data": {"status": status, "custom_status": custom}});
                    if self.has_faults {
                        // Such a write is not acknowledged, so that it may overwrite one of a later round.
                        frame["data"].as_object_mut().expect("an object").remove("custom_status");
                    }
                    let socket = self.viewers[*viewer].socket.as_mut().expect("is connected");
                    if socket.only_receives() {
                        let mut body = frame["data"].clone();
                        body["device_id"] = json!("default");
                        let user = &self.users[self.viewers[*viewer].user];
                        let response = self.nodes[0].post(user, "/api/presence/status", body).await;
                        self.is_success(&response);
                    } else {
                        socket.send_message(frame).await;
                    }
                }
                Step::Rest { .. } | Step::Type { .. } | Step::Sql(_) => concurrent.push(step),
            }
        }
        let (this, node) = (&*self, self.nodes[steps.len() % 2].clone());
        let tasks = concurrent.into_iter().enumerate().map(|(index, step)| {
            let node = node.clone();
            async move {
                match step {
                    Step::Rest { user, status, custom } => {
                        let body = json!({"status": status, "custom_status": custom, "activity": custom, "device_id": "rest"});
                        let user = &this.users[*user];
                        let response = node.post(user, "/api/presence/status", body).await;
                        // Without faults, frames that are not acknowledged set the text too.
                        if this.is_success(&response) && this.has_faults {
                            this.acknowledged.lock().insert(user.id, first_tag);
                        }
                    }
                    Step::Type { user, is_typing } => {
                        let path = format!("/api/conversations/{}/typing", this.conversation_id());
                        let response = node.post(&this.users[*user], &path, json!({ "is_typing": is_typing })).await;
                        // A user who is not a participant at that moment gets 404.
                        assert!(response.status == 404 || this.is_success(&response) || this.has_faults, "{response:?}");
                    }
                    Step::Sql(text) => execute_with_retry(&this.connections[index], text).await,
                    Step::Frame { .. } | Step::Reconnect { .. } => {}
                }
            }
        });
        join_all(tasks).await;
        steps.len()
    }

    /// Whether a write was acknowledged. One that was not may have been applied.
    fn is_success(&self, response: &HttpResponse) -> bool {
        let status = response.status.as_u16();
        assert!(status == 200 || self.has_faults && status == 503, "{response:?}");
        status == 200
    }

    async fn reconnect(&mut self, viewer: usize, resumes: bool, closes: bool, reads: bool) {
        if reads {
            self.receive_until(viewer, Instant::now()).await;
        }
        let viewer_state = &mut self.viewers[viewer];
        if let Some(socket) = viewer_state.socket.take() {
            viewer_state.position = socket.last_state().position;
            if closes {
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
                let (user, status, custom) =
                    (self.random_user(), self.random_status(), self.next_custom_status());
                Step::Rest { user, status, custom }
            }
            25..37 => {
                let (viewer, status, custom) =
                    (self.rng.random_range(0..VIEWERS), self.random_status(), self.next_custom_status());
                Step::Frame { viewer, status, custom }
            }
            37..47 => {
                let (user, status) = (self.random_user(), self.random_status());
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
                let (user, status) = (self.random_user(), self.random_status());
                let relation = self.random_relation_change();
                let tag = self.next_custom_status();
                let id = self.users[user].id;
                Step::Sql(format!(
                    "begin; {relation} select rollcall.set_status('{id}', '{status}');
                     insert into rollcall.presence_choices (user_id, custom_status) values ('{id}', '{tag}')
                       on conflict (user_id) do update set custom_status = excluded.custom_status; commit;"
                ))
            }
            _ => Step::Sql(self.random_relation_change()),
        }
    }

    /// ID of the conversation in the table of participants.
    fn conversation_id(&self) -> String {
        match self.rule {
            Rule::OwnTables => format!("room-{}", self.conversation),
            Rule::BuiltIn | Rule::ByGrant => self.conversation.to_string(),
        }
    }

    fn random_user(&mut self) -> usize {
        self.rng.random_range(0..USERS)
    }

    fn random_status(&mut self) -> &'static str {
        ["online", "away", "busy", "dnd", "invisible", "offline"].choose(&mut self.rng).expect("six")
    }

    /// Every state has a unique text, so that a frame identifies its state.
    fn next_custom_status(&mut self) -> String {
        self.tag += 1;
        format!("state {}", self.tag)
    }

    /// Returns a random change of a relation or a visibility setting.
    fn random_relation_change(&mut self) -> String {
        let one = self.rng.random_range(0..USERS);
        let other = (one + self.rng.random_range(1..USERS)) % USERS;
        let (a, b) = (self.users[one].id, self.users[other].id);
        let (team, conversation) = (self.team, self.conversation);
        let on = self.rng.random_bool(0.6);
        let kind = self.rng.random_range(0..if self.rule == Rule::ByGrant { 11 } else { 8 });
        if self.rule == Rule::OwnTables && kind <= 4 {
            return self.random_change_of_own_tables(kind, a, b, on);
        }
        match kind {
            0 | 1 if on => format!(
                "insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values ('{a}', '{b}', now())
                 on conflict do nothing;"
            ),
            0 | 1 => format!(
                "delete from rollcall.contacts where (requester_id, addressee_id) in (('{a}', '{b}'), ('{b}', '{a}'));"
            ),
            2 if self.rng.random_bool(0.5) => {
                format!("insert into rollcall.blocks (blocker_id, blocked_id) values ('{a}', '{b}') on conflict do nothing;")
            }
            2 => format!("delete from rollcall.blocks where blocker_id = '{a}';"),
            3 if on => {
                format!("insert into rollcall.team_members (team_id, user_id) values ('{team}', '{a}') on conflict do nothing;")
            }
            3 => format!("delete from rollcall.team_members where team_id = '{team}' and user_id = '{a}';"),
            4 if on => format!(
                "insert into rollcall.conversation_participants (conversation_id, user_id)
                 values ('{conversation}', '{a}') on conflict do nothing;"
            ),
            4 => format!(
                "delete from rollcall.conversation_participants where conversation_id = '{conversation}' and user_id = '{a}';"
            ),
            5 | 6 => {
                let visibility = ["nobody", "team", "contacts", "everyone"].choose(&mut self.rng).expect("four");
                let [seen, custom, activity, typing] = std::array::from_fn(|_| self.rng.random_bool(0.7));
                format!(
                    "insert into rollcall.presence_settings
                       (user_id, visibility, show_last_seen, show_custom_status, show_activity, show_typing)
                     values ('{a}', '{visibility}', {seen}, {custom}, {activity}, {typing})
                     on conflict (user_id) do update set visibility = excluded.visibility,
                     show_last_seen = excluded.show_last_seen, show_custom_status = excluded.show_custom_status,
                     show_activity = excluded.show_activity, show_typing = excluded.show_typing;"
                )
            }
            7 if on => format!(
                "insert into rollcall.presence_visibility_list (user_id, viewer_id) values ('{a}', '{b}') on conflict do nothing;"
            ),
            7 => format!("delete from rollcall.presence_visibility_list where user_id = '{a}';"),
            _ if on => format!(
                "insert into public.test_grants (viewer_id, subject_id) values ('{a}', '{b}') on conflict do nothing;"
            ),
            _ => format!("delete from public.test_grants where viewer_id = '{a}' and subject_id = '{b}';"),
        }
    }

    /// As [`Self::random_relation_change`], over the tables of the application.
    fn random_change_of_own_tables(&mut self, kind: u32, a: Uuid, b: Uuid, on: bool) -> String {
        let org = i64::try_from(self.team.as_u128() >> 66).expect("62 bits");
        let room = self.conversation_id();
        let state = if on { "friends" } else { "asked" };
        match kind {
            0 => format!(
                "insert into public.friendships (asker, target, state) values ('{a}', '{b}', '{state}')
                 on conflict (asker, target) do update set state = excluded.state;"
            ),
            1 if on => format!(
                "update public.friendships set asker = target, target = asker where asker = '{a}' and target = '{b}'
                   and not exists (select from public.friendships f where f.asker = '{b}' and f.target = '{a}');
                 update public.friendships set seen_at = now() where '{a}' in (asker, target);"
            ),
            1 => format!("delete from public.friendships where '{a}' in (asker, target) and '{b}' in (asker, target);"),
            2 if on => {
                format!("insert into public.mutes (who, whom) values ('{a}', '{b}') on conflict do nothing;")
            }
            2 => format!("delete from public.mutes where who = '{a}';"),
            3 if on => format!(
                "insert into public.org_members (org, member) values ({org}, '{a}')
                 on conflict (org, member) do update set left_at = null;"
            ),
            3 => format!("update public.org_members set left_at = now() where org = {org} and member = '{a}';"),
            _ if on => format!(
                "insert into public.room_members (room, member) values ('{room}', '{a}') on conflict do nothing;"
            ),
            _ => format!("delete from public.room_members where room = '{room}' and member = '{a}';"),
        }
    }

    /// Reads the frames that arrive until a deadline, and records them.
    async fn receive_until(&mut self, viewer: usize, until: Instant) {
        let Self { viewers, past_connections, resumed, .. } = self;
        let Viewer { socket: Some(socket), received, typists, .. } = &mut viewers[viewer] else {
            return;
        };
        while let Some(event) = socket.receive(until).await {
            let frame = match event {
                Said::Frame(frame) => frame,
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
                Some("error") if self.has_faults => Vec::new(),
                other => panic!("an unexpected frame {other:?}: {frame}"),
            };
            for face in faces {
                let subject = face["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a user's id");
                received.frames.entry(subject).or_default().push(state_of_frame(&face));
            }
        }
    }

    /// A quiet point: every socket must reach the state that `SELECT` as its viewer returns, and keep it.
    async fn settle(&mut self) -> Result<(), String> {
        let limit = if self.has_faults { FAULTY_SETTLE_TIMEOUT } else { SETTLE_TIMEOUT };
        for viewer in 0..VIEWERS {
            let deadline = Instant::now() + limit;
            loop {
                self.receive_until(viewer, Instant::now() + Duration::from_millis(20)).await;
                let (selected, typing) = self.selected_presences(viewer).await;
                let (shown, typists) = (self.shown_presences(viewer), &self.viewers[viewer].typists);
                if selected == shown && typing == *typists {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!(
                        "viewer {} shows\n{shown:#?} {typists:?}\nbut select returns\n{selected:#?} {typing:?}",
                        self.users[self.viewers[viewer].user].id
                    ));
                }
            }
        }
        self.check_acknowledged_writes().await
    }

    /// Checks that no acknowledged write is lost or overwritten by one of an earlier round.
    async fn check_acknowledged_writes(&self) -> Result<(), String> {
        let acknowledged = self.acknowledged.lock().clone();
        for (user, lowest) in acknowledged {
            let statement = "select custom_status from rollcall.presence_choices where user_id = $1";
            let row = self.connections[0].query_opt(statement, &[&user]).await.expect("selects");
            let text: Option<String> = row.and_then(|row| row.get(0));
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
        let claims = json!({"sub": self.users[*user].id, "role": "authenticated"}).to_string();
        let client = &self.connections[0];
        client.batch_execute("begin").await.expect("begins");
        let acting =
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)";
        client.query(acting, &[&claims]).await.expect("acts as the viewer");
        let about = "select to_jsonb(p) from rollcall.user_presence p
            where p.user_id = any ($1) or p.user_id in (select rollcall.my_relations())";
        let rows = client.query(about, &[&follows]).await.expect("selects");
        let typing = "select user_id from rollcall.typing_indicators where user_id <> auth.uid()";
        let typing = client.query(typing, &[]).await.expect("selects");
        client.batch_execute("commit").await.expect("commits");
        let rows = rows.iter().map(|row| row.get::<_, Value>(0));
        let seen = rows.map(|row| {
            let subject = row["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a user's id");
            (subject, Some(state_of_row(&row)))
        });
        // An offline user without last_seen looks like a hidden user.
        let seen = seen.filter(|(_, shown)| !is_hidden(shown)).collect();
        (seen, typing.iter().map(|row| row.get(0)).collect())
    }

    /// Checks that `explain_visibility` agrees with `SELECT` as a user, for all users.
    async fn check_explanations(&mut self) -> Result<(), String> {
        let viewer = self.users[self.rng.random_range(0..USERS)].id;
        let users: Vec<Uuid> = self.users.iter().map(|user| user.id).collect();
        let client = &self.connections[0];
        client.batch_execute("begin").await.expect("begins");
        let acting =
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)";
        let claims = json!({"sub": viewer, "role": "authenticated"}).to_string();
        client.query(acting, &[&claims]).await.expect("acts as the viewer");
        let faces = "select user_id, face::text from rollcall.user_presence where user_id = any ($1)";
        let faces = client.query(faces, &[&users]).await.expect("selects");
        client.batch_execute("commit").await.expect("commits");
        let seen: HashMap<Uuid, String> = faces.iter().map(|row| (row.get(0), row.get(1))).collect();

        let explained = "select s.id, e.visible, e.face::text, e.decided_by, e.policy, e.reason
            from unnest($1::uuid[]) as s (id) cross join lateral rollcall.explain_visibility($2, s.id) e";
        let explained = client.query(explained, &[&users, &viewer]).await.expect("explains");
        assert_eq!(explained.len(), USERS, "one row per user, since no user shows two faces here");
        for row in explained {
            let (subject, visible): (Uuid, bool) = (row.get("id"), row.get("visible"));
            let (face, policy): (Option<String>, Option<String>) = (row.get("face"), row.get("policy"));
            let (decided, reason): (String, String) = (row.get("decided_by"), row.get("reason"));
            let by_policy = self.rule == Rule::ByGrant && subject != viewer && visible;
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

    /// Checks all received frames against the commit log.
    async fn check_commit_log(&mut self) -> Result<(), String> {
        let ids: Vec<String> = self.users.iter().map(|user| user.id.to_string()).collect();
        let log = "select xid::text, source, old_row, new_row from public.commit_log
            where seq > $2 and coalesce(new_row, old_row)::text ~ $1 order by seq";
        let rows = self.connections[0].query(log, &[&ids.join("|"), &self.log_start]).await.expect("the log");
        let entry = |row: &tokio_postgres::Row| LogEntry {
            xid: row.get(0),
            source: row.get(1),
            old: row.get(2),
            new: row.get(3),
        };
        let log: Vec<LogEntry> = rows.iter().map(entry).collect();
        let mut received = std::mem::take(&mut self.past_connections);
        received.extend(self.viewers.iter_mut().map(|viewer_state| {
            let empty = ReceivedStates {
                viewer: viewer_state.received.viewer,
                follows: HashSet::new(),
                frames: HashMap::new(),
            };
            std::mem::replace(&mut viewer_state.received, empty)
        }));
        oracle::check(self.rule, &log, &received)
    }
}

/// A connection without the defaults that a fault may have set.
async fn connect(db: &TestDatabase) -> Client {
    let client = db.connect().await;
    let defaults =
        "set default_transaction_read_only = off; set default_transaction_isolation = 'read committed'";
    client.batch_execute(defaults).await.expect("is set");
    client
}

/// Executes statements, and retries after a deadlock or a lock timeout as every PostgreSQL client must.
async fn execute_with_retry(client: &Client, text: &str) {
    for _ in 0..20 {
        let done = timeout(Duration::from_secs(30), client.batch_execute(text)).await.expect("in time");
        match done {
            Ok(()) => return,
            Err(error)
                if [Some(&SqlState::T_R_DEADLOCK_DETECTED), Some(&SqlState::LOCK_NOT_AVAILABLE)]
                    .contains(&error.code()) =>
            {
                client.batch_execute("rollback").await.expect("rolls back");
            }
            Err(error) => panic!("{text}: {error:?}"),
        }
    }
    panic!("still locked after 20 attempts: {text}");
}
