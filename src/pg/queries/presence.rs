//! Writes presence in batches, and reads it for the server itself and as viewers see it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use postgres_types::ToSql;
use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{ConversationKey, DeviceId, Face, NodeId, Presence, PresenceSummary, Status, TypingUser, UserId},
    pg::{Connection, Database, PgError},
};

/// A face with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedFace {
    pub face: Face,
    /// Version of the face. Not comparable with one read before a reconnect: a restored database counts from an
    /// earlier number.
    pub version: i64,
    pub presence: Arc<Presence>,
    /// [`Presence::digest`] of `presence`.
    pub digest: u64,
}

fn presence_from_row(row: &Row, user_id: UserId) -> Presence {
    Presence {
        user_id,
        status: row.get("status"),
        reach: row.get("reach"),
        last_seen: row.get("last_seen"),
        custom_status: row.get("custom_status"),
        activity: row.get("activity"),
        current_page: row.get("current_page"),
        idle_since: row.get("idle_since"),
    }
}

fn face_from_row(row: &Row) -> VersionedFace {
    let presence = Arc::new(presence_from_row(row, row.get("user_id")));
    let digest = presence.digest();
    VersionedFace { face: row.get("face"), version: row.get("version"), presence, digest }
}

/// A change to a device. The names of the kinds are those of `rollcall_internal.write_presence`.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A status set by the client.
    Status {
        /// The device; `None` for all live devices.
        device: Option<DeviceId>,
        /// The node of the device's socket, if the status came from a socket. A sign-off closes the device's sockets, so
        /// such a status does not bring the device back.
        socket: Option<NodeId>,
        status: Status,
        /// `Some` sets or (with inner `None`) clears the custom status, with its expiry time.
        custom_status: Option<(Option<String>, Option<Timestamp>)>,
        /// `None` keeps the value, an empty string clears it.
        activity: Option<String>,
        /// `None` keeps the value, an empty string clears it.
        current_page: Option<String>,
        /// The device is in the background: seconds for which it stays away after its socket closed.
        background_seconds: Option<i32>,
    },
    /// A socket is open on this node.
    Connect {
        device: DeviceId,
        node: NodeId,
        /// Whether it was just opened, which also clears a sign-off.
        opened: bool,
    },
    /// The device's last socket on this node was closed.
    Disconnect {
        device: DeviceId,
        node: NodeId,
        /// Seconds since the close.
        age: f64,
    },
    /// The device's socket does not respond.
    Unresponsive {
        device: DeviceId,
        node: NodeId,
        /// Seconds since it last sent data.
        age: f64,
    },
    /// A heartbeat of a device without a socket.
    Heartbeat {
        /// The device; `None` for all live devices.
        device: Option<DeviceId>,
        /// Whether the device is in use.
        active: bool,
    },
}

impl Change {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Connect { .. } => "connect",
            Self::Disconnect { .. } => "disconnect",
            Self::Unresponsive { .. } => "silent",
            Self::Heartbeat { .. } => "heartbeat",
        }
    }

    /// Whether the change creates the device if it does not exist.
    #[must_use]
    pub const fn creates_device(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Connect { .. } | Self::Heartbeat { .. })
    }
}

