//! Presence of a joined channel: track and untrack.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;

use super::{
    authorization::Permission,
    channel::Stage,
    close_cause::CloseCause,
    replies::{EMPTY, reason_json},
    state::ChannelsSession,
};
use crate::{
    channels::presence::{NotAnObject, PresencePayload},
    protocol::phoenix::{Payload, Push, ReplyStatus},
    transport::Connection,
};

/// A parsed presence push.
#[derive(Debug, PartialEq)]
enum PresenceCommand {
    Track(PresencePayload),
    Untrack,
    /// A push without an event, which has no effect.
    Noop,
}

/// Why a presence push is rejected.
#[derive(Debug, PartialEq)]
enum PresenceCommandError {
    NotAnObject(NotAnObject),
    UnknownEvent,
    TooLarge,
}

impl ChannelsSession {
    /// Handles a presence push.
    pub(super) async fn on_presence(&mut self, index: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let allowed = match self.write_permission(index, push, conn) {
            Permission::Known(rights) => rights.presence,
            Permission::Failed(_) => false,
            Permission::Pending => return,
        };
        if !self.admit_presence_push(index) {
            return self.close_channel(index, CloseCause::PresencePushRate, conn).await;
        }
        if self.services.limits.presence_rate_exceeded() {
            return self.close_channel(index, CloseCause::NodePresenceRate, conn).await;
        }
        let max = self.services.limits.limits().payload_bytes().unwrap_or(usize::MAX);
        let (status, response) = match parse_command(&push.payload, max) {
            Ok(PresenceCommand::Track(_) | PresenceCommand::Untrack) if !allowed => {
                (ReplyStatus::Error, Cow::Borrowed(EMPTY))
            }
            Ok(command) => {
                self.enable_presence(index, conn).await;
                self.run_presence_command(index, command).await;
                (ReplyStatus::Ok, Cow::Borrowed(EMPTY))
            }
            Err(PresenceCommandError::NotAnObject(error)) => {
                (ReplyStatus::Error, reason_json(&error.to_string()).into())
            }
            Err(PresenceCommandError::UnknownEvent) => (ReplyStatus::Error, EMPTY.into()),
            Err(PresenceCommandError::TooLarge) => {
                return self.close_channel(index, CloseCause::TrackTooLarge, conn).await;
            }
        };
        let replies = self.replies(conn);
        let reply = replies.reply_frame(&self.channels[index], push.reference.as_deref(), status, &response);
        replies.send(reply).await;
    }

    /// Counts a presence push. Returns false if the channel exceeds its rate.
    fn admit_presence_push(&mut self, index: usize) -> bool {
        let limits = *self.services.limits.limits();
        let now = self.services.limits.elapsed_ms();
        let (Some(max), Stage::Joined(joined)) = (limits.presence_calls, &mut self.channels[index].stage)
        else {
            return true;
        };
        let window = limits.presence_window_ms;
        joined.presence.pushes.admit(now, max.get(), window)
    }

    async fn run_presence_command(&mut self, index: usize, command: PresenceCommand) {
        let channel = &mut self.channels[index];
        let Some(presence_ref) = channel.presence_ref() else {
            return;
        };
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        // These fail only when the server is stopping, and then the connection closes too.
        match command {
            PresenceCommand::Track(payload) => {
                joined.presence.is_tracking = true;
                let _ = self.services.presence.track(&presence_ref, payload).await;
            }
            PresenceCommand::Untrack => {
                joined.presence.is_tracking = false;
                let _ = self.services.presence.untrack(&presence_ref).await;
            }
            PresenceCommand::Noop => {}
        }
    }
}

fn parse_command(payload: &Payload<'_>, max: usize) -> Result<PresenceCommand, PresenceCommandError> {
    let Payload::Json(json) = *payload else {
        return Err(PresenceCommandError::UnknownEvent);
    };
    if json.len() > max {
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
    let tracked = fields
        .get("payload")
        .map_or_else(|| PresencePayload::from_json("{}"), |payload| PresencePayload::new(payload));
    tracked.map(PresenceCommand::Track).map_err(PresenceCommandError::NotAnObject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PresenceCommand, PresenceCommandError> {
        parse_command(&Payload::Json(json), 200)
    }

    fn track(json: &str) -> Result<PresenceCommand, PresenceCommandError> {
        Ok(PresenceCommand::Track(PresencePayload::from_json(json).expect("is an object")))
    }

    #[test]
    fn events_ignore_case_and_the_payload_is_optional() {
        assert_eq!(parse(r#"{"type":"presence","event":"track","payload":{"a":1}}"#), track(r#"{"a":1}"#));
        assert_eq!(parse(r#"{"event":"TRACK"}"#), track("{}"));
        assert_eq!(parse(r#"{"event":"unTrack","payload":"x"}"#), Ok(PresenceCommand::Untrack));
        assert_eq!(parse(r#"{"payload":{}}"#), Ok(PresenceCommand::Noop));
    }

    #[test]
    fn invalid_pushes_are_rejected() {
        for json in
            [r#"{"event":"track","payload":"x"}"#, r#"{"event":"track","payload":null}"#, "[]", "\"x\""]
        {
            assert_eq!(parse(json), Err(PresenceCommandError::NotAnObject(NotAnObject)), "{json}");
        }
        assert_eq!(parse(r#"{"event":"dance"}"#), Err(PresenceCommandError::UnknownEvent));
        assert_eq!(parse(r#"{"event":7}"#), Err(PresenceCommandError::UnknownEvent));
        let large = format!(r#"{{"event":"track","payload":{{"x":"{}"}}}}"#, "x".repeat(200));
        assert_eq!(parse(&large), Err(PresenceCommandError::TooLarge));
    }
}
