//! Waiting until a client has read what was delivered to it.

use tokio::{sync::oneshot, time::timeout};

use super::{ConnId, Hub, shard::Command};

/// What a client did with the frames that were delivered to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadProgress {
    /// All frames were written to its socket.
    Read,
    /// Frames are queued, and its socket accepted nothing for the connection's `stall_timeout`.
    Stalled,
    /// The connection is closed.
    Closed,
}

impl Hub {
    /// Waits until all frames that were delivered to a connection before this call are written to its socket. Of several
    /// calls for one connection, only the last returns [`ReadProgress::Read`].
    pub async fn wait_until_read(&self, id: ConnId) -> ReadProgress {
        let stall_timeout = self.connection_settings().stall_timeout;
        let (report, mut is_read) = oneshot::channel();
        if self.send_command(id, Command::ReportRead(id, report)).await.is_err() {
            return ReadProgress::Closed;
        }
        loop {
            match timeout(stall_timeout, &mut is_read).await {
                Ok(Ok(())) => return ReadProgress::Read,
                Ok(Err(_)) => return ReadProgress::Closed,
                Err(_) => match self.connection(id) {
                    Some(connection) if connection.is_stalled(stall_timeout) => return ReadProgress::Stalled,
                    Some(_) => {}
                    None => return ReadProgress::Closed,
                },
            }
        }
    }
}
