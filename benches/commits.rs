//! Commits per second of an application's transactions that fire triggers of Rollcall, beside the same without.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    load::median,
    report::{Report, ratio, row},
    server::Server,
};

/// Concurrent clients of pgbench.
const CLIENTS: [usize; 4] = [1, 8, 32, 64];
/// Clients of the rounds with a slow disk.
const CLIENTS_OF_SLOW_DISK: [usize; 1] = [32];
/// `commit_delay` in microseconds that stands for a slow disk: each flush of the log takes that much longer.
const SLOW_FLUSH: &str = "3000";
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction of the application.
struct Transaction {
    title: &'static str,
    /// The statement, with `{table}` for the table.
    text: &'static str,
    /// Table with triggers of Rollcall.
    table: &'static str,
    /// The same table without them; `None` if there is no such thing.
    bare_table: Option<&'static str>,
}

impl Transaction {
    fn on(&self, table: &str) -> String {
        self.text.replace("{table}", table)
    }
}

const TRANSACTIONS: [Transaction; 3] = [
    Transaction {
        title: "insert into a table that a policy on `user_presence` reads",
        text: include_str!("sql/commits_grant.sql"),
        table: "public.bench_grants",
        bare_table: Some("public.bench_grants_bare"),
    },
    Transaction {
        title: "insert into `rollcall.contacts`",
        text: include_str!("sql/commits_contact.sql"),
        table: "rollcall.contacts",
        bare_table: Some("public.bench_contacts_bare"),
    },
    Transaction {
        title: "`realtime.send`",
        text: include_str!("sql/commits_send.sql"),
        table: "realtime.messages",
        bare_table: None,
    },
];

/// How a transaction notifies the nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Bare,
    Notify,
    Relay,
}

/// Commits per second by slow disk, transaction, clients and mode, of each round.
type Rates = BTreeMap<(bool, usize, usize, Mode), Vec<f64>>;

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let rounds = plan.pick(3, 1);
    let seconds = plan.pick(4, 3);
    let database = cluster.database("bench_commits").await?;
    let admin = database.admin().await;
    // The server watches tables that its role owns.
    database.connect().await.batch_execute(include_str!("sql/commits_tables.sql")).await?;
    let mut rates = Rates::new();
    for _ in 0..rounds {
        for (is_slow, clients) in [(false, &CLIENTS[..]), (true, &CLIENTS_OF_SLOW_DISK[..])] {
            set_flush_delay(&admin, is_slow).await?;
            for relays in [true, false] {
                let relay = [("NOTIFICATION_RELAY", if relays { "true" } else { "false" })];
                let server = Server::start_with(&database, &relay).await?;
                wait_until_ready(&admin, relays).await?;
                measure(&database, seconds, (is_slow, relays), clients, &mut rates).await?;
                server.stop().await?;
            }
        }
    }
    set_flush_delay(&admin, false).await?;

    let mut rows = vec![row([
        "transaction",
        "clients",
        "without Rollcall",
        "NOTIFY in each",
        "÷",
        "with the relay",
        "÷",
    ])];
    let mut medians: BTreeMap<(bool, usize, usize), BTreeMap<Mode, f64>> = BTreeMap::new();
    for ((is_slow, transaction, clients, mode), rates) in rates {
        medians.entry((is_slow, transaction, clients)).or_default().insert(mode, median(&rates));
    }
    for ((is_slow, transaction, clients), rates) in medians {
        let rate = |mode| rates.get(&mode).map_or_else(String::new, |rate| format!("{rate:.0}"));
        let share = |mode| {
            let of = rates.get(&Mode::Bare).zip(rates.get(&mode));
            of.map_or_else(String::new, |(bare, rate)| ratio(*rate, *bare))
        };
        let title = TRANSACTIONS[transaction].title;
        let title = if is_slow { format!("{title}, slow flush") } else { title.to_owned() };
        rows.push(row([
            &title,
            &clients.to_string(),
            &rate(Mode::Bare),
            &rate(Mode::Notify),
            &share(Mode::Notify),
            &rate(Mode::Relay),
            &share(Mode::Relay),
        ]));
    }
    report.heading("Commits of an application");
    report.note(&format!(
        "Commits per second of pgbench, {seconds} s each, medians of {rounds} alternating rounds; nobody is connected. \
         With a slow flush, `commit_delay` is {SLOW_FLUSH} µs. pgbench, server and PostgreSQL share the cores."
    ));
    report.table(&rows);
    cluster.drop_database("bench_commits").await;
    Ok(())
}

/// Measures all transactions, those without triggers while a node relays.
async fn measure(
    database: &Database,
    seconds: u64,
    (is_slow, relays): (bool, bool),
    clients: &[usize],
    rates: &mut Rates,
) -> Result<()> {
    for clients in clients.iter().copied() {
        for (index, transaction) in TRANSACTIONS.iter().enumerate() {
            let bare = transaction.bare_table.filter(|_| relays).map(|table| (Mode::Bare, table));
            let mode = if relays { Mode::Relay } else { Mode::Notify };
            for (mode, table) in bare.into_iter().chain([(mode, transaction.table)]) {
                let rate = database.pgbench_with(&transaction.on(table), clients, seconds, "").await?;
                rates.entry((is_slow, index, clients, mode)).or_default().push(rate);
            }
        }
    }
    Ok(())
}

/// Applies to new connections.
async fn set_flush_delay(admin: &Client, is_slow: bool) -> Result<()> {
    let (delay, siblings) = if is_slow { (SLOW_FLUSH, 0) } else { ("0", 5) };
    let settings = format!(
        "alter database bench_commits set commit_delay = '{delay}'; \
         alter database bench_commits set commit_siblings = {siblings}"
    );
    Ok(admin.batch_execute(&settings).await?)
}

async fn wait_until_ready(admin: &Client, relays: bool) -> Result<()> {
    let started = Instant::now();
    while !admin.query_one(include_str!("sql/commits_ready.sql"), &[&relays]).await?.get::<_, bool>(0) {
        ensure!(started.elapsed() < READY_TIMEOUT, "relaying is not {relays}, or the table is not watched");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
