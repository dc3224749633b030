//! Password files as libpq reads them: lines of `host:port:database:user:password`, where `*` matches anything and a
//! backslash escapes a colon or a backslash. The first line that matches counts.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tokio_postgres::{Config, config::Host};

/// Permissions of group and others.
const SHARED: u32 = 0o077;
const DEFAULT_PORT: u16 = 5432;

/// The password for the first host of a connection, or `None` if no line matches.
///
/// # Errors
/// The file cannot be read, or others may read it.
pub(super) fn find_password(file: &Path, config: &Config) -> io::Result<Option<String>> {
    if fs::metadata(file)?.permissions().mode() & SHARED != 0 {
        let message = "group or others have access; make its permissions 0600";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(_)) => "localhost".to_owned(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT).to_string();
    let user = config.get_user().unwrap_or_default();
    let target = [&host, &port, config.get_dbname().unwrap_or(user), user];
    let matches = |line: &str| {
        let fields = fields(line);
        let (password, pattern) = fields.split_last()?;
        let is_match = pattern.len() == target.len()
            && pattern.iter().zip(target).all(|(wanted, value)| wanted == "*" || wanted == value);
        is_match.then(|| password.clone())
    };
    Ok(fs::read_to_string(file)?.lines().filter(|line| !line.starts_with('#')).find_map(matches))
}

/// The fields of a line, without escapes. The last one is the password, which may contain colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let is_password = fields.len() == 5;
        match character {
            ':' if !is_password => fields.push(String::new()),
            '\\' => fields.last_mut().expect("is not empty").extend(characters.next()),
            other => fields.last_mut().expect("is not empty").push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::{fs::OpenOptions, io::Write, path::PathBuf};

    use super::*;

    struct File(PathBuf);

    impl File {
        fn new(name: &str, mode: u32, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rollcall-{name}-{}", std::process::id()));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            fs::remove_file(&self.0).ok();
        }
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        let file = File::new(
            "passfile",
            0o600,
            "# a comment: with: five: fields: x\nshort:line\ndb:5432:app:ann:one\ndb:*:*:ann:t\\:w\\\\o:x\n\
             localhost:*:*:*:socket\n\\:\\:1:*:*:*:v6\n",
        );
        for (text, expected) in [
            ("host=db user=ann dbname=app", Some("one")),
            ("host=db port=6543 user=ann dbname=app", Some(r"t:w\o:x")),
            ("host=db user=bob dbname=app", None),
            ("host=/run/postgresql user=bob", Some("socket")),
            ("host=::1 user=bob", Some("v6")),
        ] {
            let found = find_password(&file.0, &text.parse().unwrap()).unwrap();
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let file = File::new("open-passfile", 0o644, "*:*:*:*:x");
        let config = "host=db".parse().unwrap();
        assert!(find_password(&file.0, &config).unwrap_err().to_string().contains("0600"));
        assert!(find_password(Path::new("/nonexistent"), &config).is_err());
    }
}
