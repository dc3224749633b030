//! The task that turns what the listener heard into frames.
//!
//! One pass: take what was heard, read the changed faces and the new part of the visibility log in one snapshot,
//! void what the log names, tell the rest. Meanwhile up to [`LOOKERS`] look-ups ask row-level security on behalf of
//! viewers that are void (new ones are); users that change while a look-up is under way are read again after it, so
//! that nothing falls between the two.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use tokio::{
    select,
    sync::mpsc,
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    graph::{GraphUpdate, ViewerKey, VisibilityGraph},
    pending::{PendingBatch, PendingChanges},
};
use crate::{
    auth::Principal,
    hub::{ConnId, Delivery, Encodable, Hub, StateKey},
    model::{TypingUser, UserId},
    pg::{
        Database, PgError,
        queries::{
            node,
            presence::{Invalidation, LookupQuery, LookupResult, Snapshot, look_up, read_snapshot},
        },
    },
    protocol::{ErrorCode, ServerMessage, WireError},
    telemetry::metric,
};

/// Look-ups under way at once; each holds one of the server's own connections.
const LOOKUP_CONCURRENCY: usize = 3;
/// Viewers in one look-up. A viewer with 50 relations takes half a millisecond.
const LOOKUP_BATCH_SIZE: usize = 32;
/// How long a look-up may take in the database. Over it its viewers are asked one by one.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a snapshot may take to read.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);
/// Users read in one pass; the others wait for the next.
const MAX_USERS_PER_PASS: usize = 5_000;
/// Users that one connection may follow beside its relations.
const MAX_FOLLOWED_USERS: usize = 1_000;
/// Commands that may wait. Over it sessions wait for room.
const COMMAND_QUEUE_CAPACITY: usize = 4_096;
/// A snapshot older than this may miss log entries that were tidied away (after two minutes, see rollcall.sweep).
const MAX_SNAPSHOT_AGE: Duration = Duration::from_secs(60);
/// Between attempts on a viewer whose policies raise, or a database that fails: doubling, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

enum Command {
    Join { conn: ConnId, user: UserId, principal: Principal, follows: Vec<UserId> },
    Leave { conn: ConnId },
    SetPrincipal { conn: ConnId, principal: Principal },
    Follow { conn: ConnId, users: Vec<UserId> },
}

/// A handle to the pump, for sessions.
#[derive(Clone)]
pub struct Visibility {
    commands: mpsc::Sender<Command>,
}

impl Visibility {
    /// Takes a connection in: it hears the initial state of everybody it may see among its relations and `follows`,
    /// then every change.
    pub async fn join(&self, conn: ConnId, user: UserId, caller: Principal, follows: Vec<UserId>) {
        self.send(Command::Join { conn, user, principal: caller, follows }).await;
    }

    /// Forgets a connection.
    pub async fn leave(&self, conn: ConnId) {
        self.send(Command::Leave { conn }).await;
    }

    /// A connection shows a new token.
    pub async fn set_principal(&self, conn: ConnId, caller: Principal) {
        self.send(Command::SetPrincipal { conn, principal: caller }).await;
    }

    /// A connection follows further users, as far as they are visible.
    pub async fn follow(&self, conn: ConnId, users: Vec<UserId>) {
        self.send(Command::Follow { conn, users }).await;
    }

    async fn send(&self, command: Command) {
        // Fails only when the pump is gone, and then so are the sockets.
        drop(self.commands.send(command).await);
    }
}

