//! A second implementation of the visibility rule, independent of the policies, that runs over the commit log.
//!
//! `SELECT` as the viewer checks quiet points; this checks everything in between.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

/// The visibility rule in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    BuiltIn,
    /// The built-in rule over relations in tables of the application.
    OwnTables,
    /// A policy on the test's own table `test_grants`.
    ByGrant,
}

/// What a frame shows of a user; `None` for a user who is hidden.
pub type ShownState = Option<BTreeMap<&'static str, Value>>;

#[derive(Debug, Clone)]
pub struct LogEntry {
    pub xid: String,
    pub source: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

/// The tables after a commit.
#[derive(Default)]
struct Tables {
    faces: HashMap<(Uuid, String), Value>,
    contacts: HashSet<(Uuid, Uuid)>,
    blocks: HashSet<(Uuid, Uuid)>,
    listed: HashSet<(Uuid, Uuid)>,
    visibility: HashMap<Uuid, String>,
    teams: HashSet<(String, Uuid)>,
    conversations: HashSet<(String, Uuid)>,
    grants: HashSet<(Uuid, Uuid)>,
}

fn id(row: &Value, column: &str) -> Uuid {
    row[column].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{column} in {row}"))
}

fn pair(row: &Value, a: &str, b: &str) -> (Uuid, Uuid) {
    (id(row, a), id(row, b))
}

/// The group as text, whatever its type.
fn membership(row: &Value, group: &str, user: &str) -> (String, Uuid) {
    let group = &row[group];
    (group.as_str().map_or_else(|| group.to_string(), str::to_owned), id(row, user))
}

impl Tables {
    fn apply(&mut self, entry: &LogEntry) {
        if let Some(old) = &entry.old {
            self.set_row(&entry.source, old, false);
        }
        if let Some(new) = &entry.new {
            self.set_row(&entry.source, new, true);
        }
    }

    fn set_row(&mut self, source: &str, row: &Value, there: bool) {
        let (set, key) = match source {
            "user_presence" => {
                let key = (id(row, "user_id"), row["face"].as_str().expect("a face").to_owned());
                if there {
                    self.faces.insert(key, row.clone())
                } else {
                    self.faces.remove(&key)
                };
                return;
            }
            "presence_settings" => {
                let user = id(row, "user_id");
                let visibility = row["visibility"].as_str().expect("a visibility").to_owned();
                if there {
                    self.visibility.insert(user, visibility)
                } else {
                    self.visibility.remove(&user)
                };
                return;
            }
            "contacts" | "friendships" => {
                let (accepted, key) = if source == "contacts" {
                    (!row["accepted_at"].is_null(), pair(row, "requester_id", "addressee_id"))
                } else {
                    (row["state"] == "friends", pair(row, "asker", "target"))
                };
                if accepted && there {
                    self.contacts.insert(key)
                } else {
                    self.contacts.remove(&key)
                };
                return;
            }
            "team_members" | "org_members" | "conversation_participants" | "room_members" => {
                let (groups, key) = match source {
                    "team_members" => (&mut self.teams, membership(row, "team_id", "user_id")),
                    "org_members" => (&mut self.teams, membership(row, "org", "member")),
                    "room_members" => (&mut self.conversations, membership(row, "room", "member")),
                    _ => (&mut self.conversations, membership(row, "conversation_id", "user_id")),
                };
                if there && row["left_at"].is_null() {
                    groups.insert(key)
                } else {
                    groups.remove(&key)
                };
                return;
            }
            "mutes" => (&mut self.blocks, pair(row, "who", "whom")),
            "blocks" => (&mut self.blocks, pair(row, "blocker_id", "blocked_id")),
            "presence_visibility_list" => (&mut self.listed, pair(row, "user_id", "viewer_id")),
            "test_grants" => (&mut self.grants, pair(row, "viewer_id", "subject_id")),
            other => panic!("an unknown source {other}"),
        };
        if there {
            set.insert(key)
        } else {
            set.remove(&key)
        };
    }

    fn are_contacts(&self, a: Uuid, b: Uuid) -> bool {
        self.contacts.contains(&(a, b)) || self.contacts.contains(&(b, a))
    }

    fn share_group(groups: &HashSet<(String, Uuid)>, a: Uuid, b: Uuid) -> bool {
        groups.iter().any(|(group, user)| *user == a && groups.contains(&(group.clone(), b)))
    }

    fn are_related(&self, viewer: Uuid, subject: Uuid) -> bool {
        self.are_contacts(viewer, subject)
            || Self::share_group(&self.teams, viewer, subject)
            || Self::share_group(&self.conversations, viewer, subject)
    }

