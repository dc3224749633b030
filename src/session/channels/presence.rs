//! What a channel makes known of itself, and takes back.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;

use super::{
    ChannelsSession,
    channel::Stage,
    ending::Ending,
    rights::Permission,
    voice::{NOTHING, reason},
};
use crate::{
    channels::presence::{NotAnObject, Payload as Tracked},
    protocol::phoenix::{Payload, Push, Status},
    transport::Connection,
};

/// What a client asks of presence.
#[derive(Debug, PartialEq)]
enum Wish {
    Track(Tracked),
    Untrack,
    /// Something without an event, which asks for nothing.
    Nothing,
}

/// Why a wish is not fulfilled.
#[derive(Debug, PartialEq)]
enum Unheard {
    NotAnObject(NotAnObject),
    UnknownEvent,
    TooLarge,
}

impl ChannelsSession {
    /// A client tracks something in a channel that it has joined, or stops doing so.
    pub(super) async fn presence(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let may = match self.may_write(place, push, conn) {
            Permission::Known(rights) => rights.presence,
            Permission::Failed(_) => false,
            Permission::Asked => return,
        };
        if !self.admits_presence_call(place) {
            return self.expel(place, Ending::PresenceCalls, conn).await;
        }
        if self.services.limits.presence_is_too_loud() {
            return self.expel(place, Ending::PresenceRate, conn).await;
        }
        let most = self.services.limits.limits().payload_bytes.unwrap_or(usize::MAX);
        let (status, response) = match wish(&push.payload, most) {
            Ok(Wish::Track(_) | Wish::Untrack) if !may => (Status::Error, Cow::Borrowed(NOTHING)),
            Ok(wish) => {
                self.begin_to_see(place, conn).await;
                self.fulfil(place, wish).await;
                (Status::Ok, Cow::Borrowed(NOTHING))
            }
            Err(Unheard::NotAnObject(error)) => (Status::Error, reason(&error.to_string()).into()),
            Err(Unheard::UnknownEvent) => (Status::Error, NOTHING.into()),
            Err(Unheard::TooLarge) => return self.expel(place, Ending::TrackTooLarge, conn).await,
        };
        let voice = self.voice(conn);
        let reply = voice.reply(&self.channels[place], push.reference.as_deref(), status, &response);
        voice.say(reply).await;
    }

    /// Counts a presence push; `false` if there were too many.
    fn admits_presence_call(&mut self, place: usize) -> bool {
        let limits = *self.services.limits.limits();
        let now = self.services.limits.now_ms();
        let (Some(most), Stage::Joined(joined)) = (limits.presence_calls, &mut self.channels[place].stage)
        else {
            return true;
        };
        let window = u32::try_from(limits.presence_window.as_millis()).unwrap_or(u32::MAX);
        joined.presence.calls.admit(now, most.get(), window)
    }

    async fn fulfil(&mut self, place: usize, wish: Wish) {
        let channel = &mut self.channels[place];
        let Some(seat) = channel.presence_seat() else {
            return;
        };
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        // They fail only when the server stops, and then the connection ends too.
        match wish {
            Wish::Track(payload) => {
                joined.presence.tracks = true;
                let _ = self.services.presence.track(&seat, payload).await;
            }
            Wish::Untrack => {
                joined.presence.tracks = false;
                let _ = self.services.presence.untrack(&seat).await;
            }
            Wish::Nothing => {}
        }
    }
}

fn wish(payload: &Payload<'_>, most: usize) -> Result<Wish, Unheard> {
    let Payload::Json(json) = *payload else {
        return Err(Unheard::UnknownEvent);
    };
    if json.len() > most {
        return Err(Unheard::TooLarge);
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|_| Unheard::NotAnObject(NotAnObject))?;
    let event = match fields.get("event") {
        None => return Ok(Wish::Nothing),
        Some(event) => {
            serde_json::from_str::<Cow<'_, str>>(event.get()).map_err(|_| Unheard::UnknownEvent)?
        }
    };
    if event.eq_ignore_ascii_case("untrack") {
        return Ok(Wish::Untrack);
    }
    if !event.eq_ignore_ascii_case("track") {
        return Err(Unheard::UnknownEvent);
    }
    let tracked =
        fields.get("payload").map_or_else(|| Tracked::from_json("{}"), |payload| Tracked::new(payload));
    tracked.map(Wish::Track).map_err(Unheard::NotAnObject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(json: &str) -> Result<Wish, Unheard> {
        wish(&Payload::Json(json), 200)
    }

    fn track(json: &str) -> Result<Wish, Unheard> {
        Ok(Wish::Track(Tracked::from_json(json).expect("is an object")))
    }

    #[test]
    fn events_have_any_case_and_a_payload_may_be_missing() {
        assert_eq!(wished(r#"{"type":"presence","event":"track","payload":{"a":1}}"#), track(r#"{"a":1}"#));
        assert_eq!(wished(r#"{"event":"TRACK"}"#), track("{}"));
        assert_eq!(wished(r#"{"event":"unTrack","payload":"x"}"#), Ok(Wish::Untrack));
        assert_eq!(wished(r#"{"payload":{}}"#), Ok(Wish::Nothing));
    }

    #[test]
    fn what_cannot_be_tracked_is_said() {
        for json in
            [r#"{"event":"track","payload":"x"}"#, r#"{"event":"track","payload":null}"#, "[]", "\"x\""]
        {
            assert_eq!(wished(json), Err(Unheard::NotAnObject(NotAnObject)), "{json}");
        }
        assert_eq!(wished(r#"{"event":"dance"}"#), Err(Unheard::UnknownEvent));
        assert_eq!(wished(r#"{"event":7}"#), Err(Unheard::UnknownEvent));
        let large = format!(r#"{{"event":"track","payload":{{"x":"{}"}}}}"#, "x".repeat(200));
        assert_eq!(wished(&large), Err(Unheard::TooLarge));
    }
}
