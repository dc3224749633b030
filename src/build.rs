//! Generates constants with the SQL files that are embedded in the binary, so that a new file needs no change
//! in Rust.
//!
//! Cargo reruns this script when a file is added, changed or removed. A macro would not notice added files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Names of the generated constants and the directories whose `.sql` files they hold.
const SQL_DIRECTORIES: [(&str, &str); 3] =
    [("BOOTSTRAP", "sql/bootstrap"), ("AFTER", "sql/bootstrap/after"), ("MIGRATIONS", "supabase/migrations")];
const SEED: &str = "supabase/seed.sql";

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=src/build.rs");

    let mut code = String::new();
    for (name, dir) in SQL_DIRECTORIES {
        let dir = root.join(dir);
        let _ = writeln!(code, "pub(super) const {name}: &[(&str, &str)] = &[");
        for file in sql_files(&dir)? {
            let _ = writeln!(code, "    ({:?}, include_str!({file:?})),", file_name(&file));
        }
        code.push_str("];\n");
    }
    let seed = root.join(SEED);
    if rerun_if_changed(&seed) {
        let _ = writeln!(code, "pub(super) const SEED: Option<&str> = Some(include_str!({seed:?}));");
    } else {
        code.push_str("pub(super) const SEED: Option<&str> = None;\n");
    }
    fs::write(out.join("sql_files.rs"), code)
}

/// The `.sql` files of a directory, sorted by name.
fn sql_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !rerun_if_changed(dir) {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Makes Cargo rerun this script when the path changes. Returns whether the path exists: watching a missing
/// path would rebuild every time.
fn rerun_if_changed(path: &Path) -> bool {
    let exists = path.exists();
    if exists {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    exists
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a file has a name").to_string_lossy().into_owned()
}
