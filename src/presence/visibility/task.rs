//! The task that turns notifications into messages to viewers.
//!
//! A pass takes the pending changes, reads the changed faces and the new part of the visibility log in one snapshot,
//! invalidates what the log names, and delivers the rest. Meanwhile up to [`LOOKUP_CONCURRENCY`] lookups query
//! row-level security for viewers with invalid subjects (new viewers included). Users that change while a lookup is in
//! flight are read again after it, so that no change is lost between the two.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    select,
    sync::mpsc,
    task::{Id, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    graph::{AfterRead, GraphUpdate, Interest, Resumed, ViewerKey, VisibilityGraph},
    pending::{PendingBatch, PendingChanges},
    recheck_budget::{DeferredViewers, RecheckBudget},
};
use crate::{
    auth::Principal,
    backoff::Backoff,
    hub::{CloseCode, ConnId, Delivery, Encodable, Hub, ReadProgress, StateKey},
    lifecycle::ErrorChain,
    model::{Position, TypingUser, UserId},
    pg::{
        Connection, Database, PgError,
        queries::{
            node,
            presence::{Invalidation, LookupQuery, LookupResult, Snapshot, look_up, read_snapshot},
        },
    },
    protocol::{ErrorCode, ServerMessage, WireError},
    settings::{Limit, duration_within, limit},
    telemetry::metric,
};

/// Concurrent lookups; each uses one of the server's own connections.
const LOOKUP_CONCURRENCY: usize = 3;
/// Viewers per lookup. A viewer with 50 relations takes half a millisecond.
const LOOKUP_BATCH_SIZE: usize = 32;
/// One of so many viewers of a lookup is a new one, so that new ones are not starved.
const NEW_VIEWER_SHARE: usize = 8;
/// Timeout of a lookup in the database. After it, its viewers are looked up one by one.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of reading a snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);
/// Users read per pass; the others wait for the next one.
const MAX_USERS_PER_PASS: usize = 5_000;
/// Maximum number of users that one connection follows in addition to its relations.
const MAX_FOLLOWED_USERS: usize = 1_000;
/// Capacity of the command queue. Sessions wait while it is full.
const COMMAND_QUEUE_CAPACITY: usize = 4_096;
/// Maximum age of the snapshot. An older one may miss log entries that were purged (after two minutes, see
/// rollcall.sweep).
const MAX_SNAPSHOT_AGE: Duration = Duration::from_secs(60);
/// Time between what a viewer is sent and its position. What was sent within it before a reconnect is sent again.
const POSITION_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum of [`ResumeSettings::window`].
const MAX_RESUME_WINDOW: Duration = Duration::from_secs(3_600);
/// After a read of groups with more members than this, the next read waits for [`PAUSE_PER_MEMBER`] for each. Changes of
/// the same groups are merged meanwhile: PostgreSQL takes 3 ms to return 10,000 members.
const MEMBERS_WITHOUT_PAUSE: usize = 1_000;
const PAUSE_PER_MEMBER: Duration = Duration::from_micros(10);
const MAX_PAUSE_AFTER_GROUPS: Duration = Duration::from_millis(200);
/// Pauses after a policy error or a database error: doubling, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

enum Command {
    Join { conn: ConnId, user: UserId, principal: Principal, interest: Interest, resume: Resume },
    Leave { conn: ConnId },
    SetPrincipal { conn: ConnId, principal: Principal },
    Follow { conn: ConnId, users: Vec<UserId> },
    SetPage { conn: ConnId, page: Option<Arc<str>> },
}

/// Whether a connection can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The client knows no positions.
    Never,
    /// The client will be told positions.
    Later,
    /// The client presents the position of its previous connection.
    From(Position),
}

