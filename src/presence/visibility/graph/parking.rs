//! Resuming a viewer over another connection.
//!
//! A viewer whose connection closed is **parked** for some time: its edges stay and are invalidated as those of others,
//! but nothing is looked up or delivered. A connection of the same user that presents the viewer's position takes it
//! over. It is told only what differs from what its client shows.
//!
//! What the client shows is known without acknowledgements of single messages. Each delivery on an edge has a **mark**, a
//! number that the viewer increases whenever it tells its client a position. A position is sent as a stream message,
//! behind everything that was delivered with its mark. A client that presents a position therefore received what was
//! delivered with this mark or lower ones. What was delivered later is unknown: it is looked up and sent again. A newer
//! state may overtake a position in the outbox; its edge then has a higher mark.
//!
//! Contents are compared by their digests, never by versions, so a restored database needs no special case.

use std::mem::size_of;

use tokio::time::Instant;

use super::*;

/// Parked viewers of one user. A further one replaces the oldest.
const MAX_PARKED_PER_USER: usize = 8;
/// Subjects without an edge that a viewer remembers to have taken back. A position from before the oldest is too old.
const MAX_TAKEN_BACK: usize = 256;

impl Viewer {
    pub(super) fn is_parked(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| resume.parked_bytes.is_some())
    }

    /// The mark of the next deliveries.
    pub(super) fn mark(&self) -> u32 {
        self.resume.as_ref().map_or(1, |resume| resume.mark)
    }

    /// Records that a subject whose edge is removed was taken back at a mark.
    pub(super) fn take_back(&mut self, user: UserId, mark: u32) {
        let Some(resume) = &mut self.resume else { return };
        resume.taken_back.push_back((user, mark));
        if resume.taken_back.len() > MAX_TAKEN_BACK
            && let Some((_, mark)) = resume.taken_back.pop_front()
        {
            resume.oldest = resume.oldest.max(mark);
        }
    }

    /// What is known of the client's state of a subject that gets an edge.
    pub(super) fn reclaim(&mut self, user: UserId) -> (Delivered, u32) {
        let Some(resume) = &mut self.resume else { return (Delivered::Nothing, 0) };
        let Some(at) = resume.taken_back.iter().position(|(other, _)| *other == user) else {
            return (Delivered::Nothing, 0);
        };
        let mark = resume.taken_back.remove(at).map_or(0, |(_, mark)| mark);
        let is_unknown = resume.resumed_from.is_some_and(|from| mark > from);
        (if is_unknown { Delivered::Unknown } else { Delivered::Nothing }, mark)
    }

    fn bytes(&self) -> usize {
        let taken_back = self.resume.as_ref().map_or(0, |resume| resume.taken_back.len());
        size_of::<Self>()
            + size_of::<ResumeState>()
            // Each edge is also an entry in its subject's list of watchers.
            + self.edges.len() * (size_of::<Edge>() + size_of::<u32>())
            + self.follows.len() * size_of::<UserId>()
            + taken_back * size_of::<(UserId, u32)>()
            + self.principal.claims.len()
    }
}

