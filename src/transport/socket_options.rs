//! Socket options of connections, before and after their upgrade.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Unsent bytes that the kernel accepts per connection. With the kernel's default, a stalled reader costs 4.2 MB of
/// kernel memory before the outbox fills; with this value 153 kB. State frames are replaced that much earlier. Unlike a
/// small send buffer, it does not slow down links with a high bandwidth-delay product.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;
/// The same for HTTP: a response that is not read costs little kernel memory, and the progress of slow readers is
/// noticed in small steps.
const HTTP_NOTSENT_LOWAT_BYTES: u32 = 128 * 1024;
/// The kernel probes an idle peer after this time.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes after which the kernel closes the connection.
const KEEPALIVE_PROBES: u32 = 2;
/// Maximum time for sent data to be acknowledged. A reader that accepts nothing for this time is also disconnected
/// (measured: 20.5 s), even if its kernel still responds.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Configures a socket for HTTP: no delay, little unsent data, dead peers detected within 20 s, unless a slow reader has
/// more time. A stream of events would notice a dead peer only by the acknowledgements that are missing.
///
/// # Errors
/// The socket rejects an option, usually because it is closed.
pub(super) fn configure_http(stream: &TcpStream, stall_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(HTTP_NOTSENT_LOWAT_BYTES)?;
    detect_dead_peer(&socket, USER_TIMEOUT.max(stall_timeout))
}

/// Configures an upgraded socket: no delay, little unsent data, dead peers detected within 20 s.
///
/// # Errors
/// The socket rejects an option, usually because it is closed.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
    detect_dead_peer(&socket, USER_TIMEOUT)
}

fn detect_dead_peer(socket: &SockRef<'_>, user_timeout: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}
