//! The database from variables of other programs: Supabase's Realtime container (`DB_HOST`, …) and libpq (`PGHOST`, …).
//! They count when `DATABASE_URL` is unset; those of libpq also complete it.

use std::collections::BTreeMap;

use crate::{
    pg::complete_connection_string,
    settings::{Problem, boolean, port},
};

/// Variables that are not empty.
type Variables<'a> = BTreeMap<&'a str, &'a str>;

/// Variables of Supabase's Realtime that have an effect here, besides the aliases. Each marks such a configuration.
const SUPABASE: [&str; 7] =
    ["DB_HOST", "DB_NAME", "DB_PASSWORD", "DB_PORT", "DB_SSL", "DB_SSL_CA_CERT", "DB_USER"];

/// Further variables that mark a configuration of Supabase's Realtime. General names such as `REGION` do not.
const OTHER_MARKERS: [&str; 4] = ["API_JWT_JWKS", "API_JWT_SECRET", "DB_AFTER_CONNECT_QUERY", "DB_ENC_KEY"];

/// Variables of Supabase's Realtime without an equivalent here. Sessions need no query after connecting: policies run
/// with the `search_path` of their role.
pub(super) const UNUSED: &[&str] = &[
    "API_TOKEN_BLOCKLIST",
    "APP_NAME",
    "BROADCAST_POOL_SIZE",
    "CF_TEAM_DOMAIN",
    "CHANNEL_ERROR_BACKOFF_MS",
    "CLIENT_PRESENCE_MAX_CALLS",
    "CLIENT_PRESENCE_WINDOW_MS",
    "CLUSTER_STRATEGIES",
    "CONNECT_ERROR_BACKOFF_MS",
    "CONNECT_PARTITION_SLOTS",
    "DASHBOARD_AUTH",
    "DASHBOARD_PASSWORD",
    "DASHBOARD_USER",
    "DB_AFTER_CONNECT_QUERY",
    "DB_ENC_KEY",
    "DB_IP_VERSION",
    "DB_MASTER_REGION",
    "DB_POOL_SIZE",
    "DB_QUEUE_INTERVAL",
    "DB_QUEUE_TARGET",
    "DB_REPLICA_HOST",
    "DB_REPLICA_POOL_SIZE",
    "DISABLE_HEALTHCHECK_LOGGING",
    "DNS_NODES",
    "ERL_AFLAGS",
    "JWT_CLAIM_VALIDATORS",
    "LOGFLARE_API_KEY",
    "LOGFLARE_LOGGER_BACKEND_URL",
    "LOGFLARE_SOURCE_ID",
    "LOGS_ENGINE",
    "LOG_LEVEL",
    "MAX_GEN_RPC_CALL_CLIENTS",
    "MAX_GEN_RPC_CLIENTS",
    "MAX_HEADER_LENGTH",
    "METRICS_JWT_SECRET",
    "METRICS_TOKEN_BLOCKLIST",
    "MIGRATION_PARTITION_SLOTS",
    "NODE_BALANCE_UPTIME_THRESHOLD_IN_MS",
    "NUM_ACCEPTORS",
    "POSTGRES_CDC_SCOPE_SHARDS",
    "PRESENCE_BROADCAST_PERIOD_IN_MS",
    "PRESENCE_PERMDOWN_PERIOD_IN_MS",
    "PRESENCE_POOL_SIZE",
    "PROM_POLL_RATE",
    "REALTIME_IP_VERSION",
    "REBALANCE_CHECK_INTERVAL_IN_MS",
    "REGION",
    "REGION_MAPPING",
    "REQUEST_ID_BAGGAGE_KEY",
    "RLIMIT_NOFILE",
    "RUN_JANITOR",
    "SECRET_KEY_BASE",
    "SEED_SELF_HOST",
    "SELF_HOST_TENANT_NAME",
    "SLOT_NAME_SUFFIX",
    "TENANT_CACHE_EXPIRATION_IN_MS",
    "TENANT_MAX_BYTES_PER_SECOND",
    "TENANT_MAX_CHANNELS_PER_CLIENT",
    "TENANT_MAX_CONCURRENT_USERS",
    "TENANT_MAX_EVENTS_PER_SECOND",
    "TENANT_MAX_JOINS_PER_SECOND",
    "USERS_SCOPE_SHARDS",
    "WEBSOCKET_MAX_HEAP_SIZE",
];
/// Beginnings of further names of that kind.
const UNUSED_PREFIXES: [&str; 5] =
    ["DB_HOST_REPLICA_", "GEN_RPC_", "JANITOR_", "METRICS_CLEANER_", "METRICS_PUSHER_"];