/// How long and how much is kept of closed connections.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits (0 disables)")]
pub struct ResumeSettings {
    /// Time after the close of a presence socket or stream within which a client that reconnects to the same node gets
    /// only what changed; 0 means never
    #[arg(
        id = "resume-window",
        long = "resume-window",
        env = "RESUME_WINDOW",
        default_value = "2m",
        value_parser = duration_within(Duration::ZERO..=MAX_RESUME_WINDOW)
    )]
    pub window: Duration,
    /// Memory for what closed presence sockets and streams were told, in MiB (1,048,576 bytes) on this node. Above it,
    /// the oldest are forgotten, and their clients get the full state
    #[arg(
        id = "resume-memory-mb",
        long = "resume-memory-mb",
        env = "RESUME_MEMORY_MB",
        default_value = "64",
        value_parser = limit
    )]
    pub memory_mb: Limit,
}

impl ResumeSettings {
    fn max_bytes(&self) -> usize {
        self.memory_mb.map_or(usize::MAX, |mb| (mb.get() as usize) << 20)
    }
}

/// Handle of the visibility task, for sessions.
#[derive(Clone)]
pub struct Visibility {
    commands: mpsc::Sender<Command>,
}

impl Visibility {
    /// Creates the visibility task and its handle.
    #[must_use]
    pub fn new(
        database: Database,
        hub: Hub,
        pending: Arc<PendingChanges>,
        resume: ResumeSettings,
    ) -> (Self, VisibilityTask) {
        let (sender, commands) = mpsc::channel(COMMAND_QUEUE_CAPACITY);
        let graph = VisibilityGraph::new(hub.connection_settings().outbox.into());
        let task = VisibilityTask {
            database,
            hub,
            pending,
            commands,
            resume,
            positions_due_at: None,
            graph,
            reads: JoinSet::new(),
            snapshot: None,
            cluster: None,
            policy_traits: PolicyTraits::default(),
            lookups: JoinSet::new(),
            in_flight: HashMap::new(),
            urgent: VecDeque::new(),
            due: VecDeque::new(),
            deferred: DeferredViewers::default(),
            budget: RecheckBudget::new(Instant::now()),
            new_viewers: VecDeque::new(),
            quarantined: HashMap::new(),
            recent_users: VecDeque::new(),
            recent_typing: VecDeque::new(),
            pass: 0,
            not_before: None,
            next_pass_at: None,
            backoff: BACKOFF,
        };
        (Self { commands: sender }, task)
    }

    /// Adds a connection. It receives the state of all visible users among its relations and those that it follows, as
    /// far as they are on its page, or what differs from the state at the position that it resumes, then every change.
    pub async fn join(
        &self,
        conn: ConnId,
        user: UserId,
        principal: Principal,
        interest: Interest,
        resume: Resume,
    ) {
        self.send(Command::Join { conn, user, principal, interest, resume }).await;
    }

    pub async fn leave(&self, conn: ConnId) {
        self.send(Command::Leave { conn }).await;
    }

    /// Replaces the principal of a connection after a token refresh.
    pub async fn set_principal(&self, conn: ConnId, principal: Principal) {
        self.send(Command::SetPrincipal { conn, principal }).await;
    }

    /// Adds followed users to a connection, as far as they are visible.
    pub async fn follow(&self, conn: ConnId, users: Vec<UserId>) {
        self.send(Command::Follow { conn, users }).await;
    }

    /// Replaces the page whose users a connection receives; `None` for all users.
    pub async fn set_page(&self, conn: ConnId, page: Option<Arc<str>>) {
        self.send(Command::SetPage { conn, page }).await;
    }

    async fn send(&self, command: Command) {
        // Fails only at shutdown, when the sockets are closed too.
        drop(self.commands.send(command).await);
    }
}

