//! What a channel of a private room may hear and say, for as long as it is open: policies are watched, not just asked.

use std::sync::Arc;

use super::{
    ChannelsSession,
    background::Started,
    channel::{Joined, Stage},
    close::CloseCause,
    events::{EventQueue, SessionEvent},
};
use crate::{
    channels::authorization::{
        AuthorizationError, ReadRights, RightsSubscriber, RightsSubscription, WriteRights,
    },
    hub::{AllowedMask, ReceiveMask},
    model::ChannelId,
    protocol::phoenix::Push,
    transport::{Connection, frame::WireFrame},
};

/// What stands between a channel and its private room.
pub(super) struct PrivateAccess {
    /// Sees to it that changes are told.
    pub subscription: RightsSubscription,
    /// What of the room reaches the channel.
    pub gate: Arc<AllowedMask>,
    /// What it may read, as far as the session knows.
    pub rights: ReadRights,
    /// The answer to a question about writing that has just come, for the push that it was asked for.
    pub write_result: Option<Result<WriteRights, AuthorizationError>>,
}

impl std::fmt::Debug for PrivateAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("gate", &self.gate)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What is let through to somebody with these rights.
pub(super) const fn receive_mask(rights: ReadRights) -> ReceiveMask {
    let broadcasts = if rights.broadcast { ReceiveMask::BROADCASTS } else { ReceiveMask::NONE };
    let presence = if rights.presence { ReceiveMask::PRESENCE } else { ReceiveMask::NONE };
    broadcasts.union(presence)
}

/// Closes a channel's gate the moment that rights are lost, whatever the session is at, and tells the session, which
/// opens it.
struct GateUpdater {
    channel: ChannelId,
    gate: Arc<AllowedMask>,
    events: EventQueue,
}

impl RightsSubscriber for GateUpdater {
    fn on_rights_changed(&self, rights: Result<ReadRights, AuthorizationError>) {
        self.gate.restrict_to(rights.map_or(ReceiveMask::NONE, receive_mask));
        self.events.push_read_rights(self.channel, rights);
    }
}

/// Whether something may be said.
pub(super) enum Permission {
    /// It is known what may be said.
    Known(WriteRights),
    /// The policies cannot be asked.
    Failed(AuthorizationError),
    /// They are being asked; the push waits.
    Pending,
}

impl ChannelsSession {
    /// Watches over a channel of a private room.
    pub(super) fn subscribe_rights(
        &mut self,
        place: usize,
        rights: ReadRights,
        gate: Arc<AllowedMask>,
        conn: &Arc<Connection>,
    ) {
        let inbox = self.events(conn);
        let channel = &mut self.channels[place];
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        let watcher = Arc::new(GateUpdater { channel: channel.id, gate: gate.clone(), events: inbox });
        let watch = self.services.authorizer.subscribe(&joined.principal, &channel.topic, rights, watcher);
        joined.private_access =
            Some(Box::new(PrivateAccess { subscription: watch, gate, rights, write_result: None }));
    }

    /// What a channel may say; the policies are asked where that is not known, and the push waits until they answer.
    pub(super) fn write_permission(
        &mut self,
        place: usize,
        push: &Push<'_>,
        conn: &Arc<Connection>,
    ) -> Permission {
        let channel = &mut self.channels[place];
        let Stage::Joined(Joined { private_access: Some(guard), principal: claimant, .. }) =
            &mut channel.stage
        else {
            return Permission::Known(WriteRights::ALL);
        };
        // What changed since it was asked counts more than the answer.
        if let Some(known) = guard.subscription.write_rights() {
            return Permission::Known(known);
        }
        if let Some(answer) = guard.write_result.take() {
            return answer.map_or_else(Permission::Failed, Permission::Known);
        }
        let (id, authorizer) = (channel.id, self.services.authorizer.clone());
        let (claimant, room) = (claimant.clone(), channel.topic.clone());
        let work =
            async move { SessionEvent::WriteRights(id, authorizer.write_rights(&claimant, &room).await) };
        let otherwise = SessionEvent::WriteRights(id, Err(AuthorizationError::QueryCanceled));
        match self.start_work(work, otherwise, conn) {
            Started::Done(SessionEvent::WriteRights(_, answer)) => {
                answer.map_or_else(Permission::Failed, Permission::Known)
            }
            Started::Done(_) => Permission::Failed(AuthorizationError::QueryCanceled),
            Started::Running(work) => {
                self.channels[place].held.push_front(push);
                self.set_pending_work(place, work);
                Permission::Pending
            }
        }
    }

    /// The policies have said what a channel may say.
    pub(super) async fn on_write_rights(
        &mut self,
        id: ChannelId,
        answer: Result<WriteRights, AuthorizationError>,
        conn: &Arc<Connection>,
    ) {
        if let Some(place) = self.index_by_id(id)
            && let Stage::Joined(joined) = &mut self.channels[place].stage
        {
            joined.work = None;
            if let Some(guard) = &mut joined.private_access {
                guard.write_result = Some(answer);
            }
            self.replay_held(id, conn).await;
        }
    }

    /// A channel's rights to read have changed.
    pub(super) async fn on_read_rights(
        &mut self,
        id: ChannelId,
        rights: Result<ReadRights, AuthorizationError>,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.index_by_id(id) else {
            return;
        };
        match rights {
            Ok(rights) => self.apply_rights(place, rights, conn).await,
            Err(error) => {
                let topic = self.channels[place].topic.name.clone();
                self.close_channel(place, CloseCause::Rights(error, topic), conn).await;
            }
        }
    }

    /// Opens and closes a channel's gate as its rights are. Who sees presence again is told who is there: differences
    /// were missed meanwhile.
    pub(super) async fn apply_rights(&mut self, place: usize, rights: ReadRights, conn: &Arc<Connection>) {
        let services = self.services.clone();
        let voice = self.replies(conn);
        let channel = &mut self.channels[place];
        let Stage::Joined(Joined { private_access: Some(guard), presence, .. }) = &mut channel.stage else {
            return;
        };
        guard.rights = rights;
        let gate = guard.gate.clone();
        let (hears, before) = (receive_mask(rights), gate.get());
        let regains_presence =
            hears.intersects(ReceiveMask::PRESENCE) && !before.intersects(ReceiveMask::PRESENCE);
        if !regains_presence || !presence.enabled {
            gate.set(hears);
            return;
        }
        // It fails only when the server stops, and then the connection ends too.
        let Ok(mut slots) = services.hub.reserve(2).await else {
            return;
        };
        slots.set_mask(&channel.topic, channel.id, ReceiveMask::BROADCASTS, conn, None);
        gate.set(hears);
        services.presence.with_state(&channel.topic, |state| {
            let state = voice.push_frame(channel, "presence_state", &String::from_utf8_lossy(&state));
            slots.set_mask(&channel.topic, channel.id, ReceiveMask::ALL, conn, Some(state));
        });
    }

    /// A channel that did not want to see who is present tracks, and so wants to from now on, if it may.
    pub(super) async fn enable_presence(&mut self, place: usize, conn: &Arc<Connection>) {
        let channel = &mut self.channels[place];
        let Stage::Joined(Joined { private_access: Some(guard), presence, .. }) = &mut channel.stage else {
            return;
        };
        if presence.enabled || presence.receives_diffs || !guard.rights.presence {
            return;
        }
        presence.receives_diffs = true;
        // It fails only when the server stops, and then the connection ends too.
        if let Ok(mut slots) = self.services.hub.reserve(1).await {
            slots.set_mask(&channel.topic, channel.id, ReceiveMask::ALL, conn, None::<WireFrame>);
        }
    }
}
