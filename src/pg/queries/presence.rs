//! Writing presence in batches, and reading it: for the server's own eyes, and as viewers see it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use postgres_types::ToSql;
use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{ConversationId, DeviceId, Face, NodeId, Presence, PresenceSummary, Status, TypingUser, UserId},
    pg::{Connection, Database, PgError},
};

/// A face with the number of its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedFace {
    /// Which of the two.
    pub face: Face,
    /// Rises with every state of the face.
    pub version: i64,
    /// The state.
    pub presence: Arc<Presence>,
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
    VersionedFace { face: row.get("face"), version: row.get("version"), presence }
}

/// What a write does to a device; the words are those of `rollcall.write_presence`.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// What the client says of itself.
    Status {
        /// The device; without one it speaks for all live devices.
        device: Option<DeviceId>,
        /// Any of the six.
        status: Status,
        /// `Some` sets or (inside `None`) clears the custom status, with its expiry.
        custom_status: Option<(Option<String>, Option<Timestamp>)>,
        /// `None` keeps what there is, an empty text clears it.
        activity: Option<String>,
        /// `None` keeps what there is, an empty text clears it.
        current_page: Option<String>,
    },
    /// A socket opened on this node, or is still open.
    Connect {
        /// On which device.
        device: DeviceId,
        /// On which node.
        node: NodeId,
        /// Whether it opened just now: that brings back also a device that had signed off.
        opened: bool,
    },
    /// The device's last socket on this node closed.
    Disconnect {
        /// On which device.
        device: DeviceId,
        /// On which node.
        node: NodeId,
        /// Seconds since then.
        age: f64,
    },
    /// The device's socket says nothing.
    Unresponsive {
        /// On which device.
        device: DeviceId,
        /// On which node.
        node: NodeId,
        /// Seconds since it last said something.
        age: f64,
    },
    /// Alive.
    Heartbeat {
        /// The device; without one it speaks for all live devices.
        device: Option<DeviceId>,
        /// Whether somebody looks at it.
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
}

/// A batch as columns, the way `unnest` wants it.
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
}

impl<'a> Columns<'a> {
    fn push(&mut self, user: UserId, change: &'a Change) {
        let (mut node, mut age, mut active, mut status) = (None, 0.0, false, None);
        let (mut custom, mut activity, mut page) = (None, None, None);
        let device = match change {
            Change::Status { device, status: new, custom_status, activity: doing, current_page } => {
                status = Some(*new);
                custom = custom_status.as_ref();
                activity = doing.as_deref();
                page = current_page.as_deref();
                device.as_ref()
            }
            Change::Connect { device, node: here, opened } => {
                node = Some(*here);
                active = *opened;
                Some(device)
            }
            Change::Disconnect { device, node: here, age: seconds }
            | Change::Unresponsive { device, node: here, age: seconds } => {
                node = Some(*here);
                age = *seconds;
                Some(device)
            }
            Change::Heartbeat { device, active: looked_at } => {
                active = *looked_at;
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
    }
}

/// Applies a batch, at most one change a user, in one transaction; returns the trusted faces as they are then.
///
/// # Errors
///
/// When any of it fails, all of it did.
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
        .query(
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
            ],
        )
        .await?;
    Ok(rows.iter().map(face_from_row).collect())
}

/// Whose sight of whom is void; `None` stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// Who looks.
    pub viewers: Option<Vec<UserId>>,
    /// At whom.
    pub subjects: Option<Vec<UserId>>,
}

/// What one snapshot held.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The snapshot, to name in the next pull.
    pub snapshot_id: String,
    /// The policies' fingerprint, where asked for.
    pub fingerprint: Option<i64>,
    /// Every change of visibility since the earlier snapshot.
    pub invalidations: Vec<Invalidation>,
    /// The faces of the users asked for.
    pub faces: Vec<VersionedFace>,
    /// Who types, of those asked for.
    pub typing: Vec<TypingRecord>,
}

/// Somebody types in a conversation, or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingRecord {
    /// Who and where.
    pub typing_user: TypingUser,
    /// Who takes part there, and so may be interested.
    pub participants: Vec<UserId>,
    /// When that was last said, in microseconds since 1970; `None` where the user does not type.
    pub since: Option<i64>,
}

/// Reads faces, and what became void since an earlier snapshot, in one snapshot.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read_snapshot(
    client: &Connection,
    users: &[UserId],
    typists: &[TypingUser],
    since: Option<&str>,
    fingerprint: bool,
) -> Result<Snapshot, PgError> {
    let statement = include_str!("../../../sql/presence/pull.sql");
    let conversations: Vec<ConversationId> = typists.iter().map(|typist| typist.conversation_id).collect();
    let typing: Vec<UserId> = typists.iter().map(|typist| typist.user_id).collect();
    let rows = client.query(statement, &[&users, &since, &fingerprint, &conversations, &typing]).await?;
    let mut pulled = Snapshot::default();
    for row in &rows {
        match row.get("kind") {
            "face" => pulled.faces.push(face_from_row(row)),
            "void" => pulled
                .invalidations
                .push(Invalidation { viewers: row.get("viewers"), subjects: row.get("subjects") }),
            "typing" => pulled.typing.push(TypingRecord {
                typing_user: TypingUser {
                    conversation_id: row.get("conversation_id"),
                    user_id: row.get("user_id"),
                },
                participants: row.get("viewers"),
                since: row.get("version"),
            }),
            _ => {
                pulled.snapshot_id = row.get("snapshot");
                pulled.fingerprint = row.get("version");
            }
        }
    }
    Ok(pulled)
}

