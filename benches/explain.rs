//! Query plans of the hot statements, including those inside functions and policies. No plan may scan a large table.

use std::path::Path;

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls, types::ToSql};
use uuid::Uuid;

use crate::cluster::Database;

/// Tables with at least one row per user.
const LARGE_TABLES: [&str; 5] =
    ["contacts", "user_presence", "presence_devices", "user_last_seen", "presence_choices"];

/// Executions of each statement. From the sixth on PostgreSQL may use a generic plan.
const EXECUTIONS: usize = 8;

struct Explainer {
    client: Client,
    plans: mpsc::UnboundedReceiver<String>,
    text: String,
}

/// Runs the hot statements for a viewer. Returns a sentence for the report and writes the plans to a file.
///
/// # Errors
///
/// Names the plan that scans a large table.
pub async fn explain(database: &Database, viewer: Uuid, contacts: &[Uuid]) -> Result<String> {
    let mut explainer = Explainer::open(database).await?;
    let none = None::<Vec<Uuid>>;
    let list = include_str!("../sql/presence/list.sql");
    explainer.statement("sql/presence/list.sql, all related users", Some(viewer), list, &[&none]).await?;
    explainer.statement("sql/presence/list.sql, ten users", Some(viewer), list, &[&contacts]).await?;
    explainer.write_presence(viewer).await?;
    let (no_snapshot, no_conversations, no_users) =
        (None::<String>, Vec::<String>::new(), Vec::<Uuid>::new());
    let pull = include_str!("../sql/presence/pull.sql");
    explainer
        .statement(
            "sql/presence/pull.sql, ten users",
            None,
            pull,
            &[&contacts, &no_snapshot, &false, &no_conversations, &no_users],
        )
        .await?;
    explainer.query_visible(viewer).await?;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/EXPLAIN.md");
    std::fs::write(path, explainer.text)?;
    Ok("No plan of a hot statement scans a large table: see EXPLAIN.md.".to_owned())
}

impl Explainer {
    async fn open(database: &Database) -> Result<Self> {
        let (client, mut connection) = tokio_postgres::connect(&database.admin_url, NoTls).await?;
        let (sender, plans) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(|context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message {
                    sender.send(notice.message().to_owned()).ok();
                }
            }
        });
        client.batch_execute(include_str!("sql/explain_settings.sql")).await?;
        client.batch_execute(include_str!("../sql/node/plan_once.sql")).await?;
        let text = "# Plans of the hot statements\n\n\
                    Written by `make bench`: as executed by the server's role or as the viewer, statements inside \
                    functions first.\n"
            .to_owned();
        Ok(Self { client, plans, text })
    }

    async fn write_presence(&mut self, user: Uuid) -> Result<()> {
        let (kind, users, device, status) = (vec!["status"], vec![user], vec![Some("rest")], vec!["busy"]);
        let (node, age, active, set_custom) = (vec![None::<Uuid>], vec![0.0], vec![true], vec![false]);
        let text = vec![None::<&str>];
        let none = vec![None::<i32>];
        // Column types follow from the function, except the enum, which is cast from text.
        let sql = include_str!("../sql/presence/write.sql")
            .replace("$7", "$7::text[]::rollcall.presence_status[]")
            .replace("$10", "$10::text[]::timestamptz[]");
        self.statement(
            "sql/presence/write.sql, one status",
            None,
            &sql,
            &[
                &kind,
                &users,
                &device,
                &node,
                &age,
                &active,
                &status,
                &set_custom,
                &text,
                &text,
                &text,
                &text,
                &none,
            ],
        )
        .await
    }

    async fn query_visible(&mut self, viewer: Uuid) -> Result<()> {
        let (roles, claims) = (vec!["authenticated"], vec![claims(viewer)]);
        let (none, ends) = (Vec::<Uuid>::new(), vec![0]);
        let sql = include_str!("../sql/presence/look.sql");
        let params: [&(dyn ToSql + Sync); 7] = [&roles, &claims, &vec![true], &none, &ends, &none, &ends];
        self.statement("sql/presence/look.sql, one viewer", None, sql, &params).await
    }

    /// Runs a statement as the server's role or as a viewer, and records its plans.
    async fn statement(
        &mut self,
        title: &str,
        viewer: Option<Uuid>,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<()> {
        let role = if viewer.is_some() { "authenticated" } else { "postgres" };
        let claims = viewer.map(claims).unwrap_or_default();
        let acting: [&(dyn ToSql + Sync); 3] = [&role, &claims.as_str(), &"10000"];
        let prepared = self.client.prepare(sql).await?;
        // The first executions warm caches and plans. Only the plans of the last one are kept.
        for _ in 0..EXECUTIONS {
            self.client.batch_execute("begin").await?;
            self.client.execute(include_str!("../sql/node/act_as.sql"), &acting).await?;
            while self.plans.try_recv().is_ok() {}
            self.client.query(&prepared, params).await?;
            self.client.batch_execute("rollback").await?;
        }
        // Notices arrive before the result; the task that forwards them runs on this thread.
        tokio::task::yield_now().await;
        self.text += &format!("\n## {title}\n");
        while let Ok(plan) = self.plans.try_recv() {
            for table in LARGE_TABLES {
                ensure!(
                    !plan.contains(&format!("Seq Scan on {table}")),
                    "{title} scans the table {table}:\n{plan}"
                );
            }
            if plan.contains("Scan on") || plan.contains("Scan using") {
                self.text += &format!("\n```\n{}\n```\n", without_query(&plan));
            }
        }
        Ok(())
    }
}

/// Returns an auto_explain plan with only the first line of its statement.
fn without_query(plan: &str) -> String {
    let mut lines = plan.lines().skip_while(|line| !line.starts_with("Query Text"));
    let query = lines.by_ref().take_while(|line| !line.contains("(cost="));
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("--");
    let first = query.map(|line| line.trim_start_matches("Query Text:")).find(says).unwrap_or_default();
    let duration = plan.lines().next().unwrap_or_default().replace("  plan:", "");
    let all: Vec<&str> = plan.lines().skip_while(|line| !line.contains("(cost=")).collect();
    format!("{} …\n{duration}\n{}", first.trim(), all.join("\n"))
}

fn claims(viewer: Uuid) -> String {
    json!({"sub": viewer, "role": "authenticated"}).to_string()
}
