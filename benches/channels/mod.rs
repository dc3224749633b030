//! Channels, as supabase-js speaks them (serializer 2), beside a raw relay of the same bytes.

mod crowd;
mod fan_out;
mod idle;
mod joins;
mod presence;
pub mod raw;
mod stalled;
mod wire;

use anyhow::Result;

use crate::{Plan, cluster::Cluster, report::Report};

/// Measures.
pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    fan_out::run(plan, cluster, report).await?;
    presence::run(plan, cluster, report).await?;
    joins::run(plan, cluster, report).await?;
    idle::run(plan, cluster, report).await?;
    stalled::run(plan, cluster, report).await
}
