//! CPU time of a chat turn with all work that follows it in the background, for a user with much context.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testkit::{fake_llm::FakeLlm, harness::User};
use tokio::{process::Command, time::sleep};
use tokio_postgres::Client as Sql;
use uuid::Uuid;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    http::{Http, request},
    report::{Report, row},
    server::{Server, cpu_of_postgres},
};

/// As in `sql/context_size_fill.sql`.
const USER: Uuid = Uuid::from_u128(0xa000_0000_0000_4000_8000_0000_0000_0001);
/// A user who writes all the time; a roll-up follows ten turns, as by the default of `CONTEXT_ROLLUP_EVERY`.
const TURN_INTERVAL: Duration = Duration::from_secs(30);
const TURNS_PER_ROLL_UP: usize = 10;
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);
/// Nothing is queued or being processed; messages stay queued if nothing is learned. $1 whether it is.
const IS_QUIET: &str = "select not ($1 and exists (select from rollcall_internal.messages_to_learn))
    and not exists (select from rollcall.system_actions a where a.status in ('pending', 'processing'))
    and not exists (select from rollcall.messages m where m.state = 'pending')";

/// What the server learns from messages.
#[derive(Clone, Copy)]
enum Learning {
    Off,
    Statements,
    Facts,
}

impl Learning {
    const fn title(self) -> &'static str {
        match self {
            Self::Off => "whole turn, nothing is learned",
            Self::Statements => "whole turn, statements are learned (no model)",
            Self::Facts => {
                "whole turn, statements and facts are learned (a model summarizes and finds facts)"
            }
        }
    }
}

/// CPU time of the server and of all processes of PostgreSQL.
#[derive(Clone, Copy)]
struct Spent {
    server: Duration,
    database: Duration,
    at: Instant,
}

/// CPU time in milliseconds.
#[derive(Clone, Copy)]
struct Cost {
    server: f64,
    database: f64,
}

impl Cost {
    fn table_row(self, name: &str) -> [String; 4] {
        let both = self.server + self.database;
        let share = both / TURN_INTERVAL.as_secs_f64() / 10.0;
        [
            name.to_owned(),
            format!("{:.1}", self.server),
            format!("{:.1}", self.database),
            format!("{share:.2} %"),
        ]
    }
}

struct Bench {
    admin: Sql,
    /// Process of PostgreSQL that all others are children of.
    postmaster: u32,
    server: Server,
    http: Http,
    user: User,
    /// Whether messages are learned from.
    learns: bool,
    idle: Cost,
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (units, topics, turns) = plan.pick((100_000, 1_000, 30), (10_000, 100, 10));
    let database = cluster.database("bench_turns").await?;
    fill(&database, units, topics).await?;
    let model = FakeLlm::start().await;
    model.set_memory_rule(|_| {
        Some(
            json!({"facts": [{"message": 1, "content": "Grows beans.", "category": "general",
            "importance": 0.5, "replaces": []}]})
            .to_string(),
        )
    });
    let mut rows = vec![row(["", "server, ms", "PostgreSQL, ms", "of a core, one turn every 30 s"])];
    for learning in [Learning::Off, Learning::Statements, Learning::Facts] {
        let mut bench = Bench::start(&database, &model, learning).await?;
        if matches!(learning, Learning::Off) {
            let preview = bench.cost_of(turns, Bench::preview).await?;
            rows.push(preview.table_row("the prompt alone, as the client waits for it"));
        }
        rows.push(bench.cost_of(turns, Bench::turn).await?.table_row(learning.title()));
        if !matches!(learning, Learning::Off) {
            let name = format!("a roll-up every {TURNS_PER_ROLL_UP} turns, per turn");
            let Cost { server, database } = bench.roll_up().await?;
            let each = |cost: f64| cost / TURNS_PER_ROLL_UP as f64;
            rows.push(Cost { server: each(server), database: each(database) }.table_row(&name));
        }
        if matches!(learning, Learning::Facts) {
            let Cost { server, database } = bench.idle;
            rows.push([
                "without turns, per node: CPU time per second".to_owned(),
                format!("{server:.1}"),
                format!("{database:.1}"),
                "—".to_owned(),
            ]);
        }
        bench.server.stop().await?;
    }
    report.heading("CPU time of a chat turn");
    report.note(&format!(
        "One user with {units} units, {topics} topics and 5,000 memories in a conversation of over 40 messages; {turns} \
         turns, each after the work of the one before has ended. CPU time without that of the idle node."
    ));
    report.table(&rows);
    cluster.drop_database("bench_turns").await;
    Ok(())
}

async fn fill(database: &Database, units: usize, topics: usize) -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/sql/context_size_fill.sql");
    let output = Command::new("psql")
        .args(["-Xq", "-v", "ON_ERROR_STOP=1", "-v", &format!("units={units}"), "-v"])
        .args([&format!("topics={topics}"), "-d", &database.admin_url, "-f", file])
        .output()
        .await
        .context("cannot run psql, which is part of PostgreSQL")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    let admin = database.admin().await;
    // What vacuum and checkpoints of the filling cost is not of the turns.
    for statement in ["alter system set autovacuum = off", "select pg_reload_conf()", "checkpoint"] {
        admin.batch_execute(statement).await?;
    }
    Ok(())
}

