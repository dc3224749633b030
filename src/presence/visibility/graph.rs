//! Viewers, subjects, and the edges between them.
//!
//! A **viewer** is a connection with its principal. It has an **edge** to each user it is interested in (its relations
//! and the users it follows). An edge stores the face that row-level security showed last and the state of that face
//! that was delivered. Plain data: methods return the updates to deliver, and the task delivers them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use smallvec::SmallVec;

use super::pacing::{self, Pacing, PacingLimits};
use crate::{
    auth::Principal,
    hub::ConnId,
    model::{Face, Position, Presence, TypingState, TypingUser, UserId},
    pg::queries::presence::{Invalidation, LookupState, VersionedFace},
    protocol::StatePosition,
};

use edge::{Delivered, Edge, Recipient, SubjectIndex};
pub(super) use resume::ViewerKey;
use resume::{Parked, ResumeState};

/// Maximum number of subjects looked up individually for one viewer; above it, all are.
const MAX_SCOPE_SUBJECTS: usize = 500;

/// What a viewer asks for.
#[derive(Debug, Default)]
pub struct Interest {
    /// Users besides the related ones.
    pub follows: Vec<UserId>,
    /// Only users on this page, if set.
    pub page: Option<Arc<str>>,
}

/// A message to deliver.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GraphUpdate {
    /// The initial state of a viewer.
    InitialState(ConnId, Vec<Arc<Presence>>, Option<StatePosition>),
    /// Everything that was sent to the connection before has this position.
    Position(ConnId, Position),
    /// A policy raised an error, so this viewer sees no users.
    VisibilityFailed(ConnId),
    /// A typing state, to all viewers that may see it.
    Typing(TypingState, Vec<ConnId>),
    /// A presence, to all viewers that see it in this form.
    Presence(Arc<Presence>, Vec<ConnId>),
}

/// The subjects to look up for a viewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum RecheckScope {
    #[default]
    Empty,
    Subjects(HashSet<UserId>),
    /// All subjects of the viewer, including possible new ones.
    All,
    /// As [`All`](Self::All), without those that were looked up since.
    AllExcept(HashSet<UserId>),
}

impl RecheckScope {
    fn add(&mut self, subjects: Option<&[UserId]>) {
        let Some(subjects) = subjects.filter(|subjects| subjects.len() <= MAX_SCOPE_SUBJECTS) else {
            *self = Self::All;
            return;
        };
        match self {
            Self::All => {}
            Self::AllExcept(known) => subjects.iter().for_each(|subject| {
                known.remove(subject);
            }),
            Self::Empty => *self = Self::Subjects(subjects.iter().copied().collect()),
            Self::Subjects(scope) => scope.extend(subjects),
        }
        if matches!(self, Self::Subjects(scope) if scope.len() > MAX_SCOPE_SUBJECTS) {
            *self = Self::All;
        }
    }

    fn contains(&self, subject: UserId) -> bool {
        match self {
            Self::Empty => false,
            Self::Subjects(scope) => scope.contains(&subject),
            Self::All => true,
            Self::AllExcept(known) => !known.contains(&subject),
        }
    }

    /// Whether it may include subjects that the viewer does not have yet.
    fn is_full(&self) -> bool {
        matches!(self, Self::All | Self::AllExcept(_))
    }

    /// Adds the scope of a lookup that failed.
    fn restore(&mut self, failed: Self) {
        match failed {
            Self::Empty => {}
            Self::Subjects(subjects) => self.add(Some(&subjects.into_iter().collect::<Vec<_>>())),
            Self::All | Self::AllExcept(_) => *self = Self::All,
        }
    }

