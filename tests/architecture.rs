//! Checks the structure of `src`: imports point one way between modules, no two files import each other in a cycle,
//! names and doc comments stay plain. Each failure prints the line to change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// Modules of the crate from the lowest to the highest. A module imports only from modules of lower layers.
/// Modules in one row do not import each other.
const LAYERS: &[&[&str]] = &[
    &["model", "clock", "backoff", "lifecycle", "settings"],
    &["telemetry", "auth", "limits"],
    &["protocol", "pg"],
    &["hub"],
    &["transport"],
    &["presence", "channels", "context", "webhooks"],
    &["session", "operator"],
    &["http"],
    &["console"],
    &["config"],
    &["database_target"],
    &["app"],
    &["cli"],
];

/// Names that were metaphors or said less than the term of the field. They must not come back.
const FORBIDDEN_NAMES: &[&str] = &[
    "Ears",
    "Teller",
    "Letters",
    "Sieve",
    "Berth",
    "Courier",
    "Errands",
    "Guests",
    "Farewells",
    "Asker",
    "Askers",
    "Sight",
    "Pump",
    "Lot",
    "Sheet",
    "Outlet",
    "Hearer",
    "Neighbours",
    "Lookout",
    "Mirror",
    "Roster",
    "Manners",
    "Silence",
    "Unspoken",
    "Speech",
    "Voice",
    "Told",
    "Said",
    "Heard",
    "Asked",
    "Wish",
    "Spoken",
    "Shown",
];

/// A file of `src` with its module path, for example `["hub", "shard"]`.
struct Source {
    path: PathBuf,
    module: Vec<String>,
    text: String,
}

/// One import: the importing file, the line, and the file it is from.
#[derive(Debug, Clone)]
struct Import {
    from: usize,
    line: usize,
    to: usize,
    path: String,
}

#[test]
fn imports_between_modules_point_to_lower_layers() {
    let sources = sources();
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let mut violations = Vec::new();
    for import in imports(&sources) {
        let (from, to) = (top(&sources[import.from]), top(&sources[import.to]));
        if from == to || from.is_empty() {
            continue;
        }
        let allowed = match (layer(from), layer(to)) {
            (Some(from), Some(to)) => to < from,
            // A module without a layer must get one.
            (None, _) | (_, None) => false,
        };
        if !allowed && from != "lib" && from != "main" && from != "build" {
            violations.push(describe(&sources, &import));
        }
    }
    assert!(violations.is_empty(), "imports that point upward:\n{}", violations.join("\n"));
}

#[test]
fn files_do_not_import_each_other_in_cycles() {
    let sources = sources();
    let imports = imports(&sources);
    let mut edges: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for import in &imports {
        if import.from != import.to {
            edges.entry(import.from).or_default().insert(import.to);
        }
    }
    let mut report = Vec::new();
    for cycle in cycles(sources.len(), &edges) {
        report.push(format!("cycle of {} files:", cycle.len()));
        let inside = |import: &&Import| {
            import.from != import.to && cycle.contains(&import.from) && cycle.contains(&import.to)
        };
        report.extend(imports.iter().filter(inside).map(|import| describe(&sources, import)));
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

#[test]
fn forbidden_names_are_not_defined() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let name =
                    pair[1].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                if ["struct", "enum", "trait", "type"].contains(&pair[0]) && FORBIDDEN_NAMES.contains(&name) {
                    found.push(format!("{}:{}: {name}", source.path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "names on the deny-list:\n{}", found.join("\n"));
}

#[test]
fn doc_comments_have_more_than_three_words() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        let is_doc = |line: Option<&&str>| line.is_some_and(|line| line.starts_with("///"));
        for (number, line) in lines.iter().enumerate() {
            let Some(doc) = line.strip_prefix("///") else { continue };
            let continues = number > 0 && is_doc(lines.get(number - 1));
            let alone = !continues && !is_doc(lines.get(number + 1));
            // Code, a number or a link is a fact.
            let states_fact = doc.contains(['`', '[']) || doc.contains(|c: char| c.is_ascii_digit());
            if alone && !states_fact && doc.split_whitespace().count() <= 3 {
                found.push(format!("{}:{}: {line}", source.path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "doc comments that state nothing:\n{}", found.join("\n"));
}

fn describe(sources: &[Source], import: &Import) -> String {
    let Import { from, line, to, path } = import;
    format!("{}:{line}: {path} ({})", sources[*from].path.display(), sources[*to].path.display())
}

/// The module directly below the crate's root; empty for the root itself.
fn top(source: &Source) -> &str {
    source.module.first().map_or("", String::as_str)
}

/// The files of `src` without tests; comments are blanked, line numbers stay.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a readable file");
        let relative = path.strip_prefix(&root).expect("below src");
        let mut module: Vec<String> =
            relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
            module.pop();
        }
        let path = Path::new("src").join(relative);
        Source { path, module, text }
    };
    files.into_iter().map(source).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") && !["tests.rs", "main.rs", "build.rs"].contains(&name.as_str()) {
            files.push(path);
        }
    }
}