impl Bench {
    async fn start(database: &Database, model: &FakeLlm, learning: Learning) -> Result<Self> {
        let url = model.url();
        let (memory, provider): (_, &[(&str, &str)]) = match learning {
            Learning::Off => ("off", &[("LLM_PROVIDER", "echo")]),
            Learning::Statements => ("words", &[("LLM_PROVIDER", "echo")]),
            Learning::Facts => ("model", &[("LLM_BASE_URL", &url), ("LLM_MODEL", "model")]),
        };
        let mut settings = vec![
            ("CONTEXT_MEMORY", memory),
            ("CONTEXT_ROLLUP_EVERY", "0"),
            ("CHAT_REQUESTS_PER_MINUTE", "0"),
        ];
        settings.extend(provider);
        let server = Server::start_with(database, &settings).await?;
        let admin = database.admin().await;
        let backend: i32 = admin.query_one("select pg_backend_pid()", &[]).await?.get(0);
        let mut bench = Self {
            postmaster: crate::server::parent_of(u32::try_from(backend)?)?,
            http: Http::connect(server.address).await?,
            admin,
            server,
            user: User::with_id(USER),
            learns: !matches!(learning, Learning::Off),
            idle: Cost { server: 0.0, database: 0.0 },
        };
        // Plans and caches of the first turns.
        bench.cost_of(3, Self::turn).await?;
        let before = bench.spent()?;
        sleep(Duration::from_secs(10)).await;
        bench.idle = bench.cost_since(before, 10)?;
        Ok(bench)
    }

    fn spent(&self) -> Result<Spent> {
        Ok(Spent {
            server: self.server.cpu()?,
            database: cpu_of_postgres(self.postmaster)?,
            at: Instant::now(),
        })
    }

    /// CPU time since `before`, without that of the idle node, divided by `times`.
    fn cost_since(&self, before: Spent, times: usize) -> Result<Cost> {
        let now = self.spent()?;
        let seconds = (now.at - before.at).as_secs_f64();
        let each = |now: Duration, before: Duration, idle: f64| {
            ((now.saturating_sub(before)).as_secs_f64() * 1e3 - idle * seconds) / times as f64
        };
        Ok(Cost {
            server: each(now.server, before.server, self.idle.server),
            database: each(now.database, before.database, self.idle.database),
        })
    }

    async fn cost_of(
        &mut self,
        times: usize,
        action: impl AsyncFn(&mut Self, usize) -> Result<()>,
    ) -> Result<Cost> {
        self.wait_until_quiet().await?;
        let before = self.spent()?;
        for n in 0..times {
            action(self, n).await?;
            self.wait_until_quiet().await?;
        }
        self.cost_since(before, times)
    }

    async fn wait_until_quiet(&self) -> Result<()> {
        let started = Instant::now();
        // The queue of usage counts is written once per second.
        sleep(Duration::from_millis(1_200)).await;
        while !self.admin.query_one(IS_QUIET, &[&self.learns]).await?.get::<_, bool>(0) {
            ensure!(started.elapsed() < QUIET_TIMEOUT, "the background work does not end");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn question(&self, n: usize) -> Result<String> {
        let select = "select text from bench.questions where n = $1";
        let number = i32::try_from(1 + n % 300)?;
        Ok(self.admin.query_one(select, &[&number]).await?.get(0))
    }

    async fn preview(&mut self, n: usize) -> Result<()> {
        let question = self.question(n).await?.replace(' ', "+").replace('?', "%3F");
        let path = format!("/api/v1/ai/context/{}?message={question}", self.conversation().await?);
        self.http.call(&request("GET", &path, &self.user.token, None)).await?;
        Ok(())
    }

    async fn conversation(&self) -> Result<Uuid> {
        Ok(self.admin.query_one("select md5('c1')::uuid", &[]).await?.get(0))
    }

    /// A message of two statements and a question, and its answer.
    async fn turn(&mut self, n: usize) -> Result<()> {
        let [one, other] = [self.question(n + 100).await?, self.question(n + 200).await?]
            .map(|text| text.trim_end_matches('?').to_owned());
        let text = format!("Today I met {one}. They said {other}. {}", self.question(n).await?);
        let body = json!({"conversationId": self.conversation().await?,
            "messages": [{"role": "user", "content": text}]});
        self.http
            .call(&request("POST", "/api/v1/ai/chat", &self.user.token, Some(&body.to_string())))
            .await?;
        Ok(())
    }

    async fn roll_up(&mut self) -> Result<Cost> {
        self.wait_until_quiet().await?;
        let before = self.spent()?;
        let path = format!("/api/v1/context/rollup/{USER}");
        self.http.call(&request("POST", &path, &self.user.token, Some("{}"))).await?;
        self.wait_until_quiet().await?;
        self.cost_since(before, 1)
    }
}