/// The pump; [`run`](Self::run) is its task.
pub struct VisibilityTask {
    database: Database,
    hub: Hub,
    pending: Arc<PendingChanges>,
    commands: mpsc::Receiver<Command>,
    graph: VisibilityGraph,
    /// Up to where changes of visibility are known; `None` before the first pass.
    snapshot: Option<(String, Instant)>,
    policy_traits: PolicyTraits,
    lookups: JoinSet<Result<Vec<LookupResult>, PgError>>,
    in_flight: HashMap<Id, Lookup>,
    /// Viewers to be asked again. They come before newcomers: what was taken from them is to be told soon.
    due: VecDeque<ViewerKey>,
    /// Viewers that have heard nothing yet.
    new_viewers: VecDeque<ViewerKey>,
    /// Viewers whose policies raised or did not end: asked alone, one at a time, with pauses.
    quarantined: HashMap<ViewerKey, Quarantine>,
    /// Users heard of while look-ups are under way, by the pass in which they were.
    recent_users: VecDeque<(u64, UserId)>,
    /// The same for those who began or ceased to type.
    recent_typing: VecDeque<(u64, TypingUser)>,
    pass: u64,
    /// The database failed a moment ago: nothing is asked before this.
    not_before: Option<Instant>,
    backoff: Duration,
}

struct Lookup {
    viewers: Vec<ViewerKey>,
    started_in_pass: u64,
    is_isolated: bool,
}

struct Quarantine {
    not_before: Instant,
    pause: Duration,
    was_notified: bool,
}

/// What is known of the policies as such.
#[derive(Debug, Default)]
struct PolicyTraits {
    /// No event trigger tells of changes, so each pass compares.
    compare_fingerprint: bool,
    fingerprint: Option<i64>,
    /// They look at the state of a presence: each change must be asked again.
    reads_presence_state: bool,
}

/// Makes a pump and its handle.
#[must_use]
pub fn visibility(database: Database, hub: Hub, inbox: Arc<PendingChanges>) -> (Visibility, VisibilityTask) {
    let (sender, commands) = mpsc::channel(COMMAND_QUEUE_CAPACITY);
    let pump = VisibilityTask {
        database,
        hub,
        pending: inbox,
        commands,
        graph: VisibilityGraph::default(),
        snapshot: None,
        policy_traits: PolicyTraits::default(),
        lookups: JoinSet::new(),
        in_flight: HashMap::new(),
        due: VecDeque::new(),
        new_viewers: VecDeque::new(),
        quarantined: HashMap::new(),
        recent_users: VecDeque::new(),
        recent_typing: VecDeque::new(),
        pass: 0,
        not_before: None,
        backoff: INITIAL_BACKOFF,
    };
    (Visibility { commands: sender }, pump)
}

impl VisibilityTask {
    /// Pumps until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let resting = self.not_before;
            let wake_at = self.next_wake_at();
            select! {
                () = stop.cancelled() => return,
                Some(done) = self.lookups.join_next_with_id(), if !self.lookups.is_empty() => {
                    let (id, answers) = match done {
                        Ok(done) => done,
                        Err(error) => (error.id(), Err(PgError::Unavailable(error.into()))),
                    };
                    self.on_lookup_done(id, answers).await;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                () = self.pending.ready(), if resting.is_none() => {
                    let heard = self.pending.take();
                    self.run_pass(heard).await;
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    if self.not_before.is_some_and(|at| at <= Instant::now()) {
                        self.not_before = None;
                    }
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.handle_command(command);
            }
            self.start_lookups();
            metrics::gauge!(metric::VISIBILITY_EDGES).set(self.graph.edge_count() as f64);
        }
    }

    fn next_wake_at(&self) -> Option<Instant> {
        let suspects = self
            .quarantined
            .iter()
            .filter(|(key, _)| self.graph.needs_lookup(**key))
            .map(|(_, s)| s.not_before);
        self.not_before.into_iter().chain(suspects).min()
    }

    fn handle_command(&mut self, command: Command) {
        let key = match command {
            Command::Join { conn, user, principal: caller, follows } => {
                Some(self.graph.add_viewer(conn, user, caller, follows))
            }
            Command::Leave { conn } => {
                self.graph.remove_viewer(conn);
                None
            }
            Command::SetPrincipal { conn, principal: caller } => self.graph.set_principal(conn, caller),
            Command::Follow { conn, users } => self.graph.follow(conn, &users, MAX_FOLLOWED_USERS),
        };
        self.due.extend(key);
    }

    // One pass ---------------------------------------------------------------------------------------------------

