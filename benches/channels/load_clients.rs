//! Load clients that only count the frames they receive, and one sender: one thread, epoll, no async runtime.
//!
//! The thread sleeps for 200 µs before each wait. Otherwise a server that writes frame by frame would wake it for every
//! frame, and both share the same machine.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::ws_client::WsClient;

const POLL_INTERVAL: Duration = Duration::from_micros(200);
/// After the last message, deliveries that take longer count as lost.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of hex digits of the send time. A payload ends in `"<send time, 16 hex digits>"}`.
const TIMESTAMP_DIGITS: usize = 16;
const SUFFIX_BYTES: usize = 2;

/// Returns a JSON payload of `bytes` bytes that ends in the send time.
pub fn payload(bytes: usize, nanos: u64) -> Vec<u8> {
    let head = r#"{"pad":""#;
    let middle = r#"","at":""#;
    let pad = bytes - head.len() - middle.len() - TIMESTAMP_DIGITS - SUFFIX_BYTES;
    format!(r#"{head}{}{middle}{nanos:016x}"}}"#, "x".repeat(pad)).into_bytes()
}

/// How fast the sender sends.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Messages per second, for a duration.
    Rate(u32, Duration),
    /// Messages in flight, for a duration. The next message is sent once all members have received the oldest one.
    Window(usize, Duration),
}

#[derive(Debug, Default)]
pub struct DeliveryStats {
    /// Number of messages sent.
    pub sent: usize,
    /// Number of frames that members received.
    pub deliveries: usize,
    /// Time from the first message to the last delivery.
    pub elapsed: Duration,
    /// Time from sending to delivery of each frame, ascending.
    pub times: Vec<Duration>,
}

/// Members of one topic; each receives every message.
pub struct LoadClients {
    epoll: Epoll,
    members: Vec<Member>,
    buffer: Vec<u8>,
    /// Length of every delivered frame, in bytes.
    frame: usize,
}

struct Member {
    stream: TcpStream,
    /// Start of a frame whose end has not arrived.
    rest: Vec<u8>,
    received: usize,
}

impl LoadClients {
    /// Takes over joined sockets. From now on each frame on them has `frame` bytes.
    pub fn new(clients: Vec<WsClient>, frame: usize) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut members = Vec::with_capacity(clients.len());
        for (index, client) in clients.into_iter().enumerate() {
            client.stream.set_nonblocking(true)?;
            epoll.add(&client.stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            members.push(Member { stream: client.stream, rest: client.unread, received: 0 });
        }
        Ok(Self { epoll, members, buffer: vec![0; 64 * 1024], frame })
    }

    /// Sends `message(nanos)` at the given pace until the time is over, then waits until all members have received
    /// everything.
    pub fn run(
        &mut self,
        sender: &mut TcpStream,
        pace: Pace,
        message: impl Fn(u64) -> Vec<u8>,
    ) -> Result<DeliveryStats> {
        sender.set_nonblocking(false)?;
        for member in &mut self.members {
            member.received = 0;
        }
        let started = Instant::now();
        let nanos = |started: Instant| u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut received = DeliveryStats::default();
        // Number of members that have not received each message in flight, oldest first.
        let mut missing: VecDeque<usize> = VecDeque::new();
        let mut done = 0;
        let mut last_word = Instant::now();
        loop {
            let due = match pace {
                Pace::Rate(rate, time) => {
                    let time = started.elapsed().min(time);
                    (time.as_secs_f64() * f64::from(rate)) as usize
                }
                Pace::Window(window, time) if started.elapsed() < time => done + window,
                Pace::Window(..) => received.sent,
            };
            let mut together = Vec::new();
            for _ in received.sent..due {
                together.extend_from_slice(&message(nanos(started)));
                missing.push_back(self.members.len());
            }
            if !together.is_empty() {
                sender.write_all(&together)?;
                received.sent = due;
                last_word = Instant::now();
            }
            let over = match pace {
                Pace::Rate(_, time) | Pace::Window(_, time) => started.elapsed() >= time,
            };
            if over && missing.is_empty() {
                break;
            }
            ensure!(
                last_word.elapsed() < WAIT_TIMEOUT,
                "{} of {} deliveries are missing",
                missing.iter().sum::<usize>(),
                received.sent * self.members.len()
            );
            thread::sleep(POLL_INTERVAL);
            self.read_available(started, &mut missing, done, &mut received)?;
            while missing.front() == Some(&0) {
                missing.pop_front();
                done += 1;
            }
        }
        received.elapsed = started.elapsed();
        received.times.sort_unstable();
        Ok(received)
    }

