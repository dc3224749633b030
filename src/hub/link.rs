//! What a connection writes to and reads from: a socket, or the body of a response.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::pipe::Pipe;

/// The transport of one connection.
#[derive(Debug)]
pub(crate) enum Link {
    /// The socket of a WebSocket connection.
    Socket(TcpStream),
    /// The body of a response, for server-sent events. Nothing is read from it.
    Body(Arc<Pipe>),
}

impl Link {
    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Self::Socket(stream), [only]) => stream.try_write(only),
            (Self::Socket(stream), _) => stream.try_write_vectored(slices),
            (Self::Body(pipe), _) => pipe.try_write(slices),
        }
    }

    /// Reads available bytes; 0 after the peer disconnected.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.try_read(buffer),
            Self::Body(pipe) if pipe.is_abandoned() => Ok(0),
            Self::Body(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(stream) => stream.poll_read_ready(cx),
            Self::Body(pipe) => pipe.poll_abandoned(cx).map(Ok),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(stream) => stream.poll_write_ready(cx),
            Self::Body(pipe) => pipe.poll_write_ready(cx),
        }
    }

    pub(super) fn shut_down(&self, how: Shutdown) {
        match self {
            // Fails only if the peer has already disconnected.
            Self::Socket(stream) => drop(SockRef::from(stream).shutdown(how)),
            Self::Body(_) if how == Shutdown::Read => {}
            Self::Body(pipe) => pipe.finish(),
        }
    }
}
