//! Fan-out of one user to many viewers.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::harness::User;

use crate::{
    Plan,
    cluster::Cluster,
    http::{Http, status_request},
    load::{median, quantile},
    presence_clients::PresenceClients,
    raw_relay::RawRelay,
    report::{Report, ms, ratio, row},
    server::Server,
    users::add_contacts,
};

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (rounds, user_count) = plan.pick((20, 10_000), (5, 2_000));
    let database = cluster.database("bench_fan_out").await?;
    let star = User::new();
    let users = User::many(user_count);
    let pairs: Vec<_> = users.iter().map(|user| (star.id, user.id)).collect();
    add_contacts(&database.connect().await, &pairs).await?;

    let server = Server::start(&database).await?;
    let relay = RawRelay::open(plan.pick(2_000, 1_000)).await?;
    let requests = ["busy", "dnd"].map(|status| status_request(&star.token, status));
    Http::connect(server.address).await?.call(&requests[1]).await?;
    let mut clients = PresenceClients::default();
    let started = Instant::now();
    clients.join(server.address, &users, &star.id.to_string()).await?;
    let joining = started.elapsed();
    clients.wait_until_quiet().await?;
    // Connects late because the server closes idle connections.
    let mut rest = Http::connect(server.address).await?;

    let (mut last, mut costs, mut raw_last, mut raw_costs) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds + 2 {
        clients.expect_one_each();
        let before = server.cpu()?;
        let started = Instant::now();
        rest.call(&requests[round % 2]).await?;
        clients.wait_until_all_received().await?;
        let elapsed = started.elapsed();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let cost = server.cpu()? - before;
        let (raw_elapsed, raw_cost) = relay.round().await?;
        if round >= 2 {
            last.push(elapsed);
            costs.push(micros_per(cost, clients.len()));
            raw_last.push(raw_elapsed * u32::try_from(user_count / relay.len())?);
            raw_costs.push(micros_per(raw_cost, relay.len()));
        }
        clients.check()?;
    }
    server.stop().await?;

    last.sort_unstable();
    raw_last.sort_unstable();
    let (middle, raw_middle) = (quantile(&last, 0.5), quantile(&raw_last, 0.5));
    // The kernel counts CPU time in steps of 10 ms, so only the mean of many rounds is meaningful.
    let mean = |costs: &[f64]| costs.iter().sum::<f64>() / costs.len() as f64;
    let (cost, raw_cost) = (mean(&costs), median(&raw_costs));
    report.heading(&format!("Fan-out to {user_count} sockets"));
    report.note(&format!(
        "{rounds} status changes by REST, each until the last client has read the frame, including the commit. The \
         baseline is one thread that writes the same bytes to {} bare sockets, scaled up. All sockets were connected \
         within {:.1} s.",
        relay.len(),
        joining.as_secs_f64()
    ));
    report.table(&[
        row(["", "time to the last client, median", "slowest round", "sender CPU per delivery"]),
        row(["bare relay", &ms(raw_middle), &ms(quantile(&raw_last, 1.0)), &format!("{raw_cost:.2} µs")]),
        row(["Rollcall", &ms(middle), &ms(quantile(&last, 1.0)), &format!("{cost:.2} µs")]),
        row(["ratio", &ratio(middle.as_secs_f64(), raw_middle.as_secs_f64()), "", &ratio(cost, raw_cost)]),
    ]);
    cluster.drop_database("bench_fan_out").await;
    Ok(())
}

fn micros_per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
