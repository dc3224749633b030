//! The OS account that PostgreSQL runs as: the current user, or `postgres` because PostgreSQL refuses to run as root.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User, geteuid};

use super::EmbeddedError;

/// User created by PostgreSQL's packages.
const SERVICE_USER: &str = "postgres";

#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    /// `None`: the current user.
    run_as: Option<(Uid, Gid)>,
}

impl Account {
    /// Selects the account for the cluster in `pg_dir`. As root, that is the owner of an existing directory, so that root
    /// can continue an ordinary user's cluster; otherwise the `postgres` user.
    pub(super) fn for_cluster(pg_dir: &Path) -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self { run_as: None });
        }
        if let Ok(metadata) = std::fs::metadata(pg_dir)
            && metadata.uid() != 0
        {
            return Ok(Self { run_as: Some((Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()))) });
        }
        let user = User::from_name(SERVICE_USER).ok().flatten().ok_or(EmbeddedError::NoServiceUser)?;
        Ok(Self { run_as: Some((user.uid, user.gid)) })
    }

    /// Whether PostgreSQL runs as another user than this process.
    pub(super) fn is_other_user(&self) -> bool {
        self.run_as.is_some()
    }

    /// A command that runs as this account; `Command` drops supplementary groups when it changes the user. `PG*` variables
    /// are removed, and messages are in English because their text is parsed.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// Changes the owner of a created file or directory to this account.
    pub(super) fn give_ownership(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Some((uid, gid)) = self.run_as else { return Ok(()) };
        chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|error| EmbeddedError::file("change the owner of", path, error))
    }

    /// Whether the account can enter `dir`, parent directories included. Runs `program` in `dir` to find out, because only
    /// the kernel evaluates access control lists and mount options.
    pub(super) fn can_access(&self, dir: &Path, program: &Path) -> bool {
        if !self.is_other_user() {
            return true;
        }
        self.command(program)
            .arg("--version")
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}