/// A batch as columns, as `unnest` expects it.
#[derive(Default)]
struct Columns<'a> {
    kind: Vec<&'static str>,
    user: Vec<UserId>,
    device: Vec<Option<&'a str>>,
    node: Vec<Option<NodeId>>,
    age: Vec<f64>,
    active: Vec<bool>,
    status: Vec<Option<Status>>,
    set_custom: Vec<bool>,
    custom: Vec<Option<&'a str>>,
    custom_expires: Vec<Option<Timestamp>>,
    activity: Vec<Option<&'a str>>,
    page: Vec<Option<&'a str>>,
    background: Vec<Option<i32>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, user: UserId, change: &'a Change) {
        let (mut node, mut age, mut active, mut status) = (None, 0.0, false, None);
        let (mut custom, mut activity, mut page, mut background) = (None, None, None, None);
        let device = match change {
            Change::Status {
                device,
                socket,
                status: new_status,
                custom_status,
                activity: new_activity,
                current_page,
                background_seconds,
            } => {
                node = *socket;
                status = Some(*new_status);
                custom = custom_status.as_ref();
                activity = new_activity.as_deref();
                page = current_page.as_deref();
                background = *background_seconds;
                device.as_ref()
            }
            Change::Connect { device, node: new_node, opened } => {
                node = Some(*new_node);
                active = *opened;
                Some(device)
            }
            Change::Disconnect { device, node: new_node, age: seconds }
            | Change::Unresponsive { device, node: new_node, age: seconds } => {
                node = Some(*new_node);
                age = *seconds;
                Some(device)
            }
            Change::Heartbeat { device, active: in_use } => {
                active = *in_use;
                device.as_ref()
            }
        };
        self.kind.push(change.kind());
        self.user.push(user);
        self.device.push(device.map(DeviceId::as_str));
        self.node.push(node);
        self.age.push(age);
        self.active.push(active);
        self.status.push(status);
        self.set_custom.push(custom.is_some());
        self.custom.push(custom.and_then(|(text, _)| text.as_deref()));
        self.custom_expires.push(custom.and_then(|(_, expires)| *expires));
        self.activity.push(activity);
        self.page.push(page);
        self.background.push(background);
    }
}

/// Applies a batch with at most one change per user in one transaction. Returns the trusted faces after it. A change of a
/// new device is left out, and its user has no face in the result, if the quota of devices is reached and every device
/// is online.
///
/// # Errors
///
/// If any change fails, all fail.
pub async fn write_batch<'a>(
    client: &Connection,
    batch: impl Iterator<Item = (UserId, &'a Change)>,
) -> Result<Vec<VersionedFace>, PgError> {
    let mut columns = Columns::default();
    for (user, change) in batch {
        columns.push(user, change);
    }
    let statement = include_str!("../../../sql/presence/write.sql");
    let rows = client
        .write(
            statement,
            &[
                &columns.kind,
                &columns.user,
                &columns.device,
                &columns.node,
                &columns.age,
                &columns.active,
                &columns.status,
                &columns.set_custom,
                &columns.custom,
                &columns.custom_expires,
                &columns.activity,
                &columns.page,
                &columns.background,
            ],
        )
        .await?;
    Ok(rows.iter().map(face_from_row).collect())
}

/// Those of the devices that the database does not have as connected to the node.
///
/// # Errors
///
/// If the database does not answer.
pub async fn missing_connections(
    client: &Connection,
    node: NodeId,
    devices: &[(UserId, DeviceId)],
) -> Result<Vec<(UserId, DeviceId)>, PgError> {
    let (users, ids): (Vec<UserId>, Vec<&str>) =
        devices.iter().map(|(user, device)| (*user, device.as_str())).unzip();
    let statement = include_str!("../../../sql/presence/missing_connections.sql");
    let rows = client.query(statement, &[&node, &users, &ids]).await?;
    let device = |row: &Row| DeviceId::try_from(row.get::<_, &str>("device_id")).ok();
    Ok(rows.iter().filter_map(|row| Some((row.get("user_id"), device(row)?))).collect())
}

/// A page of the devices that are recorded as connected to a node.
#[derive(Debug)]
pub struct RecordedConnections {
    pub devices: Vec<(UserId, DeviceId)>,
    /// Start of the next page; `None` after the last one.
    pub last_user: Option<UserId>,
}

/// Reads at most `limit` connected devices of all nodes, after a user, and returns those of one node.
///
/// # Errors
///
/// If the database does not answer.
pub async fn recorded_connections(
    client: &Connection,
    node: NodeId,
    after: Option<UserId>,
    limit: usize,
) -> Result<RecordedConnections, PgError> {
    let after = after.unwrap_or(UserId(uuid::Uuid::nil()));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let statement = include_str!("../../../sql/presence/recorded_connections.sql");
    let row = client.query_one(statement, &[&node, &after, &limit]).await?;
    let (users, devices): (Vec<UserId>, Vec<&str>) = (row.get("users"), row.get("devices"));
    let devices = users.into_iter().zip(devices).filter_map(|(user, device)| {
        let device = DeviceId::try_from(device).ok()?;
        Some((user, device))
    });
    Ok(RecordedConnections { devices: devices.collect(), last_user: row.get("last_user") })
}