/// Variables of libpq and their connection parameters.
const LIBPQ: [(&str, &str); 17] = [
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGOPTIONS", "options"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGSERVICE", "service"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// Variables of libpq that name a database; the others only describe how to connect.
const LIBPQ_TARGETS: [&str; 4] = ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"];

/// Whether the variable belongs to one of these programs.
pub(super) fn is_known(name: &str) -> bool {
    SUPABASE.contains(&name)
        || OTHER_MARKERS.contains(&name)
        || is_unused(name)
        || LIBPQ.iter().any(|(variable, _)| *variable == name)
}

pub(super) fn is_unused(name: &str) -> bool {
    UNUSED.contains(&name) || UNUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The first variable that marks a configuration of Supabase's Realtime.
pub(super) fn marker(settings: &Variables) -> Option<&'static str> {
    OTHER_MARKERS.into_iter().chain(SUPABASE).find(|name| settings.contains_key(*name))
}

/// The line of the log that names the variables of Supabase's Realtime without effect.
pub(super) fn notice(settings: &Variables) -> Option<String> {
    marker(settings)?;
    let unused: Vec<_> = settings.keys().copied().filter(|name| is_unused(name)).collect();
    (!unused.is_empty())
        .then(|| format!("variables of Supabase Realtime that are not needed: {}", unused.join(", ")))
}

/// The connection string, and the variable that selects it.
///
/// # Errors
/// A variable is malformed or incomplete.
pub(super) fn connection_string(settings: &Variables) -> Result<Option<(&'static str, String)>, Problem> {
    if let Some(parameters) = supabase_parameters(settings)? {
        return Ok(Some(("DB_HOST", to_list(&parameters))));
    }
    let Some(target) = LIBPQ_TARGETS.into_iter().find(|name| settings.contains_key(*name)) else {
        return Ok(None);
    };
    let parameters: Vec<_> =
        LIBPQ.iter().filter_map(|(variable, name)| Some((*name, *settings.get(variable)?))).collect();
    Ok(Some((target, to_list(&parameters))))
}

/// The connection string with the variables of libpq for what it lacks. A service is not looked up.
pub(super) fn completed(url: &str, settings: &Variables) -> String {
    let variables = LIBPQ.iter().filter(|(_, name)| *name != "service");
    let defaults: Vec<_> =
        variables.filter_map(|(variable, name)| Some((*name, *settings.get(variable)?))).collect();
    complete_connection_string(url, &defaults)
}

fn supabase_parameters<'a>(
    settings: &Variables<'a>,
) -> Result<Option<Vec<(&'static str, &'a str)>>, Problem> {
    let get = |name: &str| settings.get(name).copied();
    let Some(host) = get("DB_HOST") else {
        // The password alone may belong to another program.
        let needs_host = ["DB_PORT", "DB_USER", "DB_NAME"].into_iter().find(|name| get(name).is_some());
        let target = LIBPQ_TARGETS.into_iter().any(|name| get(name).is_some());
        return match needs_host {
            Some(name) if !target => {
                Err(Problem::new("DB_HOST", format!("must be set because {name} is; or set DATABASE_URL")))
            }
            _ => Ok(None),
        };
    };
    let port_number = get("DB_PORT").unwrap_or("5432");
    port(port_number).map_err(|message| Problem::new("DB_PORT", message))?;
    let ssl = get("DB_SSL").map(boolean).transpose().map_err(|message| Problem::new("DB_SSL", message))?;
    let certificate = get("DB_SSL_CA_CERT");
    let mut parameters = vec![
        ("host", host),
        ("port", port_number),
        ("user", get("DB_USER").unwrap_or("postgres")),
        ("dbname", get("DB_NAME").unwrap_or("postgres")),
    ];
    parameters.extend(get("DB_PASSWORD").map(|password| ("password", password)));
    match (ssl, certificate) {
        (Some(false), _) => parameters.push(("sslmode", "disable")),
        (Some(true), Some(file)) => parameters.extend([("sslmode", "verify-full"), ("sslrootcert", file)]),
        (Some(true), None) => parameters.push(("sslmode", "require")),
        (None, _) => {}
    }
    Ok(Some(parameters))
}

/// Writes parameters as a `key='value'` list.
fn to_list(parameters: &[(&str, &str)]) -> String {
    let quote = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
    let pairs = parameters.iter().map(|(name, value)| format!("{name}='{}'", quote(value)));
    pairs.collect::<Vec<_>>().join(" ")
}