    async fn run_pass(&mut self, heard: PendingBatch) {
        let PendingBatch { users, typing_users: typists, advance_snapshot: _, resync } = heard;
        let typists: Vec<TypingUser> = typists.into_iter().collect();
        let tidied = self.snapshot.as_ref().is_some_and(|(_, at)| at.elapsed() > MAX_SNAPSHOT_AGE);
        if resync || tidied || self.snapshot.is_none() {
            metrics::counter!(metric::VISIBILITY_RESYNCS).increment(1);
            if let Err(error) = self.load_policy_traits().await {
                self.database_failed(&error, (users, typists), true);
                return;
            }
            self.snapshot = None;
        }
        let resync = self.snapshot.is_none();

        self.pass += 1;
        if !self.in_flight.is_empty() {
            self.recent_users.extend(users.iter().map(|user| (self.pass, *user)));
            self.recent_typing.extend(typists.iter().map(|typist| (self.pass, *typist)));
        }
        let mut watched: Vec<UserId> =
            users.into_iter().filter(|user| self.graph.is_watched(*user)).collect();
        if watched.len() > MAX_USERS_PER_PASS {
            self.pending.requeue_users(watched.split_off(MAX_USERS_PER_PASS));
        }

        let pulled = match self.read_snapshot(&watched, &typists).await {
            Ok(pulled) => pulled,
            Err(error) => {
                self.database_failed(&error, (watched.into_iter().collect(), typists), resync);
                return;
            }
        };
        self.backoff = INITIAL_BACKOFF;
        let Snapshot { snapshot_id: snapshot, fingerprint, invalidations: voids, faces, typing } = pulled;
        self.snapshot = Some((snapshot, Instant::now()));
        let policies_changed = self.policy_traits.compare_fingerprint
            && std::mem::replace(&mut self.policy_traits.fingerprint, fingerprint) != fingerprint;
        if resync || policies_changed {
            self.due.extend(self.graph.invalidate(&Invalidation { viewers: None, subjects: None }));
        }
        let mut everything = policies_changed;
        for void in &voids {
            everything |= void.viewers.is_none() && void.subjects.is_none();
            self.due.extend(self.graph.invalidate(void));
        }
        if everything {
            if let Err(error) = self.load_policy_traits().await {
                self.database_failed(&error, Default::default(), true);
                return;
            }
        }
        if self.policy_traits.reads_presence_state && !watched.is_empty() {
            let subjects = Some(watched.clone());
            self.due.extend(self.graph.invalidate(&Invalidation { viewers: None, subjects }));
        }
        let mut tells = self.graph.apply_faces(&watched, faces);
        let (typing, due) = self.graph.apply_typing(&typing);
        tells.extend(typing);
        self.due.extend(due);
        self.deliver(tells).await;
    }

    async fn read_snapshot(&self, users: &[UserId], typists: &[TypingUser]) -> Result<Snapshot, PgError> {
        let since = self.snapshot.as_ref().map(|(snapshot, _)| snapshot.as_str());
        let read = async {
            let connection = self.database.server_connection().await?;
            read_snapshot(&connection, users, typists, since, self.policy_traits.compare_fingerprint).await
        };
        timeout(SNAPSHOT_TIMEOUT, read)
            .await
            .unwrap_or_else(|_| Err(PgError::Unavailable("reading took too long".into())))
    }

    /// Learns how policies are to be treated; they may have changed.
    async fn load_policy_traits(&mut self) -> Result<(), PgError> {
        let learn = async {
            let connection = self.database.server_connection().await?;
            let watched = node::policies_are_watched(&connection).await?;
            if !watched {
                node::watch_sources(&connection).await?;
            }
            Ok((watched, node::policies_read_presence_state(&connection).await?))
        };
        let (watched, read_state) = timeout(SNAPSHOT_TIMEOUT, learn)
            .await
            .unwrap_or_else(|_| Err(PgError::Unavailable("reading took too long".into())))?;
        self.policy_traits.compare_fingerprint = !watched;
        self.policy_traits.reads_presence_state = read_state;
        Ok(())
    }

