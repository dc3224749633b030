//! A clock that jumps: of this process, its nodes and PostgreSQL, by libfaketime.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

/// Variable with the file from which libfaketime reads the offset.
const OFFSET_FILE: &str = "FAKETIME_TIMESTAMP_FILE";
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The clock of this process and the processes that it starts.
pub struct FakeClock {
    offset_file: PathBuf,
}

impl FakeClock {
    /// The clock, if this process was started by [`run_with_fake_clock`].
    pub fn of_process() -> Option<Self> {
        std::env::var_os(OFFSET_FILE).map(|file| Self { offset_file: file.into() })
    }

    /// Sets the difference to the clock of the machine. It takes effect within a second.
    pub fn set_offset(&self, seconds: i64) {
        write_offset(&self.offset_file, seconds);
    }
}

/// Replaces the file as a whole, because other processes read it at any time.
fn write_offset(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}")).expect("written");
    std::fs::rename(&new, file).expect("replaced");
}

/// Runs one test of this executable in a process whose clock can jump.
pub async fn run_with_fake_clock(test: &str) {
    let library = LIBRARIES.map(Path::new).into_iter().find(|library| library.exists());
    let library = library.expect("libfaketime is installed: run .ci/install --test");
    let offset_file = std::env::temp_dir().join(format!("rollcall-clock-{}", std::process::id()));
    write_offset(&offset_file, 0);
    let ended = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--exact", test, "--nocapture"])
        .envs([("LD_PRELOAD", library), (OFFSET_FILE, &offset_file)])
        // Timeouts use the monotonic clock, which does not jump.
        .envs([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_CACHE_DURATION", "1")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the process runs");
    std::fs::remove_file(&offset_file).expect("removed");
    print!("{}", String::from_utf8_lossy(&ended.stdout));
    eprint!("{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{test} with a clock that jumps: {}", ended.status);
}
