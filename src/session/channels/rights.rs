//! What a channel of a private room may hear and say, for as long as it is open: policies are watched, not just asked.

use std::sync::Arc;

use super::{
    ChannelsSession,
    channel::{Joined, Stage},
    ending::Ending,
    inbox::{Event, Inbox},
    work::Begun,
};
use crate::{
    channels::{
        ChannelId,
        authorization::{AuthorizationError, ReadRights, RightsWatcher, Watch, WriteRights},
    },
    hub::{Gate, Hears},
    protocol::phoenix::Push,
    transport::{Connection, frame::WireFrame},
};

/// What stands between a channel and its private room.
pub(super) struct Guard {
    /// Sees to it that changes are told.
    pub watch: Watch,
    /// What of the room reaches the channel.
    pub gate: Arc<Gate>,
    /// What it may read, as far as the session knows.
    pub rights: ReadRights,
    /// The answer to a question about writing that has just come, for the push that it was asked for.
    pub answer: Option<Result<WriteRights, AuthorizationError>>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("gate", &self.gate)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What is let through to somebody with these rights.
pub(super) const fn heard(rights: ReadRights) -> Hears {
    let broadcasts = if rights.broadcast { Hears::BROADCASTS } else { Hears::NOTHING };
    let presence = if rights.presence { Hears::PRESENCE } else { Hears::NOTHING };
    broadcasts.and(presence)
}

/// Closes a channel's gate the moment that rights are lost, whatever the session is at, and tells the session, which
/// opens it.
struct Watcher {
    channel: ChannelId,
    gate: Arc<Gate>,
    inbox: Inbox,
}

impl RightsWatcher for Watcher {
    fn changed(&self, rights: Result<ReadRights, AuthorizationError>) {
        self.gate.narrow(rights.map_or(Hears::NOTHING, heard));
        self.inbox.put_rights(self.channel, rights);
    }
}

/// Whether something may be said.
pub(super) enum Permission {
    /// It is known what may be said.
    Known(WriteRights),
    /// The policies cannot be asked.
    Failed(AuthorizationError),
    /// They are being asked; the push waits.
    Asked,
}

impl ChannelsSession {
    /// Watches over a channel of a private room.
    pub(super) fn guard(
        &mut self,
        place: usize,
        rights: ReadRights,
        gate: Arc<Gate>,
        conn: &Arc<Connection>,
    ) {
        let inbox = self.inbox(conn);
        let channel = &mut self.channels[place];
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        let watcher = Arc::new(Watcher { channel: channel.id, gate: gate.clone(), inbox });
        let watch = self.services.authorizer.watch(&joined.claimant, &channel.room, rights, watcher);
        joined.guard = Some(Box::new(Guard { watch, gate, rights, answer: None }));
    }

    /// What a channel may say; the policies are asked where that is not known, and the push waits until they answer.
    pub(super) fn may_write(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) -> Permission {
        let channel = &mut self.channels[place];
        let Stage::Joined(Joined { guard: Some(guard), claimant, .. }) = &mut channel.stage else {
            return Permission::Known(WriteRights::ALL);
        };
        // What changed since it was asked counts more than the answer.
        if let Some(known) = guard.watch.write() {
            return Permission::Known(known);
        }
        if let Some(answer) = guard.answer.take() {
            return answer.map_or_else(Permission::Failed, Permission::Known);
        }
        let (id, authorizer) = (channel.id, self.services.authorizer.clone());
        let (claimant, room) = (claimant.clone(), channel.room.clone());
        let work = async move { Event::Writes(id, authorizer.write(&claimant, &room).await) };
        let otherwise = Event::Writes(id, Err(AuthorizationError::QueryCanceled));
        match self.begin(work, otherwise, conn) {
            Begun::Done(Event::Writes(_, answer)) => {
                answer.map_or_else(Permission::Failed, Permission::Known)
            }
            Begun::Done(_) => Permission::Failed(AuthorizationError::QueryCanceled),
            Begun::Running(work) => {
                self.channels[place].held.keep_first(push);
                self.hold(place, work);
                Permission::Asked
            }
        }
    }

    /// The policies have said what a channel may say.
    pub(super) async fn answered(
        &mut self,
        id: ChannelId,
        answer: Result<WriteRights, AuthorizationError>,
        conn: &Arc<Connection>,
    ) {
        if let Some(place) = self.place_by_id(id)
            && let Stage::Joined(joined) = &mut self.channels[place].stage
        {
            joined.work = None;
            if let Some(guard) = &mut joined.guard {
                guard.answer = Some(answer);
            }
            self.catch_up(id, conn).await;
        }
    }

    /// A channel's rights to read have changed.
    pub(super) async fn rights_changed(
        &mut self,
        id: ChannelId,
        rights: Result<ReadRights, AuthorizationError>,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.place_by_id(id) else {
            return;
        };
        match rights {
            Ok(rights) => self.adopt(place, rights, conn).await,
            Err(error) => {
                let topic = self.channels[place].room.topic.clone();
                self.expel(place, Ending::Rights(error, topic), conn).await;
            }
        }
    }

    /// Opens and closes a channel's gate as its rights are. Who sees presence again is told who is there: differences
    /// were missed meanwhile.
    pub(super) async fn adopt(&mut self, place: usize, rights: ReadRights, conn: &Arc<Connection>) {
        let services = self.services.clone();
        let voice = self.voice(conn);
        let channel = &mut self.channels[place];
        let Stage::Joined(Joined { guard: Some(guard), presence, .. }) = &mut channel.stage else {
            return;
        };
        guard.rights = rights;
        let gate = guard.gate.clone();
        let (hears, before) = (heard(rights), gate.get());
        let regains_presence = hears.any(Hears::PRESENCE) && !before.any(Hears::PRESENCE);
        if !regains_presence || !presence.enabled {
            gate.set(hears);
            return;
        }
        // It fails only when the server stops, and then the connection ends too.
        let Ok(mut slots) = services.hub.slots(2).await else {
            return;
        };
        slots.hear(&channel.room, channel.id, Hears::BROADCASTS, conn, None);
        gate.set(hears);
        services.presence.enter(&channel.room, |state| {
            let state = voice.push(channel, "presence_state", &String::from_utf8_lossy(&state));
            slots.hear(&channel.room, channel.id, Hears::ALL, conn, Some(state));
        });
    }

    /// A channel that did not want to see who is present tracks, and so wants to from now on, if it may.
    pub(super) async fn begin_to_see(&mut self, place: usize, conn: &Arc<Connection>) {
        let channel = &mut self.channels[place];
        let Stage::Joined(Joined { guard: Some(guard), presence, .. }) = &mut channel.stage else {
            return;
        };
        if presence.enabled || presence.sees || !guard.rights.presence {
            return;
        }
        presence.sees = true;
        // It fails only when the server stops, and then the connection ends too.
        if let Ok(mut slots) = self.services.hub.slots(1).await {
            slots.hear(&channel.room, channel.id, Hears::ALL, conn, None::<WireFrame>);
        }
    }
}