    /// Rests for a moment and then does it all again: what was heard is not lost.
    fn database_failed(
        &mut self,
        error: &PgError,
        (users, typists): (HashSet<UserId>, Vec<TypingUser>),
        resync: bool,
    ) {
        tracing::warn!(error = ?error, retry_ms = self.backoff.as_millis(), "could not read presence");
        self.not_before = Some(Instant::now() + with_jitter(self.backoff));
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        self.pending.requeue_users(users);
        self.pending.requeue_typing(typists);
        if resync {
            self.pending.request_resync();
        }
    }

    // Look-ups ---------------------------------------------------------------------------------------------------

    fn start_lookups(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        while self.lookups.len() < LOOKUP_CONCURRENCY && !(self.due.is_empty() && self.new_viewers.is_empty())
        {
            let mut batch = Vec::new();
            while batch.len() < LOOKUP_BATCH_SIZE {
                let Some(key) = self.due.pop_front().or_else(|| self.new_viewers.pop_front()) else { break };
                if self.quarantined.contains_key(&key) {
                    continue; // Has a turn of its own, below.
                }
                batch.extend(self.begin_lookup(key));
            }
            self.spawn_lookup(batch, false);
        }
        // Suspects are asked alone and one at a time, so that a policy that sleeps holds up nobody but its viewer.
        if self.lookups.len() < LOOKUP_CONCURRENCY && !self.in_flight.values().any(|asked| asked.is_isolated)
        {
            self.quarantined.retain(|key, _| self.graph.conn(*key).is_some());
            let ready = self
                .quarantined
                .iter()
                .find(|(key, suspect)| suspect.not_before <= now && self.graph.needs_lookup(**key));
            if let Some(key) = ready.map(|(key, _)| *key) {
                let question = self.begin_lookup(key);
                self.spawn_lookup(question.into_iter().collect(), true);
            }
        }
    }

    fn begin_lookup(&mut self, key: ViewerKey) -> Option<(ViewerKey, LookupQuery)> {
        let (caller, follows, about) = self.graph.begin_lookup(key)?;
        Some((key, LookupQuery { principal: caller, follows, subjects: about }))
    }

    fn spawn_lookup(&mut self, batch: Vec<(ViewerKey, LookupQuery)>, alone: bool) {
        if batch.is_empty() {
            return;
        }
        let (viewers, questions): (Vec<ViewerKey>, Vec<LookupQuery>) = batch.into_iter().unzip();
        let database = self.database.clone();
        let task = self.lookups.spawn(async move {
            let started = Instant::now();
            let answers = timeout(LOOKUP_TIMEOUT * 2, look_up(&database, LOOKUP_TIMEOUT, &questions)).await;
            metrics::histogram!(metric::RLS_QUERY).record(started.elapsed().as_secs_f64());
            answers.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
        });
        self.in_flight.insert(task.id(), Lookup { viewers, started_in_pass: self.pass, is_isolated: alone });
    }

