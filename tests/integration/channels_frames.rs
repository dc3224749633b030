//! Frame formats (docs/protocol/realtime.md, "Malformed frames" to "Long names in binary frames").

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer},
    phoenix::{PhoenixClient, SerializerVersion, broadcast, user_broadcast_push},
};
use tokio_tungstenite::tungstenite::Message;

const TOPIC: &str = "realtime:room";

async fn join_topic(node: &TestServer, vsn: SerializerVersion, config: Value) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join(TOPIC, config).await;
    socket
}

// docs/protocol/realtime.md, "Malformed frames"
#[testkit::test]
async fn malformed_frames_are_dropped_and_the_socket_stays_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let odd = [
        "{",
        "not json",
        "",
        " ",
        "[]",
        "{}",
        "null",
        "1",
        "\"x\"",
        "[null]",
        r#"[null,"1","realtime:room"]"#,
        r#"["1","2","realtime:room","broadcast"]"#,
        r#"{"topic":"realtime:room"}"#,
        r#"{"topic":"realtime:room","event":"broadcast","payload":{}}"#,
        r#"{"topic":"realtime:room","event":7,"payload":{},"ref":"1"}"#,
        r#"["1","10","realtime:room",7,{}]"#,
        r#"[[],{},"realtime:room","broadcast",{}]"#,
        "\u{0}",
    ];
    for vsn in SerializerVersion::BOTH {
        let mut socket = join_topic(&node, vsn, json!({"broadcast": {"self": true}})).await;
        for frame in odd {
            socket.send_text(frame).await;
        }
        socket.send_text(&"[".repeat(100_000)).await;
        for bytes in [
            &b""[..],
            b"\x03",
            b"\x03\x01\x01",
            b"\x09\0\0\0",
            b"\x00",
            b"\xff\xff\xff\xff\xff\xff\xff",
            b"{}",
        ] {
            socket.send(Message::binary(bytes.to_vec())).await;
        }
        socket.expect_no_frame().await;
        socket.heartbeat().await;

        // A payload that is not an object closes nothing either.
        for payload in [json!("text"), json!([1]), json!(null), json!(7)] {
            socket.push(TOPIC, "broadcast", payload).await;
        }
        socket.heartbeat().await;
        let frames = socket.frames_within(testkit::phoenix::QUIET_PERIOD).await;
        assert!(frames.iter().all(|frame| frame.event == "phx_reply"), "{frames:?}");
        socket.broadcast(TOPIC, "still", json!({})).await;
        assert_eq!(socket.next_broadcast(TOPIC).await, broadcast("still", json!({})));
    }
}

// docs/protocol/realtime.md, "Maximum frame size"
#[testkit::test]
async fn a_frame_over_five_megabytes_closes_with_1009(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = join_topic(&node, vsn, json!({"broadcast": {"ack": true}})).await;
        let large = socket.broadcast(TOPIC, "large", json!({"s": "x".repeat(2_900_000)})).await;
        assert_eq!(
            socket.wait_for_reply(&large).await["status"],
            "ok",
            "a payload below the limit is accepted"
        );
        socket.send_text(&format!("\"{}\"", "x".repeat(5_100_000))).await;
        let (code, _) = socket.expect_close().await;
        // The connection may be closed before the close frame is read.
        assert!(code == 1009 || code == 1006, "{code}");
        join_topic(&node, vsn, json!({})).await.heartbeat().await;
    }
}

