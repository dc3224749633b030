//! Checks of the policies on `realtime.messages`.

use std::time::Duration;

use crate::pg::{Connection, Database, PgError};

/// The check of one principal and topic.
#[derive(Debug, Clone, Copy)]
pub struct RightsProbe<'a> {
    /// The topic without `realtime:`.
    pub topic: &'a str,
    /// Role of the principal. Need not exist.
    pub role: &'a str,
    /// For `request.jwt.claim.sub`.
    pub sub: Option<&'a str>,
    /// For `request.jwt.claims`, as JSON.
    pub claims: &'a str,
    /// For `request.headers`, as JSON.
    pub headers: &'a str,
    /// Whether to check read rights.
    pub read: bool,
    /// Whether to check write rights.
    pub write: bool,
}

/// Result of a check, for the commands that were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeResult {
    /// Whether broadcasts and presence may be read.
    pub read: Option<(bool, bool)>,
    /// Whether broadcasts and presence may be written.
    pub write: Option<(bool, bool)>,
}

/// Why a check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFailure {
    /// The role does not exist or may not use the table.
    Denied,
    /// `realtime.messages` has no partition for today.
    NoPartition,
    /// A policy raised this SQLSTATE.
    Raised([u8; 5]),
}

/// Runs several checks in one statement. A failed check does not affect the others. Results are in the order
/// of `probes`, whose texts must not contain NUL.
///
/// # Errors
///
/// [`PgError::StatementTimeout`] if all checks together exceed `limit`, [`PgError::CheckViolation`] without a partition
/// for today, [`PgError::Unavailable`] without a connection.
pub async fn probe(
    database: &Database,
    limit: Duration,
    probes: &[RightsProbe<'_>],
) -> Result<Vec<Result<ProbeResult, ProbeFailure>>, PgError> {
    let mut topics: Vec<&str> = probes.iter().map(|probe| probe.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let position = |probe: &RightsProbe<'_>| {
        let position = topics.binary_search(&probe.topic).expect("each topic is in the list");
        i32::try_from(position + 1).expect("a batch is small")
    };
    let topic_positions: Vec<i32> = probes.iter().map(position).collect();
    let roles: Vec<&str> = probes.iter().map(|probe| probe.role).collect();
    let subs: Vec<Option<&str>> = probes.iter().map(|probe| probe.sub).collect();
    let claims: Vec<&str> = probes.iter().map(|probe| probe.claims).collect();
    let headers: Vec<&str> = probes.iter().map(|probe| probe.headers).collect();
    let reads: Vec<bool> = probes.iter().map(|probe| probe.read).collect();
    let writes: Vec<bool> = probes.iter().map(|probe| probe.write).collect();
    let rows = database
        .query_and_roll_back(
            limit,
            include_str!("../../../sql/rights/probe.sql"),
            &[&topics, &topic_positions, &roles, &subs, &claims, &headers, &reads, &writes],
        )
        .await?;
    let mut results = vec![Err(ProbeFailure::Denied); probes.len()];
    for row in &rows {
        let caller: i32 = row.get("caller");
        let both = |broadcast: &str, presence: &str| {
            row.get::<_, Option<bool>>(broadcast).zip(row.get::<_, Option<bool>>(presence))
        };
        let index = usize::try_from(caller - 1).expect("counted from one");
        let message: Option<&str> = row.get("message");
        let result = match row.get::<_, Option<&str>>("error") {
            None => Ok(ProbeResult {
                read: both("broadcast_read", "presence_read"),
                write: both("broadcast_write", "presence_write"),
            }),
            Some("23514") => Err(ProbeFailure::NoPartition),
            // The role does not exist, cannot be assumed, or has no grant.
            Some(_) if message.is_none() => Err(ProbeFailure::Denied),
            Some(state) => {
                let RightsProbe { topic, role, .. } = probes[index];
                tracing::warn!(topic, role, sqlstate = state, error = message, "RlsPolicyError");
                Err(ProbeFailure::Raised(state.as_bytes().try_into().unwrap_or(*b"XX000")))
            }
        };
        results[index] = result;
    }
    Ok(results)
}

/// Traits of the policies that determine when results become outdated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyTraits {
    /// Policy changes are announced by an event trigger. Otherwise the fingerprint has to be polled.
    pub is_announced: bool,
    /// Policies depend on the time, so a result may change without an announcement.
    pub is_time_dependent: bool,
}

/// Reads the traits of the policies. Without an event trigger it also ensures that the tables in the policies
/// are watched.
///
/// # Errors
///
/// The database does not respond.
pub async fn policy_traits(client: &Connection) -> Result<PolicyTraits, PgError> {
    let row = client.query_one(include_str!("../../../sql/rights/situation.sql"), &[]).await?;
    let traits = PolicyTraits { is_announced: row.get("announced"), is_time_dependent: row.get("timed") };
    if !traits.is_announced {
        client.query(include_str!("../../../sql/rights/watch_sources.sql"), &[]).await?;
    }
    Ok(traits)
}

/// Fingerprint of the catalog entries that the policies depend on.
///
/// # Errors
///
/// The database does not respond.
pub async fn policy_fingerprint(client: &Connection) -> Result<i64, PgError> {
    Ok(client.query_one(include_str!("../../../sql/rights/fingerprint.sql"), &[]).await?.get(0))
}