/// Those of the users whose rows no other session has locked.
///
/// # Errors
///
/// If the database does not answer.
pub async fn free_users(client: &Connection, users: &[UserId]) -> Result<Vec<UserId>, PgError> {
    let statement = include_str!("../../../sql/presence/free_users.sql");
    Ok(client.write(statement, &[&users]).await?.iter().map(|row| row.get("id")).collect())
}

/// What must be looked up again after a change of visibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// Everything that any viewer sees.
    All,
    /// What these viewers see of the subjects; `None` stands for all subjects.
    Viewers { viewers: Vec<UserId>, subjects: Option<Vec<UserId>> },
    /// What anyone sees of these subjects, whose relations have not changed: only viewers with an edge to a subject,
    /// visible or not, can be affected.
    Subjects(Vec<UserId>),
    /// What the members of a group see of the users that were added to it, removed from it or changed in it, and what
    /// these users see of the members and of each other.
    Group { members: Vec<UserId>, moved: Vec<UserId> },
}

impl Invalidation {
    /// Reads a row of kind `void` or `group`.
    fn from_row(row: &Row) -> Self {
        match (row.get("kind"), row.get("viewers"), row.get("subjects")) {
            ("group", Some(members), Some(moved)) => Self::Group { members, moved },
            // The members cannot be read.
            ("group", ..) | (_, None, None) => Self::All,
            (_, Some(viewers), subjects) => Self::Viewers { viewers, subjects },
            (_, None, Some(subjects)) => Self::Subjects(subjects),
        }
    }
}

/// The content of one snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// ID of the snapshot, to pass to the next read.
    pub snapshot_id: String,
    /// Identity of the cluster and its timeline. Snapshots of different ones cannot be compared.
    pub cluster: String,
    /// Fingerprint of the policies, if requested.
    pub fingerprint: Option<i64>,
    /// All visibility changes since the previous snapshot.
    pub invalidations: Vec<Invalidation>,
    /// Faces of the requested users.
    pub faces: Vec<VersionedFace>,
    /// Typing states of the requested users.
    pub typing: Vec<TypingRecord>,
}

/// Whether a user is typing in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingRecord {
    /// The user and the conversation.
    pub typing_user: TypingUser,
    /// Participants of the conversation, who may be interested.
    pub participants: Vec<UserId>,
    /// Time of the last refresh in microseconds since 1970; `None` if the user is not typing.
    pub since: Option<i64>,
}

/// Reads faces and the visibility changes since a previous snapshot, in one snapshot.
///
/// # Errors
///
/// If the database does not result.
pub async fn read_snapshot(
    client: &Connection,
    users: &[UserId],
    typing_users: &[TypingUser],
    since: Option<&str>,
    fingerprint: bool,
) -> Result<Snapshot, PgError> {
    let statement = include_str!("../../../sql/presence/pull.sql");
    let conversations: Vec<&str> =
        typing_users.iter().map(|typing_user| typing_user.conversation_id.as_str()).collect();
    let typing: Vec<UserId> = typing_users.iter().map(|typing_user| typing_user.user_id).collect();
    let rows = client.query(statement, &[&users, &since, &fingerprint, &conversations, &typing]).await?;
    let mut snapshot = Snapshot::default();
    for row in &rows {
        match row.get("kind") {
            "face" => snapshot.faces.push(face_from_row(row)),
            "void" | "group" => snapshot.invalidations.push(Invalidation::from_row(row)),
            "typing" => snapshot.typing.push(TypingRecord {
                typing_user: TypingUser {
                    conversation_id: ConversationKey::stored(
                        row.get("conversation_id"),
                        row.get("id_is_number"),
                    ),
                    user_id: row.get("user_id"),
                },
                participants: row.get("viewers"),
                since: row.get("version"),
            }),
            _ => {
                snapshot.snapshot_id = row.get("snapshot");
                snapshot.cluster = row.get("cluster");
                snapshot.fingerprint = row.get("version");
            }
        }
    }
    Ok(snapshot)
}

