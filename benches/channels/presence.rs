//! Latency and throughput of presence changes in one channel.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use testkit::{
    harness::User,
    wire::{TEXT, client_frame, frame_lengths},
};

use super::ws_client::{JoinOptions, WsClient, track_text};
use crate::{
    Plan,
    cluster::Cluster,
    load::quantile,
    report::{Report, ms},
    server::Server,
};

const TOPIC: &str = "presence";
const MEMBERS: usize = 200;
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let changes = plan.pick(1_000, 200);
    let database = cluster.database("bench_presence").await?;
    let server = Server::start(&database).await?;
    let mut members = Members::join(&server)?;
    members.drain()?;
    // Sequential changes: each waits until the last member has received it.
    let mut times = Vec::new();
    for number in 0..changes {
        let started = Instant::now();
        members.change(number)?;
        members.wait_for_diffs(started, MEMBERS)?;
        times.push(started.elapsed());
        std::thread::sleep(Duration::from_millis(3));
    }
    // Concurrent changes.
    let before = server.cpu()?;
    let started = Instant::now();
    for number in 0..changes {
        members.change(changes + number)?;
        if number % 10 == 9 {
            members.wait_for_diffs(Instant::now(), 10 * MEMBERS)?;
        }
    }
    let (took, cpu) = (started.elapsed(), server.cpu()? - before);
    server.stop().await?;
    times.sort_unstable();
    let deliveries = (changes * MEMBERS) as f64;
    report.heading("Channels: presence");
    report.note(&format!(
        "{MEMBERS} members of a public channel, all present. All members have read a change of one member (`track`) after {} \
         (median), **{}** (p99). In a closed loop with ten changes in flight: {:.0} k deliveries per second, **{:.0} k** per \
         second of server CPU, which includes writing the rows of `realtime.presence`.",
        ms(quantile(&times, 0.5)),
        ms(quantile(&times, 0.99)),
        deliveries / took.as_secs_f64() / 1e3,
        deliveries / cpu.as_secs_f64() / 1e3,
    ));
    cluster.drop_database("bench_presence").await;
    Ok(())
}

struct Members {
    clients: Vec<WsClient>,
    epoll: Epoll,
    buffer: Vec<u8>,
}

impl Members {
    fn join(server: &Server) -> Result<Self> {
        let mut clients = Vec::with_capacity(MEMBERS);
        for index in 0..MEMBERS {
            let user = User::new();
            let mut client = WsClient::open(server.address, index, &user.token)?;
            client.join(
                TOPIC,
                JoinOptions { presence: Some(&user.id.to_string()), ..JoinOptions::default() },
            )?;
            client.track(TOPIC, "2")?;
            clients.push(client);
        }
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        for (index, client) in clients.iter().enumerate() {
            client.stream.set_nonblocking(true)?;
            epoll.add(&client.stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        Ok(Self { clients, epoll, buffer: vec![0; 64 * 1024] })
    }

    /// Sends a new payload from one member.
    fn change(&mut self, number: usize) -> Result<()> {
        let text = track_text(TOPIC, &format!("{}", number + 10));
        Ok(self.clients[number % MEMBERS].stream.write_all(&client_frame(TEXT, text.as_bytes()))?)
    }

    /// Waits until `missing` diffs have been read.
    fn wait_for_diffs(&mut self, since: Instant, mut missing: usize) -> Result<()> {
        while missing > 0 {
            ensure!(since.elapsed() < WAIT_TIMEOUT, "{missing} members did not receive a change");
            missing = missing.saturating_sub(self.read_available(100)?);
        }
        Ok(())
    }

    /// Waits until no more frames arrive.
    fn drain(&mut self) -> Result<()> {
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(500) {
            if self.read_available(50)? > 0 {
                quiet = Instant::now();
            }
        }
        Ok(())
    }

    /// Reads all available frames; returns the number of joined metas.
    fn read_available(&mut self, wait_ms: u8) -> Result<usize> {
        let mut events = [EpollEvent::empty(); MEMBERS];
        let ready = self.epoll.wait(&mut events, EpollTimeout::from(wait_ms))?;
        let mut seen = 0;
        for event in &events[..ready] {
            let client = &mut self.clients[usize::try_from(event.data())?];
            loop {
                match client.stream.read(&mut self.buffer) {
                    Ok(0) => anyhow::bail!("a member was disconnected"),
                    Ok(count) => client.unread.extend_from_slice(&self.buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            while let Some((head, length)) =
                frame_lengths(&client.unread).filter(|(head, length)| client.unread.len() >= head + length)
            {
                let text = std::str::from_utf8(&client.unread[head..head + length]).unwrap_or_default();
                if let Some((joins, _)) =
                    text.split_once("presence_diff").and_then(|(_, diff)| diff.split_once(r#""leaves""#))
                {
                    seen += joins.matches(r#""phx_ref":"#).count();
                }
                ensure!(!text.contains(r#""status":"error""#), "the server returned an error: {text}");
                client.unread.drain(..head + length);
            }
        }
        Ok(seen)
    }
}
