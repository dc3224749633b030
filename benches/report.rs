//! Prints the results and saves them in `benches/RESULTS.md`. Each section has its own date, so that a partial run
//! replaces only its sections.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;

use crate::{Plan, cluster::Cluster};

/// Results of a run in Markdown.
pub struct Report {
    /// Description of the machine and versions.
    header: String,
    /// Sections with their titles.
    sections: Vec<String>,
}

/// Prefix of a section title.
const HEADING: &str = "## ";

impl Report {
    /// Starts a report with a description of the machine and versions.
    pub async fn begin(plan: Plan, cluster: &Cluster) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism()?;
        let memory = read("/proc/meminfo").lines().next().and_then(|line| {
            let kib: u64 = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib / 1024 / 1024)
        });
        let head = format!(
            "# Benchmarks\n\n\
             {cores} × {} · {} GiB · Linux {} · PostgreSQL {}, durable, on the same machine · Rollcall {}\n\n\
             Load, server and PostgreSQL share the machine, which may run other programs too. Compare the ratios, which \
             come from alternating rounds of one run, rather than absolute numbers. Values are medians of the rounds.\n",
            model.map_or("unknown processor", |(_, name)| name),
            memory.unwrap_or_default(),
            read("/proc/sys/kernel/osrelease").trim(),
            cluster.version().await?,
            env!("CARGO_PKG_VERSION"),
        );
        println!("{}{head}", plan.pick("", "A quick run.\n\n"));
        Ok(Self { header: head, sections: Vec::new() })
    }

    pub fn heading(&mut self, title: &str) {
        self.sections.push(String::new());
        self.print(&format!("{HEADING}{title}\n"));
    }

    /// Ends a section with the time of measurement.
    pub fn end_section(&mut self, took: Duration) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        self.note(&format!(
            "({}, {:.0} s, load at the end {})",
            jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
            took.as_secs_f64(),
            load.split(' ').next().unwrap_or_default(),
        ));
    }

    pub fn note(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// Adds a table. The first row is its header.
    pub fn table<const N: usize>(&mut self, rows: &[[String; N]]) {
        let mut lines: Vec<String> = rows.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
        lines.insert(1, format!("|{}", " --- |".repeat(N)));
        self.print(&(lines.join("\n") + "\n"));
    }

    /// Saves the sections so far; each replaces its previous measurement.
    pub fn save(&self) -> Result<()> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let between = format!("\n{HEADING}");
        let (_, kept) = kept.split_once(&between).unwrap_or_default();
        let kept = kept.split(&between).filter(|section| !section.is_empty());
        let mut sections: Vec<String> =
            kept.map(|section| format!("{HEADING}{}\n", section.trim_end())).collect();
        for new in &self.sections {
            match sections.iter_mut().find(|section| title(section) == title(new)) {
                Some(old) => *old = format!("{}\n", new.trim_end()),
                None => sections.push(format!("{}\n", new.trim_end())),
            }
        }
        let text = self.header.clone() + "\n" + &sections.join("\n");
        Ok(std::fs::write(path, text.trim_end().to_owned() + "\n")?)
    }

    fn print(&mut self, text: &str) {
        println!("{text}");
        if let Some(section) = self.sections.last_mut() {
            section.push_str(text);
            section.push('\n');
        }
    }
}

/// Returns the title of a section.
fn title(section: &str) -> &str {
    section.lines().next().unwrap_or_default()
}

pub fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
    cells.map(str::to_owned)
}

/// Formats a duration in milliseconds.
pub fn ms(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// Formats the ratio of two numbers.
pub fn ratio(one: f64, other: f64) -> String {
    format!("{:.2}", one / other)
}
