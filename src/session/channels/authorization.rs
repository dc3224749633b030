//! Rights of a channel in a private topic, kept up to date while it is joined.

use std::sync::Arc;

use super::{
    background::Started,
    channel::{Joined, Stage},
    close_cause::CloseCause,
    events::{EventQueue, SessionEvent},
    private_access::PrivateAccess,
    state::ChannelsSession,
};
use crate::{
    channels::authorization::{AuthorizationError, ReadRights, RightsSubscriber, WriteRights},
    hub::{AllowedMask, ReceiveMask},
    model::ChannelId,
    protocol::phoenix::Push,
    transport::{Connection, frame::WireFrame},
};

/// The messages that these rights allow to receive.
pub(super) const fn receive_mask(rights: ReadRights) -> ReceiveMask {
    let broadcasts = if rights.broadcast { ReceiveMask::BROADCASTS } else { ReceiveMask::NONE };
    let presence =
        if rights.presence { ReceiveMask::PRESENCE.union(ReceiveMask::OCCUPANCY) } else { ReceiveMask::NONE };
    broadcasts.union(presence)
}

/// Revokes what a channel may receive as soon as the rights are lost, whatever the session is doing, and
/// notifies the session, which grants rights.
struct MaskUpdater {
    channel: ChannelId,
    allowed: Arc<AllowedMask>,
    events: EventQueue,
}

impl RightsSubscriber for MaskUpdater {
    fn on_rights_changed(&self, rights: Result<ReadRights, AuthorizationError>) {
        self.allowed.restrict_to(rights.map_or(ReceiveMask::NONE, receive_mask));
        self.events.push_read_rights(self.channel, rights);
    }
}

/// Result of a check of the write rights.
pub(super) enum Permission {
    /// The rights are known.
    Known(WriteRights),
    /// The policies cannot be checked.
    Failed(AuthorizationError),
    /// A check is running; the push waits.
    Pending,
}

impl ChannelsSession {
    /// Subscribes to the rights of a channel in a private topic.
    pub(super) fn subscribe_rights(
        &mut self,
        index: usize,
        rights: ReadRights,
        allowed: Arc<AllowedMask>,
        conn: &Arc<Connection>,
    ) {
        let events = self.events(conn);
        let channel = &mut self.channels[index];
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        let subscriber = Arc::new(MaskUpdater { channel: channel.id, allowed: allowed.clone(), events });
        let subscription =
            self.services.authorizer.subscribe(&joined.principal, &channel.topic, rights, subscriber);
        joined.private_access =
            Some(Box::new(PrivateAccess { subscription, allowed, rights, write_result: None }));
    }

    /// The write rights of a channel. If they are not known, starts a check and holds the push.
    pub(super) fn write_permission(
        &mut self,
        index: usize,
        push: &Push<'_>,
        conn: &Arc<Connection>,
    ) -> Permission {
        let channel = &mut self.channels[index];
        let Stage::Joined(Joined { private_access: Some(private_access), principal, .. }) =
            &mut channel.stage
        else {
            return Permission::Known(WriteRights::ALL);
        };
        // A change since the check is newer than its result.
        if let Some(known) = private_access.subscription.write_rights() {
            return Permission::Known(known);
        }
        if let Some(result) = private_access.write_result.take() {
            return result.map_or_else(Permission::Failed, Permission::Known);
        }
        let (id, authorizer) = (channel.id, self.services.authorizer.clone());
        let (principal, topic) = (principal.clone(), channel.topic.clone());
        let work =
            async move { SessionEvent::WriteRights(id, authorizer.write_rights(&principal, &topic).await) };
        let fallback = SessionEvent::WriteRights(id, Err(AuthorizationError::QueryCanceled));
        match self.start_work(work, fallback, conn) {
            Started::Done(SessionEvent::WriteRights(_, result)) => {
                result.map_or_else(Permission::Failed, Permission::Known)
            }
            Started::Done(_) => Permission::Failed(AuthorizationError::QueryCanceled),
            Started::Running(work) => {
                self.channels[index].held.push_front(push);
                self.set_pending_work(index, work);
                Permission::Pending
            }
        }
    }