impl VisibilityGraph {
    /// Removes a connection. Its viewer is parked if it can be resumed, within `max_bytes` for all.
    pub(in crate::presence::visibility) fn park(
        &mut self,
        conn: ConnId,
        expires_at: Instant,
        max_bytes: usize,
    ) {
        let Some(index) = self.by_conn.get(&conn).copied() else { return };
        let viewer = self.viewer_mut(index);
        let bytes = viewer.bytes();
        let is_known = viewer.has_initial_state
            || viewer.resume.as_ref().is_some_and(|resume| resume.resumed_from.is_some());
        if !is_known || viewer.resume.is_none() || viewer.page.is_some() || bytes > max_bytes {
            self.remove_viewer(conn);
            return;
        }
        let user = viewer.user;
        self.detach(index);
        if let Some(resume) = &mut self.viewer_mut(index).resume {
            resume.parked_bytes = Some(bytes);
        }
        self.parked.bytes += bytes;
        self.parked.count += 1;
        let of_user: SmallVec<[u32; 8]> = self.by_user[&user]
            .iter()
            .copied()
            .filter(|other| *other != index && self.viewer(*other).is_parked())
            .collect();
        if of_user.len() >= MAX_PARKED_PER_USER {
            self.remove_parked(of_user[0]);
        }
        self.parked.queue.push_back((expires_at, self.key(index)));
        // Entries of viewers that were resumed stay until they are the majority.
        if self.parked.queue.len() > 64 + 2 * self.parked.count {
            let viewers = &self.viewers;
            self.parked.queue.retain(|(_, key)| viewers[key.index as usize].0 == key.epoch);
        }
        while self.parked.bytes > max_bytes
            && let Some((_, key)) = self.parked.queue.pop_front()
        {
            self.remove_parked_key(key);
        }
    }

    /// Removes viewers that were parked for too long. Returns when the next one is due.
    pub(in crate::presence::visibility) fn expire_parked(&mut self, now: Instant) -> Option<Instant> {
        while let Some((expires_at, key)) = self.parked.queue.front().copied() {
            let is_current = self.viewers[key.index as usize].0 == key.epoch;
            if is_current && expires_at > now {
                return Some(expires_at);
            }
            self.parked.queue.pop_front();
            self.remove_parked_key(key);
        }
        None
    }

    pub(in crate::presence::visibility) fn parked_bytes(&self) -> usize {
        self.parked.bytes
    }

    /// Gives the viewer that a position names to a connection of the same user. `None` if there is none, or the position
    /// is too old.
    pub(in crate::presence::visibility) fn resume(
        &mut self,
        conn: ConnId,
        principal: &Principal,
        (user, position): (UserId, Position),
        (follows, max_follows): (&[UserId], usize),
    ) -> Option<Resumed> {
        let index = self.by_user.get(&user)?.iter().copied().find(|index| {
            let viewer = self.viewer(*index);
            // What was left out for a page is unknown.
            let resume = viewer.resume.as_ref().filter(|_| viewer.page.is_none());
            resume.is_some_and(|resume| {
                resume.id == position.viewer && (resume.oldest..resume.mark).contains(&position.mark)
            })
        })?;
        let replaced = self.viewer(index).conn;
        let is_open = self.by_conn.get(&replaced) == Some(&index);
        self.unpark(index);
        // Results for the previous connection, and its place among the parked, are out of date.
        self.detach(index);
        self.by_conn.insert(conn, index);
        let viewer = self.viewer_mut(index);
        viewer.conn = conn;
        let is_same = viewer.principal.role == principal.role && viewer.principal.claims == principal.claims;
        viewer.principal = principal.clone();
        if !is_same {
            // Policies may depend on any claim.
            viewer.invalid = RecheckScope::All;
        }
        viewer.follow(follows, max_follows);
        let unknown: SmallVec<[SubjectIndex; 8]> = viewer
            .edges
            .iter_mut()
            .filter(|edge| edge.delivered_at > position.mark || edge.delivered == Delivered::Unknown)
            .map(|edge| {
                edge.delivered = Delivered::Unknown;
                edge.subject
            })
            .collect();
        let unknown: Vec<UserId> =
            unknown.iter().map(|subject| self.subjects[*subject as usize].id).collect();
        let viewer = self.viewer_mut(index);
        if !unknown.is_empty() {
            viewer.invalid.add(Some(&unknown));
        }
        if let Some(resume) = &mut viewer.resume {
            resume.resumed_from = Some(position.mark);
            // No position follows for what was delivered to the previous connection.
            resume.mark += 1;
            resume.is_told = false;
        }
        let mut updates = Vec::new();
        if viewer.invalid.is_empty() {
            viewer.has_initial_state = true;
            updates.push(self.initial_state(index, Vec::new()));
        }
        Some(Resumed { key: self.key(index), replaced: is_open.then_some(replaced), updates })
    }