/// One viewer's question: whom do I see?
#[derive(Debug)]
pub struct LookupQuery {
    /// Who asks.
    pub principal: Principal,
    /// Whom the viewer follows beside its relations.
    pub follows: Vec<UserId>,
    /// About whom; `None` for everybody related or followed.
    pub subjects: Option<Vec<UserId>>,
}

/// One candidate in an answer.
#[derive(Debug)]
pub struct Candidate {
    /// Who.
    pub user_id: UserId,
    /// Related to the viewer, not merely followed.
    pub related: bool,
    /// What the viewer sees; `None` where it sees nothing.
    pub visible_face: Option<VersionedFace>,
}

/// What a viewer sees.
#[derive(Debug, Default)]
pub struct LookupState {
    /// Of each candidate.
    pub candidates: Vec<Candidate>,
    /// Who types, where the viewer takes part.
    pub typing_users: Vec<TypingUser>,
}

/// What a viewer sees, or that its policies raised (with the SQLSTATE).
pub type LookupResult = Result<LookupState, String>;

/// Asks row-level security for several viewers at once; the answers come in the order of the questions.
///
/// # Errors
///
/// When the statement as a whole fails: [`PgError::TimedOut`] if a policy does not come to an end within `limit`.
pub async fn look_up(
    database: &Database,
    limit: Duration,
    questions: &[LookupQuery],
) -> Result<Vec<LookupResult>, PgError> {
    let roles: Vec<&str> = questions.iter().map(|q| q.principal.role.as_str()).collect();
    let claims: Vec<&str> = questions.iter().map(|q| &*q.principal.claims).collect();
    let full: Vec<bool> = questions.iter().map(|q| q.subjects.is_none()).collect();
    let (follows, follow_ends) = flatten(questions.iter().map(|q| q.follows.as_slice()));
    let (about, about_ends) = flatten(questions.iter().map(|q| q.subjects.as_deref().unwrap_or_default()));

    let statement = include_str!("../../../sql/presence/look.sql");
    let params: [&(dyn ToSql + Sync); 7] =
        [&roles, &claims, &full, &follows, &follow_ends, &about, &about_ends];
    let rows = database.query_with_timeout(limit, statement, &params).await?;
    let mut answers: Vec<LookupResult> = questions.iter().map(|_| Ok(LookupState::default())).collect();
    for row in &rows {
        let viewer: i32 = row.get("viewer");
        let answer = usize::try_from(viewer - 1).ok().and_then(|index| answers.get_mut(index));
        let answer = answer.expect("rollcall.look numbers viewers as they were given");
        if let Some(state) = row.get::<_, Option<String>>("error") {
            *answer = Err(state);
            continue;
        }
        let Ok(LookupState { candidates: sightings, typing_users: typists }) = answer else { continue };
        if let Some(conversation_id) = row.get("conversation_id") {
            typists.push(TypingUser { conversation_id, user_id: row.get("user_id") });
            continue;
        }
        let seen = row.get::<_, Option<Face>>("face").map(|_| face_from_row(row));
        let sighting =
            Candidate { user_id: row.get("user_id"), related: row.get("related"), visible_face: seen };
        match sightings.iter_mut().find(|earlier| earlier.user_id == sighting.user_id) {
            // Only a role that bypasses row-level security sees both faces: it gets the trusted one.
            Some(earlier) => {
                if sighting.visible_face.as_ref().is_some_and(|seen| seen.face == Face::Trusted) {
                    *earlier = sighting;
                }
            }
            None => sightings.push(sighting),
        }
    }
    Ok(answers)
}

fn flatten<'a>(lists: impl Iterator<Item = &'a [UserId]>) -> (Vec<UserId>, Vec<i32>) {
    let (mut all, mut ends) = (Vec::new(), Vec::new());
    for list in lists {
        all.extend_from_slice(list);
        ends.push(i32::try_from(all.len()).expect("a batch names fewer users than an i32 counts"));
    }
    (all, ends)
}

/// A presence in a list, as the caller may see it.
#[derive(Debug)]
pub struct ListedPresence {
    /// The face that the caller sees.
    pub face: VersionedFace,
    /// Typing now, in a conversation shared with the caller.
    pub is_typing: bool,
}

/// Presences as the caller may see them: of those named, or of everybody related to the caller.
///
/// # Errors
///
/// When a policy raises, or the database does not answer.
pub async fn list(
    database: &Database,
    caller: &Principal,
    users: Option<&[UserId]>,
) -> Result<Vec<ListedPresence>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/presence/list.sql"), &[&users]).await?;
    Ok(rows
        .iter()
        .map(|row| ListedPresence { face: face_from_row(row), is_typing: row.get("is_typing") })
        .collect())
}

/// One user as the caller may see them.
///
/// # Errors
///
/// When a policy raises, or the database does not answer.
pub async fn summary(
    database: &Database,
    caller: &Principal,
    user_id: UserId,
) -> Result<Option<PresenceSummary>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/presence/card.sql"), &[&user_id]).await?;
    Ok(rows.first().map(|row| PresenceSummary {
        user_id,
        online_status: row.get("status"),
        custom_status: row.get("custom_status"),
        last_seen_at: row.get("last_seen"),
        devices_online: row.get("devices_online"),
    }))
}

/// A user's trusted face, for the server's own eyes: not to be shown to anybody else.
///
/// # Errors
///
/// When the database does not answer.
pub async fn trusted_face(client: &Connection, user: UserId) -> Result<Option<VersionedFace>, PgError> {
    let statement = include_str!("../../../sql/presence/own.sql");
    Ok(client.query_opt(statement, &[&user]).await?.as_ref().map(face_from_row))
}
