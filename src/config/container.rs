//! Detects containers, whose files are usually lost when they end.

use std::{env, fs, path::Path};

/// Files that container engines create.
const FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Parts of the control group of process 1 in a container.
const CONTROL_GROUPS: [&str; 5] = ["docker", "kubepods", "containerd", "libpod", "lxc"];

/// What shows that this process runs in a container.
pub(super) fn evidence() -> Option<&'static str> {
    if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("KUBERNETES_SERVICE_HOST");
    }
    let file = FILES.into_iter().find(|path| Path::new(path).exists());
    file.or_else(|| {
        let groups = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
        CONTROL_GROUPS.iter().any(|part| groups.contains(part)).then_some("/proc/1/cgroup")
    })
}
