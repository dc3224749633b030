//! A minimal presence socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::users::BenchUser;

/// A socket and its read buffer.
pub struct PresenceSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Number of consumed bytes in the buffer.
    consumed: usize,
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Returns a client text frame. Its mask is zero, so the payload stays readable.
pub fn text_frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short message");
    let mut frame = vec![TEXT, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Returns a text frame that sets a status.
pub fn status_frame(status: &str) -> Vec<u8> {
    text_frame(&format!(r#"{{"type":"status","data":{{"status":"{status}"}}}}"#))
}

impl PresenceSocket {
    /// Opens a presence socket and reads its initial state. Each 2,000 clients share a source address, because finding
    /// a free port becomes slow beyond that.
    pub async fn open(server: SocketAddr, user: &BenchUser, index: usize) -> Result<Self> {
        Self::open_with(server, user, index, "").await
    }

    /// Like `open`, for a user who also follows their own presence.
    pub async fn open_with_own_status(server: SocketAddr, user: &BenchUser, index: usize) -> Result<Self> {
        Self::open_with(server, user, index, &format!("&user_ids={}", user.id)).await
    }

    async fn open_with(server: SocketAddr, user: &BenchUser, index: usize, query: &str) -> Result<Self> {
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
        let mut socket = Self { stream, buffer: Vec::with_capacity(512), consumed: 0 };
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
                        let length = u8::try_from(payload.len())?;
                        let mut pong = vec![PONG, 0x80 | length, 0, 0, 0, 0];
                        pong.extend_from_slice(&self.buffer[payload]);
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
        let (opcode, short) = (*rest.first()?, usize::from(*rest.get(1)?));
        let (head, length) = match short {
            126 => (4, usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]))),
            127 => {
                let bytes: [u8; 8] = rest.get(2..10)?.try_into().ok()?;
                (10, usize::try_from(u64::from_be_bytes(bytes)).ok()?)
            }
            short => (2, short),
        };
        let start = self.consumed + head;
        (rest.len() >= head + length).then_some((opcode, start..start + length))
    }
}
