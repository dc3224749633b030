//! The yardstick: a relay in a process of its own that does nothing but read what one sender says and write it to
//! everybody. One thread, epoll, plain `send`. It has no protocol: the sender says the very bytes that members get.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// The word that turns this program into a relay.
pub const SUBCOMMAND: &str = "raw-relay";

/// A relay that runs.
pub struct RawRelay {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl RawRelay {
    /// Starts one for `members` members and one sender, which is who connects last. With `batch` it writes what one
    /// round of epoll has brought at once, without it each message of `frame` bytes.
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

    /// Its process.
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

/// The relay itself; ends when its sender hangs up.
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
