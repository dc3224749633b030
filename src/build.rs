//! Lists the SQL files that the binary carries, so that a new file needs no line of Rust.
//!
//! Cargo runs this again when a file is added, changed or removed; a macro would not notice the first.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Constants to make, and the directories whose `.sql` files they list.
const LISTS: [(&str, &str); 3] =
    [("BOOTSTRAP", "sql/bootstrap"), ("AFTER", "sql/bootstrap/after"), ("MIGRATIONS", "supabase/migrations")];
const SEED: &str = "supabase/seed.sql";

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=src/build.rs");

    let mut code = String::new();
    for (name, dir) in LISTS {
        let dir = root.join(dir);
        let _ = writeln!(code, "pub(super) const {name}: &[(&str, &str)] = &[");
        for file in sql_files(&dir)? {
            let _ = writeln!(code, "    ({:?}, include_str!({file:?})),", file_name(&file));
        }
        code.push_str("];\n");
    }
    let seed = root.join(SEED);
    if watch(&seed) {
        let _ = writeln!(code, "pub(super) const SEED: Option<&str> = Some(include_str!({seed:?}));");
    } else {
        code.push_str("pub(super) const SEED: Option<&str> = None;\n");
    }
    fs::write(out.join("sql_files.rs"), code)
}

/// The directory's files in order of their names.
fn sql_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !watch(dir) {
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

/// Has Cargo look at a path from now on. False if it is not there: watching that would rebuild every time.
fn watch(path: &Path) -> bool {
    let exists = path.exists();
    if exists {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    exists
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a file has a name").to_string_lossy().into_owned()
}
