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
    inbox::{Heard, Inbox},
    sight::{Sight, Tell, ViewerKey},
};
use crate::{
    auth::Caller,
    hub::{ConnId, Delivery, Encodable, Hub, StateKey},
    model::{Typist, UserId},
    pg::{
        Database, PgError,
        queries::{
            node,
            presence::{Answer, Pulled, Question, Void, look, pull},
        },
    },
    protocol::{ErrorCode, ServerMessage, WireError},
    telemetry::metric,
};

/// Look-ups under way at once; each holds one of the server's own connections.
const LOOKERS: usize = 3;
/// Viewers in one look-up. A viewer with 50 relations takes half a millisecond.
const VIEWERS_A_LOOK: usize = 32;
/// How long a look-up may take in the database. Over it its viewers are asked one by one.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long a snapshot may take to read.
const PULL_LIMIT: Duration = Duration::from_secs(10);
/// Users read in one pass; the others wait for the next.
const USERS_A_PASS: usize = 5_000;
/// Users that one connection may follow beside its relations.
const MOST_FOLLOWED: usize = 1_000;
/// Commands that may wait. Over it sessions wait for room.
const COMMANDS: usize = 4_096;
/// A snapshot older than this may miss log entries that were tidied away (after two minutes, see rollcall.sweep).
const OLDEST_SNAPSHOT: Duration = Duration::from_secs(60);
/// Between attempts on a viewer whose policies raise, or a database that fails: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

enum Command {
    Join { conn: ConnId, user: UserId, caller: Caller, follows: Vec<UserId> },
    Leave { conn: ConnId },
    ActAs { conn: ConnId, caller: Caller },
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
    pub async fn join(&self, conn: ConnId, user: UserId, caller: Caller, follows: Vec<UserId>) {
        self.send(Command::Join { conn, user, caller, follows }).await;
    }

    /// Forgets a connection.
    pub async fn leave(&self, conn: ConnId) {
        self.send(Command::Leave { conn }).await;
    }

