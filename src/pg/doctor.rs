//! Says what is wrong with a database and how to mend it.

use std::{future::poll_fn, time::Duration};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use super::Connector;
use super::migrate::{Sources, pending};
use crate::lifecycle::ErrorChain;
use crate::model::Secret;

/// How long all checks together may take.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a notification may be on its way.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(2);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable name, for programs.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, for people.
    pub finding: String,
    /// SQL that mends it, if SQL does.
    pub remedy_sql: Option<String>,
}

impl Check {
    fn new(name: &str, ok: bool, finding: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok, finding: finding.into(), remedy_sql: None }
    }
}

/// What can go wrong before the database answers.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Looks at the database behind `url`, as the role that the server uses; past a pooler by `direct_url`, where there is
/// one. Whatever fails becomes a finding.
pub async fn run_checks(url: &Secret, direct_url: Option<&Secret>, sources: &Sources) -> Vec<Check> {
    let mut checks = Vec::new();
    let examined = collect_checks(&mut checks, url, direct_url.unwrap_or(url), sources);
    if tokio::time::timeout(TOTAL_TIMEOUT, examined).await.is_err() {
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
    let heard = notifications_arrive(url, direct_url).await;
    let is_pooled = matches!(heard, Ok(false));
    checks.push(match heard {
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
        // What else there is to ask would not come through either.
        return;
    }
    match query_checks(&client, include_str!("../../sql/doctor/check.sql")).await {
        Ok(found) => checks.extend(found),
        Err(error) => checks.push(Check::new("catalog", false, ErrorChain(&error).to_string())),
    }
    let migrations = match pending(&client, &sources.migrations).await {
        Ok(pending) if pending.is_empty() => Check::new("migrations", true, "all applied"),
        Ok(pending) => {
            let finding = format!("not applied: {}; `rollcall migrate` applies them", pending.join(", "));
            Check::new("migrations", false, finding)
        }
        Err(error) => Check::new("migrations", false, ErrorChain(&error).to_string()),
    };
    // Rights of roles that are missing cannot be asked for.
    let has_roles = checks.iter().all(|check| check.ok || check.name != "roles");
    let is_migrated = migrations.ok;
    checks.push(migrations);
    if is_migrated && has_roles {
        match query_checks(&client, include_str!("../../sql/doctor/schema.sql")).await {
            Ok(found) => checks.extend(found),
            Err(error) => checks.push(Check::new("schema", false, ErrorChain(&error).to_string())),
        }
    }
}

/// Whether a notification that is sent by `url` is heard by `direct_url`, as the server needs it.
async fn notifications_arrive(url: &Secret, direct_url: &Secret) -> Result<bool, BoxError> {
    let (listener, mut connection) = Connector::new(direct_url.expose())?.connect("doctor").await?;
    let (heard, mut hears) = mpsc::channel(16);
    let hearing = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                // A full channel holds what is needed.
                heard.try_send(notification.payload().to_owned()).ok();
            }
        }
    });
    let word = Uuid::new_v4().to_string();
    listener.batch_execute("listen rollcall_doctor").await?;
    connect(url).await?.batch_execute(&format!("notify rollcall_doctor, '{word}'")).await?;
    let arrived = async {
        while let Some(payload) = hears.recv().await {
            if payload == word {
                return true;
            }
        }
        false
    };
    let arrived = tokio::time::timeout(NOTIFICATION_TIMEOUT, arrived).await.unwrap_or(false);
    drop(listener);
    hearing.abort();
    Ok(arrived)
}

async fn connect(url: &Secret) -> Result<Client, BoxError> {
    Ok(Connector::new(url.expose())?.client("doctor").await?)
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
        let expected = ["roles", "role_membership", "auth_uid", "publication", "messages", "migrations"];
        assert_eq!(failed(&checks), expected, "{checks:#?}");

        let admin = Connector::new(urls.admin_url.expose()).unwrap().client("test").await.unwrap();
        // Memberships can be mended only once the roles are.
        for _ in 0..2 {
            apply_remedies(&admin, &run_checks(&urls.url, None, &sources).await).await;
        }
        let not_by_sql = ["messages", "migrations"];
        assert_eq!(failed(&run_checks(&urls.url, None, &sources).await), not_by_sql);

        admin
            .batch_execute("create table public.open (); grant select on public.open to anon")
            .await
            .unwrap();
        let checks = run_checks(&urls.url, None, &sources).await;
        let exposed = checks.iter().find(|check| check.name == "row_level_security").unwrap();
        assert!(!exposed.ok && exposed.finding.ends_with("public.open"), "{exposed:?}");
        apply_remedies(&admin, &checks).await;
        assert_eq!(failed(&run_checks(&urls.url, None, &sources).await), not_by_sql);

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
