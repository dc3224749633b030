//! Latency of a revocation under load.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::harness::User;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    http::{Http, status_request},
    load::quantile,
    presence_socket::PresenceSocket,
    report::{Report, ms, row},
    server::Server,
    users::add_contacts,
};

/// Further users who change their status; the viewer sees all of them.
const OTHER_CONTACTS: usize = 50;
/// Interval between status changes of one user: 200 updates per second in total.
const REVOCATION_INTERVAL: Duration = Duration::from_millis(250);
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum of the random time after which a node that relays is killed.
const MAX_TIME_OF_RELAY: Duration = Duration::from_secs(2);

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let rounds = plan.pick(100, 30);
    let database = cluster.database("bench_revocation").await?;
    let (viewer, subject) = (User::new(), User::new());
    let others = User::many(OTHER_CONTACTS);
    let sql = database.connect().await;
    let mut pairs: Vec<_> = others.iter().map(|other| (viewer.id, other.id)).collect();
    pairs.push((viewer.id, subject.id));
    add_contacts(&sql, &pairs).await?;

    let server = Server::start(&database).await?;
    Http::connect(server.address).await?.call(&status_request(&subject.token, "busy")).await?;
    let mut socket = PresenceSocket::open(server.address, &viewer, 0).await?;
    let mut background = JoinSet::new();
    for (index, other) in others.into_iter().enumerate() {
        let address = server.address;
        background.spawn(async move {
            let mut http = Http::connect(address).await?;
            let requests = ["busy", "dnd"].map(|status| status_request(&other.token, status));
            tokio::time::sleep(REVOCATION_INTERVAL * u32::try_from(index)? / u32::try_from(OTHER_CONTACTS)?)
                .await;
            let mut ticks = interval(REVOCATION_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for request in requests.iter().cycle() {
                ticks.tick().await;
                http.call(request).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }

    let (gone, back) = revoke(&sql, &mut socket, (&viewer, &subject), rounds).await?;
    background.abort_all();
    server.stop().await?;
    let (failed_relays, gone_meanwhile, back_meanwhile) =
        while_relays_fail(&database, &sql, (&viewer, &subject), rounds).await?;

    let mut rows = vec![row(["", "median", "p99", "max"])];
    let names = [
        "commit of a block to the frame that hides the user",
        "commit of the unblock to the frame that shows the user",
        "the same block, while relays are killed",
        "the same unblock, while relays are killed",
    ];
    for (name, mut list) in names.iter().zip([gone, back, gone_meanwhile, back_meanwhile]) {
        list.sort_unstable();
        let [middle, high, most] = [0.5, 0.99, 1.0].map(|part| ms(quantile(&list, part)));
        rows.push(row([name, &middle, &high, &most]));
    }
    report.heading("Revocation");
    report.note(&format!(
        "{rounds} revocations, while {OTHER_CONTACTS} other users visible to the viewer change their status 200 times per second. \
         Then, without status changes, {failed_relays} nodes that relay notifications are killed, one after a random \
         time of up to {} s each, and replaced; the viewer is on a node that never relays.",
        MAX_TIME_OF_RELAY.as_secs()
    ));
    report.table(&rows);
    cluster.drop_database("bench_revocation").await;
    Ok(())
}

/// Blocks and unblocks the viewer. Returns the times until its socket shows it.
async fn revoke(
    sql: &Client,
    socket: &mut PresenceSocket,
    (viewer, subject): (&User, &User),
    rounds: usize,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let block = sql.prepare(include_str!("sql/block.sql")).await?;
    let unblock = sql.prepare(include_str!("sql/unblock.sql")).await?;
    let id = subject.id.to_string();
    let (mut gone, mut back) = (Vec::new(), Vec::new());
    for round in 0..rounds + 5 {
        // The response to the statement tells the client that it is committed.
        let committed = async {
            sql.execute(&block, &[&subject.id, &viewer.id]).await?;
            Ok::<_, anyhow::Error>(Instant::now())
        };
        let hidden = async {
            timeout(WAIT_TIMEOUT, socket.wait_for(&[&id, r#""last_seen":null"#])).await??;
            Ok::<_, anyhow::Error>(Instant::now())
        };
        let (committed, hidden) = tokio::try_join!(committed, hidden)?;
        let taken = hidden.saturating_duration_since(committed);

        let started = Instant::now();
        sql.execute(&unblock, &[&subject.id, &viewer.id]).await?;
        timeout(WAIT_TIMEOUT, socket.wait_for(&[&id, r#""availability":"busy""#])).await??;
        if round >= 5 {
            gone.push(taken);
            back.push(started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((gone, back))
}

/// The times while nodes that relay notifications are killed, and how many were.
async fn while_relays_fail(
    database: &Database,
    sql: &Client,
    (viewer, subject): (&User, &User),
    rounds: usize,
) -> Result<(usize, Vec<Duration>, Vec<Duration>)> {
    let watching = Server::start_with(database, &[("NOTIFICATION_RELAY", "false")]).await?;
    Http::connect(watching.address).await?.call(&status_request(&subject.token, "busy")).await?;
    let mut socket = PresenceSocket::open(watching.address, viewer, 0).await?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let relays = async {
        let mut relay = Server::start(database).await?;
        let mut killed = 0;
        loop {
            // The next node waits while the first one relays.
            let next = Server::start(database).await?;
            let time = MAX_TIME_OF_RELAY.mul_f64(rand::random::<f64>());
            if stopped.run_until_cancelled(tokio::time::sleep(time)).await.is_none() {
                relay.stop().await?;
                next.stop().await?;
                return Ok::<_, anyhow::Error>(killed);
            }
            relay.kill().await?;
            killed += 1;
            relay = next;
        }
    };
    let revoked = async {
        // Enough rounds for many failures, before the device of the subject expires.
        let revoked = revoke(sql, &mut socket, (viewer, subject), rounds * 5).await;
        stop.cancel();
        revoked
    };
    let (killed, (gone, back)) = tokio::try_join!(relays, revoked)?;
    watching.stop().await?;
    Ok((killed, gone, back))
}