    /// A connection shows a new token.
    pub async fn act_as(&self, conn: ConnId, caller: Caller) {
        self.send(Command::ActAs { conn, caller }).await;
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
pub struct Pump {
    database: Database,
    hub: Hub,
    inbox: Arc<Inbox>,
    commands: mpsc::Receiver<Command>,
    sight: Sight,
    /// Up to where changes of visibility are known; `None` before the first pass.
    snapshot: Option<(String, Instant)>,
    policies: Policies,
    lookers: JoinSet<Result<Vec<Answer>, PgError>>,
    asked: HashMap<Id, Asked>,
    /// Viewers to be asked again. They come before newcomers: what was taken from them is to be told soon.
    due: VecDeque<ViewerKey>,
    /// Viewers that have heard nothing yet.
    newcomers: VecDeque<ViewerKey>,
    /// Viewers whose policies raised or did not end: asked alone, one at a time, with pauses.
    suspects: HashMap<ViewerKey, Suspect>,
    /// Users heard of while look-ups are under way, by the pass in which they were.
    recent: VecDeque<(u64, UserId)>,
    /// The same for those who began or ceased to type.
    recent_typists: VecDeque<(u64, Typist)>,
    pass: u64,
    /// The database failed a moment ago: nothing is asked before this.
    not_before: Option<Instant>,
    retry: Duration,
}

struct Asked {
    viewers: Vec<ViewerKey>,
    since: u64,
    alone: bool,
}

struct Suspect {
    not_before: Instant,
    pause: Duration,
    told: bool,
}

/// What is known of the policies as such.
#[derive(Debug, Default)]
struct Policies {
    /// No event trigger tells of changes, so each pass compares.
    by_fingerprint: bool,
    fingerprint: Option<i64>,
    /// They look at the state of a presence: each change must be asked again.
    read_state: bool,
}

/// Makes a pump and its handle.
#[must_use]
pub fn visibility(database: Database, hub: Hub, inbox: Arc<Inbox>) -> (Visibility, Pump) {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let pump = Pump {
        database,
        hub,
        inbox,
        commands,
        sight: Sight::default(),
        snapshot: None,
        policies: Policies::default(),
        lookers: JoinSet::new(),
        asked: HashMap::new(),
        due: VecDeque::new(),
        newcomers: VecDeque::new(),
        suspects: HashMap::new(),
        recent: VecDeque::new(),
        recent_typists: VecDeque::new(),
        pass: 0,
        not_before: None,
        retry: FIRST_RETRY,
    };
    (Visibility { commands: sender }, pump)
}

impl Pump {
    /// Pumps until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let resting = self.not_before;
            let wake_at = self.next_wake();
            select! {
                () = stop.cancelled() => return,
                Some(done) = self.lookers.join_next_with_id(), if !self.lookers.is_empty() => {
                    let (id, answers) = match done {
                        Ok(done) => done,
                        Err(error) => (error.id(), Err(PgError::Unavailable(error.into()))),
                    };
                    self.looked(id, answers).await;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = self.inbox.ready(), if resting.is_none() => {
                    let heard = self.inbox.take();
                    self.run_pass(heard).await;
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    if self.not_before.is_some_and(|at| at <= Instant::now()) {
                        self.not_before = None;
                    }
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.start_looks();
            metrics::gauge!(metric::EDGES).set(self.sight.edges() as f64);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let suspects =
            self.suspects.iter().filter(|(key, _)| self.sight.is_due(**key)).map(|(_, s)| s.not_before);
        self.not_before.into_iter().chain(suspects).min()
    }

    fn obey(&mut self, command: Command) {
        let key = match command {
            Command::Join { conn, user, caller, follows } => {
                Some(self.sight.join(conn, user, caller, follows))
            }
            Command::Leave { conn } => {
                self.sight.leave(conn);
                None
            }
            Command::ActAs { conn, caller } => self.sight.act_as(conn, caller),
            Command::Follow { conn, users } => self.sight.follow(conn, &users, MOST_FOLLOWED),
        };
        self.due.extend(key);
    }

    // One pass ---------------------------------------------------------------------------------------------------

    async fn run_pass(&mut self, heard: Heard) {
        let Heard { users, typists, look: _, resync } = heard;
        let typists: Vec<Typist> = typists.into_iter().collect();
        let tidied = self.snapshot.as_ref().is_some_and(|(_, at)| at.elapsed() > OLDEST_SNAPSHOT);
        if resync || tidied || self.snapshot.is_none() {
            metrics::counter!(metric::RESYNCS).increment(1);
            if let Err(error) = self.learn_policies().await {
                self.database_failed(&error, (users, typists), true);
                return;
            }
            self.snapshot = None;
        }
        let resync = self.snapshot.is_none();

        self.pass += 1;
        if !self.asked.is_empty() {
            self.recent.extend(users.iter().map(|user| (self.pass, *user)));
            self.recent_typists.extend(typists.iter().map(|typist| (self.pass, *typist)));
        }
        let mut watched: Vec<UserId> =
            users.into_iter().filter(|user| self.sight.is_watched(*user)).collect();
        if watched.len() > USERS_A_PASS {
            self.inbox.read_again(watched.split_off(USERS_A_PASS));
        }

        let pulled = match self.pull(&watched, &typists).await {
            Ok(pulled) => pulled,
            Err(error) => {
                self.database_failed(&error, (watched.into_iter().collect(), typists), resync);
                return;
            }
        };
        self.retry = FIRST_RETRY;
        let Pulled { snapshot, fingerprint, voids, faces, typing } = pulled;
        self.snapshot = Some((snapshot, Instant::now()));
        let policies_changed = self.policies.by_fingerprint
            && std::mem::replace(&mut self.policies.fingerprint, fingerprint) != fingerprint;
        if resync || policies_changed {
            self.due.extend(self.sight.void(&Void { viewers: None, subjects: None }));
        }
        let mut everything = policies_changed;
        for void in &voids {
            everything |= void.viewers.is_none() && void.subjects.is_none();
            self.due.extend(self.sight.void(void));
        }
        if everything {
            if let Err(error) = self.learn_policies().await {
                self.database_failed(&error, Default::default(), true);
                return;
            }
        }
        if self.policies.read_state && !watched.is_empty() {
            let subjects = Some(watched.clone());
            self.due.extend(self.sight.void(&Void { viewers: None, subjects }));
        }
        let mut tells = self.sight.changed(&watched, faces);
        let (typing, due) = self.sight.typing_changed(&typing);
        tells.extend(typing);
        self.due.extend(due);
        self.tell(tells).await;
    }

    async fn pull(&self, users: &[UserId], typists: &[Typist]) -> Result<Pulled, PgError> {
        let since = self.snapshot.as_ref().map(|(snapshot, _)| snapshot.as_str());
        let read = async {
            let connection = self.database.own().await?;
            pull(&connection, users, typists, since, self.policies.by_fingerprint).await
        };
        timeout(PULL_LIMIT, read)
            .await
            .unwrap_or_else(|_| Err(PgError::Unavailable("reading took too long".into())))
    }

    /// Learns how policies are to be treated; they may have changed.
    async fn learn_policies(&mut self) -> Result<(), PgError> {
        let learn = async {
            let connection = self.database.own().await?;
            let watched = node::policies_are_watched(&connection).await?;
            if !watched {
                node::watch_sources(&connection).await?;
            }
            Ok((watched, node::policies_read_state(&connection).await?))
        };
        let (watched, read_state) = timeout(PULL_LIMIT, learn)
            .await
            .unwrap_or_else(|_| Err(PgError::Unavailable("reading took too long".into())))?;
        self.policies.by_fingerprint = !watched;
        self.policies.read_state = read_state;
        Ok(())
    }

    /// Rests for a moment and then does it all again: what was heard is not lost.
    fn database_failed(
        &mut self,
        error: &PgError,
        (users, typists): (HashSet<UserId>, Vec<Typist>),
        resync: bool,
    ) {
        tracing::warn!(error = ?error, retry_ms = self.retry.as_millis(), "could not read presence");
        self.not_before = Some(Instant::now() + jittered(self.retry));
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.inbox.read_again(users);
        self.inbox.read_typing_again(typists);
        if resync {
            self.inbox.resync();
        }
    }

    // Look-ups ---------------------------------------------------------------------------------------------------

    fn start_looks(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        while self.lookers.len() < LOOKERS && !(self.due.is_empty() && self.newcomers.is_empty()) {
            let mut batch = Vec::new();
            while batch.len() < VIEWERS_A_LOOK {
                let Some(key) = self.due.pop_front().or_else(|| self.newcomers.pop_front()) else { break };
                if self.suspects.contains_key(&key) {
                    continue; // Has a turn of its own, below.
                }
                batch.extend(self.question(key));
            }
            self.look(batch, false);
        }
        // Suspects are asked alone and one at a time, so that a policy that sleeps holds up nobody but its viewer.
        if self.lookers.len() < LOOKERS && !self.asked.values().any(|asked| asked.alone) {
            self.suspects.retain(|key, _| self.sight.conn(*key).is_some());
            let ready = self
                .suspects
                .iter()
                .find(|(key, suspect)| suspect.not_before <= now && self.sight.is_due(**key));
            if let Some(key) = ready.map(|(key, _)| *key) {
                let question = self.question(key);
                self.look(question.into_iter().collect(), true);
            }
        }
    }

    fn question(&mut self, key: ViewerKey) -> Option<(ViewerKey, Question)> {
        let (caller, follows, about) = self.sight.begin(key)?;
        Some((key, Question { caller, follows, about }))
    }

    fn look(&mut self, batch: Vec<(ViewerKey, Question)>, alone: bool) {
        if batch.is_empty() {
            return;
        }
        let (viewers, questions): (Vec<ViewerKey>, Vec<Question>) = batch.into_iter().unzip();
        let database = self.database.clone();
        let task = self.lookers.spawn(async move {
            let started = Instant::now();
            let answers = timeout(LOOK_LIMIT * 2, look(&database, LOOK_LIMIT, &questions)).await;
            metrics::histogram!(metric::RLS_QUERY).record(started.elapsed().as_secs_f64());
            answers.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
        });
        self.asked.insert(task.id(), Asked { viewers, since: self.pass, alone });
    }

    async fn looked(&mut self, id: Id, answers: Result<Vec<Answer>, PgError>) {
        let Some(Asked { viewers, since, alone }) = self.asked.remove(&id) else { return };
        match answers {
            Ok(answers) => {
                let mut tells = Vec::new();
                // Whoever changed while the look-up was under way may have changed after it.
                let overtaken: HashSet<UserId> =
                    self.recent.iter().filter(|(pass, _)| *pass > since).map(|(_, user)| *user).collect();
                let typing = self.recent_typists.iter().filter(|(pass, _)| *pass > since);
                let typing: Vec<Typist> = typing.map(|(_, typist)| *typist).collect();
                if !typing.is_empty() {
                    self.inbox.read_typing_again(typing);
                }
                for (key, answer) in viewers.into_iter().zip(answers) {
                    match answer {
                        Ok(view) => {
                            self.suspects.remove(&key);
                            let seen = view.sightings.iter().map(|sighting| sighting.user_id);
                            let again: Vec<UserId> = seen.filter(|user| overtaken.contains(user)).collect();
                            if !again.is_empty() {
                                self.inbox.read_again(again);
                            }
                            tells.extend(self.sight.answered(key, view));
                        }
                        Err(state) => tells.extend(self.suspect(key, &format!("a policy raised {state}"))),
                    }
                    if self.sight.is_due(key) {
                        self.due.push_back(key);
                    }
                }
                self.tell(tells).await;
            }
            Err(error) if error.is_transient() => {
                for key in &viewers {
                    self.sight.failed(*key);
                }
                self.due.extend(viewers);
                self.database_failed(&error, Default::default(), false);
            }
            // Somebody's policy did not come to an end, or broke the statement: each is asked alone to find out whose.
            Err(error) => {
                for key in viewers {
                    if alone {
                        let tells = self.suspect(key, &format!("a policy failed: {error}"));
                        self.tell(tells).await;
                    } else {
                        self.sight.failed(key);
                        let now = Instant::now();
                        self.suspects
                            .insert(key, Suspect { not_before: now, pause: FIRST_RETRY, told: false });
                    }
                }
            }
        }
        let oldest = self.asked.values().map(|asked| asked.since).min();
        match oldest {
            None => {
                self.recent.clear();
                self.recent_typists.clear();
            }
            Some(oldest) => {
                while self.recent.front().is_some_and(|(pass, _)| *pass <= oldest) {
                    self.recent.pop_front();
                }
                while self.recent_typists.front().is_some_and(|(pass, _)| *pass <= oldest) {
                    self.recent_typists.pop_front();
                }
            }
        }
    }

    /// A viewer whose policies raise sees nobody, is told so once, and is asked again with growing pauses.
    fn suspect(&mut self, key: ViewerKey, why: &str) -> Vec<Tell> {
        let now = Instant::now();
        let suspect =
            self.suspects.entry(key).or_insert(Suspect { not_before: now, pause: FIRST_RETRY, told: false });
        suspect.not_before = now + jittered(suspect.pause);
        suspect.pause = (suspect.pause * 2).min(LAST_RETRY);
        let first = !std::mem::replace(&mut suspect.told, true);
        let mut tells = self.sight.blind(key);
        if first {
            tracing::warn!(why, "row-level security failed for a viewer");
            tells.extend(self.sight.conn(key).map(Tell::Failed));
        }
        tells
    }

    // Telling ----------------------------------------------------------------------------------------------------

    async fn tell(&self, tells: Vec<Tell>) {
        if tells.is_empty() {
            return;
        }
        let deliveries = tells.into_iter().map(|tell| match tell {
            Tell::Initial(conn, presences) => {
                delivery(None, ServerMessage::InitialState(presences), vec![conn])
            }
            Tell::Failed(conn) => {
                let message = "the policies that decide whom you see raise an error for you; trying again";
                let error = WireError::new(ErrorCode::VisibilityFailed, message);
                delivery(None, ServerMessage::Error(error), vec![conn])
            }
            Tell::Typing(state, to) => {
                let key = StateKey::Typing(state.conversation_id, state.user_id);
                delivery(Some(key), ServerMessage::Typing(state), to)
            }
            Tell::State(presence, to) => {
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

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
