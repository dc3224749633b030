//! Files with secrets: written atomically with mode 0600. Also the lock of the data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::EmbeddedError;

/// Replaces `path` atomically, with mode 0600.
pub(super) fn write_private(path: &Path, content: &str) -> Result<(), EmbeddedError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let file_error = |error| EmbeddedError::file("write", path, error);
    // A file left by an interrupted write may have another owner or mode.
    let _ = fs::remove_file(temporary);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary).map_err(file_error)?;
    chown_to_directory_owner(temporary).map_err(file_error)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)?;
    fs::rename(temporary, path).map_err(file_error)
}

/// Opens a log for appending; a new file gets mode 0600.
pub(super) fn open_private_log(path: &Path) -> Result<File, EmbeddedError> {
    let file_error = |error| EmbeddedError::file("write", path, error);
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file_error)?;
    if is_new {
        chown_to_directory_owner(path).map_err(file_error)?;
    }
    Ok(file)
}

/// As root, gives a new file to the owner of its directory, so that an ordinary user can read it later.
fn chown_to_directory_owner(path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    chown(path, Some(directory.uid()), Some(directory.gid()))
}

/// Exclusive lock on the data directory. The kernel releases it when the process ends, however that happens.
/// PostgreSQL does not inherit it, because the standard library opens files close-on-exec.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: Flock<File>,
}

impl DataDirLock {
    /// Acquires the lock, or fails with the process ID of its holder.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let path = data_dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| EmbeddedError::file("open", &path, error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // The process ID is for the error message of a second server; the lock works without it.
                let _ = file.set_len(0).and_then(|()| write!(*file, "{}", std::process::id()));
                Ok(Self { _file: file })
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                Err(EmbeddedError::InUse { dir: data_dir.to_owned(), pid })
            }
            Err((_, errno)) => Err(EmbeddedError::file("lock", &path, errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn temporary_dir() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("rollcall-files-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn private_files_are_replaced_atomically_with_mode_0600() {
        let dir = temporary_dir();
        let path = dir.join("env");
        fs::write(&path, "old and longer").unwrap();
        write_private(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_lock_is_exclusive_and_the_error_names_its_holder() {
        let dir = temporary_dir();
        let lock = DataDirLock::acquire(&dir).unwrap();
        let refused = DataDirLock::acquire(&dir).unwrap_err();
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(lock);
        DataDirLock::acquire(&dir).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
}
