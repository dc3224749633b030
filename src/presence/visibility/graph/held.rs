//! Delivering what was held back when clients have read ([`super::super::pacing`]).

use super::*;

impl VisibilityGraph {
    /// Begins a wait for the client of a viewer if it has much to read.
    pub(super) fn begin_wait(&mut self, index: u32) {
        let limits = self.limits;
        let viewer = self.viewer_mut(index);
        let conn = viewer.conn;
        if viewer.has_initial_state && viewer.pacing.begin_wait(&limits) {
            self.waits.push((self.key(index), conn));
        }
    }

    /// Takes the viewers whose clients must read before more is delivered.
    pub(in crate::presence::visibility) fn take_waits(&mut self) -> Vec<(ViewerKey, ConnId)> {
        std::mem::take(&mut self.waits)
    }

    /// The client of a viewer has read what was delivered before the wait. Returns what was held back: users to hide at
    /// once, and users to read again, as many as fit.
    pub(in crate::presence::visibility) fn on_read(&mut self, key: ViewerKey) -> AfterRead {
        let mut after = AfterRead::default();
        let Some(viewer) = self.current_viewer_mut(key) else { return after };
        viewer.pacing.on_read();
        if std::mem::take(&mut viewer.pacing.holds_typing) {
            viewer.invalid = RecheckScope::All;
            after.needs_lookup = true;
        }
        if viewer.pacing.held_edges > 0 {
            self.release_held(key.index, &mut after);
        }
        self.begin_wait(key.index);
        after
    }

    fn release_held(&mut self, index: u32, after: &mut AfterRead) {
        let limits = self.limits;
        let viewer = self.viewer_mut(index);
        let (conn, mark) = (viewer.conn, viewer.mark());
        let (mut edges, mut pacing) = viewer.take_edges();
        let mut lost = Vec::new();
        edges.retain_mut(|edge| {
            if !edge.is_held || edge.face.is_some() {
                return true;
            }
            let id = self.subjects[edge.subject as usize].id;
            let hidden = edge.change(None, id, Recipient::new(&mut pacing, &limits, mark));
            after.updates.extend(hidden.map(|hidden| GraphUpdate::Presence(hidden, vec![conn])));
            let remains = edge.is_held || !edge.is_lost;
            if !remains {
                lost.push(*edge);
            }
            remains
        });
        let room = limits.updates().saturating_sub(after.updates.len());
        for edge in edges.iter_mut().filter(|edge| edge.is_held && edge.face.is_some()).take(room) {
            edge.release(&mut pacing);
            after.users.push(self.subjects[edge.subject as usize].id);
        }
        let viewer = self.viewer_mut(index);
        (viewer.edges, viewer.pacing) = (edges, pacing);
        for edge in lost {
            self.remove_edge(index, edge);
        }
        if !after.updates.is_empty() {
            self.mark_told(index);
        }
    }

    /// The client of a viewer has not read for long. Returns its connection if something is held back for it.
    pub(in crate::presence::visibility) fn on_stalled(&mut self, key: ViewerKey) -> Option<ConnId> {
        let viewer = self.current_viewer_mut(key)?;
        if viewer.pacing.holds_back() {
            return Some(viewer.conn);
        }
        viewer.pacing.restart_wait();
        self.begin_wait(key.index);
        None
    }

    /// Forgets what the previous connection of a viewer had to read. What was held back for it is looked up again.
    pub(super) fn reset_pacing(&mut self, index: u32) {
        let viewer = self.viewer_mut(index);
        let (mut edges, mut pacing) = viewer.take_edges();
        let held = edges.iter_mut().filter(|edge| edge.is_held).map(|edge| {
            edge.release(&mut pacing);
            edge.subject
        });
        let held: Vec<SubjectIndex> = held.collect();
        let held: Vec<UserId> = held.into_iter().map(|it| self.subjects[it as usize].id).collect();
        let viewer = self.viewer_mut(index);
        viewer.edges = edges;
        if pacing.holds_typing {
            viewer.invalid = RecheckScope::All;
        } else if !held.is_empty() {
            viewer.invalid.add(Some(&held));
        }
    }
}
