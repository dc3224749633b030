//! The baseline: a relay in its own process that copies the bytes of one sender to all members. One thread, epoll,
//! plain `send`. It has no protocol: the sender writes the bytes that members receive.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// The subcommand that runs this program as a relay.
pub const SUBCOMMAND: &str = "raw-relay";

/// A running relay process.
pub struct RawRelay {
    child: Child,
    /// Address it listens on.
    pub address: SocketAddr,
}

impl RawRelay {
    /// Starts a relay for `members` members and one sender. The sender connects last. With `batch` it writes all
    /// messages of one epoll wake-up at once; otherwise each message of `frame` bytes separately.
    pub fn start(members: usize, frame: usize, batch: bool) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SUBCOMMAND)
            .args([members.to_string(), frame.to_string(), batch.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = [0; 2];
        child.stdout.as_mut().context("a pipe")?.read_exact(&mut port)?;
        Ok(Self { child, address: ([127, 0, 0, 1], u16::from_be_bytes(port)).into() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for RawRelay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the relay until its sender disconnects.
pub fn run(members: usize, frame: usize, batch: bool) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut stdout = std::io::stdout();
    stdout.write_all(&listener.local_addr()?.port().to_be_bytes())?;
    stdout.flush()?;
    let mut members = (0..members).map(|_| Ok(listener.accept()?.0)).collect::<Result<Vec<TcpStream>>>()?;
    let mut sender = listener.accept()?.0;
    for member in &members {
        member.set_nodelay(true)?;
    }
    sender.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(&sender, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let mut buffer = vec![0; 64 * 1024];
    let mut waiting = Vec::new();
    loop {
        epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE)?;
        loop {
            match sender.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => waiting.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let whole = waiting.len() / frame * frame;
        let step = if batch { whole.max(1) } else { frame };
        for message in waiting[..whole].chunks(step) {
            for member in &mut members {
                member.write_all(message)?;
            }
        }
        waiting.drain(..whole);
    }
}
