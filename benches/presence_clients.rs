//! Presence sockets that count the messages about one user.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use testkit::harness::User;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::presence_socket::PresenceSocket;

/// Concurrent handshakes.
const CONCURRENT_CONNECTS: usize = 64;
/// Without a message for this long, the effects of connecting are over.
const QUIET_PERIOD: Duration = Duration::from_millis(1_000);
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct ReceivedCounts {
    /// Messages that contain the marker.
    matching: AtomicUsize,
    goal: AtomicUsize,
    reached: Notify,
    total: AtomicUsize,
}

/// Open sockets, each read by its own task.
#[derive(Default)]
pub struct PresenceClients {
    received: Arc<ReceivedCounts>,
    tasks: JoinSet<()>,
}

impl PresenceClients {
    /// Opens a socket for each user. Messages that contain `marker` are counted.
    pub async fn join(&mut self, server: SocketAddr, users: &[User], marker: &str) -> Result<()> {
        let first = self.tasks.len();
        let mut opening = stream::iter(users.iter().enumerate())
            .map(|(index, user)| PresenceSocket::open(server, user, first + index))
            .buffer_unordered(CONCURRENT_CONNECTS);
        while let Some(socket) = opening.try_next().await? {
            self.tasks.spawn(read_messages(socket, marker.to_owned(), self.received.clone()));
        }
        Ok(())
    }

    /// Waits until no socket receives messages.
    pub async fn wait_until_quiet(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let before = self.received.total.load(Ordering::Relaxed);
            sleep(QUIET_PERIOD).await;
            if self.received.total.load(Ordering::Relaxed) == before {
                return Ok(());
            }
            ensure!(started.elapsed() < WAIT_TIMEOUT, "the sockets keep receiving messages");
        }
    }

    /// Resets the count: each socket is expected to receive one message with the marker.
    pub fn expect_one_each(&self) {
        self.received.matching.store(0, Ordering::Relaxed);
        self.received.goal.store(self.tasks.len(), Ordering::Relaxed);
    }

    /// Waits until each socket has received one.
    pub async fn wait_until_all_received(&self) -> Result<()> {
        Ok(timeout(WAIT_TIMEOUT, self.received.reached.notified()).await?)
    }

    /// Number of open sockets.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Fails if a socket was closed.
    pub fn check(&mut self) -> Result<()> {
        ensure!(self.tasks.try_join_next().is_none(), "a socket was closed");
        Ok(())
    }
}

async fn read_messages(mut socket: PresenceSocket, marker: String, received: Arc<ReceivedCounts>) {
    while let Ok(message) = socket.next_message().await {
        received.total.fetch_add(1, Ordering::Relaxed);
        let is_wanted = std::str::from_utf8(message).is_ok_and(|message| message.contains(&marker));
        if is_wanted
            && received.matching.fetch_add(1, Ordering::Relaxed) + 1 == received.goal.load(Ordering::Relaxed)
        {
            received.reached.notify_one();
        }
    }
}
