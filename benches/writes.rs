//! Status changes per second that the server commits, compared with bare upserts.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use futures_util::future::try_join_all;
use testkit::harness::User;

use crate::{
    Plan,
    cluster::Cluster,
    http::{Http, status_request},
    load::{LoadClient, LoadResult, closed_loop, median, quantile},
    presence_socket::{PresenceSocket, status_frame},
    report::{Report, ms, ratio, row},
    server::Server,
};

const CLIENTS: [usize; 3] = [1, 100, 1_000];
const STATUSES: [&str; 2] = ["online", "busy"];
/// Text that identifies each status in a presence update.
const STATUS_FRAGMENTS: [&str; 2] = [r#""availability":"online""#, r#""availability":"busy""#];

/// Posts a status and waits for the response.
pub struct RestWriter {
    http: Http,
    requests: [Vec<u8>; 2],
    calls: usize,
}

impl LoadClient for RestWriter {
    async fn run_once(&mut self) -> Result<()> {
        self.calls += 1;
        self.http.call(&self.requests[self.calls % 2]).await?;
        Ok(())
    }
}

/// Sends a status and waits for it as the user's own presence update. A single client alternates between many sockets,
/// because one socket may send at most 100 messages per second.
struct SocketWriter {
    sockets: Vec<UserSocket>,
    frames: [Vec<u8>; 2],
    calls: usize,
}

/// A user's socket and its next status. Repeating the same status would send no update.
struct UserSocket {
    socket: PresenceSocket,
    status_index: usize,
}

impl LoadClient for SocketWriter {
    async fn run_once(&mut self) -> Result<()> {
        let index = self.calls % self.sockets.len();
        self.calls += 1;
        let UserSocket { socket, status_index } = &mut self.sockets[index];
        *status_index = 1 - *status_index;
        socket.send(&self.frames[*status_index]).await?;
        socket.wait_for(&["presence_update", STATUS_FRAGMENTS[*status_index]]).await
    }
}

/// Connects a client for each user.
pub async fn rest_writers(server: SocketAddr, users: &[User]) -> Result<Vec<RestWriter>> {
    let connecting = users.iter().map(|user| async {
        let requests = STATUSES.map(|status| status_request(&user.token, status));
        Ok(RestWriter { http: Http::connect(server).await?, requests, calls: 0 })
    });
    try_join_all(connecting).await
}

/// Distributes the sockets among `clients` clients.
fn socket_writers(sockets: Vec<UserSocket>, clients: usize) -> Vec<SocketWriter> {
    let frames = STATUSES.map(status_frame);
    let mut all: Vec<_> = (0..clients)
        .map(|_| SocketWriter { sockets: Vec::new(), frames: frames.clone(), calls: 0 })
        .collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        all[index % clients].sockets.push(socket);
    }
    all
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (rounds, seconds) = plan.pick((3, 2), (1, 2));
    let time = Duration::from_secs(seconds);
    let database = cluster.database("bench_writes").await?;
    let server = Server::start(&database).await?;
    let users = User::many(1_000);
    let mut bare: [Vec<f64>; 2] = Default::default();
    let mut rest: [Vec<LoadResult>; 3] = Default::default();
    let mut socket: [Vec<LoadResult>; 3] = Default::default();
    // Every user has a device before the first round.
    closed_loop(rest_writers(server.address, &users).await?, time).await?;
    for _ in 0..rounds {
        for (series, clients) in bare.iter_mut().zip([1, 8]) {
            series.push(database.pgbench(clients, seconds).await?);
        }
        for (series, count) in rest.iter_mut().zip(CLIENTS) {
            // Connects again each time because the server closes idle connections.
            let clients = rest_writers(server.address, &users[..count]).await?;
            let (_, measured) = closed_loop(clients, time).await?;
            series.push(measured);
        }
    }
    let mut sockets = Vec::new();
    for (index, user) in users.iter().enumerate() {
        let mut socket = PresenceSocket::open_with_own_status(server.address, user, index).await?;
        socket.send(&status_frame(STATUSES[0])).await?;
        sockets.push(UserSocket { socket, status_index: 0 });
    }
    for round in 0..=rounds {
        // The first round warms caches and plans.
        if round > 0 {
            for (series, clients) in bare.iter_mut().zip([1, 8]) {
                series.push(database.pgbench(clients, seconds).await?);
            }
        }
        for (series, count) in socket.iter_mut().zip(CLIENTS) {
            let (back, measured) = closed_loop(socket_writers(sockets, count), time).await?;
            sockets = back.into_iter().flat_map(|client| client.sockets).collect();
            if round > 0 {
                series.push(measured);
            }
        }
    }
    server.stop().await?;

    let [one, eight] = bare.map(|series| median(&series));
    let mut rows = vec![row(["", "clients", "per second", "÷ pgbench, 1", "÷ pgbench, 8", "median", "p99"])];
    for (clients, rate) in [("1", one), ("8", eight)] {
        rows.push(row([
            "pgbench, upsert of one row",
            clients,
            &format!("{rate:.0}"),
            &ratio(rate, one),
            &ratio(rate, eight),
            "",
            "",
        ]));
    }
    for (name, series) in [("status by REST", rest), ("status by socket, until its update arrives", socket)] {
        for (clients, rounds) in CLIENTS.iter().zip(series) {
            let rate = median(&rounds.iter().map(|round| round.rate).collect::<Vec<_>>());
            let mut all: Vec<Duration> = rounds.into_iter().flat_map(|round| round.times).collect();
            all.sort_unstable();
            rows.push(row([
                name,
                &clients.to_string(),
                &format!("{rate:.0}"),
                &ratio(rate, one),
                &ratio(rate, eight),
                &ms(quantile(&all, 0.5)),
                &ms(quantile(&all, 0.99)),
            ]));
        }
    }
    report.heading("Writes");
    report.note(&format!(
        "Each client is a separate user that alternates between online and busy in a closed loop; {rounds} rounds of \
         {seconds} s each, alternating with pgbench (prepared, the same durability, the same cluster)."
    ));
    report.table(&rows);
    cluster.drop_database("bench_writes").await;
    Ok(())
}
