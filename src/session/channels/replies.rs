//! Encodes and sends all frames to one client.

use std::sync::Arc;

use super::channel::Channel;
use crate::{
    channels::history::KeptMessage,
    hub::Hub,
    protocol::{
        Dialect, Encode,
        phoenix::{
            Body, HEARTBEAT_TOPIC, Message, Positioned, Push, ReplyStatus, TOPIC_PREFIX, UserBroadcast,
            UserPayload,
        },
    },
    transport::{Connection, frame::WireFrame},
};

/// Encodes and sends replies and pushes to one client, in hub order.
pub(super) struct ReplyWriter<'a> {
    pub hub: Hub,
    pub conn: &'a Arc<Connection>,
}

pub(super) const EMPTY: &str = "{}";

impl ReplyWriter<'_> {
    /// Replies to a heartbeat, without the hub.
    pub(super) fn reply_heartbeat(&self, push: &Push<'_>) {
        let message = Message {
            join_ref: None,
            reference: push.reference.as_deref(),
            topic: HEARTBEAT_TOPIC,
            event: "phx_reply",
            body: Body::Reply(ReplyStatus::Ok, EMPTY),
        };
        // If this fails the connection is closing.
        let _ = self.conn.send_message(&message);
    }

    /// Replies that the topic has not been joined.
    pub(super) async fn reply_unmatched(&self, push: &Push<'_>) {
        self.reply_to(None, push, ReplyStatus::Error, r#"{"reason":"unmatched topic"}"#).await;
    }

    /// Replies to `phx_leave` of a topic that has not been joined.
    pub(super) async fn reply_left(&self, push: &Push<'_>) {
        self.reply_to(push.join_ref.as_deref(), push, ReplyStatus::Ok, EMPTY).await;
    }

    /// Replies to a push.
    pub(super) async fn reply_to(
        &self,
        join_ref: Option<&str>,
        push: &Push<'_>,
        status: ReplyStatus,
        response: &str,
    ) {
        let frame = self.encode(&Message {
            join_ref,
            reference: push.reference.as_deref(),
            topic: &push.topic,
            event: "phx_reply",
            body: Body::Reply(status, response),
        });
        self.send(frame).await;
    }

    /// Encodes a reply of a channel.
    pub(super) fn reply_frame(
        &self,
        channel: &Channel,
        reference: Option<&str>,
        status: ReplyStatus,
        response: &str,
    ) -> WireFrame {
        let body = Body::Reply(status, response);
        self.channel_frame(channel, reference, "phx_reply", body)
    }

    /// Encodes the reply to a join. With `position`, an event stream that ends continues there.
    pub(super) fn join_frame(
        &self,
        channel: &Channel,
        reference: Option<&str>,
        response: &str,
        position: Option<Box<str>>,
    ) -> WireFrame {
        let Some(position) = position else {
            return self.reply_frame(channel, reference, ReplyStatus::Ok, response);
        };
        let topic = wire_topic(channel);
        let body = Body::Reply(ReplyStatus::Ok, response);
        let join_ref = channel.join_ref.as_deref();
        let message = Message { join_ref, reference, topic: &topic, event: "phx_reply", body };
        self.encode(&Positioned { position, message })
    }

    /// Encodes a push of the server to a channel.
    pub(super) fn push_frame(&self, channel: &Channel, event: &str, payload: &str) -> WireFrame {
        self.channel_frame(channel, None, event, Body::Raw(payload))
    }

    /// Encodes a replayed broadcast, with its position if the channel has a history; `None` if the client's protocol version
    /// cannot represent it.
    pub(super) fn replayed_frame(
        &self,
        channel: &Channel,
        message: &KeptMessage,
        has_history: bool,
    ) -> Option<WireFrame> {
        let KeptMessage { id, event, payload } = message;
        let meta = serde_json::json!({ "replayed": true, "id": id }).to_string();
        let dialect = self.conn.dialect();
        let has_position = has_history && dialect == Dialect::ChannelEvents;
        if let UserPayload::Json(json) = payload
            && !has_position
        {
            let event = serde_json::Value::from(&**event);
            let text = format!(r#"{{"type":"broadcast","event":{event},"payload":{json},"meta":{meta}}}"#);
            return Some(self.push_frame(channel, "broadcast", &text));
        }
        let broadcast = UserBroadcast {
            topic: channel.topic.name.clone(),
            event: event.clone(),
            payload: payload.clone(),
            meta: Some(meta.into()),
        };
        if has_position {
            WireFrame::encode(&Positioned { position: id.to_string().into(), message: broadcast }, dialect)
        } else {
            WireFrame::encode(&broadcast, dialect)
        }
    }

    /// Encodes a `system` event of the channel or one of its extensions. Clients require all four keys.
    pub(super) fn system_frame(
        &self,
        channel: &Channel,
        status: &str,
        extension: &str,
        message: &str,
    ) -> WireFrame {
        let topic = &*channel.topic.name;
        let payload = serde_json::json!({
            "message": message, "status": status, "extension": extension, "channel": topic,
        });
        self.push_frame(channel, "system", &payload.to_string())
    }

    /// Encodes `phx_close`, with the reference of the join as both references.
    pub(super) fn close_frame(&self, channel: &Channel) -> WireFrame {
        self.channel_frame(channel, channel.join_ref.as_deref(), "phx_close", Body::Raw(EMPTY))
    }

    fn channel_frame(
        &self,
        channel: &Channel,
        reference: Option<&str>,
        event: &str,
        body: Body<'_>,
    ) -> WireFrame {
        let topic = wire_topic(channel);
        self.encode(&Message { join_ref: channel.join_ref.as_deref(), reference, topic: &topic, event, body })
    }

    /// Sends a frame in order with the messages of topics.
    pub(super) async fn send(&self, frame: WireFrame) {
        // This fails only when the server is stopping, and then the connection closes too.
        let _ = self.hub.send(self.conn, frame).await;
    }

    fn encode(&self, message: &impl Encode) -> WireFrame {
        WireFrame::encode(message, self.conn.dialect()).unwrap_or_else(|| WireFrame::concat(&[]))
    }
}

fn wire_topic(channel: &Channel) -> String {
    format!("{TOPIC_PREFIX}{}", channel.topic.name)
}

/// `{"reason": …}` as JSON text.
pub(super) fn reason_json(text: &str) -> String {
    serde_json::json!({ "reason": text }).to_string()
}