/// The visibility task; [`run`](Self::run) runs it.
pub struct VisibilityTask {
    database: Database,
    hub: Hub,
    pending: Arc<PendingChanges>,
    commands: mpsc::Receiver<Command>,
    resume: ResumeSettings,
    /// When viewers are told their next positions.
    positions_due_at: Option<Instant>,
    graph: VisibilityGraph,
    /// The last snapshot read and its time; `None` before the first pass.
    snapshot: Option<(String, Instant)>,
    /// The cluster and timeline of the last snapshot.
    cluster: Option<String>,
    policy_traits: PolicyTraits,
    /// Waits until clients have read what was delivered; at most one per viewer.
    reads: JoinSet<(ViewerKey, ReadProgress)>,
    lookups: JoinSet<Result<Vec<LookupResult>, PgError>>,
    in_flight: HashMap<Id, Lookup>,
    /// Viewers with subjects to look up before all others.
    urgent: VecDeque<ViewerKey>,
    /// Known viewers to look up. Most precede new ones, so that hidden users are removed soon.
    due: VecDeque<ViewerKey>,
    /// Known viewers that wait for the budget, because all their subjects must be looked up.
    deferred: DeferredViewers,
    budget: RecheckBudget,
    /// Viewers of connections without an initial state.
    new_viewers: VecDeque<ViewerKey>,
    /// Viewers whose policies raised an error or timed out. They are looked up alone, one at a time, with pauses.
    quarantined: HashMap<ViewerKey, Quarantine>,
    /// Users that changed while lookups are in flight, with the pass of the change.
    recent_users: VecDeque<(u64, UserId)>,
    /// Typing states that changed while lookups are in flight, with the pass of the change.
    recent_typing: VecDeque<(u64, TypingUser)>,
    pass: u64,
    /// The database failed; nothing is read before this time.
    not_before: Option<Instant>,
    /// Large groups were read; no snapshot is read before this time.
    next_pass_at: Option<Instant>,
    backoff: Backoff,
}

struct Lookup {
    viewers: Vec<ViewerKey>,
    started_at: Instant,
    started_in_pass: u64,
    kind: LookupKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookupKind {
    /// Of new viewers, and of certain subjects.
    Scoped,
    /// Includes everything that some known viewers see; the budget pays for it.
    Full,
    /// Of one viewer whose policies may raise an error or take long.
    Isolated,
}

struct Quarantine {
    not_before: Instant,
    backoff: Backoff,
    was_notified: bool,
}

/// Properties of the policies.
#[derive(Debug, Default)]
struct PolicyTraits {
    /// No event trigger reports policy changes, so each pass compares the fingerprint.
    compare_fingerprint: bool,
    fingerprint: Option<i64>,
    /// A policy depends on the state of a presence, so each change needs a lookup.
    reads_presence_state: bool,
}

impl VisibilityTask {
    /// Runs the visibility task until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.next_pass_at = self.next_pass_at.filter(|at| *at > Instant::now());
            let is_paused = self.not_before.is_some() || self.next_pass_at.is_some();
            let expires_at = self.graph.expire_parked(Instant::now());
            let wake_at = self.next_wake_at().into_iter().chain(expires_at).min();
            select! {
                () = stop.cancelled() => return,
                Some(done) = self.lookups.join_next_with_id(), if !self.lookups.is_empty() => {
                    let (id, results) = match done {
                        Ok(done) => done,
                        Err(error) => (error.id(), Err(PgError::Unavailable(error.into()))),
                    };
                    self.on_lookup_done(id, results).await;
                }
                Some(Ok((key, progress))) = self.reads.join_next(), if !self.reads.is_empty() => {
                    self.on_read_progress(key, progress).await;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => return,
                },
                () = self.pending.ready(), if !is_paused => {
                    let batch = self.pending.take();
                    self.run_pass(batch).await;
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    if self.not_before.is_some_and(|at| at <= Instant::now()) {
                        self.not_before = None;
                    }
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.handle_command(command).await;
            }
            self.start_lookups();
            self.tell_positions().await;
            metrics::gauge!(metric::VISIBILITY_EDGES).set(self.graph.edge_count() as f64);
            metrics::gauge!(metric::VISIBILITY_DEFERRED).set(self.deferred.len() as f64);
            metrics::gauge!(metric::RESUME_BYTES).set(self.graph.parked_bytes() as f64);
        }
    }