/// A visibility lookup for one viewer.
#[derive(Debug)]
pub struct LookupQuery {
    pub principal: Principal,
    /// Users that the viewer follows in addition to its relations.
    pub follows: Vec<UserId>,
    /// The subjects to look up; `None` for all related and followed users.
    pub subjects: Option<Vec<UserId>>,
}

/// One candidate in a lookup's result.
#[derive(Debug)]
pub struct Candidate {
    /// ID of the candidate.
    pub user_id: UserId,
    /// Whether the user is related to the viewer, not only followed.
    pub related: bool,
    /// The face that the viewer sees; `None` if it sees none.
    pub visible_face: Option<VersionedFace>,
}

/// What a viewer sees.
#[derive(Debug, Default)]
pub struct LookupState {
    pub candidates: Vec<Candidate>,
    /// Users typing in the viewer's conversations.
    pub typing_users: Vec<TypingUser>,
}

/// The result for one viewer, or the SQLSTATE that its policies raised.
pub type LookupResult = Result<LookupState, String>;

/// Error of the first viewer that was not queried, because those before it took long together.
const NOT_QUERIED: &str = "later";

/// Queries row-level security for several viewers at once. Results are in the order of the queries, at least one. If
/// the first viewers take long, there are fewer results than queries.
///
/// # Errors
///
/// If the whole statement fails: [`PgError::StatementTimeout`] if a policy takes longer than `timeout`.
pub async fn look_up(
    database: &Database,
    timeout: Duration,
    queries: &[LookupQuery],
) -> Result<Vec<LookupResult>, PgError> {
    let roles: Vec<&str> = queries.iter().map(|query| query.principal.role.as_str()).collect();
    let claims: Vec<&str> = queries.iter().map(|query| &*query.principal.claims).collect();
    let full: Vec<bool> = queries.iter().map(|query| query.subjects.is_none()).collect();
    let replaced = replace_unknown_follows(database, timeout, queries).await?;
    let read: Vec<HashMap<UserId, UserId>> =
        replaced.iter().map(|replaced| replaced.iter().copied().collect()).collect();
    let rows_of = |viewer: usize, users: &[UserId]| -> Vec<UserId> {
        users.iter().map(|user| *read[viewer].get(user).unwrap_or(user)).collect()
    };
    let numbered = || queries.iter().enumerate();
    let follows: Vec<_> = numbered().map(|(viewer, query)| rows_of(viewer, &query.follows)).collect();
    let (follows, follow_ends) = flatten(follows.iter().map(Vec::as_slice));
    // An unknown user may also be related: both are looked up.
    let subjects: Vec<_> = numbered()
        .map(|(viewer, query)| {
            let subjects = query.subjects.as_deref().unwrap_or_default();
            let stand_ins = subjects.iter().filter_map(|user| read[viewer].get(user));
            subjects.iter().chain(stand_ins).copied().collect()
        })
        .collect::<Vec<Vec<UserId>>>();
    let (subjects, subject_ends) = flatten(subjects.iter().map(Vec::as_slice));

    let statement = include_str!("../../../sql/presence/look.sql");
    let params: [&(dyn ToSql + Sync); 7] =
        [&roles, &claims, &full, &follows, &follow_ends, &subjects, &subject_ends];
    let rows = database.query_with_timeout(timeout, statement, &params).await?;
    let mut results: Vec<LookupResult> = queries.iter().map(|_| Ok(LookupState::default())).collect();
    let (answers, faces): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.get::<_, Option<i32>>("viewer").is_some());
    // Shared by all viewers that see them.
    let faces: HashMap<(UserId, Face), VersionedFace> =
        faces.into_iter().map(face_from_row).map(|face| ((face.presence.user_id, face.face), face)).collect();
    for row in answers {
        let viewer: i32 = row.get("viewer");
        let result = usize::try_from(viewer - 1).ok().and_then(|index| results.get_mut(index));
        let result = result.expect("the statement numbers viewers in the order given");
        if let Some(sqlstate) = row.get::<_, Option<String>>("error") {
            if sqlstate == NOT_QUERIED {
                results.truncate(usize::try_from(viewer - 1).expect("viewers are numbered from 1"));
                break;
            }
            *result = Err(sqlstate);
            continue;
        }
        let Ok(state) = result else { continue };
        let related = row.get::<_, Option<Vec<UserId>>>("related").unwrap_or_default();
        if let Some(conversation) = row.get("conversation_id") {
            let conversation_id = ConversationKey::stored(conversation, row.get("id_is_number"));
            let typing = |user_id| TypingUser { conversation_id: conversation_id.clone(), user_id };
            state.typing_users.extend(related.into_iter().map(typing));
            continue;
        }
        let followed = row.get::<_, Option<Vec<UserId>>>("followed").unwrap_or_default();
        let face: Option<Face> = row.get("face");
        for (users, related) in [(related, true), (followed, false)] {
            state.candidates.extend(users.into_iter().map(|user_id| Candidate {
                user_id,
                related,
                visible_face: face.and_then(|face| faces.get(&(user_id, face)).cloned()),
            }));
        }
    }
    for state in results.iter_mut().flatten() {
        state.remove_duplicates();
    }
    for ((result, query), replaced) in results.iter_mut().zip(queries).zip(&replaced) {
        if let Ok(state) = result
            && !replaced.is_empty()
        {
            state.restore(query, replaced);
        }
    }
    Ok(results)
}

