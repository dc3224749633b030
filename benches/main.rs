//! Benchmarks of the release binary over a durable PostgreSQL; this process generates the load. Run with `make bench`
//! or `make bench ARGS=quick`. Further arguments select sections by name or by a prefix of it.
//!
//! Absolute numbers mean little on a shared machine. Each section therefore measures a baseline (bare PostgreSQL, bare
//! sockets) in the same run, in alternating rounds, and reports the ratio.

mod channels;
mod cluster;
mod commits;
mod context;
mod context_turns;
mod explain;
mod fan_out;
mod growth;
mod http;
mod latency;
mod load;
mod memory;
mod nodes;
mod policies;
mod postgres_changes;
mod presence_clients;
mod presence_socket;
mod raw_relay;
mod reads;
mod reconnects;
mod report;
mod revocation;
mod server;
mod teams;
mod users;
mod writes;

use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{cluster::Cluster, report::Report};

/// Options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Fewer rounds and users: detects large regressions only.
    pub quick: bool,
}

impl Plan {
    /// Returns `full` or `quick`, according to the plan.
    pub const fn pick<T: Copy>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

const SECTIONS: [&str; 20] = [
    "latency",
    "writes",
    "commits",
    "reads",
    "growth",
    "fan_out",
    "memory",
    "revocation",
    "reconnects",
    "teams",
    "cluster",
    "policies",
    "channels.fan_out",
    "channels.presence",
    "channels.joins",
    "channels.idle",
    "channels.slow_readers",
    "postgres_changes",
    "context",
    "context.turns",
];

fn main() -> Result<()> {
    let mut raw_args = std::env::args().skip(1);
    if raw_args.next().is_some_and(|arg| arg == channels::raw_relay::SUBCOMMAND) {
        let mut number = || raw_args.next().context("three more arguments");
        return channels::raw_relay::run(number()?.parse()?, number()?.parse()?, number()?.parse()?);
    }
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let matches = |arg: &str, section: &str| section == arg || section.split('.').next() == Some(arg);
    let is_known = |arg: &str| arg == "quick" || SECTIONS.iter().any(|section| matches(arg, section));
    if let Some(arg) = args.iter().find(|arg| !is_known(arg)) {
        anyhow::bail!("unknown section {arg}; expected quick or one of {}", SECTIONS.join(", "));
    }
    let plan = Plan { quick: args.iter().any(|arg| arg == "quick") };
    let chosen: Vec<&str> =
        SECTIONS.into_iter().filter(|section| args.iter().any(|arg| matches(arg, section))).collect();

    // Ten thousand sockets need as many file descriptors.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")?;
    // One thread leaves the CPU to the server and PostgreSQL.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::start().await?;
        let outcome = tokio::select! {
            outcome = run(plan, &chosen, &cluster) => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        cluster.stop().await;
        outcome
    })
}

async fn run(plan: Plan, chosen: &[&str], cluster: &Cluster) -> Result<()> {
    let started = Instant::now();
    let mut report = Report::begin(plan, cluster).await?;
    for section in SECTIONS {
        if !chosen.is_empty() && !chosen.contains(&section) {
            continue;
        }
        let section_started = Instant::now();
        let done = match section {
            "latency" => latency::run(plan, cluster, &mut report).await,
            "writes" => writes::run(plan, cluster, &mut report).await,
            "commits" => commits::run(plan, cluster, &mut report).await,
            "reads" => reads::run(plan, cluster, &mut report).await,
            "growth" => growth::run(plan, cluster, &mut report).await,
            "fan_out" => fan_out::run(plan, cluster, &mut report).await,
            "memory" => memory::run(plan, cluster, &mut report).await,
            "revocation" => revocation::run(plan, cluster, &mut report).await,
            "reconnects" => reconnects::run(plan, cluster, &mut report).await,
            "teams" => teams::run(plan, cluster, &mut report).await,
            "cluster" => nodes::run(plan, cluster, &mut report).await,
            "policies" => policies::run(plan, cluster, &mut report).await,
            "channels.fan_out" => channels::fan_out::run(plan, cluster, &mut report).await,
            "channels.presence" => channels::presence::run(plan, cluster, &mut report).await,
            "channels.joins" => channels::joins::run(plan, cluster, &mut report).await,
            "channels.idle" => channels::idle::run(plan, cluster, &mut report).await,
            "channels.slow_readers" => channels::slow_readers::run(plan, cluster, &mut report).await,
            "context" => context::run(plan, cluster, &mut report).await,
            "context.turns" => context_turns::run(plan, cluster, &mut report).await,
            _ => postgres_changes::run(plan, cluster, &mut report).await,
        };
        done.with_context(|| format!("section {section}"))?;
        report.end_section(section_started.elapsed());
        // Saves after each section, so that results survive a later failure.
        if !plan.quick {
            report.save()?;
        }
    }
    println!("The whole run took {:.0} s.", started.elapsed().as_secs_f64());
    Ok(())
}
