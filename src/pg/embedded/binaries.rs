//! Finds PostgreSQL's server programs, which distributions install outside `PATH`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{EmbeddedError, constants::MINIMUM_MAJOR};

/// Parent directories with one subdirectory per version, and the path of the programs below that.
const VERSIONED_DIRS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "bin"),
];

/// Server programs of one major version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Binaries {
    /// Major version, for example 15.
    pub(super) major: u32,
    dir: PathBuf,
}

impl Binaries {
    /// Finds the newest installed version, or the given major version.
    pub(super) fn find(major: Option<u32>, cluster: &Path) -> Result<Self, EmbeddedError> {
        let installed: BTreeSet<Self> = candidate_dirs().into_iter().filter_map(Self::from_dir).collect();
        select(&installed, major).map_err(|error| match error {
            FindError::NotInstalled => EmbeddedError::NotInstalled,
            FindError::TooOld { found } => EmbeddedError::TooOld { found },
            FindError::VersionNotInstalled { major } => {
                EmbeddedError::VersionNotInstalled { dir: cluster.to_owned(), major }
            }
        })
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    fn from_dir(dir: PathBuf) -> Option<Self> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let major = major_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { major, dir })
    }
}

enum FindError {
    NotInstalled,
    TooOld { found: u32 },
    VersionNotInstalled { major: u32 },
}

fn select(installed: &BTreeSet<Binaries>, major: Option<u32>) -> Result<Binaries, FindError> {
    if let Some(major) = major {
        return installed
            .iter()
            .find(|b| b.major == major)
            .cloned()
            .ok_or(FindError::VersionNotInstalled { major });
    }
    match installed.last() {
        None => Err(FindError::NotInstalled),
        Some(newest) if newest.major < MINIMUM_MAJOR => Err(FindError::TooOld { found: newest.major }),
        Some(newest) => Ok(newest.clone()),
    }
}

fn candidate_dirs() -> BTreeSet<PathBuf> {
    let mut dirs: BTreeSet<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.insert(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (parent, bin_dir) in VERSIONED_DIRS {
        let children = std::fs::read_dir(parent).into_iter().flatten().flatten();
        dirs.extend(
            children
                .filter(|entry| parent.ends_with("/postgresql") || is_versioned_name(&entry.file_name()))
                .map(|entry| entry.path().join(bin_dir)),
        );
    }
    // Symbolic links to one directory must not be probed twice.
    dirs.into_iter().filter_map(|dir| dir.canonicalize().ok()).collect()
}

/// Matches `pgsql-16` (PGDG packages for Red Hat) and `postgresql@16` (Homebrew).
fn is_versioned_name(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("pgsql-") || name.starts_with("postgresql")
}

/// Parses `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 18beta1`.
fn major_version(output: &str) -> Option<u32> {
    let version = output.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_parsed_from_version_output() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("initdb: not found"), None);
    }

    #[test]
    fn the_newest_version_is_selected_unless_the_cluster_requires_another() {
        let set = |majors: &[u32]| {
            majors.iter().map(|&major| Binaries { major, dir: format!("/{major}").into() }).collect()
        };
        assert_eq!(select(&set(&[15, 17, 9]), None).ok().map(|b| b.major), Some(17));
        assert_eq!(select(&set(&[15, 17]), Some(15)).ok().map(|b| b.major), Some(15));
        assert!(matches!(select(&set(&[17]), Some(15)), Err(FindError::VersionNotInstalled { major: 15 })));
        assert!(matches!(select(&set(&[13, 14]), None), Err(FindError::TooOld { found: 14 })));
        assert!(matches!(select(&set(&[]), None), Err(FindError::NotInstalled)));
    }
}
