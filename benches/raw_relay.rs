//! The baseline of fan-out: one thread that writes the same bytes to many sockets.

use std::{
    io::Write as _,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::Notify, task::JoinSet, time::timeout};

/// As long as the frame of a presence update.
const FRAME: [u8; 172] = [b'x'; 172];
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A relay and its readers.
pub struct RawRelay {
    start_signal: mpsc::Sender<()>,
    cpu_times: mpsc::Receiver<Duration>,
    unread: Arc<AtomicUsize>,
    all_read: Arc<Notify>,
    sockets: usize,
    _readers: JoinSet<()>,
}

impl RawRelay {
    /// Connects `sockets` readers.
    pub async fn open(sockets: usize) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (go, going) = mpsc::channel();
        let (done, cost) = mpsc::channel();
        thread::spawn(move || relay(&listener, sockets, &going, &done));
        let (missing, all_read) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut readers = JoinSet::new();
        for _ in 0..sockets {
            let stream = TcpStream::connect(address).await?;
            readers.spawn(read(stream, missing.clone(), all_read.clone()));
        }
        Ok(Self { start_signal: go, cpu_times: cost, unread: missing, all_read, sockets, _readers: readers })
    }

    /// Sends one message to all readers; returns the time until the last one has read it, and the CPU time of the
    /// relay.
    pub async fn round(&self) -> Result<(Duration, Duration)> {
        self.unread.store(self.sockets * FRAME.len(), Ordering::Relaxed);
        let started = Instant::now();
        self.start_signal.send(()).context("the relay ended")?;
        timeout(WAIT_TIMEOUT, self.all_read.notified()).await?;
        let elapsed = started.elapsed();
        Ok((elapsed, self.cpu_times.recv_timeout(WAIT_TIMEOUT)?))
    }

    pub const fn len(&self) -> usize {
        self.sockets
    }
}

async fn read(mut stream: TcpStream, missing: Arc<AtomicUsize>, all_read: Arc<Notify>) {
    let mut buffer = [0; FRAME.len()];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        if missing.fetch_sub(count, Ordering::Relaxed) == count {
            all_read.notify_one();
        }
    }
}

fn relay(listener: &TcpListener, sockets: usize, going: &mpsc::Receiver<()>, done: &mpsc::Sender<Duration>) {
    let mut streams: Vec<_> = listener.incoming().take(sockets).filter_map(Result::ok).collect();
    while going.recv().is_ok() {
        let before = processor_time();
        for stream in &mut streams {
            stream.write_all(&FRAME).ok();
        }
        if done.send(processor_time().saturating_sub(before)).is_err() {
            return;
        }
    }
}

/// Returns the CPU time (user and system) of the current thread.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("thread usage is available");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
