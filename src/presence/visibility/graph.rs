//! Viewers, subjects, and the edges between them.
//!
//! A **viewer** is a connection with its caller. It has an **edge** to everybody it is interested in (its relations,
//! and whom it follows): which face row-level security showed it last, and which state of that face it was told.
//! Plain data: what to tell whom is returned, and the pump passes it on.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use smallvec::SmallVec;

use crate::{
    auth::Principal,
    hub::ConnId,
    model::{Face, Presence, TypingState, TypingUser, UserId},
    pg::queries::presence::{Invalidation, LookupState, TypingRecord, VersionedFace},
};

/// Subjects of one viewer that are asked about one by one; past it, all are.
const MAX_SCOPE_SUBJECTS: usize = 500;

/// Something to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GraphUpdate {
    /// The first thing that a viewer hears.
    InitialState(ConnId, Vec<Arc<Presence>>),
    /// To this viewer nobody is visible, because its policies raise.
    VisibilityFailed(ConnId),
    /// Somebody types, or has stopped, to everybody who may see it.
    Typing(TypingState, Vec<ConnId>),
    /// A state, to everybody who sees it in this shape.
    Presence(Arc<Presence>, Vec<ConnId>),
}

/// About whom a viewer must be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum RecheckScope {
    /// Nobody.
    #[default]
    Empty,
    /// These.
    Subjects(HashSet<UserId>),
    /// Everybody that the viewer is interested in, or would be.
    All,
}

impl RecheckScope {
    fn add(&mut self, subjects: Option<&[UserId]>) {
        let Some(subjects) = subjects else {
            *self = Self::All;
            return;
        };
        match self {
            Self::All => {}
            Self::Empty => *self = Self::Subjects(subjects.iter().copied().collect()),
            Self::Subjects(known) => known.extend(subjects),
        }
        if matches!(self, Self::Subjects(known) if known.len() > MAX_SCOPE_SUBJECTS) {
            *self = Self::All;
        }
    }

