//! A minimal presence socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{
    harness::User,
    wire::{CLOSE, PING, PONG, TEXT, client_frame, frame_lengths},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use uuid::Uuid;

/// A socket and its read buffer.
pub struct PresenceSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Number of consumed bytes in the buffer.
    consumed: usize,
    /// Bytes of the first message, and whether it held only differences.
    pub first_bytes: usize,
    pub is_resumed: bool,
    position: String,
}

/// The position in a message, if it has one.
fn position_of(message: &str) -> Option<String> {
    let (_, rest) = message.split_once(r#""position":""#)?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Returns a text frame that sets a status.
pub fn status_frame(status: &str) -> Vec<u8> {
    client_frame(TEXT, format!(r#"{{"type":"status","data":{{"status":"{status}"}}}}"#).as_bytes())
}

impl PresenceSocket {
    /// Opens a presence socket and reads its initial state. Each 2,000 clients share a source address, because finding
    /// a free port becomes slow beyond that.
    pub async fn open(server: SocketAddr, user: &User, index: usize) -> Result<Self> {
        Self::open_with(server, user, index, "").await
    }

    /// Like `open`, for a user who also follows their own presence.
    pub async fn open_with_own_status(server: SocketAddr, user: &User, index: usize) -> Result<Self> {
        Self::open_with(server, user, index, &format!("&user_ids={}", user.id)).await
    }

    /// Like `open`, for a user who also follows these users.
    pub async fn open_following(
        server: SocketAddr,
        user: &User,
        index: usize,
        subjects: &[Uuid],
    ) -> Result<Self> {
        let ids: Vec<String> = subjects.iter().map(Uuid::to_string).collect();
        Self::open_with(server, user, index, &format!("&user_ids={}", ids.join(","))).await
    }

    /// Opens a presence socket with the position of an earlier one, or an empty one.
    pub async fn open_resumable(
        server: SocketAddr,
        user: &User,
        index: usize,
        position: &str,
    ) -> Result<Self> {
        Self::open_with(server, user, index, &format!("&resume={position}")).await
    }

    /// Sends a status of the user `id`; returns the time until the other socket has received it.
    pub async fn time_status(
        &mut self,
        id: &str,
        status: &str,
        watching: &mut Self,
        max: Duration,
    ) -> Result<Duration> {
        let (frame, fragment) = (status_frame(status), format!(r#""availability":"{status}""#));
        let started = Instant::now();
        self.send(&frame).await?;
        timeout(max, watching.wait_for(&[id, &fragment])).await.context("a status change")??;
        Ok(started.elapsed())
    }

    /// Reads and answers pings until `stop` ends. Returns the last position.
    pub async fn read_until(mut self, stop: impl Future) -> Result<String> {
        tokio::pin!(stop);
        loop {
            let message = tokio::select! {
                _ = &mut stop => return Ok(self.position),
                message = self.next_message() => message?,
            };
            if let Some(position) = position_of(&String::from_utf8_lossy(message)) {
                self.position = position;
            }
        }
    }

    async fn open_with(server: SocketAddr, user: &User, index: usize, query: &str) -> Result<Self> {
        let tcp = TcpSocket::new_v4()?;
        let own = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(index / 2_000)?);
        tcp.bind(SocketAddr::new(IpAddr::V4(own), 0))?;
        let mut stream = tcp.connect(server).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "GET /api/presence/subscribe?token={}{query} HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            user.token
        );
        stream.write_all(head.as_bytes()).await?;
        let mut socket = Self {
            stream,
            buffer: Vec::with_capacity(512),
            consumed: 0,
            first_bytes: 0,
            is_resumed: false,
            position: String::new(),
        };
        let end = loop {
            ensure!(
                socket.stream.read_buf(&mut socket.buffer).await? > 0,
                "the server closed the connection"
            );
            if let Some(end) = socket.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let response = String::from_utf8_lossy(&socket.buffer).into_owned();
        ensure!(response.starts_with("HTTP/1.1 101"), "expected status 101, got {response}");
        socket.consumed = end;
        let first = socket.next_message().await?;
        ensure!(first.starts_with(br#"{"type":"initial_state""#), "{}", String::from_utf8_lossy(first));
        let first = String::from_utf8_lossy(first).into_owned();
        socket.first_bytes = first.len();
        socket.is_resumed = first.contains(r#""resumed":true"#);
        socket.position = position_of(&first).unwrap_or_default();
        Ok(socket)
    }

    /// Returns the next message and answers pings.
    pub async fn next_message(&mut self) -> Result<&[u8]> {
        loop {
            while let Some((opcode, payload)) = self.frame() {
                self.consumed = payload.end;
                match opcode {
                    TEXT => return Ok(&self.buffer[payload]),
                    PING => {
                        let pong = client_frame(PONG, &self.buffer[payload]);
                        self.stream.write_all(&pong).await?;
                    }
                    CLOSE => anyhow::bail!("closed: {}", String::from_utf8_lossy(&self.buffer[payload])),
                    _ => {}
                }
            }
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
    }

    /// Reads until a message contains all parts.
    pub async fn wait_for(&mut self, parts: &[&str]) -> Result<()> {
        loop {
            let message = std::str::from_utf8(self.next_message().await?)?;
            if parts.iter().all(|part| message.contains(part)) {
                return Ok(());
            }
        }
    }

    pub async fn send(&mut self, frame: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(frame).await?)
    }

    /// Returns the first byte and the payload range of the next frame if it is complete.
    fn frame(&self) -> Option<(u8, Range<usize>)> {
        let rest = &self.buffer[self.consumed..];
        let (head, length) = frame_lengths(rest)?;
        let start = self.consumed + head;
        (rest.len() >= head + length).then(|| (rest[0], start..start + length))
    }
}