// docs/protocol/realtime.md, "vsn 1 frames"
#[testkit::test]
async fn version_1_frames_have_a_null_ref_and_no_join_ref(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let config = json!({"broadcast": {"self": true}, "presence": {"key": "me", "enabled": true}});
    let mut socket = join_topic(&node, SerializerVersion::V1, config).await;
    socket.track(TOPIC, json!({"a": 1})).await;
    socket.broadcast(TOPIC, "e", json!({})).await;
    // The frame reader checks that there are exactly four keys.
    for event in ["presence_state", "presence_diff", "broadcast"] {
        let frame = socket.wait_for(TOPIC, event).await;
        assert_eq!(frame.reference, Value::Null);
        assert!(frame.text.contains(r#""ref":null"#), "{}", frame.text);
    }
}

// docs/protocol/realtime.md, "vsn 2 frames"
#[testkit::test]
async fn version_2_replies_carry_refs_and_fan_out_carries_none(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let config = json!({"config": {"broadcast": {"self": true, "ack": true}, "presence": {"enabled": true}}});
    socket.push_as(json!("j"), json!("r"), TOPIC, "phx_join", config).await;
    let reply = socket.wait_for(TOPIC, "phx_reply").await;
    assert_eq!((reply.join_ref, reply.reference), (json!("j"), json!("r")));
    let state = socket.wait_for(TOPIC, "presence_state").await;
    assert_eq!((state.join_ref, state.reference), (json!("j"), Value::Null));

    socket.push_as(json!("j"), json!("2"), TOPIC, "broadcast", broadcast("e", json!({}))).await;
    let reply = socket.wait_for(TOPIC, "phx_reply").await;
    assert_eq!((reply.join_ref, reply.reference), (json!("j"), json!("2")));
    let received = socket.wait_for(TOPIC, "broadcast").await;
    assert_eq!((received.join_ref, received.reference), (Value::Null, Value::Null));

    socket.push_as(json!("j"), json!("3"), TOPIC, "presence", json!({"event": "track"})).await;
    let diff = socket.wait_for(TOPIC, "presence_diff").await;
    assert_eq!((diff.join_ref, diff.reference), (Value::Null, Value::Null));
}

// docs/protocol/realtime.md, "Binary user broadcast"
#[testkit::test]
async fn binary_broadcasts_keep_their_bytes(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut sender = join_topic(&node, SerializerVersion::V2, json!({"broadcast": {"self": true}})).await;
    let mut other = join_topic(&node, SerializerVersion::V2, json!({})).await;
    let odd = r#"{"z":1.10, "a":[12345678901234567890123,-0.0,1E40], "é":"\u0041\/"}"#;
    sender.broadcast_bytes(TOPIC, "json", 1, odd.as_bytes()).await;
    let bytes = [0, 1, 2, 253, 254, 255];
    sender.broadcast_bytes(TOPIC, "bytes", 0, &bytes).await;
    for socket in [&mut sender, &mut other] {
        for (event, data) in [("json", odd.as_bytes()), ("bytes", &bytes)] {
            let frame = socket.wait_for_match(event, |frame| frame.is_binary()).await;
            assert_eq!(frame.payload["event"], event);
            assert_eq!(frame.data.as_deref(), Some(data));
            assert_eq!(frame.payload.get("meta"), None);
        }
    }

    // The bytes of the worked example in docs/protocol/realtime.md.
    let pushed = "0301010a03000131327265616c74696d653a616375727b2278223a317d";
    let received = "040a0300017265616c74696d653a616375727b2278223a317d";
    assert_eq!(hex(&user_broadcast_push("1", "2", "realtime:a", "cur", "", 1, br#"{"x":1}"#)), pushed);
    let mut raw = RawSocket::open(&node).await;
    raw.join("realtime:a").await;
    sender.join("realtime:a", json!({})).await;
    sender.broadcast("realtime:a", "cur", json!({"x": 1})).await;
    assert_eq!(hex(&raw.next_binary().await), received);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A socket whose frames are compared as bytes.
struct RawSocket(
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
);

impl RawSocket {
    async fn open(node: &TestServer) -> Self {
        let key = testkit::phoenix::anon_key();
        let url = format!("ws://{}/realtime/v1/websocket?vsn=2.0.0&apikey={key}", node.address);
        Self(tokio_tungstenite::connect_async(url).await.expect("it opens").0)
    }

    async fn join(&mut self, topic: &str) {
        use futures_util::{SinkExt, StreamExt};
        let join = json!(["1", "1", topic, "phx_join", {"config": {}}]);
        self.0.send(Message::text(join.to_string())).await.expect("it is open");
        let reply = self.0.next().await.expect("a response").expect("a frame");
        assert!(reply.to_text().expect("text").contains("\"ok\""), "{reply:?}");
    }

    async fn next_binary(&mut self) -> Vec<u8> {
        use futures_util::StreamExt;
        let next =
            tokio::time::timeout(testkit::harness::WAIT_TIMEOUT, self.0.next()).await.expect("in time");
        next.expect("a frame").expect("it is open").into_data().to_vec()
    }
}

// docs/protocol/realtime.md, "Binary string lengths"
#[testkit::test]
async fn lengths_count_utf8_bytes(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let topic = "realtime:ro😀m ü:1";
    let mut sockets =
        [node.channel_client(SerializerVersion::V2).await, node.channel_client(SerializerVersion::V2).await];
    for socket in &mut sockets {
        socket.join(topic, json!({})).await;
    }
    let [mut one, mut other] = sockets;
    one.broadcast(topic, "ev✓nt", json!({"ö": "😀"})).await;
    assert_eq!(other.next_broadcast(topic).await, broadcast("ev✓nt", json!({"ö": "😀"})));
}

// docs/protocol/realtime.md, "Broadcasts across versions"
#[testkit::test]
async fn broadcasts_reach_clients_of_the_other_version(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut old = join_topic(&node, SerializerVersion::V1, json!({})).await;
    let mut new = join_topic(&node, SerializerVersion::V2, json!({})).await;
    let message = broadcast("e", json!({"n": [1, 2.5, null], "o": {"ü": "😀"}}));
    new.broadcast(TOPIC, "e", message["payload"].clone()).await;
    assert_eq!(old.next_broadcast(TOPIC).await, message);
    old.broadcast(TOPIC, "e", message["payload"].clone()).await;
    let received = new.wait_for(TOPIC, "broadcast").await;
    assert!(!received.is_binary(), "text stays text");
    assert_eq!(received.payload, message);
    // Version 1 has no format for bytes.
    new.broadcast_bytes(TOPIC, "bytes", 0, &[1, 2]).await;
    old.expect_no_frame().await;
    new.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Binary kinds sent by the server"
#[testkit::test]
async fn the_server_sends_only_binary_kind_4(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut sender =
        join_topic(&node, SerializerVersion::V2, json!({"broadcast": {"ack": true, "self": true}})).await;
    let mut others = [
        join_topic(&node, SerializerVersion::V2, json!({})).await,
        join_topic(&node, SerializerVersion::V1, json!({})).await,
    ];
    // A push of kind 0 would be sent as kind 2, which clients do not know. A payload that is not JSON would break
    // version 1 clients.
    let join_ref = sender.join_ref(TOPIC).expect("it has joined").to_owned();
    for event in ["broadcast", "other"] {
        let mut push = vec![0, u8::try_from(join_ref.len()).expect("short"), 2];
        push.extend([u8::try_from(TOPIC.len()).expect("short"), u8::try_from(event.len()).expect("short")]);
        push.extend(format!("{join_ref}77{TOPIC}{event}raw bytes").bytes());
        sender.send(Message::binary(push)).await;
    }
    let broken = sender.broadcast_bytes(TOPIC, "broken", 1, b"{not json").await;
    sender.heartbeat().await;
    for frame in sender.frames_within(testkit::phoenix::QUIET_PERIOD).await {
        assert_eq!(frame.event, "phx_reply", "{frame:?}");
        let refused = frame.reference == broken.as_str();
        assert!(!refused || frame.payload["status"] == "error", "it was not delivered: {frame:?}");
    }
    for other in &mut others {
        other.expect_no_frame().await;
    }
    sender.broadcast(TOPIC, "fine", json!({})).await;
    for other in &mut others {
        assert_eq!(other.next_broadcast(TOPIC).await, broadcast("fine", json!({})));
    }
}

// docs/protocol/realtime.md, "Text broadcast payloads"
#[testkit::test]
async fn text_broadcasts_are_forwarded_verbatim(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut listeners = [
        join_topic(&node, SerializerVersion::V1, json!({})).await,
        join_topic(&node, SerializerVersion::V2, json!({})).await,
    ];
    let payloads = [
        r#"{"type":"broadcast","event":"pos","x":1,"y":{"deep":[1,2]}}"#,
        r#"{"z":1,"a":2,"event":"e","extra":"kept","meta":{"id":"m"}}"#,
        "{}",
        r#"{"type":"broadcast","event":"num","payload":{"big":12345678901234567890123,"f":1.0,"e":1e3,"s":"\u0041\/"}}"#,
        r#"{"type":"broadcast","payload":"text"}"#,
    ];
    for vsn in SerializerVersion::BOTH {
        let mut sender = join_topic(&node, vsn, json!({})).await;
        let join_ref = sender.join_ref(TOPIC).expect("it has joined").to_owned();
        for payload in payloads {
            let frame = match vsn {
                SerializerVersion::V1 => format!(
                    r#"{{"topic":"{TOPIC}","event":"broadcast","payload":{payload},"ref":"9","join_ref":"{join_ref}"}}"#
                ),
                SerializerVersion::V2 => format!(r#"["{join_ref}","9","{TOPIC}","broadcast",{payload}]"#),
            };
            sender.send_text(&frame).await;
            for listener in &mut listeners {
                let received = listener.wait_for(TOPIC, "broadcast").await;
                assert!(received.text.contains(payload), "{payload} became {}", received.text);
            }
        }
        sender.leave(TOPIC).await;
    }
}

// docs/protocol/realtime.md, "Long names in binary frames"
#[testkit::test]
async fn a_long_event_name_closes_nothing(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [mut old, mut new] = [
        join_topic(&node, SerializerVersion::V1, json!({})).await,
        join_topic(&node, SerializerVersion::V2, json!({})).await,
    ];
    let mut sender = join_topic(&node, SerializerVersion::V1, json!({})).await;
    for length in [255, 256, 1_000] {
        let name = "e".repeat(length);
        sender.broadcast(TOPIC, &name, json!({"n": length})).await;
        for socket in [&mut old, &mut new] {
            assert_eq!(socket.next_broadcast(TOPIC).await, broadcast(&name, json!({"n": length})));
        }
        // Over REST and from the database the name would be sent in a binary frame, where its length has one byte.
        let path = format!("/api/broadcast/room/events/{name}");
        let request = node.request(reqwest::Method::POST, &path).bearer_auth(testkit::phoenix::anon_key());
        assert_eq!(testkit::client::send(request.json(&json!({"n": length}))).await.status, 202);
        for socket in [&mut old, &mut new] {
            assert_eq!(socket.next_broadcast(TOPIC).await, broadcast(&name, json!({"n": length})));
        }
        sender.next_broadcast(TOPIC).await;
        db.sql
            .execute("select realtime.send('{\"id\":\"own\"}', $1, 'room', false)", &[&name])
            .await
            .expect("sent");
        for socket in [&mut old, &mut new, &mut sender] {
            let received = socket.next_broadcast(TOPIC).await;
            assert_eq!((&received["event"], &received["payload"]), (&json!(name), &json!({"id": "own"})));
        }
    }
    let topic = format!("realtime:{}", "t".repeat(300));
    for socket in [&mut sender, &mut new] {
        socket.join(&topic, json!({})).await;
    }
    sender.broadcast(&topic, "e", json!({})).await;
    assert_eq!(new.next_broadcast(&topic).await, broadcast("e", json!({})));
    let request =
        node.request(reqwest::Method::POST, &format!("/api/broadcast/{}/events/e", "t".repeat(300)));
    let request = request.bearer_auth(testkit::phoenix::anon_key()).json(&json!({"n": 1}));
    assert_eq!(testkit::client::send(request).await.status, 202);
    assert_eq!(new.next_broadcast(&topic).await, broadcast("e", json!({"n": 1})));
}
