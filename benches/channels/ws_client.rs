//! A channel socket for benchmarks: blocking until it has joined, raw bytes afterwards.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use socket2::{Domain, Socket, Type};
use testkit::wire::{BINARY, TEXT, client_frame, frame_lengths, server_frame};

/// With more clients per address, finding a free port takes longer than connecting.
const MAX_CLIENTS_PER_ADDRESS: usize = 2_000;
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a join.
#[derive(Debug, Clone, Copy, Default)]
pub struct JoinOptions<'a> {
    /// Access token of the channel. Without one, the socket's token applies.
    pub token: Option<&'a str>,
    /// Whether the channel is private.
    pub private: bool,
    /// Presence key. Without one, presence is disabled.
    pub presence: Option<&'a str>,
}

/// An open socket and its unread bytes.
pub struct WsClient {
    pub stream: TcpStream,
    pub unread: Vec<u8>,
}

impl WsClient {
    /// Connects the client with index `seat` and sends nothing.
    pub fn connect(server: SocketAddr, index: usize) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let own = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(index / MAX_CLIENTS_PER_ADDRESS)?);
        socket.bind(&SocketAddr::new(IpAddr::V4(own), 0).into())?;
        socket.connect(&server.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT_TIMEOUT))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Opens a channel socket with serializer 2.
    pub fn open(server: SocketAddr, index: usize, apikey: &str) -> Result<Self> {
        let mut client = Self::connect(server, index)?;
        let head = format!(
            "GET /realtime/v1/websocket?vsn=2.0.0&apikey={apikey} HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        client.stream.write_all(head.as_bytes())?;
        let end = loop {
            if let Some(end) = client.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            client.read_more()?;
        };
        let response = String::from_utf8_lossy(&client.unread[..end]).into_owned();
        ensure!(response.starts_with("HTTP/1.1 101"), "expected status 101, got {response}");
        client.unread.drain(..end);
        Ok(client)
    }

    /// Joins `realtime:<topic>` and waits for the reply, and for the presence state if presence is enabled.
    pub fn join(&mut self, topic: &str, joining: JoinOptions<'_>) -> Result<()> {
        self.send_text(&join_text(topic, joining))?;
        self.wait_for_text(|text| text.contains("phx_reply"))?;
        if joining.presence.is_some() {
            self.wait_for_text(|text| text.contains("presence_state"))?;
        }
        Ok(())
    }

    /// Tracks a small meta and waits for the reply.
    pub fn track(&mut self, topic: &str, reference: &str) -> Result<()> {
        self.send_text(&track_text(topic, reference))?;
        let reply = format!(r#"["1","{reference}","#);
        self.wait_for_text(|text| text.starts_with(&reply))
    }

    pub fn send_text(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.write_all(&client_frame(TEXT, text.as_bytes()))?)
    }

    /// Reads until a text frame matches. Fails on an error reply.
    pub fn wait_for_text(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        loop {
            let frame = self.next_payload()?;
            let Ok(text) = std::str::from_utf8(&frame) else { continue };
            if text.contains(r#""status":"error""#) {
                bail!("the server returned an error: {text}");
            }
            if is_wanted(text) {
                return Ok(());
            }
        }
    }

    /// Returns the payload of the next frame.
    pub fn next_payload(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some((head, length)) = frame_lengths(&self.unread)
                && self.unread.len() >= head + length
            {
                let payload = self.unread[head..head + length].to_vec();
                self.unread.drain(..head + length);
                return Ok(payload);
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer)?;
        ensure!(count > 0, "the server closed the connection");
        self.unread.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

fn join_text(topic: &str, JoinOptions { token, private, presence }: JoinOptions<'_>) -> String {
    let (enabled, key) = (presence.is_some(), presence.unwrap_or_default());
    let token = token.map(|token| format!(r#","access_token":"{token}""#)).unwrap_or_default();
    format!(
        r#"["1","1","realtime:{topic}","phx_join",{{"config":{{"broadcast":{{"ack":false,"self":false}},"presence":{{"key":"{key}","enabled":{enabled}}},"postgres_changes":[],"private":{private}}}{token}}}]"#
    )
}

pub fn track_text(topic: &str, reference: &str) -> String {
    format!(
        r#"["1","{reference}","realtime:{topic}","presence",{{"type":"presence","event":"track","payload":{{"at":"{reference}"}}}}]"#
    )
}

/// Returns a client broadcast frame of serializer 2 (kind 3), as supabase-js sends it.
pub fn broadcast_frame(topic: &str, event: &str, payload: &[u8]) -> Vec<u8> {
    let topic = format!("realtime:{topic}");
    let mut body = vec![3, 1, 1, topic.len() as u8, event.len() as u8, 0, 1, b'1', b'2'];
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(event.as_bytes());
    body.extend_from_slice(payload);
    client_frame(BINARY, &body)
}

/// Returns the frame that members receive for a broadcast (kind 4).
pub fn delivered_frame(topic: &str, event: &str, payload: &[u8]) -> Vec<u8> {
    let topic = format!("realtime:{topic}");
    let mut body = vec![4, topic.len() as u8, event.len() as u8, 0, 1];
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(event.as_bytes());
    body.extend_from_slice(payload);
    server_frame(BINARY, &body)
}