/// Every path that begins with `crate`, `super` or `self`, resolved to the file that defines the item.
/// A re-export (`pub use child::Item`) leads to the child.
fn imports(sources: &[Source]) -> Vec<Import> {
    let files: HashMap<&[String], usize> =
        sources.iter().enumerate().map(|(index, source)| (source.module.as_slice(), index)).collect();
    let texts: Vec<String> = sources.iter().map(|source| code_only(&source.text)).collect();
    let reexports: Vec<HashMap<String, Vec<String>>> =
        sources.iter().zip(&texts).map(|(source, text)| reexports(source, text, &files)).collect();
    let mut imports = Vec::new();
    for (from, source) in sources.iter().enumerate() {
        for (line, path, is_reexport) in paths(&texts[from]) {
            if is_reexport {
                continue;
            }
            let Some(path) = absolute(&source.module, &path, &files) else { continue };
            let to = resolve(&path, &files, &reexports);
            if to != from {
                imports.push(Import { from, line, to, path: path.join("::") });
            }
        }
    }
    imports
}

fn resolve(
    path: &[String],
    files: &HashMap<&[String], usize>,
    reexports: &[HashMap<String, Vec<String>>],
) -> usize {
    let mut path = path.to_vec();
    // A re-export leads to another; a bound keeps a mistake from looping.
    for _ in 0..8 {
        let depth = (0..=path.len()).rev().find(|depth| files.contains_key(&path[..*depth])).unwrap_or(0);
        let file = files[&path[..depth]];
        match path.get(depth).and_then(|name| reexports[file].get(name)) {
            Some(target) => path = [target.as_slice(), &path[depth + 1..]].concat(),
            None => return file,
        }
    }
    files[&[] as &[String]]
}

fn reexports(source: &Source, text: &str, files: &HashMap<&[String], usize>) -> HashMap<String, Vec<String>> {
    let mut found = HashMap::new();
    for (_, path, is_reexport) in paths(text) {
        if is_reexport
            && let Some(absolute) = absolute(&source.module, &path, files)
            && let Some(name) = absolute.last().cloned()
        {
            found.insert(name, absolute);
        }
    }
    found
}

/// The path from the crate's root, or `None` for a path into another crate.
fn absolute(module: &[String], path: &[String], files: &HashMap<&[String], usize>) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        child => {
            // A child module of this file, as in `use child::Item`.
            base.push(child.to_owned());
            files.get(base.as_slice())?;
            rest = &path[1..];
        }
    }
    Some([base.as_slice(), rest].concat())
}

