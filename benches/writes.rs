//! How many status changes a second the server commits, against bare upserts.

use std::{net::SocketAddr, time::Duration};

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

/// Sends a status, and waits until it comes back as the user's own presence. A client alone takes turns with many
/// sockets, because a single one may send 100 messages a second only.
struct BySocket {
    seats: Vec<Seat>,
    frames: [Vec<u8>; 2],
    turn: usize,
}

/// A user's socket, and the word that it says next: the same again would be no news.
struct Seat {
    socket: Socket,
    word: usize,
}

impl Client for BySocket {
    async fn once(&mut self) -> Result<()> {
        let place = self.turn % self.seats.len();
        self.turn += 1;
        let Seat { socket, word } = &mut self.seats[place];
        *word = 1 - *word;
        socket.send(&self.frames[*word]).await?;
        socket.until(&["presence_update", SAID[*word]]).await
    }
}

/// Connects a client for each of these people.
async fn by_rest(server: SocketAddr, people: &[Person]) -> Result<Vec<ByRest>> {
    let connecting = people.iter().map(|person| async {
        let requests = WORDS.map(|word| status_request(&person.token, word));
        Ok(ByRest { http: Http::connect(server).await?, requests, turn: 0 })
    });
    try_join_all(connecting).await
}

/// Deals the sockets out among so many clients.
fn by_socket(seats: Vec<Seat>, clients: usize) -> Vec<BySocket> {
    let frames = WORDS.map(status_frame);
    let mut all: Vec<_> =
        (0..clients).map(|_| BySocket { seats: Vec::new(), frames: frames.clone(), turn: 0 }).collect();
    for (place, seat) in seats.into_iter().enumerate() {
        all[place % clients].seats.push(seat);
    }
    all
}

/// Measures.
pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (rounds, seconds) = plan.pick((3, 2), (1, 2));
    let time = Duration::from_secs(seconds);
    let database = cluster.database("bench_writes").await?;
    let server = Server::start(&database).await?;
    let people = Person::many(1_000)?;
    let mut bare: [Vec<f64>; 2] = Default::default();
    let mut rest: [Vec<Measured>; 3] = Default::default();
    let mut socket: [Vec<Measured>; 3] = Default::default();
    // Everybody has a device before the first round.
    closed_loop(by_rest(server.address, &people).await?, time).await?;
    for _ in 0..rounds {
        for (series, clients) in bare.iter_mut().zip([1, 8]) {
            series.push(database.pgbench(clients, seconds).await?);
        }
        for (series, count) in rest.iter_mut().zip(CLIENTS) {
            // Fresh ones each time, because the server hangs up on connections that idle.
            let clients = by_rest(server.address, &people[..count]).await?;
            let (_, measured) = closed_loop(clients, time).await?;
            series.push(measured);
        }
    }
    let mut seats = Vec::new();
    for (seat, person) in people.iter().enumerate() {
        let mut socket = Socket::open_with_mirror(server.address, person, seat).await?;
        socket.send(&status_frame(WORDS[0])).await?;
        seats.push(Seat { socket, word: 0 });
    }
    for round in 0..=rounds {
        // The first round warms caches and plans.
        if round > 0 {
            for (series, clients) in bare.iter_mut().zip([1, 8]) {
                series.push(database.pgbench(clients, seconds).await?);
            }
        }
        for (series, count) in socket.iter_mut().zip(CLIENTS) {
            let (back, measured) = closed_loop(by_socket(seats, count), time).await?;
            seats = back.into_iter().flat_map(|client| client.seats).collect();
            if round > 0 {
                series.push(measured);
            }
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
