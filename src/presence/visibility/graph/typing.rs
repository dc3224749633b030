//! Typing states: to whom each was delivered, and when it was refreshed.

use smallvec::SmallVec;

use super::{GraphUpdate, RecheckScope, TypingEntry, ViewerKey, VisibilityGraph};
use crate::{
    model::{TypingState, TypingUser},
    pg::queries::presence::TypingRecord,
};

impl VisibilityGraph {
    /// Applies typing states among the looked-up subjects. Returns the changes.
    pub(super) fn apply_viewer_typing(
        &mut self,
        index: u32,
        scope: &RecheckScope,
        typing_users: &[TypingUser],
    ) -> Vec<GraphUpdate> {
        let limits = self.limits;
        let viewer = self.viewer_mut(index);
        let (conn, user) = (viewer.conn, viewer.user);
        let delivered = std::mem::take(&mut viewer.typing_users);
        let (mut kept, mut stopped): (SmallVec<[TypingUser; 1]>, SmallVec<[TypingUser; 1]>) =
            delivered.into_iter().partition(|typing_user| {
                !scope.contains(typing_user.user_id) || typing_users.contains(typing_user)
            });
        // A user's own typing is not delivered to the user's other devices.
        let started: SmallVec<[TypingUser; 1]> = typing_users
            .iter()
            .filter(|typing_user| typing_user.user_id != user && !kept.contains(typing_user))
            .filter(|_| viewer.admits_typing(&limits))
            .cloned()
            .collect();
        stopped.retain(|typing_user| {
            let is_admitted = viewer.admits_typing(&limits);
            if !is_admitted {
                kept.push(typing_user.clone());
            }
            is_admitted
        });
        viewer.typing_users = kept;
        viewer.typing_users.extend(started.iter().cloned());
        let mut updates = Vec::new();
        for typing_user in stopped {
            self.remove_typing_recipient(&typing_user, index);
            updates.push(GraphUpdate::Typing(typing_state(typing_user, false), vec![conn]));
        }
        for typing_user in started {
            self.typing.entry(typing_user.clone()).or_default().delivered_to.push(index);
            updates.push(GraphUpdate::Typing(typing_state(typing_user, true), vec![conn]));
        }
        updates
    }

    /// Applies typing states of one snapshot, after all invalidations of that snapshot. Viewers that received a typing
    /// state get its refresh or end. For other participants a lookup is needed; those viewers are returned too.
    pub(in super::super) fn apply_typing(
        &mut self,
        typing: &[TypingRecord],
    ) -> (Vec<GraphUpdate>, Vec<ViewerKey>) {
        let (mut updates, mut due, limits) = (Vec::new(), Vec::new(), self.limits);
        for TypingRecord { typing_user, participants, since } in typing {
            let known = self.typing.remove_entry(typing_user);
            let (known, TypingEntry { delivered_to, since: previous }) =
                known.unwrap_or_else(|| (typing_user.clone(), TypingEntry::default()));
            let Some(since) = *since else {
                // The row is gone; the ID is written as it was delivered.
                let (mut to, mut held) = (Vec::new(), SmallVec::new());
                for index in delivered_to {
                    let viewer = self.viewer_mut(index);
                    if viewer.admits_typing(&limits) {
                        viewer.typing_users.retain(|other| *other != known);
                        to.push(viewer.conn);
                    } else {
                        held.push(index);
                    }
                    self.begin_wait(index);
                }
                if !to.is_empty() {
                    updates.push(GraphUpdate::Typing(typing_state(known.clone(), false), to));
                }
                if !held.is_empty() {
                    self.typing.insert(known, TypingEntry { delivered_to: held, since: previous });
                }
                continue;
            };
            if previous.is_some_and(|previous| previous != since) {
                let mut recipients = Vec::new();
                for index in &delivered_to {
                    let viewer = self.viewer_mut(*index);
                    if !viewer.is_invalid(typing_user.user_id) && viewer.admits_typing_refresh(&limits) {
                        recipients.push(viewer.conn);
                    }
                    self.begin_wait(*index);
                }
                if !recipients.is_empty() {
                    updates.push(GraphUpdate::Typing(typing_state(typing_user.clone(), true), recipients));
                }
            }
            let others = participants.iter().filter(|user| **user != typing_user.user_id);
            let viewers: SmallVec<[u32; 2]> =
                others.filter_map(|user| self.by_user.get(user)).flatten().copied().collect();
            for index in viewers.iter().copied().filter(|index| !delivered_to.contains(index)) {
                self.viewer_mut(index).invalid.add(Some(&[typing_user.user_id]));
                self.add_urgent(index, &[typing_user.user_id]);
                due.push(self.key(index));
            }
            if !(delivered_to.is_empty() && viewers.is_empty()) {
                self.typing.insert(typing_user.clone(), TypingEntry { delivered_to, since: Some(since) });
            }
        }
        (updates, due)
    }

    pub(super) fn remove_typing_recipient(&mut self, typing_user: &TypingUser, index: u32) {
        if let Some(TypingEntry { delivered_to, .. }) = self.typing.get_mut(typing_user) {
            delivered_to.retain(|other| *other != index);
            if delivered_to.is_empty() {
                self.typing.remove(typing_user);
            }
        }
    }
}

pub(super) fn typing_state(
    TypingUser { conversation_id, user_id }: TypingUser,
    is_typing: bool,
) -> TypingState {
    TypingState { user_id, conversation_id, is_typing }
}
