//! Pages of the documentation that tests generate or read.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A path of the repository.
#[must_use]
pub fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Checks that a generated page is current. With `UPDATE_DOCS=1`, writes it.
///
/// # Panics
/// Names the first difference, and the arguments of `cargo test` that write the page.
#[track_caller]
pub fn assert_current(name: &str, expected: &str, test: &str) {
    let path = root(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).expect("the page is writable");
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    let difference = current.lines().zip(expected.lines()).find(|(current, expected)| current != expected);
    assert!(
        current == expected,
        "{name} is not current; run: UPDATE_DOCS=1 cargo test {test}\nfirst difference: {difference:?}"
    );
}

/// A text as a cell of a Markdown table.
#[must_use]
pub fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The files with an extension in a folder of the repository and the folders below it, in the order of their paths.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![root(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
