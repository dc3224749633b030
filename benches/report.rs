//! What is printed, and kept as `benches/RESULTS.md`.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{Plan, cluster::Cluster};

/// The tables of a run, in Markdown.
pub struct Report {
    text: String,
}

impl Report {
    /// Begins with what the numbers depend on.
    pub async fn begin(plan: Plan, cluster: &Cluster) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism()?;
        let memory = read("/proc/meminfo").lines().next().and_then(|line| {
            let kib: u64 = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib / 1024 / 1024)
        });
        let mut report = Self { text: String::new() };
        report.say(&format!(
            "# Benchmarks, {} run\n\n\
             {} · {cores} × {} · {} GiB · Linux {} · load before the run {} · PostgreSQL {}, durable, on the same \
             machine · Rollcall {}\n\n\
             Load, server and PostgreSQL share the machine, and others may use it too: read ratios, each taken in \
             alternating rounds of one run, rather than absolute numbers. Medians of the rounds.\n",
            plan.pick("full", "quick"),
            jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
            model.map_or("unknown processor", |(_, name)| name),
            memory.unwrap_or_default(),
            read("/proc/sys/kernel/osrelease").trim(),
            read("/proc/loadavg").split(' ').next().unwrap_or_default(),
            cluster.version().await?,
            env!("CARGO_PKG_VERSION"),
        ));
        Ok(report)
    }

    /// A section's title.
    pub fn heading(&mut self, title: &str) {
        self.say(&format!("## {title}\n"));
    }

    /// A paragraph.
    pub fn note(&mut self, text: &str) {
        self.say(&format!("{text}\n"));
    }

    /// A table; the first row is its head.
    pub fn table<const N: usize>(&mut self, rows: &[[String; N]]) {
        let mut lines: Vec<String> = rows.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
        lines.insert(1, format!("|{}", " --- |".repeat(N)));
        self.say(&(lines.join("\n") + "\n"));
    }

    /// Keeps it beside the benchmarks.
    pub fn keep(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
        Ok(std::fs::write(path, self.text.trim_end().to_owned() + "\n")?)
    }

    fn say(&mut self, text: &str) {
        println!("{text}");
        self.text += text;
        self.text.push('\n');
    }
}

/// A row of a table.
pub fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
    cells.map(str::to_owned)
}

/// A time in milliseconds.
pub fn ms(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// How many times one is of the other.
pub fn times(one: f64, other: f64) -> String {
    format!("{:.2}", one / other)
}