    /// The first state of a connection: all visible presences, or what differs if the viewer is resumed.
    pub(super) fn initial_state(&mut self, index: u32, mut presences: Vec<Arc<Presence>>) -> GraphUpdate {
        let viewer = self.viewer_mut(index);
        let conn = viewer.conn;
        let position = viewer.resume.as_mut().map(|resume| {
            let resumed_from = resume.resumed_from.take();
            if let Some(from) = resumed_from {
                let mark = resume.mark;
                for (user, taken_back_at) in resume.taken_back.iter_mut().filter(|(_, at)| *at > from) {
                    // Those of this state are in it already.
                    if *taken_back_at < mark {
                        presences.push(Arc::new(Presence::hidden(*user)));
                        *taken_back_at = mark;
                    }
                }
            }
            StatePosition { resumed: resumed_from.is_some(), position: resume.next_position() }
        });
        GraphUpdate::InitialState(conn, presences, position)
    }

    /// Records that something was delivered to a viewer.
    pub(super) fn mark_told(&mut self, index: u32) {
        if let Some(resume) = &mut self.viewer_mut(index).resume
            && !std::mem::replace(&mut resume.is_told, true)
        {
            self.unpositioned.push(index);
        }
    }

    /// Whether viewers were told something since their last position.
    pub(in crate::presence::visibility) fn has_unpositioned(&self) -> bool {
        !self.unpositioned.is_empty()
    }

    /// The positions of viewers that were told something since their last one.
    pub(in crate::presence::visibility) fn positions(&mut self) -> Vec<GraphUpdate> {
        let told = std::mem::take(&mut self.unpositioned).into_iter();
        told.filter_map(|index| {
            let viewer = self.viewers[index as usize].1.as_mut()?;
            let resume = viewer.resume.as_mut().filter(|resume| resume.is_told)?;
            viewer.has_initial_state.then(|| GraphUpdate::Position(viewer.conn, resume.next_position()))
        })
        .collect()
    }

    /// Takes a viewer from its connection. Keys of before are stale.
    fn detach(&mut self, index: u32) {
        self.in_flight.remove(&index);
        let (epoch, viewer) = &mut self.viewers[index as usize];
        *epoch = epoch.wrapping_add(1);
        let viewer = viewer.as_mut().expect("indices refer to existing viewers");
        if self.by_conn.get(&viewer.conn) == Some(&index) {
            self.by_conn.remove(&viewer.conn);
        }
        viewer.has_initial_state = false;
        let failed = std::mem::take(&mut viewer.in_flight);
        viewer.invalid.restore(failed);
        self.reset_pacing(index);
        let viewer = self.viewer_mut(index);
        // The client forgets who is typing with the connection. Those who still are, are read again.
        let typing_users = std::mem::take(&mut viewer.typing_users);
        if !typing_users.is_empty() {
            let users: Vec<UserId> = typing_users.iter().map(|typing_user| typing_user.user_id).collect();
            viewer.invalid.add(Some(&users));
        }
        for typing_user in typing_users {
            self.remove_typing_recipient(&typing_user, index);
        }
    }

    fn unpark(&mut self, index: u32) {
        let parked_bytes =
            self.viewer_mut(index).resume.as_mut().and_then(|resume| resume.parked_bytes.take());
        if let Some(bytes) = parked_bytes {
            self.parked.bytes -= bytes;
            self.parked.count -= 1;
        }
    }

    fn remove_parked(&mut self, index: u32) {
        self.unpark(index);
        self.remove(index);
    }

    fn remove_parked_key(&mut self, key: ViewerKey) {
        if self.viewers[key.index as usize].0 == key.epoch {
            self.remove_parked(key.index);
        }
    }

    fn viewer(&self, index: u32) -> &Viewer {
        self.viewers[index as usize].1.as_ref().expect("indices refer to existing viewers")
    }
}
