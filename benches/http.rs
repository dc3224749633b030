//! A minimal HTTP/1.1 client with a persistent connection.

use std::{net::SocketAddr, ops::Range};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
    body: Range<usize>,
}

/// Builds the bytes of a request.
pub fn request(method: &str, path: &str, token: &str, body: Option<&str>) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n");
    let rest = body.map_or_else(
        || "\r\n".to_owned(),
        |body| format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
    );
    (head + &rest).into_bytes()
}

/// Builds a REST request that sets a status.
pub fn status_request(token: &str, status: &str) -> Vec<u8> {
    request(
        "POST",
        "/api/presence/status",
        token,
        Some(&format!(r#"{{"status":"{status}","device_id":"rest"}}"#)),
    )
}

impl Http {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024), body: 0..0 })
    }

    /// Sends a request and reads the whole response, which must have status 200.
    pub async fn call(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let body = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            if let Some(body) = body_range(&self.buffer)? {
                break body;
            }
        };
        while self.buffer.len() < body.end {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        self.body = body;
        let response = &self.buffer[self.body.clone()];
        ensure!(
            self.buffer.starts_with(b"HTTP/1.1 200"),
            "the server answered {}",
            String::from_utf8_lossy(&self.buffer)
        );
        Ok(response)
    }
}

/// Returns the range of the body once the header is complete.
fn body_range(response: &[u8]) -> Result<Option<Range<usize>>> {
    let Some(head) = response.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&response[..head])?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("a response without content-length")?.parse()?;
    Ok(Some(head + 4..head + 4 + length))
}