    async fn on_lookup_done(&mut self, id: Id, answers: Result<Vec<LookupResult>, PgError>) {
        let Some(Lookup { viewers, started_in_pass: since, is_isolated: alone }) = self.in_flight.remove(&id)
        else {
            return;
        };
        match answers {
            Ok(answers) => {
                let mut tells = Vec::new();
                // Whoever changed while the look-up was under way may have changed after it.
                let overtaken: HashSet<UserId> = self
                    .recent_users
                    .iter()
                    .filter(|(pass, _)| *pass > since)
                    .map(|(_, user)| *user)
                    .collect();
                let typing = self.recent_typing.iter().filter(|(pass, _)| *pass > since);
                let typing: Vec<TypingUser> = typing.map(|(_, typist)| *typist).collect();
                if !typing.is_empty() {
                    self.pending.requeue_typing(typing);
                }
                for (key, answer) in viewers.into_iter().zip(answers) {
                    match answer {
                        Ok(view) => {
                            self.quarantined.remove(&key);
                            let seen = view.candidates.iter().map(|sighting| sighting.user_id);
                            let again: Vec<UserId> = seen.filter(|user| overtaken.contains(user)).collect();
                            if !again.is_empty() {
                                self.pending.requeue_users(again);
                            }
                            tells.extend(self.graph.apply_lookup(key, view));
                        }
                        Err(state) => tells.extend(self.quarantine(key, &format!("a policy raised {state}"))),
                    }
                    if self.graph.needs_lookup(key) {
                        self.due.push_back(key);
                    }
                }
                self.deliver(tells).await;
            }
            Err(error) if error.is_transient() => {
                for key in &viewers {
                    self.graph.lookup_failed(*key);
                }
                self.due.extend(viewers);
                self.database_failed(&error, Default::default(), false);
            }
            // Somebody's policy did not come to an end, or broke the statement: each is asked alone to find out whose.
            Err(error) => {
                for key in viewers {
                    if alone {
                        let tells = self.quarantine(key, &format!("a policy failed: {error}"));
                        self.deliver(tells).await;
                    } else {
                        self.graph.lookup_failed(key);
                        let now = Instant::now();
                        self.quarantined.insert(
                            key,
                            Quarantine { not_before: now, pause: INITIAL_BACKOFF, was_notified: false },
                        );
                    }
                }
            }
        }
        let oldest = self.in_flight.values().map(|asked| asked.started_in_pass).min();
        match oldest {
            None => {
                self.recent_users.clear();
                self.recent_typing.clear();
            }
            Some(oldest) => {
                while self.recent_users.front().is_some_and(|(pass, _)| *pass <= oldest) {
                    self.recent_users.pop_front();
                }
                while self.recent_typing.front().is_some_and(|(pass, _)| *pass <= oldest) {
                    self.recent_typing.pop_front();
                }
            }
        }
    }

    /// A viewer whose policies raise sees nobody, is told so once, and is asked again with growing pauses.
    fn quarantine(&mut self, key: ViewerKey, why: &str) -> Vec<GraphUpdate> {
        let now = Instant::now();
        let suspect = self.quarantined.entry(key).or_insert(Quarantine {
            not_before: now,
            pause: INITIAL_BACKOFF,
            was_notified: false,
        });
        suspect.not_before = now + with_jitter(suspect.pause);
        suspect.pause = (suspect.pause * 2).min(MAX_BACKOFF);
        let first = !std::mem::replace(&mut suspect.was_notified, true);
        let mut tells = self.graph.hide_all(key);
        if first {
            tracing::warn!(why, "row-level security failed for a viewer");
            tells.extend(self.graph.conn(key).map(GraphUpdate::VisibilityFailed));
        }
        tells
    }

    // Telling ----------------------------------------------------------------------------------------------------

    async fn deliver(&self, tells: Vec<GraphUpdate>) {
        if tells.is_empty() {
            return;
        }
        let deliveries = tells.into_iter().map(|tell| match tell {
            GraphUpdate::InitialState(conn, presences) => {
                delivery(None, ServerMessage::InitialState(presences), vec![conn])
            }
            GraphUpdate::VisibilityFailed(conn) => {
                let message = "the policies that decide whom you see raise an error for you; trying again";
                let error = WireError::new(ErrorCode::VisibilityFailed, message);
                delivery(None, ServerMessage::Error(error), vec![conn])
            }
            GraphUpdate::Typing(state, to) => {
                let key = StateKey::Typing(state.conversation_id, state.user_id);
                delivery(Some(key), ServerMessage::Typing(state), to)
            }
            GraphUpdate::Presence(presence, to) => {
                delivery(Some(StateKey::Presence(presence.user_id)), ServerMessage::Presence(presence), to)
            }
        });
        if self.hub.fan_out(deliveries.collect()).await.is_err() {
            tracing::debug!("nobody is left to tell");
        }
    }
}

fn delivery(key: Option<StateKey>, message: ServerMessage, to: Vec<ConnId>) -> Delivery {
    Delivery { key, message: Encodable::new(message), to }
}

fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
