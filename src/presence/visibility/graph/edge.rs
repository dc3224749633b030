//! One edge: what row-level security showed last of a subject, and what was delivered of it.

use std::sync::Arc;

use super::super::pacing::{self, Pacing, PacingLimits};
use crate::{
    model::{Face, Presence, UserId},
    pg::queries::presence::VersionedFace,
};

/// A subject's index. 4 bytes per edge instead of 16.
pub(super) type SubjectIndex = u32;

#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// The digest of the presence delivered last, if [`Delivered::State`].
    pub(super) digest: u64,
    pub(super) subject: SubjectIndex,
    /// The viewer's mark at the last delivery ([`super::parking`]); 0 if nothing was delivered.
    pub(super) delivered_at: u32,
    /// The face that row-level security showed last; `None` if it shows none.
    pub(super) face: Option<Face>,
    pub(super) delivered: Delivered,
    /// The current state was not delivered, because the client has to read first.
    pub(super) is_held: bool,
    /// The subject is neither related nor followed any more. The edge remains until that is delivered.
    pub(super) is_lost: bool,
}

/// What the client shows of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nothing, or that the subject is hidden.
    Nothing,
    /// The presence with the edge's digest, of this face.
    State(Face),
    /// Any of what was delivered: the client may not have received the last of it.
    Unknown,
}

/// The viewer of an edge, as far as deliveries depend on it.
pub(super) struct Recipient<'a> {
    pacing: &'a mut Pacing,
    limits: &'a PacingLimits,
    /// Whether the presence becomes a part of the initial state.
    is_initial: bool,
    /// Only users on this page are delivered, if set.
    page: Option<&'a str>,
    /// The viewer's mark of this delivery.
    mark: u32,
}

impl<'a> Recipient<'a> {
    pub(super) const fn new(pacing: &'a mut Pacing, limits: &'a PacingLimits, mark: u32) -> Self {
        Self { pacing, limits, is_initial: false, page: None, mark }
    }

    pub(super) const fn for_initial_state(self, is_initial: bool) -> Self {
        Self { is_initial, ..self }
    }

    pub(super) const fn on_page(self, page: Option<&'a str>) -> Self {
        Self { page, ..self }
    }

    fn admits(&mut self, presence: &Presence) -> bool {
        if self.is_initial {
            let bytes = pacing::initial_state_bytes(presence);
            self.pacing.admit(bytes, self.limits.initial_state_bytes)
        } else {
            self.pacing.admit(pacing::update_bytes(presence), self.limits.update_bytes)
        }
    }
}

impl Edge {
    /// An edge on which something was delivered before, if the viewer knew the subject.
    pub(super) const fn new(subject: SubjectIndex, (delivered, delivered_at): (Delivered, u32)) -> Self {
        Self { digest: 0, subject, delivered_at, face: None, delivered, is_held: false, is_lost: false }
    }

    /// Returns the change for the viewer at this edge and records it as delivered, or holds it back. States arrive in the
    /// order of their snapshots: a pass skips edges with a lookup in flight, and reads them again after it.
    ///
    /// With a page, the presence of a user who left it is delivered once more, which shows that; then nothing is until
    /// the user comes back.
    pub(super) fn change(
        &mut self,
        visible_face: Option<VersionedFace>,
        user: UserId,
        mut recipient: Recipient<'_>,
    ) -> Option<Arc<Presence>> {
        let page = recipient.page;
        let (presence, delivered, digest) = match visible_face {
            Some(face) if page.is_some() && face.presence.current_page.as_deref() != page => {
                (Some(face.presence), Delivered::Nothing, 0)
            }
            Some(face) => (Some(face.presence), Delivered::State(face.face), face.digest),
            None => (None, Delivered::Nothing, 0),
        };
        if self.delivered == delivered && (delivered == Delivered::Nothing || self.digest == digest) {
            self.release(recipient.pacing);
            return None;
        }
        let presence = presence.unwrap_or_else(|| Arc::new(Presence::hidden(user)));
        if !recipient.admits(&presence) {
            self.hold(recipient.pacing);
            return None;
        }
        self.release(recipient.pacing);
        (self.delivered, self.digest, self.delivered_at) = (delivered, digest, recipient.mark);
        Some(presence)
    }

    fn hold(&mut self, pacing: &mut Pacing) {
        pacing.held_edges += u32::from(!std::mem::replace(&mut self.is_held, true));
    }

    /// The state is not held back any more.
    pub(super) fn release(&mut self, pacing: &mut Pacing) {
        pacing.held_edges -= u32::from(std::mem::take(&mut self.is_held));
    }
}
