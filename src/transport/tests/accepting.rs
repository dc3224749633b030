//! The accept loop and the handshake, seen from outside.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::server::{Server, soon};
use crate::{hub::HubSettings, transport::AcceptSettings};

/// Sends a request and reads until the server hangs up.
async fn answer(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.addr).await.expect("accepted");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_told_what_is_missing() {
    let server = Server::start().await;
    let plain = answer(&server, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 426 "), "{plain}");
    assert!(plain.contains("upgrade: websocket\r\n"), "{plain}");
    let no_key = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let no_key = answer(&server, no_key).await;
    assert!(no_key.starts_with("HTTP/1.1 400 "), "{no_key}");
}

#[tokio::test]
async fn who_comes_when_it_is_full_is_told_so_and_sockets_count_until_they_close() {
    let accept = AcceptSettings { max_connections: 1, ..AcceptSettings::default() };
    let mut server = Server::with(HubSettings::default(), accept).await;
    let first = server.raw(b"").await;
    server.opened().await;
    let refused = answer(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("SERVICE_UNAVAILABLE"), "{refused}");
    drop(first);
    soon(async {
        while !answer(&server, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .contains(" 404 ")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_hung_up_on() {
    let accept = AcceptSettings { header_within: Duration::from_millis(100), ..AcceptSettings::default() };
    let server = Server::with(HubSettings::default(), accept).await;
    for said in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        answer(&server, said).await;
    }
}

#[tokio::test]
async fn stopping_leaves_open_websockets_to_the_hub() {
    let mut server = Server::start().await;
    let mut raw = server.raw(b"").await;
    server.opened().await;
    server.shutdown.cancel();
    soon(server.serving).await.expect("no panic").expect("no error");
    raw.frame(0x81, b"still here").await;
    assert_eq!(raw.next_text().await.as_deref(), Some("still here"));
}
