//! The options of a connection's socket.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Bytes that the kernel takes of a connection ahead of what it has sent. With the default a reader that
/// stalls costs 4.2 MB of kernel memory before the outbox hears of it, with this 153 kB, and "latest wins"
/// takes effect that much earlier. Unlike a small send buffer it does not slow down a long fat pipe.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;
/// A quiet peer is probed by the kernel after this time, …
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// … again after this time, …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// … and given up after so many unanswered probes.
const KEEPALIVE_PROBES: u32 = 2;
/// What was sent has to be acknowledged within this time. A reader that takes nothing at all for so long is
/// cut off by this too (measured: 20.5 s), even if its kernel still answers.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Sets up an upgraded socket: no delay, little unsent data, dead peers noticed within 20 s.
///
/// # Errors
/// The socket refuses an option; it is most likely gone.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}