    /// Handles the result of a check of the write rights.
    pub(super) async fn on_write_rights(
        &mut self,
        id: ChannelId,
        result: Result<WriteRights, AuthorizationError>,
        conn: &Arc<Connection>,
    ) {
        if let Some(index) = self.index_by_id(id)
            && let Stage::Joined(joined) = &mut self.channels[index].stage
        {
            joined.work = None;
            if let Some(private_access) = &mut joined.private_access {
                private_access.write_result = Some(result);
            }
            self.replay_held(id, conn).await;
        }
    }

    /// Handles a change of the read rights.
    pub(super) async fn on_read_rights(
        &mut self,
        id: ChannelId,
        rights: Result<ReadRights, AuthorizationError>,
        conn: &Arc<Connection>,
    ) {
        let Some(index) = self.index_by_id(id) else {
            return;
        };
        match rights {
            Ok(rights) => self.apply_rights(index, rights, conn).await,
            Err(error) => {
                let topic = self.channels[index].topic.name.clone();
                self.close_channel(index, CloseCause::Rights(error, topic), conn).await;
            }
        }
    }

    /// Applies new read rights. A channel that regains presence gets the state, because it missed diffs.
    pub(super) async fn apply_rights(&mut self, index: usize, rights: ReadRights, conn: &Arc<Connection>) {
        let services = self.services.clone();
        let replies = self.replies(conn);
        let channel = &mut self.channels[index];
        let Stage::Joined(Joined { private_access: Some(private_access), presence, .. }) = &mut channel.stage
        else {
            return;
        };
        private_access.rights = rights;
        let allowed = private_access.allowed.clone();
        let (mask, before) = (receive_mask(rights), allowed.get());
        let regains_presence =
            mask.intersects(ReceiveMask::PRESENCE) && !before.intersects(ReceiveMask::PRESENCE);
        if !regains_presence || !presence.enabled {
            allowed.set(mask);
            if regains_presence && presence.occupancy.is_some() {
                services.presence.resend_occupancy(&channel.topic);
            }
            return;
        }
        let subscribed = presence.receive_mask(true);
        // This fails only when the server is stopping, and then the connection closes too.
        let Ok(mut reserved) = services.hub.reserve(2).await else {
            return;
        };
        reserved.set_mask(&channel.topic, channel.id, ReceiveMask::BROADCASTS, conn, None);
        allowed.set(mask);
        services.presence.with_state(&channel.topic, |state| {
            let state = replies.push_frame(channel, "presence_state", &String::from_utf8_lossy(&state));
            reserved.set_mask(&channel.topic, channel.id, subscribed, conn, Some(state));
        });
        if subscribed.intersects(ReceiveMask::OCCUPANCY) {
            services.presence.resend_occupancy(&channel.topic);
        }
    }

    /// Sends presence diffs to a channel that did not ask for presence but now tracks, if it may read
    /// presence.
    pub(super) async fn enable_presence(&mut self, index: usize, conn: &Arc<Connection>) {
        let channel = &mut self.channels[index];
        let Stage::Joined(Joined { private_access: Some(private_access), presence, .. }) = &mut channel.stage
        else {
            return;
        };
        let receives_diffs = presence.enabled || presence.receives_diffs;
        // A channel that asked for counts tracks without the list.
        if receives_diffs || presence.occupancy.is_some() || !private_access.rights.presence {
            return;
        }
        presence.receives_diffs = true;
        let subscribed = presence.receive_mask(true);
        // This fails only when the server is stopping, and then the connection closes too.
        if let Ok(mut reserved) = self.services.hub.reserve(1).await {
            reserved.set_mask(&channel.topic, channel.id, subscribed, conn, None::<WireFrame>);
        }
    }
}
