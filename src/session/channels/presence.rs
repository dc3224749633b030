//! What a channel makes known of itself, and takes back.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;

use super::{
    ChannelsSession,
    authorization::Permission,
    channel::Stage,
    close::CloseCause,
    replies::{EMPTY, reason_json},
};
use crate::{
    channels::presence::{NotAnObject, PresencePayload as Tracked},
    protocol::phoenix::{Payload, Push, ReplyStatus},
    transport::Connection,
};

/// What a client asks of presence.
#[derive(Debug, PartialEq)]
enum PresenceCommand {
    Track(Tracked),
    Untrack,
    /// Something without an event, which asks for nothing.
    Noop,
}

/// Why a wish is not fulfilled.
#[derive(Debug, PartialEq)]
enum PresenceCommandError {
    NotAnObject(NotAnObject),
    UnknownEvent,
    TooLarge,
}

impl ChannelsSession {
    /// A client tracks something in a channel that it has joined, or stops doing so.
    pub(super) async fn on_presence(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let may = match self.write_permission(place, push, conn) {
            Permission::Known(rights) => rights.presence,
            Permission::Failed(_) => false,
            Permission::Pending => return,
        };
        if !self.admit_presence_push(place) {
            return self.close_channel(place, CloseCause::PresencePushRate, conn).await;
        }
        if self.services.limits.presence_rate_exceeded() {
            return self.close_channel(place, CloseCause::NodePresenceRate, conn).await;
        }
        let most = self.services.limits.limits().payload_bytes.unwrap_or(usize::MAX);
        let (status, response) = match parse_command(&push.payload, most) {
            Ok(PresenceCommand::Track(_) | PresenceCommand::Untrack) if !may => {
                (ReplyStatus::Error, Cow::Borrowed(EMPTY))
            }
            Ok(wish) => {
                self.enable_presence(place, conn).await;
                self.run_presence_command(place, wish).await;
                (ReplyStatus::Ok, Cow::Borrowed(EMPTY))
            }
            Err(PresenceCommandError::NotAnObject(error)) => {
                (ReplyStatus::Error, reason_json(&error.to_string()).into())
            }
            Err(PresenceCommandError::UnknownEvent) => (ReplyStatus::Error, EMPTY.into()),
            Err(PresenceCommandError::TooLarge) => {
                return self.close_channel(place, CloseCause::TrackTooLarge, conn).await;
            }
        };
        let voice = self.replies(conn);
        let reply = voice.reply_frame(&self.channels[place], push.reference.as_deref(), status, &response);
        voice.send(reply).await;
    }

    /// Counts a presence push; `false` if there were too many.
    fn admit_presence_push(&mut self, place: usize) -> bool {
        let limits = *self.services.limits.limits();
        let now = self.services.limits.elapsed_ms();
        let (Some(most), Stage::Joined(joined)) = (limits.presence_calls, &mut self.channels[place].stage)
        else {
            return true;
        };
        let window = u32::try_from(limits.presence_window.as_millis()).unwrap_or(u32::MAX);
        joined.presence.pushes.admit(now, most.get(), window)
    }

    async fn run_presence_command(&mut self, place: usize, wish: PresenceCommand) {
        let channel = &mut self.channels[place];
        let Some(seat) = channel.presence_ref() else {
            return;
        };
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        // They fail only when the server stops, and then the connection ends too.
        match wish {
            PresenceCommand::Track(payload) => {
                joined.presence.is_tracking = true;
                let _ = self.services.presence.track(&seat, payload).await;
            }
            PresenceCommand::Untrack => {
                joined.presence.is_tracking = false;
                let _ = self.services.presence.untrack(&seat).await;
            }
            PresenceCommand::Noop => {}
        }
    }
}

fn parse_command(payload: &Payload<'_>, most: usize) -> Result<PresenceCommand, PresenceCommandError> {
    let Payload::Json(json) = *payload else {
        return Err(PresenceCommandError::UnknownEvent);
    };
    if json.len() > most {
        return Err(PresenceCommandError::TooLarge);
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|_| PresenceCommandError::NotAnObject(NotAnObject))?;
    let event = match fields.get("event") {
        None => return Ok(PresenceCommand::Noop),
        Some(event) => serde_json::from_str::<Cow<'_, str>>(event.get())
            .map_err(|_| PresenceCommandError::UnknownEvent)?,
    };
    if event.eq_ignore_ascii_case("untrack") {
        return Ok(PresenceCommand::Untrack);
    }
    if !event.eq_ignore_ascii_case("track") {
        return Err(PresenceCommandError::UnknownEvent);
    }
    let tracked =
        fields.get("payload").map_or_else(|| Tracked::from_json("{}"), |payload| Tracked::new(payload));
    tracked.map(PresenceCommand::Track).map_err(PresenceCommandError::NotAnObject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(json: &str) -> Result<PresenceCommand, PresenceCommandError> {
        parse_command(&Payload::Json(json), 200)
    }

    fn track(json: &str) -> Result<PresenceCommand, PresenceCommandError> {
        Ok(PresenceCommand::Track(Tracked::from_json(json).expect("is an object")))
    }

    #[test]
    fn events_have_any_case_and_a_payload_may_be_missing() {
        assert_eq!(wished(r#"{"type":"presence","event":"track","payload":{"a":1}}"#), track(r#"{"a":1}"#));
        assert_eq!(wished(r#"{"event":"TRACK"}"#), track("{}"));
        assert_eq!(wished(r#"{"event":"unTrack","payload":"x"}"#), Ok(PresenceCommand::Untrack));
        assert_eq!(wished(r#"{"payload":{}}"#), Ok(PresenceCommand::Noop));
    }

    #[test]
    fn what_cannot_be_tracked_is_said() {
        for json in
            [r#"{"event":"track","payload":"x"}"#, r#"{"event":"track","payload":null}"#, "[]", "\"x\""]
        {
            assert_eq!(wished(json), Err(PresenceCommandError::NotAnObject(NotAnObject)), "{json}");
        }
        assert_eq!(wished(r#"{"event":"dance"}"#), Err(PresenceCommandError::UnknownEvent));
        assert_eq!(wished(r#"{"event":7}"#), Err(PresenceCommandError::UnknownEvent));
        let large = format!(r#"{{"event":"track","payload":{{"x":"{}"}}}}"#, "x".repeat(200));
        assert_eq!(wished(&large), Err(PresenceCommandError::TooLarge));
    }
}
