//! How a session answers: every frame to one client is made here.

use std::sync::Arc;

use super::channel::Channel;
use crate::{
    channels::database::{DatabaseBroadcast, Payload},
    hub::Hub,
    protocol::phoenix::{
        Body, HEARTBEAT_TOPIC, Message, Push, Status, TOPIC_PREFIX, UserBroadcast, UserPayload,
    },
    transport::{Connection, frame::WireFrame},
};

/// A client's ear.
pub(super) struct Voice<'a> {
    pub hub: Hub,
    pub conn: &'a Arc<Connection>,
}

/// The response that says nothing.
pub(super) const NOTHING: &str = "{}";

impl Voice<'_> {
    /// Answers a heartbeat, at once.
    pub fn pulse(&self, push: &Push<'_>) {
        let message = Message {
            join_ref: None,
            reference: push.reference.as_deref(),
            topic: HEARTBEAT_TOPIC,
            event: "phx_reply",
            body: Body::Reply(Status::Ok, NOTHING),
        };
        // Should it not get through, the connection is ending.
        let _ = self.conn.say(&message);
    }

    /// There is no such channel.
    pub async fn unmatched(&self, push: &Push<'_>) {
        self.answer(None, push, Status::Error, r#"{"reason":"unmatched topic"}"#).await;
    }

    /// Whoever leaves what is not joined has left.
    pub async fn left(&self, push: &Push<'_>) {
        self.answer(push.join_ref.as_deref(), push, Status::Ok, NOTHING).await;
    }

    /// Answers a push.
    pub async fn answer(&self, join_ref: Option<&str>, push: &Push<'_>, status: Status, response: &str) {
        let frame = self.frame(&Message {
            join_ref,
            reference: push.reference.as_deref(),
            topic: &push.topic,
            event: "phx_reply",
            body: Body::Reply(status, response),
        });
        self.say(frame).await;
    }

    /// A reply in a channel.
    pub fn reply(
        &self,
        channel: &Channel,
        reference: Option<&str>,
        status: Status,
        response: &str,
    ) -> WireFrame {
        let body = Body::Reply(status, response);
        self.of_channel(channel, reference, "phx_reply", body)
    }

    /// Something that the server says in a channel by itself.
    pub fn push(&self, channel: &Channel, event: &str, payload: &str) -> WireFrame {
        self.of_channel(channel, None, event, Body::Raw(payload))
    }

    /// A stored broadcast, sent again; `None` where the client's version has no words for it.
    pub fn replayed(&self, channel: &Channel, broadcast: &DatabaseBroadcast) -> Option<WireFrame> {
        let DatabaseBroadcast { id, event, payload, .. } = broadcast;
        let meta = serde_json::json!({ "replayed": true, "id": id }).to_string();
        match payload {
            Payload::Json(json) => {
                let event = serde_json::Value::from(&**event);
                let json = json.get();
                let text =
                    format!(r#"{{"type":"broadcast","event":{event},"payload":{json},"meta":{meta}}}"#);
                Some(self.push(channel, "broadcast", &text))
            }
            Payload::Binary(bytes) => {
                let broadcast = UserBroadcast {
                    topic: channel.room.topic.clone(),
                    event: event.clone(),
                    payload: UserPayload::Binary(bytes.clone()),
                    meta: Some(meta.into()),
                };
                WireFrame::encode(&broadcast, self.conn.dialect())
            }
        }
    }

    /// Something about the channel or one of its extensions. All four keys have to be there.
    pub fn system(&self, channel: &Channel, status: &str, extension: &str, message: &str) -> WireFrame {
        let topic = &*channel.room.topic;
        let payload = serde_json::json!({
            "message": message, "status": status, "extension": extension, "channel": topic,
        });
        self.push(channel, "system", &payload.to_string())
    }

    /// The last word in a channel; it names the join twice.
    pub fn close(&self, channel: &Channel) -> WireFrame {
        self.of_channel(channel, channel.join_ref.as_deref(), "phx_close", Body::Raw(NOTHING))
    }

    fn of_channel(
        &self,
        channel: &Channel,
        reference: Option<&str>,
        event: &str,
        body: Body<'_>,
    ) -> WireFrame {
        let topic = format!("{TOPIC_PREFIX}{}", channel.room.topic);
        self.frame(&Message { join_ref: channel.join_ref.as_deref(), reference, topic: &topic, event, body })
    }

    /// Says a frame, in order with what is said in rooms.
    pub async fn say(&self, frame: WireFrame) {
        // It fails only when the server stops, and then the connection ends too.
        let _ = self.hub.say(self.conn, frame).await;
    }

    fn frame(&self, message: &Message<'_>) -> WireFrame {
        WireFrame::encode(message, self.conn.dialect()).unwrap_or_else(|| WireFrame::joined(&[]))
    }
}

/// `{"reason": …}`
pub(super) fn reason(text: &str) -> String {
    serde_json::json!({ "reason": text }).to_string()
}
