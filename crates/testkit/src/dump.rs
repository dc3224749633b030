//! Descriptions of a whole database, to compare it before and after an installation.

use std::process::Command;

use crate::cluster::connect;

/// Separates objects in the output of `pg_dump`.
const SEPARATOR: &str = "\n--\n";

/// A database as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// One entry per object.
    objects: Vec<String>,
}

impl Dump {
    /// Describes the database of a superuser's URL: the output of `pg_dump` with these options. With a server newer than
    /// `pg_dump`, all entries of the system catalogs and hashes of the rows.
    pub async fn of(admin_url: &str, options: &[&str]) -> Self {
        let client = connect(admin_url).await;
        let version = client.query_one("show server_version_num", &[]).await.expect("a version");
        let server: u32 = version.get::<_, String>(0).parse().expect("a number");
        if server / 10_000 > pg_dump_version() {
            // Functions of the application could match better than those of PostgreSQL.
            client.batch_execute("set search_path = ''").await.expect("a setting");
            let row = client.query_one(include_str!("catalog.sql"), &[]).await.expect("the catalogs");
            let mut objects: Vec<String> = row.get("lines");
            objects.retain(|line| match line.starts_with("rows of ") {
                true => !options.contains(&"--schema-only"),
                false => !options.contains(&"--data-only"),
            });
            return Self { objects };
        }
        let output =
            Command::new("pg_dump").args(options).arg(admin_url).output().expect("pg_dump is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        // Newer versions write a random token.
        let text = text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n");
        Self { objects: text.split(SEPARATOR).map(str::to_owned).collect() }
    }

    /// Objects that the other one lacks.
    #[must_use]
    pub fn objects_beyond<'a>(&'a self, other: &Self) -> Vec<&'a str> {
        self.objects.iter().filter(|object| !other.objects.contains(object)).map(|object| &**object).collect()
    }

    /// Lines of this one that the other one lacks.
    #[must_use]
    pub fn lines_beyond<'a>(&'a self, other: &Self) -> Vec<&'a str> {
        let theirs: std::collections::HashSet<&str> = other.lines().collect();
        self.lines().filter(|line| !theirs.contains(line)).collect()
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().flat_map(|object| object.lines())
    }

    /// Panics with the differences.
    #[track_caller]
    pub fn assert_equals(&self, before: &Self, context: &str) {
        let (missing, added) = (before.lines_beyond(self), self.lines_beyond(before));
        assert!(self == before, "{context}: missing {missing:#?}, added {added:#?}");
    }
}

/// Major version of the `pg_dump` on the path.
fn pg_dump_version() -> u32 {
    let output = Command::new("pg_dump").arg("--version").output().expect("pg_dump is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
    version.unwrap_or_else(|| panic!("no version in {text}"))
}