    fn next_wake_at(&self) -> Option<Instant> {
        let quarantined = self
            .quarantined
            .iter()
            .filter(|(key, _)| self.graph.needs_lookup(**key))
            .map(|(_, s)| s.not_before);
        let pauses = self.not_before.into_iter().chain(self.next_pass_at);
        let budget = (!self.deferred.is_empty()).then(|| self.budget.available_at());
        pauses.chain(self.positions_due_at).chain(budget).chain(quarantined).min()
    }

    async fn handle_command(&mut self, command: Command) {
        let key = match command {
            Command::Join { conn, user, principal, interest, resume } => {
                // Nothing was read without viewers, see run_pass.
                if self.graph.is_empty() {
                    self.pending.request_snapshot();
                }
                let key = self.join(conn, (user, principal), interest, resume).await;
                self.new_viewers.extend(key);
                None
            }
            Command::Leave { conn } if self.resume.window.is_zero() => {
                self.graph.remove_viewer(conn);
                None
            }
            Command::Leave { conn } => {
                let expires_at = Instant::now() + self.resume.window;
                self.graph.park(conn, expires_at, self.resume.max_bytes());
                None
            }
            Command::SetPrincipal { conn, principal } => self.graph.set_principal(conn, principal),
            Command::Follow { conn, users } => self.graph.follow(conn, &users, MAX_FOLLOWED_USERS),
            Command::SetPage { conn, page } => self.graph.set_page(conn, page),
        };
        self.due.extend(key);
    }

    async fn join(
        &mut self,
        conn: ConnId,
        (user, principal): (UserId, Principal),
        interest: Interest,
        resume: Resume,
    ) -> Option<ViewerKey> {
        if let Resume::From(position) = resume
            && interest.page.is_none()
        {
            let follows = (&*interest.follows, MAX_FOLLOWED_USERS);
            if let Some(resumed) = self.graph.resume(conn, &principal, (user, position), follows) {
                let Resumed { key, replaced, updates } = resumed;
                metrics::counter!(metric::RESUMES, "result" => "resumed").increment(1);
                self.deliver(updates).await;
                self.close_replaced(replaced).await;
                return Some(key);
            }
            metrics::counter!(metric::RESUMES, "result" => "full").increment(1);
        }
        Some(self.graph.add_viewer(conn, user, principal, interest, resume != Resume::Never))
    }

    /// Closes the connection whose viewer another one resumed. Its client has left it.
    async fn close_replaced(&self, replaced: Option<ConnId>) {
        let Some(connection) = replaced.and_then(|conn| self.hub.connection(conn)) else { return };
        let reason = Cow::Borrowed("resumed by another connection");
        // Fails only at shutdown, when all connections are closed.
        let _ = self.hub.close(&connection, CloseCode::ServiceRestart, reason).await;
    }

    /// Tells viewers the position of what they were sent, some time after it.
    async fn tell_positions(&mut self) {
        let now = Instant::now();
        match self.positions_due_at {
            None if self.graph.has_unpositioned() => self.positions_due_at = Some(now + POSITION_INTERVAL),
            Some(due_at) if due_at <= now => {
                self.positions_due_at = None;
                let positions = self.graph.positions();
                self.deliver(positions).await;
            }
            _ => {}
        }
    }

    // One pass --------------------------------------------------------------------------------------------------

