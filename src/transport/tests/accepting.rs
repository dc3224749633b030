//! Tests of the accept loop and the handshake.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::server::{Server, in_time};
use crate::{hub::HubSettings, transport::AcceptSettings};

/// Sends a request and reads until the server closes the connection.
async fn response(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.addr).await.expect("accepted");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    in_time(stream.read_to_string(&mut text)).await.expect("a response");
    text
}

#[tokio::test]
async fn an_invalid_handshake_gets_an_error_response() {
    let server = Server::start().await;
    let plain = response(&server, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 426 "), "{plain}");
    assert!(plain.contains("upgrade: websocket\r\n"), "{plain}");
    let no_key = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let no_key = response(&server, no_key).await;
    assert!(no_key.starts_with("HTTP/1.1 400 "), "{no_key}");
}

#[tokio::test]
async fn connections_over_the_maximum_get_503_until_a_socket_closes() {
    let accept = AcceptSettings { max_connections: 1, ..AcceptSettings::default() };
    let mut server = Server::with(HubSettings::default(), accept).await;
    let first = server.connect_raw(b"").await;
    server.opened().await;
    let rejected = response(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(rejected.starts_with("HTTP/1.1 503 "), "{rejected}");
    assert!(rejected.contains("SERVICE_UNAVAILABLE"), "{rejected}");
    drop(first);
    in_time(async {
        while !response(&server, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .contains(" 404 ")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let accept =
        AcceptSettings { first_request_timeout: Duration::from_millis(100), ..AcceptSettings::default() };
    let server = Server::with(HubSettings::default(), accept).await;
    for request in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        response(&server, request).await;
    }
}

#[tokio::test]
async fn stopping_leaves_open_websockets_to_the_hub() {
    let mut server = Server::start().await;
    let mut raw = server.connect_raw(b"").await;
    server.opened().await;
    server.shutdown.cancel();
    in_time(server.serving).await.expect("no panic").expect("no error");
    raw.send_frame(0x81, b"still here").await;
    assert_eq!(raw.next_text().await.as_deref(), Some("still here"));
}
