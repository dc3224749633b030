//! Every login of a database may LISTEN and NOTIFY. It learns nothing about users from that, and changes nothing.

use std::{future::poll_fn, sync::Arc};

use futures_util::FutureExt;
use rollcall::pg::notification::channel;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::{
    harness::{TestDatabase, User, service_user, wait_until},
    phoenix::{SerializerVersion, broadcast},
};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use uuid::Uuid;

const TOPIC: &str = "realtime:room";

/// A login without any right that listens on all channels.
struct Eavesdropper {
    client: Client,
    received: mpsc::UnboundedReceiver<(String, String)>,
    all: Vec<(String, String)>,
}

impl Eavesdropper {
    async fn connect(db: &TestDatabase) -> Self {
        let role = format!("eavesdropper_{}", Uuid::new_v4().simple());
        let (admin, connection) =
            tokio_postgres::connect(&db.admin_url(), NoTls).await.expect("a connection");
        tokio::spawn(connection.map(drop));
        let create = format!("create role {role} login password '{role}'");
        admin.batch_execute(&create).await.expect("a role");

        let (_, address) = db.url.split_once('@').expect("a URL with a user");
        let url = format!("postgresql://{role}:{role}@{address}");
        let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let pair = (notification.channel().to_owned(), notification.payload().to_owned());
                    drop(sender.send(pair));
                }
            }
        });
        for channel in channel::ALL {
            client.batch_execute(&format!("listen {channel}")).await.expect("it listens");
        }
        Self { client, received, all: Vec::new() }
    }

    /// The payloads of a channel, in order.
    fn on(&mut self, channel: &str) -> Vec<String> {
        while let Ok(pair) = self.received.try_recv() {
            self.all.push(pair);
        }
        self.all.iter().filter(|(name, _)| name == channel).map(|(_, payload)| payload.clone()).collect()
    }

    async fn notify(&self, channel: &str, payload: &str) {
        self.client.query("select pg_notify($1, $2)", &[&channel, &payload]).await.expect("it may notify");
    }
}

#[testkit::test]
async fn notifications_do_not_say_who_changed(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (hidden, viewer, conversation) = (User::new(), User::new(), Uuid::new_v4());
    let ids = [("conversation", conversation), ("hidden", hidden.id), ("viewer", viewer.id)];
    db.add_contact(&hidden, &viewer).await;
    db.execute(
        "insert into rollcall.conversations (id, created_by) values ($conversation, $hidden);
         insert into rollcall.conversation_participants (conversation_id, user_id)
           values ($conversation, $hidden), ($conversation, $viewer);",
        &ids,
    )
    .await;
    let mut eavesdropper = Eavesdropper::connect(&db).await;

    let invisible = json!({"status": "invisible"});
    node.post(&hidden, "/api/presence/status", invisible).await.expect_status(200);
    node.post(&hidden, "/api/presence/status", json!({"status": "busy"})).await.expect_status(200);
    let typing = format!("/api/conversations/{conversation}/typing");
    node.post(&hidden, &typing, json!({"is_typing": true})).await.expect_status(200);
    db.execute(
        "update rollcall.presence_devices set last_navigation_path = '/billing' where user_id = $hidden;
         select rollcall_internal.notify_bundles_ready($hidden, array['topic:' || gen_random_uuid() || ':1']);
         select rollcall.invalidate_channel_authorization('public.rooms',
           rollcall_internal.value_hashes(array[jsonb_build_object('member', $hidden)]));
         insert into rollcall.blocks (blocker_id, blocked_id) values ($hidden, $viewer);",
        &ids,
    )
    .await;
    let expected = [
        (channel::PRESENCE, 2),
        (channel::TYPING, 1),
        (channel::CONTEXT, 1),
        (channel::BUNDLES, 1),
        (channel::AUTHORIZATION, 1),
        (channel::VISIBILITY, 1),
    ];
    wait_until("all channels were notified", || {
        expected.iter().all(|(channel, count)| eavesdropper.on(channel).len() >= *count)
    })
    .await;

    for (channel, payload) in &eavesdropper.all {
        for user in [&hidden, &viewer] {
            let hash = format!("{:x}", Sha256::digest(user.id.to_string()));
            for name in [user.id.to_string(), user.id.simple().to_string(), hash[..8].to_owned()] {
                assert!(!payload.contains(&name), "{channel}: {payload} names {}", user.id);
            }
        }
    }
    // Two notifications about one user have nothing in common.
    let payloads = eavesdropper.on(channel::PRESENCE);
    let masked = |payload: &String| payload.rsplit('|').next().map(str::to_owned);
    let (first, last) = (masked(&payloads[0]), masked(&payloads[payloads.len() - 1]));
    assert_ne!(first, last);
}

#[testkit::test]
async fn forged_and_repeated_notifications_change_nothing(db: Arc<TestDatabase>) {
    let (here, there) = (db.start_server().await, db.start_server().await);
    let viewer = User::new();
    let mut eavesdropper = Eavesdropper::connect(&db).await;
    let mut sender = here.channel_client(SerializerVersion::BOTH[0]).await;
    let mut receiver = there.channel_client(SerializerVersion::BOTH[0]).await;
    sender.join(TOPIC, json!({"presence": {"key": "sender"}})).await;
    receiver.join(TOPIC, json!({"presence": {"key": "receiver"}})).await;
    let mut native = there.socket(&viewer).await;
    native.next_message().await;

    sender.track(TOPIC, json!({"name": "sender"})).await;
    receiver.wait_for(TOPIC, "presence_diff").await;
    sender.broadcast(TOPIC, "first", json!({})).await;
    assert_eq!(receiver.next_broadcast(TOPIC).await, broadcast("first", json!({})));
    let event = |name: &str| -> Value {
        json!({"category": "custom", "event": name, "recipients": [viewer.id], "payload": {}})
    };
    let post = "/api/presence/broadcast";
    here.post(&service_user(), post, event("first")).await.expect_status(200);
    native.next_message().await;
    wait_until("the eavesdropper received what the nodes did", || {
        [channel::BUS, channel::CHANNEL_PRESENCE, channel::OUTBOX]
            .iter()
            .all(|channel| !eavesdropper.on(channel).is_empty())
    })
    .await;

    // Everything again, as sent, in another channel, and without the code.
    for (channel, payload) in eavesdropper.all.clone() {
        let body = payload.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
        for other in channel::ALL {
            eavesdropper.notify(other, &payload).await;
            eavesdropper.notify(other, &body).await;
        }
        eavesdropper.notify(&channel, &format!("{payload},1")).await;
    }
    for node in [here.id, there.id] {
        for body in ["gone", "*", "hello", "0 1"] {
            eavesdropper.notify(channel::CHANNEL_PRESENCE, &format!("{node} {body}")).await;
            eavesdropper.notify(channel::BUS, &format!("{node} {body}")).await;
        }
    }

    sender.broadcast(TOPIC, "second", json!({})).await;
    let mut frames = Vec::new();
    receiver
        .wait_for_match("the second broadcast", |frame| {
            frames.push(format!("{frame:?}"));
            frame.payload["event"] == "second"
        })
        .await;
    assert!(!frames.iter().any(|frame| frame.contains("first") || frame.contains("leaves")), "{frames:?}");
    here.post(&service_user(), post, event("second")).await.expect_status(200);
    let message = native.next_message().await;
    assert!(message.to_string().contains("second"), "{message}");
}