    fn contains(&self, subject: UserId) -> bool {
        match self {
            Self::Empty => false,
            Self::Subjects(known) => known.contains(&subject),
            Self::All => true,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// A viewer's place; stale once the viewer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ViewerKey {
    index: u32,
    epoch: u32,
}

/// A subject's place. Four bytes an edge instead of sixteen.
type SubjectIndex = u32;

#[derive(Debug, Clone, Copy)]
struct Edge {
    subject: SubjectIndex,
    /// What row-level security showed last; `None` where it shows nothing.
    face: Option<Face>,
    /// The state that the viewer was told; `None` where it believes in nobody.
    delivered: Option<(Face, i64)>,
}

struct Viewer {
    conn: ConnId,
    user: UserId,
    principal: Principal,
    follows: Vec<UserId>,
    /// By subject.
    edges: Vec<Edge>,
    /// Who was told to be typing.
    typing_users: SmallVec<[TypingUser; 1]>,
    /// Has heard the initial state.
    has_initial_state: bool,
    /// Nothing is delivered on these before they have been asked about.
    invalid: RecheckScope,
    /// Being asked about right now; void as well.
    in_flight: RecheckScope,
}

impl Viewer {
    fn is_invalid(&self, subject: UserId) -> bool {
        self.invalid.contains(subject) || self.in_flight.contains(subject)
    }

    fn edge_position(&self, subject: SubjectIndex) -> Result<usize, usize> {
        self.edges.binary_search_by_key(&subject, |edge| edge.subject)
    }
}

struct Subject {
    id: UserId,
    /// Viewers with an edge to it.
    watchers: Vec<u32>,
}

#[derive(Default)]
struct TypingEntry {
    /// Viewers that were told.
    delivered_to: SmallVec<[u32; 2]>,
    /// When it was last said of those read, in microseconds: reading the same again is no news.
    since: Option<i64>,
}

/// Everything that the pump remembers.
#[derive(Default)]
pub(super) struct VisibilityGraph {
    viewers: Vec<(u32, Option<Viewer>)>,
    free_viewers: Vec<u32>,
    by_conn: HashMap<ConnId, u32>,
    by_user: HashMap<UserId, SmallVec<[u32; 2]>>,
    subjects: Vec<Subject>,
    free_subjects: Vec<SubjectIndex>,
    by_id: HashMap<UserId, SubjectIndex>,
    /// Typists of conversations in which somebody here takes part.
    typing: HashMap<TypingUser, TypingEntry>,
    /// Viewers that are being asked about somebody.
    in_flight: HashSet<u32>,
    edge_count: usize,
}

impl VisibilityGraph {
    /// How many edges there are.
    pub fn edge_count(&self) -> usize {
        self.edge_count
    }

    /// Takes a viewer in. It hears nothing before it has been asked about everybody.
    pub fn add_viewer(
        &mut self,
        conn: ConnId,
        user: UserId,
        caller: Principal,
        follows: Vec<UserId>,
    ) -> ViewerKey {
        let viewer = Viewer {
            conn,
            user,
            principal: caller,
            follows,
            edges: Vec::new(),
            typing_users: SmallVec::new(),
            has_initial_state: false,
            invalid: RecheckScope::All,
            in_flight: RecheckScope::Empty,
        };
        let index = self.free_viewers.pop().unwrap_or_else(|| {
            self.viewers.push((0, None));
            u32::try_from(self.viewers.len() - 1).expect("fewer viewers than descriptors")
        });
        self.viewers[index as usize].1 = Some(viewer);
        self.by_conn.insert(conn, index);
        self.by_user.entry(user).or_default().push(index);
        ViewerKey { index, epoch: self.viewers[index as usize].0 }
    }

    /// Forgets a viewer.
    pub fn remove_viewer(&mut self, conn: ConnId) {
        let Some(index) = self.by_conn.remove(&conn) else { return };
        self.in_flight.remove(&index);
        let slot = &mut self.viewers[index as usize];
        slot.0 = slot.0.wrapping_add(1);
        let viewer = slot.1.take().expect("by_conn names living viewers only");
        self.free_viewers.push(index);
        if let Some(of_user) = self.by_user.get_mut(&viewer.user) {
            of_user.retain(|other| *other != index);
            if of_user.is_empty() {
                self.by_user.remove(&viewer.user);
            }
        }
        for edge in viewer.edges {
            self.unwatch(edge.subject, index);
        }
        for typist in viewer.typing_users {
            self.remove_typing_recipient(typist, index);
        }
    }

    /// A connection shows a new token: everything is asked again, under the new claims.
    pub fn set_principal(&mut self, conn: ConnId, caller: Principal) -> Option<ViewerKey> {
        let index = *self.by_conn.get(&conn)?;
        let viewer = self.viewer_mut(index);
        viewer.principal = caller;
        viewer.invalid = RecheckScope::All;
        Some(self.key(index))
    }

    /// A connection follows further users.
    pub fn follow(&mut self, conn: ConnId, users: &[UserId], most: usize) -> Option<ViewerKey> {
        let index = *self.by_conn.get(&conn)?;
        let viewer = self.viewer_mut(index);
        for user in users {
            if viewer.follows.len() < most && !viewer.follows.contains(user) {
                viewer.follows.push(*user);
            }
        }
        viewer.invalid.add(Some(users));
        Some(self.key(index))
    }

    /// Voids what a change of visibility names; returns the viewers that must be asked.
    pub fn invalidate(&mut self, change: &Invalidation) -> Vec<ViewerKey> {
        let subjects = change.subjects.as_deref();
        let named: Vec<u32> = match (&change.viewers, subjects) {
            (Some(viewers), _) => {
                viewers.iter().filter_map(|id| self.by_user.get(id)).flatten().copied().collect()
            }
            (None, None) => {
                // Also after notifications were missed, maybe one of an end.
                self.typing.retain(|_, typing| !typing.delivered_to.is_empty());
                self.by_conn.values().copied().collect()
            }
            (None, Some(subjects)) => {
                let watched = subjects.iter().filter_map(|id| self.by_id.get(id));
                let mut named: HashSet<u32> = watched
                    .flat_map(|index| self.subjects[*index as usize].watchers.iter().copied())
                    .collect();
                // An answer under way may make further viewers watch them, with what was true before the change.
                let asking = self.in_flight.iter().copied().filter(|index| {
                    let viewer =
                        self.viewers[*index as usize].1.as_ref().expect("only living viewers are asked");
                    subjects.iter().any(|subject| viewer.in_flight.contains(*subject))
                });
                named.extend(asking);
                named.into_iter().collect()
            }
        };
        let mut asked = Vec::with_capacity(named.len());
        for index in named {
            self.viewer_mut(index).invalid.add(subjects);
            asked.push(self.key(index));
        }
        asked
    }

    /// Whether anybody watches this user.
    pub fn is_watched(&self, user: UserId) -> bool {
        self.by_id.contains_key(&user)
    }

    /// Begins to ask a viewer: returns its caller, whom it follows, and about whom (`None`: everybody). Nothing where
    /// the viewer is gone, is being asked already, or has nothing to be asked.
    pub fn begin_lookup(&mut self, key: ViewerKey) -> Option<(Principal, Vec<UserId>, Option<Vec<UserId>>)> {
        let viewer = self.current_viewer_mut(key)?;
        if viewer.invalid.is_empty() || !viewer.in_flight.is_empty() {
            return None;
        }
        viewer.in_flight = std::mem::take(&mut viewer.invalid);
        let about = match &viewer.in_flight {
            RecheckScope::Subjects(subjects) => Some(subjects.iter().copied().collect()),
            _ => None,
        };
        let question = (viewer.principal.clone(), viewer.follows.clone(), about);
        self.in_flight.insert(key.index);
        Some(question)
    }

    /// An answer did not come: what was asked is void again.
    pub fn lookup_failed(&mut self, key: ViewerKey) {
        if self.current_viewer_mut(key).is_none() {
            return;
        }
        self.in_flight.remove(&key.index);
        let viewer = self.viewer_mut(key.index);
        match std::mem::take(&mut viewer.in_flight) {
            RecheckScope::Subjects(subjects) => {
                viewer.invalid.add(Some(&subjects.into_iter().collect::<Vec<_>>()))
            }
            RecheckScope::All => viewer.invalid = RecheckScope::All,
            RecheckScope::Empty => {}
        }
    }

    /// Takes everything back from a viewer whose policies raise: to them nobody is visible. What was asked stays void.
    pub fn hide_all(&mut self, key: ViewerKey) -> Vec<GraphUpdate> {
        self.lookup_failed(key);
        let Some(viewer) = self.current_viewer_mut(key) else { return Vec::new() };
        viewer.invalid = RecheckScope::All;
        let conn = viewer.conn;
        let first = !std::mem::replace(&mut viewer.has_initial_state, true);
        let lost: Vec<SubjectIndex> =
            viewer.edges.iter_mut().filter_map(|edge| edge.delivered.take().map(|_| edge.subject)).collect();
        let mut tells: Vec<GraphUpdate> =
            first.then(|| GraphUpdate::InitialState(conn, Vec::new())).into_iter().collect();
        tells.extend(lost.into_iter().map(|subject| {
            GraphUpdate::Presence(Arc::new(Presence::hidden(self.subjects[subject as usize].id)), vec![conn])
        }));
        tells.extend(self.apply_viewer_typing(key.index, &RecheckScope::All, &[]));
        tells
    }

    /// The connection of a viewer that is still there.
    pub fn conn(&self, key: ViewerKey) -> Option<ConnId> {
        let (epoch, viewer) = self.viewers.get(key.index as usize)?;
        viewer.as_ref().filter(|_| *epoch == key.epoch).map(|viewer| viewer.conn)
    }

    /// Whether a viewer has become void (again).
    pub fn needs_lookup(&self, key: ViewerKey) -> bool {
        let viewer = self.viewers.get(key.index as usize).filter(|(epoch, _)| *epoch == key.epoch);
        viewer.and_then(|(_, viewer)| viewer.as_ref()).is_some_and(|viewer| !viewer.invalid.is_empty())
    }

    /// Takes an answer in. What it holds may be told as it is, also where the edge has become void since: it is what
    /// row-level security showed, of a moment before.
    pub fn apply_lookup(&mut self, key: ViewerKey, view: LookupState) -> Vec<GraphUpdate> {
        let LookupState { candidates: sightings, typing_users: typists } = view;
        if self.current_viewer_mut(key).is_none() {
            return Vec::new();
        }
        self.in_flight.remove(&key.index);
        let viewer = self.viewer_mut(key.index);
        let conn = viewer.conn;
        let first = !std::mem::replace(&mut viewer.has_initial_state, true);
        let asked = std::mem::take(&mut viewer.in_flight);

        let mut initial = Vec::new();
        let mut tells = Vec::new();
        let mut candidates: HashSet<UserId> = HashSet::with_capacity(sightings.len());
        for sighting in sightings {
            candidates.insert(sighting.user_id);
            let subject = self.watch(sighting.user_id, key.index);
            let edge = self.edge_mut(key.index, subject);
            edge.face = sighting.visible_face.as_ref().map(|seen| seen.face);
            if let Some(presence) = state_change(edge, sighting.visible_face, sighting.user_id) {
                if first {
                    initial.push(presence)
                } else {
                    tells.push(GraphUpdate::Presence(presence, vec![conn]))
                }
            }
        }
        // Whoever was asked about and is no candidate any more is of no interest: neither related nor followed.
        let viewer = self.viewer_mut(key.index);
        let edges = std::mem::take(&mut viewer.edges);
        let (kept, lost): (Vec<Edge>, Vec<Edge>) = edges.into_iter().partition(|edge| {
            let id = self.subjects[edge.subject as usize].id;
            candidates.contains(&id) || !asked.contains(id)
        });
        self.viewer_mut(key.index).edges = kept;
        for edge in lost {
            let id = self.subjects[edge.subject as usize].id;
            if edge.delivered.is_some() {
                tells.push(GraphUpdate::Presence(Arc::new(Presence::hidden(id)), vec![conn]));
            }
            self.unwatch(edge.subject, key.index);
        }
        if first {
            tells.insert(0, GraphUpdate::InitialState(conn, initial));
        }
        self.viewer_mut(key.index).edges.shrink_to_fit();
        tells.extend(self.apply_viewer_typing(key.index, &asked, &typists));
        tells
    }

    /// Takes in who types, of those asked about; tells what is new.
    fn apply_viewer_typing(
        &mut self,
        index: u32,
        asked: &RecheckScope,
        typists: &[TypingUser],
    ) -> Vec<GraphUpdate> {
        let viewer = self.viewer_mut(index);
        let (conn, user) = (viewer.conn, viewer.user);
        let told = std::mem::take(&mut viewer.typing_users);
        let (kept, ceased): (SmallVec<[TypingUser; 1]>, SmallVec<[TypingUser; 1]>) =
            told.into_iter().partition(|typist| !asked.contains(typist.user_id) || typists.contains(typist));
        // One's own typing is no news to one's other devices.
        let begun: SmallVec<[TypingUser; 1]> = typists
            .iter()
            .filter(|typist| typist.user_id != user && !kept.contains(typist))
            .copied()
            .collect();
        viewer.typing_users = kept;
        viewer.typing_users.extend(begun.iter().copied());
        let mut tells = Vec::new();
        for typist in ceased {
            self.remove_typing_recipient(typist, index);
            tells.push(GraphUpdate::Typing(typing_state(typist, false), vec![conn]));
        }
        for typist in begun {
            self.typing.entry(typist).or_default().delivered_to.push(index);
            tells.push(GraphUpdate::Typing(typing_state(typist, true), vec![conn]));
        }
        tells
    }

    /// Typing as one snapshot holds it, after everything void in that snapshot has been voided. Whoever was told of a
    /// typist hears that it was said again or has stopped; other participants are asked whether they may hear of it,
    /// and the viewers to be asked are returned too.
    pub fn apply_typing(&mut self, typing: &[TypingRecord]) -> (Vec<GraphUpdate>, Vec<ViewerKey>) {
        let (mut tells, mut due) = (Vec::new(), Vec::new());
        for TypingRecord { typing_user: typist, participants, since } in typing {
            let TypingEntry { delivered_to: told, since: before } =
                self.typing.remove(typist).unwrap_or_default();
            let Some(since) = *since else {
                let to = told.iter().map(|index| {
                    let viewer = self.viewer_mut(*index);
                    viewer.typing_users.retain(|other| other != typist);
                    viewer.conn
                });
                let to: Vec<ConnId> = to.collect();
                if !to.is_empty() {
                    tells.push(GraphUpdate::Typing(typing_state(*typist, false), to));
                }
                continue;
            };
            if before.is_some_and(|before| before < since) {
                let goes_on = told.iter().filter_map(|index| {
                    let viewer = self.viewers[*index as usize].1.as_ref()?;
                    (!viewer.is_invalid(typist.user_id)).then_some(viewer.conn)
                });
                let goes_on: Vec<ConnId> = goes_on.collect();
                if !goes_on.is_empty() {
                    tells.push(GraphUpdate::Typing(typing_state(*typist, true), goes_on));
                }
            }
            let present = participants.iter().filter(|user| **user != typist.user_id);
            let viewers: SmallVec<[u32; 2]> =
                present.filter_map(|user| self.by_user.get(user)).flatten().copied().collect();
            for index in viewers.iter().copied().filter(|index| !told.contains(index)) {
                self.viewer_mut(index).invalid.add(Some(&[typist.user_id]));
                due.push(self.key(index));
            }
            if !(told.is_empty() && viewers.is_empty()) {
                self.typing.insert(*typist, TypingEntry { delivered_to: told, since: Some(since) });
            }
        }
        (tells, due)
    }

    fn remove_typing_recipient(&mut self, typist: TypingUser, index: u32) {
        if let Some(TypingEntry { delivered_to: told, .. }) = self.typing.get_mut(&typist) {
            told.retain(|other| *other != index);
            if told.is_empty() {
                self.typing.remove(&typist);
            }
        }
    }

    /// Faces as one snapshot holds them, after everything void in that snapshot has been voided: tells whoever sees
    /// them. A user that was read and has no face any more is taken back.
    pub fn apply_faces(&mut self, users: &[UserId], faces: Vec<VersionedFace>) -> Vec<GraphUpdate> {
        let mut by_user: HashMap<UserId, SmallVec<[VersionedFace; 2]>> = HashMap::with_capacity(users.len());
        for face in faces {
            by_user.entry(face.presence.user_id).or_default().push(face);
        }
        let mut tells = Vec::new();
        for user in users {
            let Some(subject) = self.by_id.get(user).copied() else { continue };
            let faces = by_user.remove(user).unwrap_or_default();
            let mut to: [(Option<Arc<Presence>>, Vec<ConnId>); 3] = Default::default();
            for place in 0..self.subjects[subject as usize].watchers.len() {
                let watcher = self.subjects[subject as usize].watchers[place];
                let viewer = self.viewer_mut(watcher);
                if viewer.is_invalid(*user) {
                    continue;
                }
                let conn = viewer.conn;
                let edge = self.edge_mut(watcher, subject);
                let Some(shown) = edge.face else { continue };
                let seen = faces.iter().find(|face| face.face == shown).cloned();
                let group = match &seen {
                    None => 0,
                    Some(face) if face.face == Face::Public => 1,
                    Some(_) => 2,
                };
                if let Some(presence) = state_change(edge, seen, *user) {
                    to[group].0.get_or_insert(presence);
                    to[group].1.push(conn);
                }
            }
            tells.extend(
                to.into_iter().filter_map(|(presence, to)| Some(GraphUpdate::Presence(presence?, to))),
            );
        }
        tells
    }

    fn key(&self, index: u32) -> ViewerKey {
        ViewerKey { index, epoch: self.viewers[index as usize].0 }
    }

    fn viewer_mut(&mut self, index: u32) -> &mut Viewer {
        self.viewers[index as usize].1.as_mut().expect("indices are of living viewers")
    }

    fn current_viewer_mut(&mut self, key: ViewerKey) -> Option<&mut Viewer> {
        let (epoch, viewer) = self.viewers.get_mut(key.index as usize)?;
        viewer.as_mut().filter(|_| *epoch == key.epoch)
    }

    fn edge_mut(&mut self, viewer: u32, subject: SubjectIndex) -> &mut Edge {
        let viewer = self.viewer_mut(viewer);
        let place = viewer.edge_position(subject).expect("watchers have an edge");
        &mut viewer.edges[place]
    }

    /// Makes sure that the viewer has an edge to the user.
    fn watch(&mut self, user: UserId, viewer: u32) -> SubjectIndex {
        let subject = *self.by_id.entry(user).or_insert_with(|| {
            let subject = Subject { id: user, watchers: Vec::new() };
            if let Some(free) = self.free_subjects.pop() {
                self.subjects[free as usize] = subject;
                free
            } else {
                self.subjects.push(subject);
                u32::try_from(self.subjects.len() - 1).expect("fewer subjects than an u32 counts")
            }
        });
        let watching = self.viewer_mut(viewer);
        if let Err(place) = watching.edge_position(subject) {
            watching.edges.insert(place, Edge { subject, face: None, delivered: None });
            self.subjects[subject as usize].watchers.push(viewer);
            self.edge_count += 1;
        }
        subject
    }

    fn unwatch(&mut self, subject: SubjectIndex, viewer: u32) {
        let watched = &mut self.subjects[subject as usize];
        if let Some(place) = watched.watchers.iter().position(|other| *other == viewer) {
            watched.watchers.swap_remove(place);
            self.edge_count -= 1;
        }
        if watched.watchers.is_empty() {
            self.by_id.remove(&watched.id);
            watched.watchers = Vec::new();
            self.free_subjects.push(subject);
        }
    }
}

fn typing_state(TypingUser { conversation_id, user_id }: TypingUser, is_typing: bool) -> TypingState {
    TypingState { user_id, conversation_id, is_typing }
}

/// What is new to the viewer at the end of this edge, noted as told.
fn state_change(edge: &mut Edge, seen: Option<VersionedFace>, user: UserId) -> Option<Arc<Presence>> {
    match seen {
        Some(seen) => {
            let told = edge.delivered.filter(|(face, _)| *face == seen.face).map(|(_, version)| version);
            // An older state than the one told comes from a slower reader and is no news.
            if told.is_some_and(|told| told >= seen.version) {
                return None;
            }
            edge.delivered = Some((seen.face, seen.version));
            Some(seen.presence)
        }
        None => edge.delivered.take().map(|_| Arc::new(Presence::hidden(user))),
    }
}

#[cfg(test)]
mod tests;
