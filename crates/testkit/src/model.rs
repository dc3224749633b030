//! Random histories of the model tests.

use std::{fmt::Debug, time::Instant};

use futures_util::{StreamExt, stream};

/// More failed histories than this end a run.
const MAX_FAILURES: usize = 3;

/// The histories of a run: `ROLLCALL_SEED` sets the first seed and `ROLLCALL_HISTORIES` their number.
#[derive(Debug, Clone, Copy)]
pub struct Histories {
    pub first_seed: u64,
    pub count: u64,
}

impl Histories {
    /// Reads the environment. Without it, the first seed is random.
    pub fn from_env(default_count: u64) -> Self {
        Self {
            first_seed: env_number("ROLLCALL_SEED").unwrap_or_else(|| rand::random::<u32>().into()),
            count: env_number("ROLLCALL_HISTORIES").unwrap_or(default_count),
        }
    }

    /// A quarter of the histories, at least one.
    pub fn quarter(self) -> Self {
        Self { count: self.count.div_ceil(4), ..self }
    }

    /// Runs the histories, each as a task that gets its seed, and returns their results. Panics with the seeds of
    /// failed histories.
    pub async fn run<S, F>(self, concurrency: usize, history: impl Fn(u64) -> F) -> Vec<S>
    where
        S: Debug + Send + 'static,
        F: Future<Output = Result<S, String>> + Send + 'static,
    {
        let Self { first_seed, count } = self;
        println!("{count} histories from seed {first_seed}");
        let started = Instant::now();
        let mut runs = stream::iter(first_seed..first_seed + count)
            .map(|seed| {
                let run = tokio::spawn(history(seed));
                async move { (seed, run.await) }
            })
            .buffer_unordered(concurrency);
        let (mut results, mut failures) = (Vec::new(), Vec::new());
        while let Some((seed, outcome)) = runs.next().await {
            match outcome {
                Ok(Ok(result)) => results.push(result),
                Ok(Err(wrong)) => failures.push(format!("seed {seed}: {wrong}")),
                Err(panic) => failures.push(format!("seed {seed}: {panic}")),
            }
            if failures.len() == MAX_FAILURES {
                break;
            }
        }
        drop(runs);
        println!("{} histories passed in {:?}", results.len(), started.elapsed());
        assert!(
            failures.is_empty(),
            "{}\nrepeat one with ROLLCALL_SEED=<its seed> ROLLCALL_HISTORIES=1",
            failures.join("\n\n")
        );
        results
    }
}

fn env_number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
