//! What a member that says nothing takes.

use std::time::Duration;

use anyhow::Result;

use super::{
    crowd::{Crowd, Pace, payload},
    wire::{Joining, Wire, broadcast, delivered},
};
use crate::{
    Plan,
    cluster::Cluster,
    people::Person,
    report::{Report, row},
    server::Server,
};

/// Members of one channel.
const TOGETHER: usize = 10;
/// How long after load memory is looked at again; a member that says nothing for a minute would be cut off.
const CALM: Duration = Duration::from_secs(45);

/// Measures.
pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let mut lines = vec![row(["connections", "resident, each"])];
    for crowd in plan.pick([5_000, 19_000], [1_000, 2_000]) {
        let database = cluster.database("bench_idle").await?;
        let server = Server::start(&database).await?;
        // The first few bring in code, pools and buffers that all share.
        let first = join_all(&server, 0, crowd / 10)?;
        let before = server.resident()?;
        let rest = join_all(&server, crowd / 10, crowd)?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let each = (server.resident()? - before) as f64 / rest.len() as f64;
        lines.push(row([&crowd.to_string(), &format!("{:.2} kB", each / 1e3)]));
        drop((first, rest));
        server.stop().await?;
        cluster.drop_database("bench_idle").await?;
    }
    report.heading("Channels: memory");
    report.note(&format!(
        "Each connection is a user of its own with a token, joined to a channel of {TOGETHER}, present and tracked. The \
         kernel's own memory is not in it."
    ));
    report.table(&lines);
    after_load(plan, cluster, report).await
}

async fn after_load(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let members = 1_000;
    let database = cluster.database("bench_idle").await?;
    let server = Server::start(&database).await?;
    let fresh = server.resident()?;
    let person = Person::new()?;
    let open = |seat| {
        let mut wire = Wire::open(server.address, seat, &person.token)?;
        wire.join("bench01000", Joining::default())?;
        Ok(wire)
    };
    let wires = (0..members).map(open).collect::<Result<Vec<_>>>()?;
    let mut sender = open(members)?.stream;
    let idle = server.resident()?;
    let mut crowd = Crowd::new(wires, delivered("bench01000", "m", &payload(128, 0)).len())?;
    let pace = Pace::Window(64, Duration::from_secs(plan.pick(5, 2)));
    crowd.run(&mut sender, pace, |nanos| broadcast("bench01000", "m", &payload(128, nanos)))?;
    let loaded = server.resident()?;
    tokio::time::sleep(CALM).await;
    let calm = server.resident()?;
    let each = |bytes: u64| (bytes.saturating_sub(fresh)) as f64 / members as f64 / 1e3;
    report.note(&format!(
        "{members} members: {:.1} kB each before load, **{:.1} kB** right after a closed loop with 64 messages under way, \
         {:.1} kB after {} s of rest (everything above what the process took before the first connection, divided by the \
         connections).",
        each(idle),
        each(loaded),
        each(calm),
        CALM.as_secs()
    ));
    drop(crowd);
    server.stop().await?;
    cluster.drop_database("bench_idle").await
}

fn join_all(server: &Server, from: usize, to: usize) -> Result<Vec<Wire>> {
    let join = |seat| {
        let person = Person::new()?;
        let mut wire = Wire::open(server.address, seat, &person.token)?;
        let topic = format!("room{}", seat / TOGETHER);
        wire.join(&topic, Joining { presence: Some(&person.id.to_string()), ..Joining::default() })?;
        wire.track(&topic, "2")?;
        Ok(wire)
    };
    (from..to).map(join).collect()
}
