//! A reconnect storm with and without resume: bytes to the clients and work of the database.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use testkit::harness::User;
use tokio::{spawn, sync::oneshot, task::JoinHandle, time::sleep};

use crate::{
    Plan,
    cluster::{Cluster, STATISTICS_DELAY, active_time},
    http::{Http, status_request},
    presence_socket::PresenceSocket,
    report::{Report, ms, ratio, row},
    server::Server,
    users::add_contacts,
};

/// Contacts per user, half of them requested by the user.
const CONTACTS: usize = 50;
/// Sockets that connect at the same time.
const CONCURRENT: usize = 1_000;

/// What one storm cost.
#[derive(Default)]
struct Storm {
    bytes: usize,
    resumed: usize,
    database: Vec<Duration>,
    until_all: Vec<Duration>,
    cpu: Vec<Duration>,
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let user_count = plan.pick(10_000, 500);
    let changed_count = user_count / 100;
    let rounds = plan.pick(3, 1);
    let database = cluster.database("bench_reconnects").await?;
    let users = User::many(user_count);
    // A ring: each user is a contact of the 25 before and the 25 after.
    let pairs: Vec<_> = (0..user_count)
        .flat_map(|one| (1..=CONTACTS / 2).map(move |step| (one, (one + step) % user_count)))
        .map(|(one, other)| (users[one].id, users[other].id))
        .collect();
    add_contacts(&database.connect().await, &pairs).await?;
    let statistics = database.admin().await;

    // Within the grace, a reconnect changes nobody's presence: both storms do the same otherwise.
    let server = Server::start_with(&database, &[("DISCONNECT_GRACE", "30s")]).await?;
    let mut sockets = connect(&server, &users, None).await?;
    sleep(Duration::from_secs(5)).await;
    let (mut full, mut resumed) = (Storm::default(), Storm::default());
    for round in 0..rounds * 2 {
        let resumes = round % 2 == 1;
        let storm = if resumes { &mut resumed } else { &mut full };
        let mut positions = Vec::with_capacity(user_count);
        for socket in std::mem::take(&mut sockets) {
            drop(socket.stop);
            positions.push(socket.reader.await??);
        }
        let status = ["busy", "dnd"][round % 2];
        // The server closes a connection that is idle for as long as a storm takes.
        let mut http = Http::connect(server.address).await?;
        for user in &users[..changed_count] {
            http.call(&status_request(&user.token, status)).await?;
        }
        sleep(STATISTICS_DELAY).await;
        let (before, cpu_before) = (active_time(&statistics).await?, server.cpu()?);
        let started = Instant::now();
        sockets = connect(&server, &users, resumes.then_some(&*positions)).await?;
        storm.until_all.push(started.elapsed());
        storm.bytes = sockets.iter().map(|socket| socket.first_bytes).sum();
        storm.resumed = sockets.iter().filter(|socket| socket.is_resumed).count();
        storm.cpu.push(server.cpu()? - cpu_before);
        sleep(STATISTICS_DELAY).await;
        storm.database.push(active_time(&statistics).await?.saturating_sub(before));
        // Until the positions have arrived.
        sleep(Duration::from_secs(3)).await;
    }
    drop(sockets);
    server.stop().await?;
    ensure!(full.resumed == 0 && resumed.resumed == user_count, "{} were resumed", resumed.resumed);

    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let mut rows = vec![row(["", "full state", "resumed", "ratio"])];
    let mut add = |name: &str, one: f64, other: f64, text: &dyn Fn(f64) -> String| {
        rows.push(row([name, &text(one), &text(other), &ratio(other, one)]));
    };
    add("first state, bytes per socket", full.bytes as f64, resumed.bytes as f64, &|bytes| {
        format!("{:.0}", bytes / user_count as f64)
    });
    for (name, one, other) in [
        ("database, time of statements", &mut full.database, &mut resumed.database),
        ("server, CPU time", &mut full.cpu, &mut resumed.cpu),
        ("until all have their state", &mut full.until_all, &mut resumed.until_all),
    ] {
        let (one, other) = (median(one).as_secs_f64(), median(other).as_secs_f64());
        add(name, one, other, &|seconds| ms(Duration::from_secs_f64(seconds)));
    }
    report.heading("Reconnects");
    report.note(&format!(
        "{user_count} presence sockets with {CONTACTS} online contacts each are closed at once; {changed_count} users \
         change their status; then all connect again, {CONCURRENT} at a time, to the same node. Medians of {rounds} \
         alternating rounds. The time of statements includes waiting, and all else that the server does meanwhile."
    ));
    report.table(&rows);
    cluster.drop_database("bench_reconnects").await;
    Ok(())
}

/// A socket that a task reads: the server closes sockets that answer no pings.
struct ReadSocket {
    first_bytes: usize,
    is_resumed: bool,
    /// Dropped to close the socket.
    stop: oneshot::Sender<()>,
    reader: JoinHandle<Result<String>>,
}

/// Connects all users, with their positions.
async fn connect(server: &Server, users: &[User], positions: Option<&[String]>) -> Result<Vec<ReadSocket>> {
    let opened = users.iter().enumerate().map(async |(index, user)| {
        let position = positions.map_or("", |positions| &positions[index]);
        let socket = PresenceSocket::open_resumable(server.address, user, index, position).await?;
        let (stop, stopped) = oneshot::channel();
        let (first_bytes, is_resumed) = (socket.first_bytes, socket.is_resumed);
        anyhow::Ok(ReadSocket { first_bytes, is_resumed, stop, reader: spawn(socket.read_until(stopped)) })
    });
    stream::iter(opened).buffered(CONCURRENT).try_collect().await
}
