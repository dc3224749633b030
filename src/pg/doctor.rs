//! `rollcall doctor`: checks a database and reports problems with the SQL that fixes them.

use std::{future::poll_fn, time::Duration};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Row};
use uuid::Uuid;

use super::Connector;
use super::migrate::{Sources, installed_modules, pending};
use super::session::StatementLimits;
use crate::lifecycle::{BoxError, ErrorChain};
use crate::model::{Module, Secret};

/// Timeout of all checks together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub finding: String,
    /// SQL that fixes a failed check, if SQL can.
    pub remedy_sql: Option<String>,
}

impl Check {
    fn new(name: &str, ok: bool, finding: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok, finding: finding.into(), remedy_sql: None }
    }
}

/// Checks the database as the role in `url`. If `direct_url` is set, `url` leads through a pooler and the checks use
/// `direct_url`. Errors become failed checks.
pub async fn run_checks(url: &Secret, direct_url: Option<&Secret>, sources: &Sources) -> Vec<Check> {
    let mut checks = Vec::new();
    let collected = collect_checks(&mut checks, url, direct_url.unwrap_or(url), sources);
    if tokio::time::timeout(TOTAL_TIMEOUT, collected).await.is_err() {
        let finding = format!("the database did not answer within {} s", TOTAL_TIMEOUT.as_secs());
        checks.push(Check::new("deadline", false, finding));
    }
    checks
}

async fn collect_checks(checks: &mut Vec<Check>, url: &Secret, direct_url: &Secret, sources: &Sources) {
    let client = match connect(direct_url).await {
        Ok(client) => client,
        Err(error) => {
            let finding = format!("{}; is DATABASE_URL right?", ErrorChain(&*error));
            return checks.push(Check::new("connection", false, finding));
        }
    };
    checks.push(Check::new("connection", true, "the database answers"));
    let arrived = notifications_arrive(url, direct_url).await;
    let is_pooled = matches!(arrived, Ok(false));
    checks.push(match arrived {
        Ok(true) => Check::new("notifications", true, "notifications arrive"),
        Ok(false) => Check::new(
            "notifications",
            false,
            "notifications do not arrive, as through a pooler in transaction mode; \
             set DATABASE_DIRECT_URL to the database itself",
        ),
        Err(error) => Check::new("notifications", false, ErrorChain(&*error).to_string()),
    });
    if is_pooled {
        // The remaining checks need a direct connection.
        return;
    }
    match query_checks(&client, include_str!("../../sql/doctor/check.sql")).await {
        Ok(results) => checks.extend(results),
        Err(error) => checks.push(Check::new("catalog", false, ErrorChain(&error).to_string())),
    }
    let migrations = match pending(&client, sources).await {
        Ok(pending) if pending.is_empty() => Check::new("migrations", true, "all applied"),
        Ok(pending) => {
            let finding = format!("not applied: {}; `rollcall migrate` applies them", pending.join(", "));
            Check::new("migrations", false, finding)
        }
        Err(error) => Check::new("migrations", false, ErrorChain(&error).to_string()),
    };
    let is_migrated = migrations.ok;
    checks.push(migrations);
    let failed = |checks: &[Check], name| checks.iter().any(|check| !check.ok && check.name == name);
    // Privileges of missing roles cannot be checked.
    let is_checkable = is_migrated && !failed(checks, "roles");
    let mut presence = None;
    if is_checkable {
        let modules = installed_modules(&client).await.ok().flatten();
        let has_presence = modules.is_some_and(|modules| modules.contains(Module::Presence));
        presence = has_presence.then_some(include_str!("../../sql/doctor/presence.sql"));
        let always =
            [include_str!("../../sql/doctor/schema.sql"), include_str!("../../sql/doctor/webhooks.sql")];
        for text in always.into_iter().chain(presence) {
            match query_checks(&client, text).await {
                Ok(results) => checks.extend(results),
                Err(_) if failed(checks, "schema") => {}
                Err(error) => checks.push(Check::new("schema", false, ErrorChain(&error).to_string())),
            }
        }
    }
    if is_checkable && !failed(checks, "catalog") {
        let channels = ("channel_policies", include_str!("../../sql/doctor/channel_policies.sql"));
        // Policies raise errors as a consequence of these.
        let is_sound = !["schema", "role_membership", "api_grants", "functions_granted"]
            .iter()
            .any(|name| failed(checks, name));
        let policies = ("policies", include_str!("../../sql/doctor/policies.sql"));
        let presence = presence.filter(|_| is_sound).map(|_| policies);
        for (name, text) in std::iter::once(channels).chain(presence) {
            match query_checks(&client, text).await {
                Ok(results) => checks.extend(results),
                Err(_) if failed(checks, "schema") => {}
                Err(error) => checks.push(Check::new(name, false, ErrorChain(&error).to_string())),
            }
        }
    }
}

/// A table of the application, and a declaration of `rollcall.use_table` or `rollcall.watch` that may fit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub statement: Option<String>,
    pub reason: String,
}

