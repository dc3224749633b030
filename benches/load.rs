//! Closed-loop load: each client sends a request, waits for the response, and sends the next one.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

/// A client that repeats one operation.
pub trait LoadClient: Send + 'static {
    /// Runs the operation once and waits for its result.
    fn run_once(&mut self) -> impl Future<Output = Result<()>> + Send;
}

#[derive(Debug, Default, Clone)]
pub struct LoadResult {
    pub rate: f64,
    /// Duration of each operation, ascending.
    pub times: Vec<Duration>,
}

/// Runs all clients for the given time and returns them with the results.
pub async fn closed_loop<C: LoadClient>(clients: Vec<C>, time: Duration) -> Result<(Vec<C>, LoadResult)> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut operation_started = Instant::now();
            while operation_started - started < time {
                client.run_once().await?;
                let done = Instant::now();
                times.push(done - operation_started);
                operation_started = done;
            }
            Ok::<_, anyhow::Error>((client, times))
        });
    }
    let (mut clients, mut times) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (client, its) = done??;
        clients.push(client);
        times.extend(its);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok((clients, LoadResult { rate, times }))
}

/// Returns the quantile `part` (0 to 1) of a sorted list.
pub fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
