//! Processes of PostgreSQL that stand still, as in a frozen virtual machine.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that is stopped until this is dropped, also when the test fails.
pub struct StoppedProcess(Pid);

impl StoppedProcess {
    /// Stops a process; `None` if it has ended.
    pub fn stop(process: Pid) -> Option<Self> {
        kill(process, Signal::SIGSTOP).is_ok().then(|| Self(process))
    }
}

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).ok();
    }
}