    async fn run_pass(&mut self, batch: PendingBatch) {
        let PendingBatch { users, typing_users, advance_snapshot, resync } = batch;
        let is_known = !resync && self.snapshot.is_some() && !self.policy_traits.compare_fingerprint;
        // Without viewers nothing is read. The first one that joins requests a snapshot, which includes the log since the
        // last one, or replaces everything if that is too old.
        if is_known && self.graph.is_empty() && self.in_flight.is_empty() {
            return;
        }
        let typing_users: Vec<TypingUser> = typing_users.into_iter().collect();
        let is_expired = self.snapshot.as_ref().is_some_and(|(_, at)| at.elapsed() > MAX_SNAPSHOT_AGE);
        if resync || is_expired || self.snapshot.is_none() {
            metrics::counter!(metric::VISIBILITY_RESYNCS).increment(1);
            if let Err(error) = self.load_policy_traits().await {
                self.database_failed(&error, (users, typing_users), true);
                return;
            }
            self.snapshot = None;
        }
        let resync = self.snapshot.is_none();

        self.pass += 1;
        if !self.in_flight.is_empty() {
            self.recent_users.extend(users.iter().map(|user| (self.pass, *user)));
            self.recent_typing
                .extend(typing_users.iter().map(|typing_user| (self.pass, typing_user.clone())));
        }
        let mut watched: Vec<UserId> =
            users.into_iter().filter(|user| self.graph.is_watched(*user)).collect();
        if watched.len() > MAX_USERS_PER_PASS {
            self.pending.requeue_users(watched.split_off(MAX_USERS_PER_PASS));
        }
        // Only users that nobody on this node watches. Changes of visibility have notifications of their own.
        if is_known && !resync && !advance_snapshot && watched.is_empty() && typing_users.is_empty() {
            return;
        }

        let snapshot = match self.read_snapshot(&watched, &typing_users).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.database_failed(&error, (watched.into_iter().collect(), typing_users), resync);
                return;
            }
        };
        self.backoff.reset();
        let Snapshot { snapshot_id, cluster, fingerprint, invalidations, faces, typing } = snapshot;
        // Another cluster or timeline: what was read before proves nothing.
        let resync = resync || self.cluster.as_ref().is_some_and(|known| *known != cluster);
        self.cluster = Some(cluster);
        self.snapshot = Some((snapshot_id, Instant::now()));
        let policies_changed = self.policy_traits.compare_fingerprint
            && std::mem::replace(&mut self.policy_traits.fingerprint, fingerprint) != fingerprint;
        if resync || policies_changed {
            self.due.extend(self.graph.invalidate(&Invalidation::All));
        }
        self.next_pass_at = pause_after(&invalidations).map(|pause| Instant::now() + pause);
        let mut is_global = policies_changed;
        for invalidation in &invalidations {
            let concerns_all = *invalidation == Invalidation::All;
            let viewers = if concerns_all { "all" } else { "some" };
            metrics::counter!(metric::VISIBILITY_INVALIDATIONS, "viewers" => viewers).increment(1);
            is_global |= concerns_all;
            self.due.extend(self.graph.invalidate(invalidation));
        }
        if is_global && let Err(error) = self.load_policy_traits().await {
            self.database_failed(&error, Default::default(), true);
            return;
        }
        if self.policy_traits.reads_presence_state && !watched.is_empty() {
            self.due.extend(self.graph.invalidate(&Invalidation::Subjects(watched.clone())));
        }
        let mut updates = self.graph.apply_faces(&watched, faces);
        let (typing, due) = self.graph.apply_typing(&typing);
        updates.extend(typing);
        self.due.extend(due);
        self.deliver(updates).await;
    }

    async fn read_snapshot(
        &self,
        users: &[UserId],
        typing_users: &[TypingUser],
    ) -> Result<Snapshot, PgError> {
        let since = self.snapshot.as_ref().map(|(snapshot, _)| snapshot.as_str());
        let fingerprint = self.policy_traits.compare_fingerprint;
        let read = |connection| async move {
            read_snapshot(&connection, users, typing_users, since, fingerprint).await
        };
        self.database.within(SNAPSHOT_TIMEOUT, read).await
    }

    /// Reads the properties of the policies, which may have changed.
    async fn load_policy_traits(&mut self) -> Result<(), PgError> {
        let read_traits = |connection: Connection| async move {
            let is_watched = node::policies_are_watched(&connection).await?;
            if !is_watched {
                node::watch_sources(&connection).await?;
            }
            Ok((is_watched, node::policies_read_presence_state(&connection).await?))
        };
        let (is_watched, reads_presence_state) = self.database.within(SNAPSHOT_TIMEOUT, read_traits).await?;
        self.policy_traits.compare_fingerprint = !is_watched;
        self.policy_traits.reads_presence_state = reads_presence_state;
        Ok(())
    }

    /// Pauses, then processes the same changes again.
    fn database_failed(
        &mut self,
        error: &PgError,
        (users, typing_users): (HashSet<UserId>, Vec<TypingUser>),
        resync: bool,
    ) {
        let delay = self.backoff.next_delay();
        tracing::warn!(error = %ErrorChain(error), retry_ms = delay.as_millis(), "presence read failed");
        self.not_before = Some(Instant::now() + delay);
        self.pending.requeue_users(users);
        self.pending.requeue_typing(typing_users);
        if resync {
            self.pending.request_resync();
        }
    }

    // Lookups ---------------------------------------------------------------------------------------------------

    fn start_lookups(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        self.urgent.extend(self.graph.take_urgent());
        while self.lookups.len() < LOOKUP_CONCURRENCY && !self.urgent.is_empty() {
            let mut batch = Vec::new();
            while batch.len() < LOOKUP_BATCH_SIZE
                && let Some(key) = self.urgent.pop_front()
            {
                if !self.quarantined.contains_key(&key) {
                    batch.extend(self.graph.begin_urgent_lookup(key).map(|parts| (key, query_of(parts))));
                }
            }
            self.spawn_lookup(batch, LookupKind::Scoped);
        }
        let has_budget = self.budget.is_available(self.graph.viewer_count(), now);
        if has_budget {
            self.deferred.move_before(&mut self.due);
        }
        while self.lookups.len() < LOOKUP_CONCURRENCY && !(self.due.is_empty() && self.new_viewers.is_empty())
        {
            let mut batch = Vec::new();
            let mut kind = LookupKind::Scoped;
            while batch.len() < LOOKUP_BATCH_SIZE {
                let (first, second) = if batch.len().is_multiple_of(NEW_VIEWER_SHARE) {
                    (&mut self.new_viewers, &mut self.due)
                } else {
                    (&mut self.due, &mut self.new_viewers)
                };
                let Some(key) = first.pop_front().or_else(|| second.pop_front()) else { break };
                if self.quarantined.contains_key(&key) {
                    continue; // Looked up alone, below.
                }
                if self.graph.needs_full_lookup(key) {
                    if !has_budget {
                        self.deferred.push(key);
                        continue;
                    }
                    kind = LookupKind::Full;
                }
                batch.extend(self.graph.begin_lookup(key).map(|parts| (key, query_of(parts))));
            }
            self.spawn_lookup(batch, kind);
        }
        // Quarantined viewers are looked up alone and one at a time, so that a slow policy delays only its own viewer.
        if self.lookups.len() < LOOKUP_CONCURRENCY
            && !self.in_flight.values().any(|lookup| lookup.kind == LookupKind::Isolated)
        {
            self.quarantined.retain(|key, _| self.graph.conn(*key).is_some());
            let ready = self
                .quarantined
                .iter()
                .find(|(key, entry)| entry.not_before <= now && self.graph.needs_lookup(**key));
            if let Some(key) = ready.map(|(key, _)| *key) {
                let parts = self.graph.begin_lookup(key);
                let batch = parts.map(|parts| (key, query_of(parts)));
                self.spawn_lookup(batch.into_iter().collect(), LookupKind::Isolated);
            }
        }
    }

    fn spawn_lookup(&mut self, batch: Vec<(ViewerKey, LookupQuery)>, kind: LookupKind) {
        if batch.is_empty() {
            return;
        }
        let (viewers, queries): (Vec<ViewerKey>, Vec<LookupQuery>) = batch.into_iter().unzip();
        let (database, started_at) = (self.database.clone(), Instant::now());
        let task = self.lookups.spawn(async move {
            let results = look_up(&database, LOOKUP_TIMEOUT, &queries).await;
            metrics::histogram!(metric::RLS_QUERY, "kind" => "visibility")
                .record(started_at.elapsed().as_secs_f64());
            results
        });
        let lookup = Lookup { viewers, started_at, started_in_pass: self.pass, kind };
        self.in_flight.insert(task.id(), lookup);
    }

    async fn on_lookup_done(&mut self, id: Id, results: Result<Vec<LookupResult>, PgError>) {
        let Some(lookup) = self.in_flight.remove(&id) else { return };
        let Lookup { viewers, started_at, started_in_pass, kind } = lookup;
        if kind == LookupKind::Full {
            self.budget.spend(started_at.elapsed());
        }
        match results {
            Ok(results) => {
                let mut updates = Vec::new();
                // Users that changed during the lookup may have changed after its snapshot.
                let changed_users: HashSet<UserId> = self
                    .recent_users
                    .iter()
                    .filter(|(pass, _)| *pass > started_in_pass)
                    .map(|(_, user)| *user)
                    .collect();
                let typing = self.recent_typing.iter().filter(|(pass, _)| *pass > started_in_pass);
                let typing: Vec<TypingUser> = typing.map(|(_, typing_user)| typing_user.clone()).collect();
                if !typing.is_empty() {
                    self.pending.requeue_typing(typing);
                }
                // Not queried: the viewers before them took long. They are next.
                for key in viewers.iter().skip(results.len()).rev() {
                    self.graph.lookup_failed(*key);
                    self.due.push_front(*key);
                }
                for (key, result) in viewers.into_iter().zip(results) {
                    match result {
                        Ok(state) => {
                            self.quarantined.remove(&key);
                            let candidate_ids = state.candidates.iter().map(|candidate| candidate.user_id);
                            let requeued: Vec<UserId> =
                                candidate_ids.filter(|user| changed_users.contains(user)).collect();
                            if !requeued.is_empty() {
                                self.pending.requeue_users(requeued);
                            }
                            updates.extend(self.graph.apply_lookup(key, state));
                        }
                        Err(sqlstate) => {
                            updates.extend(self.quarantine(key, &format!("a policy raised {sqlstate}")))
                        }
                    }
                    if self.graph.needs_lookup(key) {
                        self.due.push_back(key);
                    }
                }
                self.deliver(updates).await;
            }
            Err(error) if error.is_transient() => {
                for key in &viewers {
                    self.graph.lookup_failed(*key);
                }
                self.due.extend(viewers);
                self.database_failed(&error, Default::default(), false);
            }
            // A policy timed out or failed the statement. Each viewer is looked up alone to find out whose.
            Err(error) => {
                for key in viewers {
                    if kind == LookupKind::Isolated {
                        let updates = self.quarantine(key, &format!("a policy failed: {error}"));
                        self.deliver(updates).await;
                    } else {
                        self.graph.lookup_failed(key);
                        let now = Instant::now();
                        self.quarantined.insert(
                            key,
                            Quarantine { not_before: now, backoff: BACKOFF, was_notified: false },
                        );
                    }
                }
            }
        }
        let oldest = self.in_flight.values().map(|lookup| lookup.started_in_pass).min();
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

    /// Quarantines a viewer whose policies raise an error: it sees no users, gets one error message, and is looked up
    /// again with growing pauses.
    fn quarantine(&mut self, key: ViewerKey, reason: &str) -> Vec<GraphUpdate> {
        let now = Instant::now();
        let entry = self.quarantined.entry(key).or_insert(Quarantine {
            not_before: now,
            backoff: BACKOFF,
            was_notified: false,
        });
        entry.not_before = now + entry.backoff.next_delay();
        let is_first = !std::mem::replace(&mut entry.was_notified, true);
        let mut updates = self.graph.hide_all(key);
        if is_first {
            tracing::warn!(reason, "visibility lookup failed for a viewer");
            updates.extend(self.graph.conn(key).map(GraphUpdate::VisibilityFailed));
        }
        updates
    }

    // Delivery --------------------------------------------------------------------------------------------------

    async fn on_read_progress(&mut self, key: ViewerKey, progress: ReadProgress) {
        match progress {
            ReadProgress::Read => {
                let AfterRead { updates, users, needs_lookup } = self.graph.on_read(key);
                if !users.is_empty() {
                    self.pending.requeue_users(users);
                }
                if needs_lookup {
                    self.due.push_back(key);
                }
                self.deliver(updates).await;
            }
            ReadProgress::Stalled => {
                if let Some(connection) =
                    self.graph.on_stalled(key).and_then(|conn| self.hub.connection(conn))
                {
                    connection.close_slow();
                }
                self.start_waits();
            }
            // The session ends, and its viewer with it.
            ReadProgress::Closed => {}
        }
    }

    fn start_waits(&mut self) {
        for (key, conn) in self.graph.take_waits() {
            let hub = self.hub.clone();
            self.reads.spawn(async move { (key, hub.wait_until_read(conn).await) });
        }
    }

    async fn deliver(&mut self, updates: Vec<GraphUpdate>) {
        self.send(updates).await;
        self.start_waits();
    }

    async fn send(&self, updates: Vec<GraphUpdate>) {
        if updates.is_empty() {
            return;
        }
        let deliveries = updates.into_iter().map(|update| match update {
            GraphUpdate::InitialState(conn, presences, position) => {
                delivery(None, ServerMessage::InitialState { presences, position }, vec![conn])
            }
            // Not a state, which could overtake others.
            GraphUpdate::Position(conn, position) => {
                delivery(None, ServerMessage::Position(position), vec![conn])
            }
            GraphUpdate::VisibilityFailed(conn) => {
                let message = "A row-level security policy failed for you, so no presence is shown. The server retries.";
                let error = WireError::new(ErrorCode::VisibilityFailed, message);
                delivery(None, ServerMessage::Error(error), vec![conn])
            }
            GraphUpdate::Typing(state, to) => {
                let key = StateKey::typing(&state.conversation_id, state.user_id);
                delivery(Some(key), ServerMessage::Typing(state), to)
            }
            GraphUpdate::Presence(presence, to) => {
                delivery(Some(StateKey::Presence(presence.user_id)), ServerMessage::Presence(presence), to)
            }
        });
        if self.hub.fan_out(deliveries.collect()).await.is_err() {
            tracing::debug!("hub stopped; updates dropped");
        }
    }
}

