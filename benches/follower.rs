//! Many sockets that listen, and a count of what they hear of one user.

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
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{people::Person, socket::Socket};

/// Handshakes under way at once.
const AT_ONCE: usize = 64;
/// Nothing heard for so long: what the joining stirred up has settled.
const QUIET: Duration = Duration::from_millis(1_000);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Heard {
    /// Messages that hold the marker.
    wanted: AtomicUsize,
    goal: AtomicUsize,
    reached: Notify,
    /// Messages at all.
    all: AtomicUsize,
}

/// Open sockets, each read by a task.
#[derive(Default)]
pub struct Followers {
    heard: Arc<Heard>,
    tasks: JoinSet<()>,
}

impl Followers {
    /// Opens a socket for each of these people, who count messages that hold `marker`.
    pub async fn join(&mut self, server: SocketAddr, people: &[Person], marker: &str) -> Result<()> {
        let first = self.tasks.len();
        let mut opening = stream::iter(people.iter().enumerate())
            .map(|(place, person)| Socket::open(server, person, first + place))
            .buffer_unordered(AT_ONCE);
        while let Some(socket) = opening.try_next().await? {
            self.tasks.spawn(listen(socket, marker.to_owned(), self.heard.clone()));
        }
        Ok(())
    }

    /// Waits until nobody hears anything any more.
    pub async fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.heard.all.load(Ordering::Relaxed);
            sleep(QUIET).await;
            if self.heard.all.load(Ordering::Relaxed) == before {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "the sockets do not come to rest");
        }
    }

    /// From now on messages with the marker count.
    pub fn expect_all(&self) {
        self.heard.wanted.store(0, Ordering::Relaxed);
        self.heard.goal.store(self.tasks.len(), Ordering::Relaxed);
    }

    /// Waits until everybody has heard one.
    pub async fn all_have_heard(&self) -> Result<()> {
        Ok(timeout(PATIENCE, self.heard.reached.notified()).await?)
    }

    /// How many are still there.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Says that somebody was cut off, if so.
    pub fn check(&mut self) -> Result<()> {
        ensure!(self.tasks.try_join_next().is_none(), "a socket was closed");
        Ok(())
    }
}

async fn listen(mut socket: Socket, marker: String, heard: Arc<Heard>) {
    while let Ok(message) = socket.next().await {
        heard.all.fetch_add(1, Ordering::Relaxed);
        let is_wanted = std::str::from_utf8(message).is_ok_and(|message| message.contains(&marker));
        if is_wanted && heard.wanted.fetch_add(1, Ordering::Relaxed) + 1 == heard.goal.load(Ordering::Relaxed)
        {
            heard.reached.notify_one();
        }
    }
}