fn flatten<'a>(lists: impl Iterator<Item = &'a [UserId]>) -> (Vec<UserId>, Vec<i32>) {
    let (mut all, mut ends) = (Vec::new(), Vec::new());
    for list in lists {
        all.extend_from_slice(list);
        ends.push(i32::try_from(all.len()).expect("a batch has fewer than 2^31 users"));
    }
    (all, ends)
}

/// A presence in a list, as the caller may see it.
#[derive(Debug)]
pub struct ListedPresence {
    /// The face that the caller sees.
    pub face: VersionedFace,
    /// Whether the user is typing in a conversation shared with the caller.
    pub is_typing: bool,
}

const STAND_INS: &str = include_str!("../../../sql/presence/stand_ins.sql");

/// Whose rows to read for these users, so that row-level security is evaluated whether a user has rows or not. Otherwise
/// the time of an answer would tell whether a user is hidden or unknown.
async fn with_stand_ins(
    database: &Database,
    caller: &Principal,
    users: &[UserId],
) -> Result<Vec<UserId>, PgError> {
    let hides_nothing = caller.is_service() || users.iter().all(|user| caller.user_id == Some(*user));
    if hides_nothing {
        return Ok(users.to_vec());
    }
    let random: Vec<UserId> = users.iter().map(|_| UserId::random()).collect();
    let callers = vec![caller.user_id; users.len()];
    let connection = database.server_connection().await?;
    let rows = connection.query(STAND_INS, &[&users, &random, &callers]).await?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Users that a viewer asked for and that have no row, each with the user whose row is read in its place.
type Replaced = Vec<(UserId, UserId)>;

/// [`with_stand_ins`] for the followed users of several viewers, which are their clients' choice.
async fn replace_unknown_follows(
    database: &Database,
    timeout: Duration,
    queries: &[LookupQuery],
) -> Result<Vec<Replaced>, PgError> {
    let mut replaced: Vec<Replaced> = queries.iter().map(|_| Vec::new()).collect();
    let (mut viewers, mut users, mut callers) = (Vec::new(), Vec::new(), Vec::new());
    for (viewer, query) in queries.iter().enumerate().filter(|(_, query)| !query.principal.is_service()) {
        let followed = match &query.subjects {
            // Only those of the subjects that are followed, in the order in which the client named them.
            Some(subjects) if !query.follows.is_empty() => {
                let subjects: HashSet<&UserId> = subjects.iter().collect();
                query.follows.iter().filter(|user| subjects.contains(user)).collect()
            }
            Some(_) => Vec::new(),
            None => query.follows.iter().collect::<Vec<_>>(),
        };
        for user in followed.into_iter().filter(|user| query.principal.user_id != Some(**user)) {
            viewers.push(viewer);
            users.push(*user);
            callers.push(query.principal.user_id);
        }
    }
    if users.is_empty() {
        return Ok(replaced);
    }
    let random: Vec<UserId> = users.iter().map(|_| UserId::random()).collect();
    let params: [&(dyn ToSql + Sync); 3] = [&users, &random, &callers];
    let rows = database.query_with_timeout(timeout, STAND_INS, &params).await?;
    for ((viewer, user), row) in viewers.into_iter().zip(users).zip(&rows) {
        let read: UserId = row.get("id");
        if read != user {
            replaced[viewer].push((user, read));
        }
    }
    Ok(replaced)
}

impl LookupState {
    /// Keeps one face of each candidate. Only a role that bypasses row-level security sees both faces, and gets the trusted
    /// one.
    fn remove_duplicates(&mut self) {
        let face = |candidate: &Candidate| candidate.visible_face.as_ref().map(|face| face.face);
        self.candidates.sort_unstable_by_key(|it| (it.user_id, face(it) != Some(Face::Trusted)));
        self.candidates.dedup_by_key(|candidate| candidate.user_id);
    }

    /// Takes out the users who stood in for unknown ones, which are not visible.
    fn restore(&mut self, query: &LookupQuery, replaced: &Replaced) {
        let stand_ins: HashSet<UserId> = replaced.iter().map(|(_, stand_in)| *stand_in).collect();
        self.candidates.retain(|candidate| {
            !stand_ins.contains(&candidate.user_id)
                || match &query.subjects {
                    Some(subjects) => subjects.contains(&candidate.user_id),
                    None => candidate.related || query.follows.contains(&candidate.user_id),
                }
        });
        for (user_id, _) in replaced {
            if self.candidates.iter().all(|candidate| candidate.user_id != *user_id) {
                self.candidates.push(Candidate { user_id: *user_id, related: false, visible_face: None });
            }
        }
        // Their typing was read too.
        if let Some(subjects) = &query.subjects {
            self.typing_users.retain(|typing_user| {
                !stand_ins.contains(&typing_user.user_id) || subjects.contains(&typing_user.user_id)
            });
        }
    }
}

/// Presences as the caller may see them: of the given users, or of all users related to the caller.
///
/// # Errors
///
/// If a policy raises an error or the database does not result.
pub async fn list(
    database: &Database,
    caller: &Principal,
    users: Option<&[UserId]>,
) -> Result<Vec<ListedPresence>, PgError> {
    let read = match users {
        Some(users) => Some(with_stand_ins(database, caller, users).await?),
        None => None,
    };
    let rows = database.query_as(caller, include_str!("../../../sql/presence/list.sql"), &[&read]).await?;
    let requested: Option<HashSet<UserId>> = users.map(|users| users.iter().copied().collect());
    Ok(rows
        .iter()
        .filter(|row| requested.as_ref().is_none_or(|users| users.contains(&row.get("user_id"))))
        .map(|row| ListedPresence { face: face_from_row(row), is_typing: row.get("is_typing") })
        .collect())
}

/// The presence of one user as the caller may see it.
///
/// # Errors
///
/// If a policy raises an error or the database does not result.
pub async fn summary(
    database: &Database,
    caller: &Principal,
    user_id: UserId,
) -> Result<Option<PresenceSummary>, PgError> {
    let read = with_stand_ins(database, caller, &[user_id]).await?;
    let read = read.first().copied().unwrap_or(user_id);
    let rows = database.query_as(caller, include_str!("../../../sql/presence/card.sql"), &[&read]).await?;
    Ok(rows.first().filter(|_| read == user_id).map(|row| PresenceSummary {
        user_id,
        online_status: row.get("status"),
        custom_status: row.get("custom_status"),
        last_seen_at: row.get("last_seen"),
        devices_online: row.get("devices_online"),
    }))
}

/// A user's trusted face, for the server itself. Never send it to another user.
///
/// # Errors
///
/// If the database does not result.
pub async fn trusted_face(client: &Connection, user: UserId) -> Result<Option<VersionedFace>, PgError> {
    let statement = include_str!("../../../sql/presence/own.sql");
    Ok(client.query_opt(statement, &[&user]).await?.as_ref().map(face_from_row))
}
