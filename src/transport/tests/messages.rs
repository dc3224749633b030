//! Tests of client messages: valid ones arrive, invalid ones close the connection.

use tokio_tungstenite::tungstenite::Message;

use super::server::{Server, masked};
use crate::transport::{CloseCode, CloseReason};

use super::server::SessionEvent;

#[tokio::test]
async fn text_and_binary_messages_arrive_as_they_were_sent() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for message in [
        Message::text("héllo"),
        Message::text(""),
        Message::binary(vec![0; 300]),
        Message::binary(vec![1; 65_536]),
    ] {
        client.send(message.clone()).await;
        assert_eq!(client.next().await, message);
    }
}

#[tokio::test]
async fn pings_are_answered_with_their_payload() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(Message::Ping("are you there".into())).await;
    assert_eq!(client.next().await, Message::Pong("are you there".into()));
    client.send(Message::Pong("unasked".into())).await;
    client.send(Message::text("still here")).await;
    assert_eq!(client.next().await, Message::text("still here"));
}

#[tokio::test]
async fn fragments_are_joined_around_control_frames() {
    let server = Server::start().await;
    let mut raw = server.connect_raw(b"").await;
    raw.send_frame(0x01, b"one ").await;
    raw.send_frame(0x89, b"ping").await;
    raw.send_frame(0x00, b"two ").await;
    raw.send_frame(0x80, b"three").await;
    assert_eq!(raw.next().await, Some((0x8a, b"ping".to_vec())));
    assert_eq!(raw.next_text().await.as_deref(), Some("one two three"));
}

#[tokio::test]
async fn frames_sent_with_the_handshake_and_byte_by_byte_are_read() {
    let server = Server::start().await;
    let mut raw = server.connect_raw(&masked(0x81, b"early")).await;
    assert_eq!(raw.next_text().await.as_deref(), Some("early"));
    for byte in masked(0x81, b"slowly") {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.next_text().await.as_deref(), Some("slowly"));
}

#[tokio::test]
async fn messages_are_handled_in_order_one_at_a_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for text in ["slow", "a", "slow", "b"] {
        client.send(Message::text(text)).await;
    }
    for text in ["slow", "a", "slow", "b"] {
        assert_eq!(client.next().await, Message::text(text));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    server.opened().await;
    client.send(Message::binary(vec![0; 65_537])).await;
    assert_eq!(client.closed().await.0, 1009);
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::Server(CloseCode::TooBig)));
}

#[tokio::test]
async fn invalid_frames_close_with_1002_and_invalid_text_with_1007() {
    let server = Server::start().await;
    for (bytes, code) in [
        (b"\x81\x01x".to_vec(), 1002),
        (masked(0xc1, b"x"), 1002),
        (masked(0x83, b"x"), 1002),
        (masked(0x80, b"x"), 1002),
        (masked(0x09, b"x"), 1002),
        (masked(0x88, b"x"), 1002),
        (masked(0x88, &1005u16.to_be_bytes()), 1002),
        (masked(0x81, b"\xc3\x28"), 1007),
    ] {
        let mut raw = server.connect_raw(b"").await;
        raw.send(&bytes).await;
        let (first, payload) = raw.next().await.expect("a close frame");
        assert_eq!((first, u16::from_be_bytes([payload[0], payload[1]])), (0x88, code), "{bytes:x?}");
        assert_eq!(raw.next().await, None);
    }
}

#[tokio::test]
async fn an_offered_subprotocol_is_agreed_on() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let server = Server::start().await;
    let mut request = format!("ws://{}/ws", server.addr).into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "other, echo".parse().expect("a value"));
    let (_, response) = tokio_tungstenite::connect_async(request).await.expect("open");
    assert_eq!(response.headers()["sec-websocket-protocol"], "echo");
}
