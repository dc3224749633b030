//! Asking the policies on `realtime.messages` who may use which private channel.

use std::time::Duration;

use crate::pg::{Connection, Database, PgError};

/// One caller's question.
#[derive(Debug, Clone, Copy)]
pub struct RightsProbe<'a> {
    /// The channel, without `realtime:`.
    pub topic: &'a str,
    /// As which role; need not exist.
    pub role: &'a str,
    /// For `request.jwt.claim.sub`.
    pub sub: Option<&'a str>,
    /// For `request.jwt.claims`, JSON.
    pub claims: &'a str,
    /// For `request.headers`, JSON.
    pub headers: &'a str,
    /// Whether to ask what it may read.
    pub read: bool,
    /// Whether to ask what it may write.
    pub write: bool,
}

/// What the policies said: the two extensions of each command, where it was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeResult {
    /// Broadcasts and presence may be read.
    pub read: Option<(bool, bool)>,
    /// Broadcasts and presence may be written.
    pub write: Option<(bool, bool)>,
}

/// Why the policies of one caller gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFailure {
    /// There is no such role, or it may not use the table at all.
    Refused,
    /// There is no partition for today.
    NoPartition,
    /// A policy raised this SQLSTATE.
    Raised([u8; 5]),
}

/// Asks on behalf of some callers at once; one's failure is no other's. Answers come in the order of the questions.
/// Texts must not hold NUL.
///
/// # Errors
///
/// [`PgError::TimedOut`] when all together took longer than `limit`, [`PgError::Violation`] without a partition for
/// today, [`PgError::Unavailable`] without a connection.
pub async fn probe(
    database: &Database,
    limit: Duration,
    probes: &[RightsProbe<'_>],
) -> Result<Vec<Result<ProbeResult, ProbeFailure>>, PgError> {
    let mut topics: Vec<&str> = probes.iter().map(|probe| probe.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let place = |probe: &RightsProbe<'_>| {
        let place = topics.binary_search(&probe.topic).expect("each topic is in the list");
        i32::try_from(place + 1).expect("a batch is small")
    };
    let which: Vec<i32> = probes.iter().map(place).collect();
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
            &[&topics, &which, &roles, &subs, &claims, &headers, &reads, &writes],
        )
        .await?;
    let mut answers = vec![Err(ProbeFailure::Refused); probes.len()];
    for row in &rows {
        let caller: i32 = row.get("caller");
        let both = |broadcast: &str, presence: &str| {
            row.get::<_, Option<bool>>(broadcast).zip(row.get::<_, Option<bool>>(presence))
        };
        let answer = match row.get::<_, Option<&str>>("error") {
            None => Ok(ProbeResult {
                read: both("broadcast_read", "presence_read"),
                write: both("broadcast_write", "presence_write"),
            }),
            // invalid_parameter_value, undefined_object, insufficient_privilege
            Some("22023" | "42704" | "42501") => Err(ProbeFailure::Refused),
            Some("23514") => Err(ProbeFailure::NoPartition),
            Some(state) => Err(ProbeFailure::Raised(state.as_bytes().try_into().unwrap_or(*b"XX000"))),
        };
        answers[usize::try_from(caller - 1).expect("counted from one")] = answer;
    }
    Ok(answers)
}

/// How answers become void.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyTraits {
    /// Changed policies are announced; otherwise their fingerprint has to be compared.
    pub is_announced: bool,
    /// Policies look at the time, so that an answer may change by itself.
    pub is_time_dependent: bool,
}

/// Learns how answers become void, and sees to it that the tables which policies mention are watched.
///
/// # Errors
///
/// When the database does not answer.
pub async fn policy_traits(client: &Connection) -> Result<PolicyTraits, PgError> {
    let row = client.query_one(include_str!("../../../sql/rights/situation.sql"), &[]).await?;
    let situation = PolicyTraits { is_announced: row.get("announced"), is_time_dependent: row.get("timed") };
    if !situation.is_announced {
        client.query(include_str!("../../../sql/rights/watch_sources.sql"), &[]).await?;
    }
    Ok(situation)
}

/// What policies depend on in the catalogs, in one number.
///
/// # Errors
///
/// When the database does not answer.
pub async fn policy_fingerprint(client: &Connection) -> Result<i64, PgError> {
    Ok(client.query_one(include_str!("../../../sql/rights/fingerprint.sql"), &[]).await?.get(0))
}
