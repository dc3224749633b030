//! How many status changes a second the server commits, against bare upserts.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::{
    Plan,
    cluster::Cluster,
    http::{Http, status_request},
    load::{Client, Measured, closed_loop, median, quantile},
    people::Person,
    report::{Report, ms, row, times},
    server::Server,
    socket::{Socket, status_frame},
};

const CLIENTS: [usize; 3] = [1, 100, 1_000];
const WORDS: [&str; 2] = ["online", "busy"];
/// What the socket says of them.
const SAID: [&str; 2] = [r#""availability":"online""#, r#""availability":"busy""#];

/// Posts a status, and waits for the answer.
struct ByRest {
    http: Http,
    requests: [Vec<u8>; 2],
    turn: usize,
}

impl Client for ByRest {
    async fn once(&mut self) -> Result<()> {
        self.turn += 1;
        self.http.call(&self.requests[self.turn % 2]).await?;
        Ok(())
    }
}

/// Sends a status, and waits until it comes back as the user's own presence.
struct BySocket {
    socket: Socket,
    frames: [Vec<u8>; 2],
    turn: usize,
}

impl Client for BySocket {
    async fn once(&mut self) -> Result<()> {
        self.turn += 1;
        self.socket.send(&self.frames[self.turn % 2]).await?;
        self.socket.until(&["presence_update", SAID[self.turn % 2]]).await
    }
}

/// Measures.
pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (rounds, seconds) = plan.pick((3, 3), (1, 2));
    let time = Duration::from_secs(seconds);
    let database = cluster.database("bench_writes").await?;
    let server = Server::start(&database).await?;
    let people = Person::many(1_000)?;
    let mut by_rest = try_join_all(people.iter().map(|person| async {
        let requests = WORDS.map(|word| status_request(&person.token, word));
        Ok::<_, anyhow::Error>(ByRest { http: Http::connect(server.address).await?, requests, turn: 0 })
    }))
    .await?;

    let mut bare: [Vec<f64>; 2] = Default::default();
    let mut rest: [Vec<Measured>; 3] = Default::default();
    let mut socket: [Vec<Measured>; 3] = Default::default();
    // Everybody has a device before the first round.
    (by_rest, _) = closed_loop(by_rest, time).await?;
    for _ in 0..rounds {
        for (series, clients) in bare.iter_mut().zip([1, 8]) {
            series.push(database.pgbench(clients, seconds).await?);
        }
        for (series, count) in rest.iter_mut().zip(CLIENTS) {
            let idle = by_rest.split_off(count);
            let (busy, measured) = closed_loop(by_rest, time).await?;
            by_rest = busy;
            by_rest.extend(idle);
            series.push(measured);
        }
    }
    drop(by_rest);

    let mut by_socket = Vec::new();
    for (seat, person) in people.iter().enumerate() {
        let socket = Socket::open(server.address, &person.token, seat).await?;
        by_socket.push(BySocket { socket, frames: WORDS.map(status_frame), turn: 0 });
    }
    (by_socket, _) = closed_loop(by_socket, time).await?;
    for _ in 0..rounds {
        for (series, clients) in bare.iter_mut().zip([1, 8]) {
            series.push(database.pgbench(clients, seconds).await?);
        }
        for (series, count) in socket.iter_mut().zip(CLIENTS) {
            let idle = by_socket.split_off(count);
            let (busy, measured) = closed_loop(by_socket, time).await?;
            by_socket = busy;
            by_socket.extend(idle);
            series.push(measured);
        }
    }
    server.stop().await?;

    let [one, eight] = bare.map(|series| median(&series));
    let mut rows = vec![row(["", "clients", "a second", "÷ pgbench, 1", "÷ pgbench, 8", "median", "p99"])];
    for (clients, rate) in [("1", one), ("8", eight)] {
        rows.push(row([
            "pgbench, upsert of one row",
            clients,
            &format!("{rate:.0}"),
            &times(rate, one),
            &times(rate, eight),
            "",
            "",
        ]));
    }
    for (name, series) in [("status by REST", rest), ("status by socket, until it is told", socket)] {
        for (clients, rounds) in CLIENTS.iter().zip(series) {
            let rate = median(&rounds.iter().map(|round| round.rate).collect::<Vec<_>>());
            let mut all: Vec<Duration> = rounds.into_iter().flat_map(|round| round.times).collect();
            all.sort_unstable();
            rows.push(row([
                name,
                &clients.to_string(),
                &format!("{rate:.0}"),
                &times(rate, one),
                &times(rate, eight),
                &ms(quantile(&all, 0.5)),
                &ms(quantile(&all, 0.99)),
            ]));
        }
    }
    report.heading("Writes");
    report.note(&format!(
        "Each client is a user of its own and alternates between online and busy in a closed loop; {rounds} rounds of \
         {seconds} s each, alternating with pgbench (prepared, the same durability, the same cluster)."
    ));
    report.table(&rows);
    cluster.drop_database("bench_writes").await
}
