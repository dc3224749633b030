//! Metrics of the process, with the names that Prometheus uses for every program.

use std::{fs, time::SystemTime};

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeValLike,
};

use super::metric;

/// Sets the metrics that never change.
pub(super) fn record_start() {
    metrics::gauge!(metric::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        metrics::gauge!(metric::PROCESS_START_TIME).set(now.as_secs_f64());
    }
}

/// Sets the other metrics; call it before rendering. What the system does not provide stays unset.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats, exact up to 2^53")]
pub fn record_usage() {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        // Counters are whole numbers.
        let seconds = (usage.user_time() + usage.system_time()).num_seconds();
        metrics::counter!(metric::PROCESS_CPU).absolute(seconds.unsigned_abs());
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        metrics::gauge!(metric::PROCESS_MAX_FDS).set(soft as f64);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The listing itself has one.
        metrics::gauge!(metric::PROCESS_FDS).set(entries.count().saturating_sub(1) as f64);
    }
    if let Some(kibibytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_kib) {
        metrics::gauge!(metric::PROCESS_MEMORY).set(kibibytes as f64 * 1024.0);
    }
}

/// The field `VmRSS` of `/proc/self/status`.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
