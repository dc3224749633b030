//! Memory of an idle presence socket.

use anyhow::Result;
use testkit::harness::User;

use crate::{
    Plan, cluster::Cluster, presence_clients::PresenceClients, report::Report, server::Server,
    users::add_contacts,
};

/// Contacts per user, half of them requested by the user.
const CONTACTS: usize = 50;

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let user_count = plan.pick(5_000, 1_000);
    let database = cluster.database("bench_memory").await?;
    let users = User::many(user_count);
    // A ring: each user is a contact of the 25 before and the 25 after.
    let pairs: Vec<_> = (0..user_count)
        .flat_map(|one| (1..=CONTACTS / 2).map(move |step| (one, (one + step) % user_count)))
        .map(|(one, other)| (users[one].id, users[other].id))
        .collect();
    add_contacts(&database.connect().await, &pairs).await?;

    let server = Server::start(&database).await?;
    let mut followers = PresenceClients::default();
    // The first sockets load code, pools and buffers that all sockets share.
    let (first, rest) = users.split_at(user_count / 10);
    followers.join(server.address, first, "-").await?;
    followers.wait_until_quiet().await?;
    let (before, cpu_before) = (server.resident_bytes()?, server.cpu()?);
    followers.join(server.address, rest, "-").await?;
    followers.wait_until_quiet().await?;
    followers.check()?;
    let each = (server.resident_bytes()? - before) / u64::try_from(rest.len())?;
    let join = (server.cpu()? - cpu_before).as_secs_f64() * 1e6 / rest.len() as f64;
    server.stop().await?;

    report.heading("Memory of an idle socket");
    report.note(&format!(
        "{user_count} presence sockets, authenticated, each with {CONTACTS} online contacts: **{:.1} kB** of resident \
         memory per socket, including visibility edges; {join:.0} µs of server CPU per join, including updates to \
         {CONTACTS} contacts.",
        each as f64 / 1e3
    ));
    cluster.drop_database("bench_memory").await;
    Ok(())
}