    fn visible_face(&self, rule: Rule, viewer: Uuid, subject: Uuid) -> Option<&'static str> {
        if rule == Rule::ByGrant {
            return self.grants.contains(&(viewer, subject)).then_some("public");
        }
        if self.blocks.contains(&(viewer, subject)) || self.blocks.contains(&(subject, viewer)) {
            return None;
        }
        if self.listed.contains(&(subject, viewer)) {
            return Some("trusted");
        }
        let allowed = match self.visibility.get(&subject).map_or("contacts", String::as_str) {
            "everyone" => true,
            "contacts" => self.are_contacts(viewer, subject),
            "team" => Self::share_group(&self.teams, viewer, subject),
            _ => false,
        };
        allowed.then_some("public")
    }

    fn visible_state(&self, rule: Rule, viewer: Uuid, follows: &HashSet<Uuid>, subject: Uuid) -> ShownState {
        if !self.are_related(viewer, subject) && !follows.contains(&subject) {
            return None;
        }
        let face = self.visible_face(rule, viewer, subject)?;
        self.faces.get(&(subject, face.to_owned())).map(state_of_row)
    }
}

/// Returns what a frame shows of a row, without times, whose formats differ between PostgreSQL and the server.
pub fn state_of_row(row: &Value) -> BTreeMap<&'static str, Value> {
    let mut shown =
        BTreeMap::from([("status", row["reach"].clone()), ("availability", row["status"].clone())]);
    for field in ["custom_status", "activity", "current_page"] {
        if !row[field].is_null() {
            shown.insert(field, row[field].clone());
        }
    }
    shown.insert("seen", Value::Bool(!row["last_seen"].is_null()));
    shown
}

/// Returns what a frame shows.
pub fn state_of_frame(data: &Value) -> ShownState {
    let mut shown =
        BTreeMap::from([("status", data["status"].clone()), ("availability", data["availability"].clone())]);
    for field in ["custom_status", "activity", "current_page"] {
        if !data[field].is_null() {
            shown.insert(field, data[field].clone());
        }
    }
    shown.insert("seen", Value::Bool(!data["last_seen"].is_null()));
    Some(shown)
}

/// Whether a frame hides a user, which equals a user who was never seen.
pub fn is_hidden(shown: &ShownState) -> bool {
    shown.as_ref().is_some_and(|shown| {
        shown["status"] == "offline"
            && shown["availability"] == "offline"
            && shown["seen"] == Value::Bool(false)
    })
}

/// One viewer's socket: the users it follows and the states it received of each user, in order.
pub struct ReceivedStates {
    pub viewer: Uuid,
    pub follows: HashSet<Uuid>,
    pub frames: HashMap<Uuid, Vec<ShownState>>,
}

/// Checks that every frame shows, in an order that the commits allow, what the viewer was allowed to see at that point.
/// A viewer may skip states, but must not receive one it was never allowed to see, nor go back in time.
pub fn check(rule: Rule, log: &[LogEntry], received: &[ReceivedStates]) -> Result<(), String> {
    let subjects: BTreeSet<Uuid> =
        received.iter().flat_map(|received| received.frames.keys().copied()).collect();
    // What each viewer may see of each user after each commit, without repeats.
    let mut visible: HashMap<(usize, Uuid), Vec<ShownState>> = HashMap::new();
    let mut tables = Tables::default();
    let mut commits = log.chunk_by(|a, b| a.xid == b.xid);
    loop {
        for (index, socket) in received.iter().enumerate() {
            for subject in &subjects {
                let now = tables.visible_state(rule, socket.viewer, &socket.follows, *subject);
                let states = visible.entry((index, *subject)).or_default();
                if states.last() != Some(&now) {
                    states.push(now);
                }
            }
        }
        let Some(commit) = commits.next() else { break };
        commit.iter().for_each(|entry| tables.apply(entry));
    }

    for (index, socket) in received.iter().enumerate() {
        for (subject, frames) in &socket.frames {
            let states = visible.get(&(index, *subject)).map_or(&[][..], Vec::as_slice);
            let mut at = 0;
            for (number, frame) in frames.iter().enumerate() {
                let fits = |state: &ShownState| state == frame || (state.is_none() && is_hidden(frame));
                match states[at.min(states.len())..].iter().position(fits) {
                    Some(step) => at += step,
                    None => {
                        return Err(format!(
                            "viewer {} received in frame {number} a state of {subject} that it was not allowed to see: {frame:?}\n\
                             allowed, in commit order, from state {at}: {states:#?}\nall frames: {frames:#?}",
                            socket.viewer
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
