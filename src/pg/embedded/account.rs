//! Whom PostgreSQL runs as: ourselves, or, because it refuses to run as root, the system's `postgres` user.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User, geteuid};

use super::EmbeddedError;

/// The name of the user that PostgreSQL's packages create.
const SERVICE_USER: &str = "postgres";

/// The account that PostgreSQL runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    /// `None`: as we are.
    run_as: Option<(Uid, Gid)>,
}

impl Account {
    /// The account for the cluster in `pg_dir`. As root that is the directory's owner, if there is one already
    /// (so that root can serve what an ordinary user began), else the `postgres` user.
    pub(super) fn for_cluster(pg_dir: &Path) -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self { run_as: None });
        }
        if let Ok(found) = std::fs::metadata(pg_dir)
            && found.uid() != 0
        {
            return Ok(Self { run_as: Some((Uid::from_raw(found.uid()), Gid::from_raw(found.gid()))) });
        }
        let user = User::from_name(SERVICE_USER).ok().flatten().ok_or(EmbeddedError::NoServiceUser)?;
        Ok(Self { run_as: Some((user.uid, user.gid)) })
    }

    /// Whether this is another account than our own.
    pub(super) fn is_other_user(&self) -> bool {
        self.run_as.is_some()
    }

    /// A command that runs as this account. The standard library drops our supplementary groups with the user.
    /// Settings of psql's in our environment are kept from it, and its messages are in English, which we read.
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

    /// Makes the account the owner of what we created.
    pub(super) fn give_ownership(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Some((uid, gid)) = self.run_as else { return Ok(()) };
        chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|error| EmbeddedError::file("give away", path, error))
    }

    /// Whether the account can reach `dir`, all directories above it included: asked by going there, because
    /// only the kernel knows of access lists and mount options. `program` is anything that can be run.
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
