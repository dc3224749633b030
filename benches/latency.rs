//! Time from a change to a subscriber, without other load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use testkit::harness::User;
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

use crate::{
    Plan,
    cluster::{Cluster, Database},
    http::{Http, status_request},
    load::quantile,
    presence_socket::PresenceSocket,
    report::{Report, ms, ratio, row},
    server::Server,
    users::add_contacts,
};

const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Socket writers alternate between sockets, because one socket may send at most 100 messages per second.
const SOCKETS: usize = 10;

/// Receives notifications on its own connection.
struct NotificationListener {
    received: mpsc::Receiver<Instant>,
    _client: Client,
}

impl NotificationListener {
    async fn open(database: &Database) -> Result<Self> {
        let (client, mut connection) = tokio_postgres::connect(&database.url, NoTls).await?;
        let (sender, received) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(|context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    sender.send(Instant::now()).await.ok();
                }
            }
        });
        client.batch_execute(include_str!("sql/listen.sql")).await?;
        Ok(Self { received, _client: client })
    }

    /// Measures from sending the statement to receiving the notification.
    async fn time(&mut self, client: &Client, statement: &Statement) -> Result<Duration> {
        let started = Instant::now();
        let (answered, received) =
            tokio::join!(client.query(statement, &[]), timeout(WAIT_TIMEOUT, self.received.recv()));
        answered?;
        Ok(received.context("no notification")?.context("the connection ended")? - started)
    }
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let rounds = plan.pick(500, 100);
    let database = cluster.database("bench_latency").await?;
    let (watcher, by_rest) = (User::new(), User::new());
    let by_socket = User::many(SOCKETS);
    let client = database.connect().await;
    let writers = by_socket.iter().chain([&by_rest]);
    add_contacts(&client, &writers.map(|writer| (watcher.id, writer.id)).collect::<Vec<_>>()).await?;
    let notify = client.prepare(include_str!("sql/notify.sql")).await?;
    let commit_and_notify = client.prepare(include_str!("sql/commit_and_notify.sql")).await?;
    let mut listener = NotificationListener::open(&database).await?;

    let server = Server::start(&database).await?;
    let mut rest = Http::connect(server.address).await?;
    let mut sockets = Vec::new();
    for user in &by_socket {
        sockets.push((user.id.to_string(), PresenceSocket::open(server.address, user, 0).await?));
    }
    let mut watching = PresenceSocket::open(server.address, &watcher, 0).await?;
    let rest_id = by_rest.id.to_string();
    let status_requests = ["busy", "dnd"].map(|status| {
        let fragment = format!(r#""availability":"{status}""#);
        (status, status_request(&by_rest.token, status), fragment)
    });

    let mut series = [const { Vec::new() }; 4];
    // The first rounds warm caches and plans.
    for round in 0..rounds + 20 {
        let (_, request, fragment) = &status_requests[round % 2];
        let (status, ..) = &status_requests[round / SOCKETS % 2];
        let bare = listener.time(&client, &notify).await?;
        let durable = listener.time(&client, &commit_and_notify).await?;

        let started = Instant::now();
        let seen = async {
            watching.wait_for(&[&rest_id, fragment]).await?;
            Ok::<_, anyhow::Error>(started.elapsed())
        };
        let (answered, rest_time) = tokio::join!(rest.call(request), timeout(WAIT_TIMEOUT, seen));
        answered?;

        let (socket_id, socket) = &mut sockets[round % SOCKETS];
        let socket_time = socket.time_status(socket_id, status, &mut watching, WAIT_TIMEOUT).await?;
        if round >= 20 {
            for (list, time) in
                series.iter_mut().zip([bare, durable, rest_time.context("update by REST")??, socket_time])
            {
                list.push(time);
            }
        }
    }
    server.stop().await?;

    for list in &mut series {
        list.sort_unstable();
    }
    let [bare, durable, ..] = &series;
    let (bare, durable) = (quantile(bare, 0.5).as_secs_f64(), quantile(durable, 0.5).as_secs_f64());
    let names = [
        "bare NOTIFY, not durable: send to arrival",
        "one row committed durably, with NOTIFY",
        "status by REST: request to the watcher's frame",
        "status by socket: frame to the watcher's frame",
    ];
    let mut rows =
        vec![row(["", "median", "p99", "median ÷ bare NOTIFY", "median ÷ durable commit + NOTIFY"])];
    for (name, list) in names.iter().zip(&series) {
        let median = quantile(list, 0.5);
        rows.push([
            (*name).to_owned(),
            ms(median),
            ms(quantile(list, 0.99)),
            ratio(median.as_secs_f64(), bare),
            ratio(median.as_secs_f64(), durable),
        ]);
    }
    report.heading("Latency of an idle system");
    report.note(&format!("One writer and one watcher; {rounds} rounds, alternating between the four kinds."));
    report.table(&rows);
    cluster.drop_database("bench_latency").await;
    Ok(())
}