    /// Takes subjects out of a full scope. They are looked up alone.
    fn except(&mut self, subjects: &HashSet<UserId>) {
        match self {
            Self::All => *self = Self::AllExcept(subjects.clone()),
            Self::AllExcept(known) => known.extend(subjects),
            Self::Empty | Self::Subjects(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// The result of [`VisibilityGraph::resume`].
pub(super) struct Resumed {
    pub key: ViewerKey,
    /// The connection that had the viewer, if it was still open.
    pub replaced: Option<ConnId>,
    /// What can be delivered without a lookup.
    pub updates: Vec<GraphUpdate>,
}

struct Viewer {
    conn: ConnId,
    user: UserId,
    principal: Principal,
    follows: Vec<UserId>,
    /// Only users on this page are delivered, if set.
    page: Option<Arc<str>>,
    /// Sorted by subject, for binary search.
    edges: Vec<Edge>,
    /// Users whose typing was delivered to the viewer.
    typing_users: SmallVec<[TypingUser; 1]>,
    /// Whether the initial state was delivered to the connection. Nothing else is delivered before.
    has_initial_state: bool,
    /// Present if the viewer may be resumed by another connection.
    resume: Option<Box<ResumeState>>,
    /// Subjects to look up. Nothing is delivered about them before.
    invalid: RecheckScope,
    /// Invalid subjects of whom something waits to be delivered, while all subjects are invalid. They are looked up
    /// before the others.
    urgent: HashSet<UserId>,
    /// Subjects of the lookup in flight; also invalid.
    in_flight: RecheckScope,
    pacing: Pacing,
}

impl Viewer {
    /// Adds followed users, up to `max` in total. Those that it follows already are not looked up again.
    fn follow(&mut self, users: &[UserId], max: usize) {
        let mut known: HashSet<UserId> = self.follows.iter().copied().collect();
        let room = max.saturating_sub(known.len());
        let new: Vec<UserId> = users.iter().copied().filter(|user| known.insert(*user)).take(room).collect();
        if !new.is_empty() {
            self.follows.extend(&new);
            self.invalid.add(Some(&new));
        }
    }

    fn is_invalid(&self, subject: UserId) -> bool {
        self.invalid.contains(subject) || self.in_flight.contains(subject)
    }

    fn edge_position(&self, subject: SubjectIndex) -> Result<usize, usize> {
        self.edges.binary_search_by_key(&subject, |edge| edge.subject)
    }

    /// Takes the edges and what was delivered on them, to put them back after changes.
    fn take_edges(&mut self) -> (Vec<Edge>, Pacing) {
        (std::mem::take(&mut self.edges), std::mem::take(&mut self.pacing))
    }

    /// Whether a typing state may be delivered now. Otherwise it is found by a lookup after the client has read.
    fn admits_typing(&mut self, limits: &PacingLimits) -> bool {
        let is_admitted = self.admits_typing_refresh(limits);
        self.pacing.holds_typing |= !is_admitted;
        is_admitted
    }

    /// Whether a typing state that was delivered before may be delivered again now.
    fn admits_typing_refresh(&mut self, limits: &PacingLimits) -> bool {
        self.pacing.admit(pacing::UPDATE_BYTES, limits.update_bytes)
    }
}

struct Subject {
    id: UserId,
    /// Viewers with an edge to this subject.
    watchers: Vec<u32>,
}

#[derive(Default)]
struct TypingEntry {
    /// Viewers that received the typing state.
    delivered_to: SmallVec<[u32; 2]>,
    /// Time of the last refresh that was read, in microseconds. Reading the same time again causes no update; the
    /// clock of a restored or promoted database may be behind.
    since: Option<i64>,
}

/// All viewers, subjects, edges and typing states.
#[derive(Default)]
pub(super) struct VisibilityGraph {
    viewers: Vec<(u32, Option<Viewer>)>,
    free_viewers: Vec<u32>,
    by_conn: HashMap<ConnId, u32>,
    by_user: HashMap<UserId, SmallVec<[u32; 2]>>,
    subjects: Vec<Subject>,
    free_subjects: Vec<SubjectIndex>,
    by_id: HashMap<UserId, SubjectIndex>,
    /// Typing states in conversations with viewers on this node.
    typing: HashMap<TypingUser, TypingEntry>,
    /// Viewers with a lookup in flight.
    in_flight: HashSet<u32>,
    edge_count: usize,
    /// Viewers that were told something since their last position. May contain removed ones.
    unpositioned: Vec<u32>,
    parked: Parked,
    limits: PacingLimits,
    /// Viewers whose clients must read before more is delivered.
    waits: Vec<(ViewerKey, ConnId)>,
    /// Viewers with urgent subjects. May contain removed ones.
    urgent: Vec<ViewerKey>,
}

/// What follows when a client has read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AfterRead {
    pub updates: Vec<GraphUpdate>,
    /// Users whose state was held back and is read again.
    pub users: Vec<UserId>,
    /// Whether the viewer must be looked up.
    pub needs_lookup: bool,
}

impl VisibilityGraph {
    pub(super) fn new(limits: PacingLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn edge_count(&self) -> usize {
        self.edge_count
    }

    /// Adds a viewer. Nothing is delivered to it before its first lookup.
    pub(super) fn add_viewer(
        &mut self,
        conn: ConnId,
        user: UserId,
        principal: Principal,
        Interest { follows, page }: Interest,
        is_resumable: bool,
    ) -> ViewerKey {
        let viewer = Viewer {
            conn,
            user,
            principal,
            follows,
            page,
            edges: Vec::new(),
            typing_users: SmallVec::new(),
            has_initial_state: false,
            resume: is_resumable.then(Box::default),
            invalid: RecheckScope::All,
            urgent: HashSet::new(),
            in_flight: RecheckScope::Empty,
            pacing: Pacing::default(),
        };
        let index = self.free_viewers.pop().unwrap_or_else(|| {
            self.viewers.push((0, None));
            u32::try_from(self.viewers.len() - 1).expect("fewer viewers than file descriptors")
        });
        self.viewers[index as usize].1 = Some(viewer);
        self.by_conn.insert(conn, index);
        self.by_user.entry(user).or_default().push(index);
        ViewerKey { index, epoch: self.viewers[index as usize].0 }
    }

    pub(super) fn remove_viewer(&mut self, conn: ConnId) {
        if let Some(index) = self.by_conn.remove(&conn) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: u32) {
        self.in_flight.remove(&index);
        let slot = &mut self.viewers[index as usize];
        slot.0 = slot.0.wrapping_add(1);
        let viewer = slot.1.take().expect("indices refer to existing viewers");
        self.free_viewers.push(index);
        if let Some(indices) = self.by_user.get_mut(&viewer.user) {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                self.by_user.remove(&viewer.user);
            }
        }
        for edge in viewer.edges {
            self.unwatch(edge.subject, index);
        }
        for typing_user in viewer.typing_users {
            self.remove_typing_recipient(&typing_user, index);
        }
    }

    /// Replaces a connection's principal. All its subjects are looked up again with the new claims.
    pub(super) fn set_principal(&mut self, conn: ConnId, principal: Principal) -> Option<ViewerKey> {
        let index = *self.by_conn.get(&conn)?;
        let viewer = self.viewer_mut(index);
        viewer.principal = principal;
        viewer.invalid = RecheckScope::All;
        Some(self.key(index))
    }

    /// Adds followed users to a connection, up to `max` in total.
    pub(super) fn follow(&mut self, conn: ConnId, users: &[UserId], max: usize) -> Option<ViewerKey> {
        let index = *self.by_conn.get(&conn)?;
        let viewer = self.viewer_mut(index);
        viewer.follow(users, max);
        Some(self.key(index))
    }

    /// Replaces the page of a connection; `None` for users on any page. All its subjects are looked up again.
    pub(super) fn set_page(&mut self, conn: ConnId, page: Option<Arc<str>>) -> Option<ViewerKey> {
        let index = *self.by_conn.get(&conn)?;
        let viewer = self.viewer_mut(index);
        viewer.page = page;
        viewer.invalid = RecheckScope::All;
        Some(self.key(index))
    }

    /// Invalidates the edges affected by a visibility change. Returns the viewers to look up; one may occur twice.
    pub(super) fn invalidate(&mut self, change: &Invalidation) -> Vec<ViewerKey> {
        match change {
            Invalidation::All => {
                // This also happens after missed notifications, which may include the end of typing.
                self.typing.retain(|_, typing| !typing.delivered_to.is_empty());
                let slots = (0..).zip(&self.viewers);
                let all = slots.filter(|(_, (_, viewer))| viewer.is_some()).map(|(index, _)| index).collect();
                self.add_invalid(all, None)
            }
            Invalidation::Viewers { viewers, subjects } => {
                let affected = self.viewers_of(viewers);
                self.add_invalid(affected, subjects.as_deref())
            }
            Invalidation::Subjects(subjects) => {
                let affected = self.watchers_of(subjects);
                self.add_invalid(affected, Some(subjects))
            }
            Invalidation::Group { members, moved } => {
                let (of_members, of_moved) = (self.viewers_of(members), self.viewers_of(moved));
                let mut keys = self.add_invalid(of_members, Some(moved));
                keys.extend(self.add_invalid(of_moved.clone(), Some(moved)));
                self.add_invalid(of_moved, Some(members));
                keys
            }
        }
    }

    /// The viewers of these users.
    fn viewers_of(&self, users: &[UserId]) -> Vec<u32> {
        users.iter().filter_map(|id| self.by_user.get(id)).flatten().copied().collect()
    }

    /// The viewers with an edge to one of these users, and those that a lookup in flight may give one, with a state from
    /// before a change.
    fn watchers_of(&self, subjects: &[UserId]) -> Vec<u32> {
        let watched = subjects.iter().filter_map(|id| self.by_id.get(id));
        let mut watchers: HashSet<u32> =
            watched.flat_map(|index| self.subjects[*index as usize].watchers.iter().copied()).collect();
        let in_flight = self.in_flight.iter().copied().filter(|index| {
            let viewer = self.viewers[*index as usize].1.as_ref();
            let viewer = viewer.expect("lookups in flight belong to existing viewers");
            subjects.iter().any(|subject| viewer.in_flight.contains(*subject))
        });
        watchers.extend(in_flight);
        watchers.into_iter().collect()
    }

    /// Makes subjects of these viewers invalid, all if `None`. Returns the viewers.
    fn add_invalid(&mut self, viewers: Vec<u32>, subjects: Option<&[UserId]>) -> Vec<ViewerKey> {
        let mut keys = Vec::with_capacity(viewers.len());
        for index in viewers {
            self.viewer_mut(index).invalid.add(subjects);
            if let Some(subjects) = subjects {
                self.add_urgent(index, subjects);
            }
            keys.push(self.key(index));
        }
        keys
    }

    /// Subjects that do not wait until all subjects of the viewer are looked up, because something is known about them:
    /// they changed, or what this viewer sees of them did.
    fn add_urgent(&mut self, index: u32, subjects: &[UserId]) {
        let key = self.key(index);
        let viewer = self.viewer_mut(index);
        if !viewer.has_initial_state
            || !viewer.invalid.is_full()
            || viewer.urgent.len() + subjects.len() > MAX_SCOPE_SUBJECTS
        {
            return;
        }
        if viewer.urgent.is_empty() {
            self.urgent.push(key);
        }
        self.viewer_mut(index).urgent.extend(subjects);
    }

    /// Viewers for [`begin_urgent_lookup`](Self::begin_urgent_lookup).
    pub(super) fn take_urgent(&mut self) -> Vec<ViewerKey> {
        std::mem::take(&mut self.urgent)
    }

    /// As [`begin_lookup`](Self::begin_lookup), for the urgent subjects alone.
    pub(super) fn begin_urgent_lookup(
        &mut self,
        key: ViewerKey,
    ) -> Option<(Principal, Vec<UserId>, Option<Vec<UserId>>)> {
        let viewer = self.current_viewer_mut(key)?;
        if !viewer.in_flight.is_empty() {
            // Again after that lookup.
            if !viewer.urgent.is_empty() {
                self.urgent.push(key);
            }
            return None;
        }
        let mut subjects = std::mem::take(&mut viewer.urgent);
        subjects.retain(|subject| viewer.invalid.contains(*subject));
        if viewer.is_parked() || subjects.is_empty() || !viewer.invalid.is_full() {
            return None;
        }
        viewer.invalid.except(&subjects);
        let query =
            (viewer.principal.clone(), viewer.follows.clone(), Some(subjects.iter().copied().collect()));
        viewer.in_flight = RecheckScope::Subjects(subjects);
        self.in_flight.insert(key.index);
        Some(query)
    }

    /// Whether all subjects of a viewer that was told its initial state must be looked up.
    pub(super) fn needs_full_lookup(&self, key: ViewerKey) -> bool {
        self.current_viewer(key)
            .is_some_and(|viewer| viewer.has_initial_state && !viewer.is_parked() && viewer.invalid.is_full())
    }

    /// Whether there are no viewers, not even parked ones.
    pub(super) fn is_empty(&self) -> bool {
        self.free_viewers.len() == self.viewers.len()
    }

    pub(super) fn viewer_count(&self) -> usize {
        self.by_conn.len()
    }

    /// Whether a viewer watches this user.
    pub(super) fn is_watched(&self, user: UserId) -> bool {
        self.by_id.contains_key(&user)
    }

    /// Begins a lookup for a viewer. Returns its principal, its followed users and the subjects (`None` for all).
    /// Returns `None` if the viewer is gone or parked, has a lookup in flight, or has no invalid subjects.
    pub(super) fn begin_lookup(
        &mut self,
        key: ViewerKey,
    ) -> Option<(Principal, Vec<UserId>, Option<Vec<UserId>>)> {
        let viewer = self.current_viewer_mut(key)?;
        if viewer.is_parked() || viewer.invalid.is_empty() || !viewer.in_flight.is_empty() {
            return None;
        }
        viewer.urgent.clear();
        viewer.in_flight = match std::mem::take(&mut viewer.invalid) {
            RecheckScope::AllExcept(_) => RecheckScope::All,
            scope => scope,
        };
        let subjects = match &viewer.in_flight {
            RecheckScope::Subjects(scope) => Some(scope.iter().copied().collect()),
            _ => None,
        };
        let query = (viewer.principal.clone(), viewer.follows.clone(), subjects);
        self.in_flight.insert(key.index);
        Some(query)
    }

    /// Records a failed lookup: its subjects are invalid again.
    pub(super) fn lookup_failed(&mut self, key: ViewerKey) {
        if self.current_viewer_mut(key).is_none() {
            return;
        }
        self.in_flight.remove(&key.index);
        let viewer = self.viewer_mut(key.index);
        let failed = std::mem::take(&mut viewer.in_flight);
        let urgent: Vec<UserId> = match &failed {
            RecheckScope::Subjects(subjects) => subjects.iter().copied().collect(),
            _ => Vec::new(),
        };
        viewer.invalid.restore(failed);
        self.add_urgent(key.index, &urgent);
    }

    /// Hides all users from a viewer whose policies raise an error. All its subjects stay invalid.
    pub(super) fn hide_all(&mut self, key: ViewerKey) -> Vec<GraphUpdate> {
        self.lookup_failed(key);
        let limits = self.limits;
        let Some(viewer) = self.current_viewer_mut(key) else { return Vec::new() };
        viewer.invalid = RecheckScope::All;
        let is_first = !std::mem::replace(&mut viewer.has_initial_state, true);
        let (conn, mark) = (viewer.conn, viewer.mark());
        let (mut edges, mut pacing) = viewer.take_edges();
        let mut updates = Vec::new();
        for edge in &mut edges {
            edge.face = None;
            let id = self.subjects[edge.subject as usize].id;
            if is_first {
                edge.release(&mut pacing);
                if std::mem::replace(&mut edge.delivered, Delivered::Nothing) != Delivered::Nothing {
                    edge.delivered_at = mark;
                }
            } else if let Some(hidden) = edge.change(None, id, Recipient::new(&mut pacing, &limits, mark)) {
                updates.push(GraphUpdate::Presence(hidden, vec![conn]));
            }
        }
        let viewer = self.viewer_mut(key.index);
        (viewer.edges, viewer.pacing) = (edges, pacing);
        if is_first {
            // A full state, which replaces what a resumed client shows.
            if let Some(resume) = &mut viewer.resume {
                resume.forget_resumed();
            }
            updates.push(self.initial_state(key.index, Vec::new()));
        } else {
            self.mark_told(key.index);
        }
        updates.extend(self.apply_viewer_typing(key.index, &RecheckScope::All, &[]));
        self.begin_wait(key.index);
        updates
    }

    /// The connection of a viewer, if it still exists.
    pub(super) fn conn(&self, key: ViewerKey) -> Option<ConnId> {
        let (epoch, viewer) = self.viewers.get(key.index as usize)?;
        let viewer = viewer.as_ref().filter(|viewer| *epoch == key.epoch && !viewer.is_parked());
        viewer.map(|viewer| viewer.conn)
    }

    /// Whether a viewer has invalid subjects.
    pub(super) fn needs_lookup(&self, key: ViewerKey) -> bool {
        self.current_viewer(key).is_some_and(|viewer| !viewer.is_parked() && !viewer.invalid.is_empty())
    }

    /// Applies the result of a lookup. It may be delivered even on edges that became invalid since: it is what
    /// row-level security showed a moment before.
    pub(super) fn apply_lookup(&mut self, key: ViewerKey, state: LookupState) -> Vec<GraphUpdate> {
        let LookupState { candidates, typing_users } = state;
        if self.current_viewer_mut(key).is_none() {
            return Vec::new();
        }
        self.in_flight.remove(&key.index);
        let mut seen: Vec<(SubjectIndex, Option<VersionedFace>)> = Vec::with_capacity(candidates.len());
        seen.extend(candidates.into_iter().map(|it| (self.subject(it.user_id), it.visible_face)));
        seen.sort_unstable_by_key(|(subject, _)| *subject);

        let viewer = self.viewer_mut(key.index);
        let (conn, page, mark) = (viewer.conn, viewer.page.clone(), viewer.mark());
        let is_first = !std::mem::replace(&mut viewer.has_initial_state, true);
        let scope = std::mem::take(&mut viewer.in_flight);
        let (known, mut pacing) = viewer.take_edges();
        let limits = self.limits;
        let mut edges: Vec<Edge> = Vec::with_capacity(seen.len());
        let mut changed = Vec::new();
        let mut known = known.into_iter().peekable();
        for (subject, visible_face) in seen {
            while let Some(edge) = known.next_if(|edge| edge.subject < subject) {
                let recipient = Recipient::new(&mut pacing, &limits, mark).for_initial_state(is_first);
                edges.extend(self.without_candidate(key.index, edge, &scope, recipient, &mut changed));
            }
            let id = self.subjects[subject as usize].id;
            let mut edge = known.next_if(|edge| edge.subject == subject).unwrap_or_else(|| {
                self.subjects[subject as usize].watchers.push(key.index);
                self.edge_count += 1;
                Edge::new(subject, self.viewer_mut(key.index).reclaim(id))
            });
            edge.face = visible_face.as_ref().map(|face| face.face);
            edge.is_lost = false;
            let recipient = Recipient::new(&mut pacing, &limits, mark);
            let recipient = recipient.for_initial_state(is_first).on_page(page.as_deref());
            changed.extend(edge.change(visible_face, id, recipient));
            edges.push(edge);
        }
        for edge in known {
            let recipient = Recipient::new(&mut pacing, &limits, mark).for_initial_state(is_first);
            edges.extend(self.without_candidate(key.index, edge, &scope, recipient, &mut changed));
        }
        edges.shrink_to_fit();
        let viewer = self.viewer_mut(key.index);
        (viewer.edges, viewer.pacing) = (edges, pacing);
        let mut updates = Vec::new();
        if is_first {
            updates.push(self.initial_state(key.index, changed));
        } else if !changed.is_empty() {
            self.mark_told(key.index);
            updates.extend(changed.into_iter().map(|presence| GraphUpdate::Presence(presence, vec![conn])));
        }
        updates.extend(self.apply_viewer_typing(key.index, &scope, &typing_users));
        self.begin_wait(key.index);
        updates
    }

    /// Applies a lookup that did not return the subject of this edge. A looked-up subject that is not a candidate any
    /// more is neither related nor followed. Returns the edge if it remains.
    fn without_candidate(
        &mut self,
        index: u32,
        mut edge: Edge,
        scope: &RecheckScope,
        recipient: Recipient<'_>,
        changed: &mut Vec<Arc<Presence>>,
    ) -> Option<Edge> {
        let id = self.subjects[edge.subject as usize].id;
        if !scope.contains(id) {
            return Some(edge);
        }
        (edge.face, edge.is_lost) = (None, true);
        changed.extend(edge.change(None, id, recipient));
        if edge.is_held {
            return Some(edge);
        }
        self.remove_edge(index, edge);
        None
    }

    /// Removes an edge that was taken from its viewer.
    fn remove_edge(&mut self, index: u32, edge: Edge) {
        let id = self.subjects[edge.subject as usize].id;
        if edge.delivered_at > 0 {
            self.viewer_mut(index).take_back(id, edge.delivered_at);
        }
        self.unwatch(edge.subject, index);
    }

    /// Applies faces of one snapshot, after all invalidations of that snapshot. Returns the updates for viewers that
    /// see them. A user without a face is hidden.
    pub(super) fn apply_faces(&mut self, users: &[UserId], faces: Vec<VersionedFace>) -> Vec<GraphUpdate> {
        let mut by_user: HashMap<UserId, SmallVec<[VersionedFace; 2]>> = HashMap::with_capacity(users.len());
        for face in faces {
            by_user.entry(face.presence.user_id).or_default().push(face);
        }
        let (mut updates, limits) = (Vec::new(), self.limits);
        for user in users {
            let Some(subject) = self.by_id.get(user).copied() else { continue };
            let faces = by_user.remove(user).unwrap_or_default();
            let mut to: [(Option<Arc<Presence>>, Vec<ConnId>); 3] = Default::default();
            for position in 0..self.subjects[subject as usize].watchers.len() {
                let watcher = self.subjects[subject as usize].watchers[position];
                let viewer = self.viewer_mut(watcher);
                if viewer.is_invalid(*user) {
                    let is_shown =
                        viewer.edge_position(subject).is_ok_and(|at| viewer.edges[at].face.is_some());
                    if is_shown && viewer.invalid.contains(*user) {
                        self.add_urgent(watcher, &[*user]);
                    }
                    continue;
                }
                let position = viewer.edge_position(subject).expect("watchers have an edge");
                let (conn, mark) = (viewer.conn, viewer.mark());
                let edge = &mut viewer.edges[position];
                let Some(edge_face) = edge.face else { continue };
                if !viewer.has_initial_state {
                    // Read when the viewer is resumed.
                    viewer.invalid.add(Some(&[*user]));
                    continue;
                }
                let visible_face = faces.iter().find(|face| face.face == edge_face).cloned();
                let group = match &visible_face {
                    None => 0,
                    Some(face) if face.face == Face::Public => 1,
                    Some(_) => 2,
                };
                let recipient = Recipient::new(&mut viewer.pacing, &limits, mark);
                let recipient = recipient.on_page(viewer.page.as_deref());
                if let Some(presence) = edge.change(visible_face, *user, recipient) {
                    self.mark_told(watcher);
                    to[group].0.get_or_insert(presence);
                    to[group].1.push(conn);
                }
                self.begin_wait(watcher);
            }
            updates.extend(
                to.into_iter().filter_map(|(presence, to)| Some(GraphUpdate::Presence(presence?, to))),
            );
        }
        updates
    }

    fn key(&self, index: u32) -> ViewerKey {
        ViewerKey { index, epoch: self.viewers[index as usize].0 }
    }

    fn viewer_mut(&mut self, index: u32) -> &mut Viewer {
        self.viewers[index as usize].1.as_mut().expect("indices refer to existing viewers")
    }

    fn current_viewer(&self, key: ViewerKey) -> Option<&Viewer> {
        let (epoch, viewer) = self.viewers.get(key.index as usize)?;
        viewer.as_ref().filter(|_| *epoch == key.epoch)
    }

    fn current_viewer_mut(&mut self, key: ViewerKey) -> Option<&mut Viewer> {
        let (epoch, viewer) = self.viewers.get_mut(key.index as usize)?;
        viewer.as_mut().filter(|_| *epoch == key.epoch)
    }

    /// Returns the subject of the user, which may have no watchers yet.
    fn subject(&mut self, user: UserId) -> SubjectIndex {
        *self.by_id.entry(user).or_insert_with(|| {
            let subject = Subject { id: user, watchers: Vec::new() };
            if let Some(free) = self.free_subjects.pop() {
                self.subjects[free as usize] = subject;
                free
            } else {
                self.subjects.push(subject);
                u32::try_from(self.subjects.len() - 1).expect("fewer than 2^32 subjects")
            }
        })
    }

    fn unwatch(&mut self, subject: SubjectIndex, viewer: u32) {
        let watched = &mut self.subjects[subject as usize];
        if let Some(position) = watched.watchers.iter().position(|other| *other == viewer) {
            watched.watchers.swap_remove(position);
            self.edge_count -= 1;
        }
        if watched.watchers.is_empty() {
            self.by_id.remove(&watched.id);
            watched.watchers = Vec::new();
            self.free_subjects.push(subject);
        }
    }
}

mod edge;
mod held;
mod parking;
mod resume;
mod typing;

#[cfg(test)]
mod tests;