fn query_of((principal, follows, subjects): (Principal, Vec<UserId>, Option<Vec<UserId>>)) -> LookupQuery {
    LookupQuery { principal, follows, subjects }
}

/// Time before the next read after one that returned these changes.
fn pause_after(invalidations: &[Invalidation]) -> Option<Duration> {
    let members = invalidations.iter().map(|invalidation| match invalidation {
        Invalidation::Group { members, .. } => members.len(),
        _ => 0,
    });
    let members = members.sum::<usize>();
    let pause = PAUSE_PER_MEMBER * u32::try_from(members).unwrap_or(u32::MAX);
    (members > MEMBERS_WITHOUT_PAUSE).then_some(pause.min(MAX_PAUSE_AFTER_GROUPS))
}

fn delivery(key: Option<StateKey>, message: ServerMessage, to: Vec<ConnId>) -> Delivery {
    Delivery { key, message: Encodable::new(message), to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_groups_delay_the_next_read() {
        let group = |members: usize| Invalidation::Group {
            members: vec![UserId::random(); members],
            moved: vec![UserId::random()],
        };
        assert_eq!(pause_after(&[Invalidation::All, group(1_000)]), None);
        assert_eq!(pause_after(&[group(400), group(4_600)]), Some(Duration::from_millis(50)));
        assert_eq!(pause_after(&[group(100_000)]), Some(Duration::from_millis(200)));
    }
}