/// Every path of the text with its line and whether it is re-exported: `use` trees are expanded, other paths count
/// where they begin with `crate` or `super`.
fn paths(text: &str) -> Vec<(usize, Vec<String>, bool)> {
    let mut found = Vec::new();
    let mut offset = 0;
    let line_of = |at: usize| text[..at].matches('\n').count() + 1;
    while let Some(start) = find_use(&text[offset..]).map(|at| at + offset) {
        let end = text[start..].find(';').map_or(text.len(), |at| at + start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let is_reexport = text[line_start..start].trim_start().starts_with("pub");
        let mut expanded = Vec::new();
        expand(&text[start + 4..end], &mut Vec::new(), &mut expanded);
        found.extend(expanded.into_iter().map(|path| (line_of(start), path, is_reexport)));
        offset = end;
    }
    for marker in ["crate::", "super::"] {
        for (at, _) in text.match_indices(marker) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let end = text[at..]
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                .map_or(text.len(), |end| at + end);
            let path: Vec<String> =
                text[at..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            let statement = text[..at].rfind([';', '}']).map_or(0, |at| at + 1);
            if !text[statement..at].contains("use ") {
                found.push((line_of(at), path, false));
            }
        }
    }
    found
}

/// The next `use ` that begins a line, perhaps after `pub` or `pub(crate)`.
fn find_use(text: &str) -> Option<usize> {
    text.match_indices("use ").map(|(at, _)| at).find(|at| {
        let line = text[..*at].rfind('\n').map_or(0, |at| at + 1);
        let before = text[line..*at].trim();
        before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')'))
    })
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(tree: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let head = tree[..open].trim().trim_end_matches("::");
        let depth = prefix.len();
        prefix.extend(head.split("::").filter(|part| !part.is_empty()).map(str::to_owned));
        let close = tree.rfind('}').unwrap_or(tree.len());
        let (mut level, mut begin) = (0, open + 1);
        for (at, c) in tree[..close].char_indices().skip_while(|(at, _)| *at <= open) {
            match c {
                '{' => level += 1,
                '}' => level -= 1,
                ',' if level == 0 => {
                    expand(&tree[begin..at], prefix, found);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        expand(&tree[begin..close], prefix, found);
        prefix.truncate(depth);
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        let mut whole = prefix.clone();
        whole.extend(path.split("::").filter(|part| !part.is_empty() && *part != "*").map(str::to_owned));
        if whole.last().is_some_and(|last| last == "self") && whole.len() > 1 {
            whole.pop();
        }
        found.push(whole);
    }
}

/// The text without comments and without modules of tests; line numbers stay.
fn code_only(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut in_tests = false;
    let mut previous = "";
    for line in text.lines() {
        if previous.trim() == "#[cfg(test)]" && line.contains("mod ") && line.trim_end().ends_with('{') {
            in_tests = true;
        }
        let code = line.split("//").next().unwrap_or_default();
        lines.push(if in_tests { "" } else { code });
        if in_tests && line == "}" {
            in_tests = false;
        }
        previous = line;
    }
    lines.join("\n")
}

/// Groups of more than one file of which each imports each other, directly or not (Tarjan's algorithm).
fn cycles(count: usize, edges: &BTreeMap<usize, BTreeSet<usize>>) -> Vec<BTreeSet<usize>> {
    struct Search<'a> {
        edges: &'a BTreeMap<usize, BTreeSet<usize>>,
        index: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        next: usize,
        found: Vec<BTreeSet<usize>>,
    }
    impl Search<'_> {
        fn visit(&mut self, node: usize) {
            self.index[node] = Some(self.next);
            self.low[node] = self.next;
            self.next += 1;
            self.stack.push(node);
            for &to in self.edges.get(&node).into_iter().flatten() {
                match self.index[to] {
                    None => {
                        self.visit(to);
                        self.low[node] = self.low[node].min(self.low[to]);
                    }
                    Some(index) if self.stack.contains(&to) => self.low[node] = self.low[node].min(index),
                    Some(_) => {}
                }
            }
            if Some(self.low[node]) == self.index[node] {
                let at = self.stack.iter().position(|other| *other == node).expect("it is on the stack");
                let group: BTreeSet<usize> = self.stack.split_off(at).into_iter().collect();
                if group.len() > 1 {
                    self.found.push(group);
                }
            }
        }
    }
    let mut search = Search {
        edges,
        index: vec![None; count],
        low: vec![0; count],
        stack: Vec::new(),
        next: 0,
        found: Vec::new(),
    };
    for node in 0..count {
        if search.index[node].is_none() {
            search.visit(node);
        }
    }
    search.found
}