/// Tables of the application in the shape of a relation, best first; then tables whose changes make Rollcall ask every
/// connected viewer.
///
/// # Errors
/// If the database does not answer, or Rollcall is not installed.
pub async fn suggest(url: &Secret) -> Result<Vec<Suggestion>, BoxError> {
    let read = async {
        let client = connect(url).await?;
        let modules = installed_modules(&client).await?;
        if !modules.is_some_and(|modules| modules.contains(Module::Presence)) {
            return Err(
                "the module presence is not installed; run `rollcall migrate --modules presence`".into()
            );
        }
        let mut rows = client.query(include_str!("../../sql/doctor/suggest.sql"), &[]).await?;
        rows.extend(client.query(include_str!("../../sql/doctor/suggest_watches.sql"), &[]).await?);
        let suggestion = |row: &Row| {
            Ok(Suggestion { statement: row.try_get("statement")?, reason: row.try_get("reason")? })
        };
        rows.iter().map(suggestion).collect()
    };
    tokio::time::timeout(TOTAL_TIMEOUT, read).await?
}

/// Whether a notification sent over `url` arrives on `direct_url`.
async fn notifications_arrive(url: &Secret, direct_url: &Secret) -> Result<bool, BoxError> {
    let (listener, mut connection) = Connector::new(direct_url.expose())?.connect("doctor").await?;
    let (sender, mut receiver) = mpsc::channel(16);
    let forwarder = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                // If the channel is full, it already holds the expected payload.
                sender.try_send(notification.payload().to_owned()).ok();
            }
        }
    });
    let token = Uuid::new_v4().to_string();
    listener.batch_execute("listen rollcall_doctor").await?;
    connect(url).await?.batch_execute(&format!("notify rollcall_doctor, '{token}'")).await?;
    let arrived = async {
        while let Some(payload) = receiver.recv().await {
            if payload == token {
                return true;
            }
        }
        false
    };
    let arrived = tokio::time::timeout(NOTIFICATION_TIMEOUT, arrived).await.unwrap_or(false);
    drop(listener);
    forwarder.abort();
    Ok(arrived)
}

async fn connect(url: &Secret) -> Result<Client, BoxError> {
    // The server ends a statement only after the doctor has given up, so that a hang is reported as one.
    let limits = StatementLimits { statement_timeout: 2 * TOTAL_TIMEOUT, lock_timeout: Duration::ZERO };
    let client = Connector::new(url.expose())?.client_with_limits("doctor", limits).await?;
    // A function of the application could match better than one of pg_catalog.
    client.batch_execute("set search_path = ''").await?;
    Ok(client)
}

async fn query_checks(client: &Client, checks: &str) -> Result<Vec<Check>, tokio_postgres::Error> {
    let rows = client.query(checks, &[]).await?;
    rows.iter()
        .map(|row| {
            let ok: bool = row.try_get("ok")?;
            let remedy: Option<String> = row.try_get("remedy")?;
            Ok(Check {
                name: row.try_get("name")?,
                ok,
                finding: row.try_get("finding")?,
                remedy_sql: remedy.filter(|_| !ok),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::embedded::EmbeddedCluster;
    use crate::pg::migrate::SqlFile;

    fn failed(checks: &[Check]) -> Vec<&str> {
        checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
    }

    async fn apply_remedies(admin: &Client, checks: &[Check]) {
        for remedy in checks.iter().filter_map(|check| check.remedy_sql.as_deref()) {
            admin.batch_execute(remedy).await.unwrap();
        }
    }

    #[tokio::test]
    async fn remedies_fix_the_findings_of_an_empty_database() {
        let dir = std::env::temp_dir().join(format!("rollcall-doctor-{}", uuid::Uuid::new_v4()));
        let cluster = EmbeddedCluster::start(&dir).await.unwrap();
        let urls = cluster.urls().clone();
        let migration = SqlFile { name: "20250101000000_first.sql".into(), text: "select 1".into() };
        let sources = Sources { migrations: vec![migration], ..Sources::default() };

        let checks = run_checks(&urls.url, None, &sources).await;
        let expected = [
            "roles",
            "role_membership",
            "auth_uid",
            "publication",
            "relay_publication",
            "messages",
            "migrations",
        ];
        assert_eq!(failed(&checks), expected, "{checks:#?}");

        let admin = Connector::new(urls.admin_url.expose()).unwrap().client("test").await.unwrap();
        // Memberships can be granted only after the roles exist.
        for _ in 0..2 {
            apply_remedies(&admin, &run_checks(&urls.url, None, &sources).await).await;
        }
        let without_remedy = ["messages", "migrations"];
        assert_eq!(failed(&run_checks(&urls.url, None, &sources).await), without_remedy);

        admin
            .batch_execute("create table public.open (); grant select on public.open to anon")
            .await
            .unwrap();
        let checks = run_checks(&urls.url, None, &sources).await;
        let exposed = checks.iter().find(|check| check.name == "row_level_security").unwrap();
        assert!(!exposed.ok && exposed.finding.ends_with("public.open"), "{exposed:?}");
        apply_remedies(&admin, &checks).await;
        assert_eq!(failed(&run_checks(&urls.url, None, &sources).await), without_remedy);

        cluster.stop().await.unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn an_unreachable_database_is_the_only_finding() {
        let url = Secret::new("postgresql://a:hunter2@127.0.0.1:1/x");
        let checks = run_checks(&url, None, &Sources::default()).await;
        assert_eq!(failed(&checks), ["connection"]);
        assert!(!checks[0].finding.contains("hunter2"), "{checks:?}");
    }
}