    /// Sends `rate` messages per second in total for `time`, in turn from the members with the indices `senders`, then
    /// waits until every other member has received each of them.
    pub fn run_among(
        &mut self,
        senders: &[usize],
        rate: u32,
        time: Duration,
        message: impl Fn(u64) -> Vec<u8>,
    ) -> Result<DeliveryStats> {
        let started = Instant::now();
        let mut received = DeliveryStats::default();
        let mut last_sent = started;
        loop {
            let due = (started.elapsed().min(time).as_secs_f64() * f64::from(rate)) as usize;
            for number in received.sent..due {
                let nanos = u64::try_from(started.elapsed().as_nanos())?;
                self.members[senders[number % senders.len()]].stream.write_all(&message(nanos))?;
                last_sent = Instant::now();
            }
            received.sent = due;
            let expected = received.sent * (self.members.len() - 1);
            if started.elapsed() >= time && received.deliveries == expected {
                break;
            }
            ensure!(
                last_sent.elapsed() < WAIT_TIMEOUT,
                "{} of {expected} deliveries are missing",
                expected - received.deliveries
            );
            thread::sleep(POLL_INTERVAL);
            self.read_available(started, &mut VecDeque::new(), 0, &mut received)?;
        }
        received.elapsed = started.elapsed();
        received.times.sort_unstable();
        Ok(received)
    }

    /// Reads all available bytes.
    fn read_available(
        &mut self,
        started: Instant,
        missing: &mut VecDeque<usize>,
        done: usize,
        received: &mut DeliveryStats,
    ) -> Result<()> {
        let mut events = [EpollEvent::empty(); 512];
        let count = self.epoll.wait(&mut events, EpollTimeout::from(1_u8))?;
        for event in &events[..count] {
            let member = &mut self.members[usize::try_from(event.data())?];
            loop {
                let kept = member.rest.len();
                self.buffer[..kept].copy_from_slice(&member.rest);
                let count = match member.stream.read(&mut self.buffer[kept..]) {
                    Ok(0) => anyhow::bail!("a member was disconnected"),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                };
                let now = started.elapsed();
                let bytes = &self.buffer[..kept + count];
                let whole = bytes.len() / self.frame * self.frame;
                for frame in bytes[..whole].chunks_exact(self.frame) {
                    let stamp =
                        &frame[self.frame - TIMESTAMP_DIGITS - SUFFIX_BYTES..self.frame - SUFFIX_BYTES];
                    let sent =
                        std::str::from_utf8(stamp).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
                    let sent =
                        Duration::from_nanos(sent.ok_or_else(|| anyhow::anyhow!("a stranger's frame"))?);
                    received.times.push(now.saturating_sub(sent));
                    received.deliveries += 1;
                    // Frames arrive in order: the n-th frame of a member is the n-th message sent.
                    if let Some(missing) =
                        member.received.checked_sub(done).and_then(|index| missing.get_mut(index))
                    {
                        *missing -= 1;
                    }
                    member.received += 1;
                }
                member.rest.clear();
                member.rest.extend_from_slice(&bytes[whole..]);
                if count < self.buffer.len() - kept {
                    break;
                }
            }
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }
}
