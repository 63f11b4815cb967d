//! The table names every operator there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Methods that make flows and need no row, and why.
const NO_OPERATOR: &[(&str, &str)] = &[
    (
        "from_source",
        "begins a flow: the suite's own source is one",
    ),
    ("from_operator", "begins a flow"),
    (
        "stage",
        "any stage of one's own: tests/conformance_catches.rs tries one, and its broken twins",
    ),
    ("stage_with", "the same, of several flows"),
    ("named", "declares: no stage"),
    ("through", "declares: what the part adds has its own row"),
    ("guarantee", "declares: no stage"),
    ("balanced_by_buffers", "declares: no stage"),
    ("keeps_origin", "declares: no stage"),
    ("untracked", "a setting of the source before it"),
    ("on_unresolved", "a setting of the source before it"),
    ("window", "a setting of the source before it"),
    ("allow_loss", "a setting of the source before it"),
    ("barrier_every", "a setting of the source before it"),
];

/// All files of Rust in a folder, and in those within it.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                paths(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect();
    paths.sort();
    paths
}

fn files(folder: &str) -> Vec<String> {
    let paths = paths(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    assert!(!paths.is_empty());
    paths
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// The name and the result type of each public function of a file that gives a flow: methods of
/// `Flow` and `Fallible`, and functions that stand alone.
fn operators_of(text: &str) -> Vec<String> {
    let gives_flow = |result: &str| {
        let is = |word: &str| result.contains(&format!("{word}<"));
        is("Flow") || is("Fallible") || result.starts_with("Self")
    };
    let mut found = Vec::new();
    let mut of_flow = true;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("impl") {
            let of = |word: &str| line.contains(&format!(" {word}<"));
            of_flow = (of("Flow") || of("Fallible")) && !line.contains(" for ");
        } else if line == "}" {
            of_flow = true;
        }
        let indented = line.strip_prefix("    ").unwrap_or(line);
        let Some(rest) = indented.strip_prefix("pub fn ").filter(|_| of_flow) else {
            continue;
        };
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let mut signature = line.to_owned();
        while !signature.contains('{') {
            signature += lines.next().unwrap();
        }
        // Arguments have results of their own: the last `)` before the body ends them.
        let head = signature.split(" where ").next().unwrap();
        let head = head.split("where        ").next().unwrap();
        let result = head.rsplit(") -> ").next().unwrap();
        if result != head && gives_flow(result) {
            found.push(name);
        }
    }
    found
}

fn operators() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for text in files("src/flow") {
        all.extend(operators_of(&text));
    }
    all
}

/// The rows of the table: name and text.
fn rows() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for text in files("tests/conformance") {
        for table in text.split("\nconformance! {\n").skip(1) {
            let table = table.split("\n}\n").next().unwrap();
            let mut name = String::new();
            for line in table.lines() {
                let start = line
                    .strip_prefix("    ")
                    .filter(|rest| !rest.starts_with(' '));
                if let Some((word, _)) = start.and_then(|rest| rest.split_once(':')) {
                    word.clone_into(&mut name);
                    let old = rows.insert(name.clone(), String::new());
                    assert!(old.is_none(), "two rows are named `{name}`");
                }
                *rows.get_mut(&name).unwrap() += line;
            }
        }
    }
    rows
}

#[test]
fn every_operator_has_a_row() {
    let (operators, rows) = (operators(), rows());
    let excepted: BTreeSet<&str> = NO_OPERATOR.iter().map(|(name, _)| *name).collect();
    let mut missing: BTreeSet<&str> = operators.iter().map(String::as_str).collect();
    for name in &excepted {
        assert!(
            missing.remove(name),
            "`{name}` is excepted, and there is none"
        );
    }
    let mut wrong = Vec::new();
    for (row, text) in &rows {
        // The longest name it begins with: `map_async_with` is no row of `map`.
        let tried = operators
            .iter()
            .filter(|name| row == *name || row.starts_with(&format!("{name}_")))
            .max_by_key(|name| name.len());
        let calls = |name: &str| {
            [".", "::"]
                .iter()
                .any(|way| text.contains(&format!("{way}{name}(")))
        };
        match tried {
            Some(name) if calls(name) && !excepted.contains(name.as_str()) => {
                missing.remove(name.as_str());
            }
            _ => wrong.push(row),
        }
    }
    assert!(
        wrong.is_empty(),
        "rows that do not try what they are named after: {wrong:?}"
    );
    assert!(missing.is_empty(), "no row tries {missing:?}");
}

#[test]
fn the_operators_are_found_in_the_sources() {
    let text = "
impl<T: Send + 'static> Flow<T> {
    pub fn map<U, F>(self, f: F) -> Flow<U>
    where
        F: FnMut(T) -> U + Send + 'static,
    {
    }
    pub fn divert(
        self,
        predicate: impl FnMut(&T) -> bool + Send + 'static,
    ) -> (Flow<T>, Flow<T>) {
    }
    pub fn to(self, part: impl FnOnce(Flow<T>) -> Flow<T>) -> Pipeline<()> {
    pub(crate) fn never() -> Flow<T> {
}

impl<T, U, E> Fallible<T, U, E>
where
    T: Send,
{
    pub fn retry(mut self, retry: Retry) -> Self
    where
        T: Clone,
    {
}

impl Groups {
    pub fn buffer(mut self) -> Self {
}

pub fn restarting<T: Send + 'static>(
    mut make: impl FnMut(Resume) -> Flow<T> + Send + 'static,
) -> Flow<T> {
";
    assert_eq!(operators_of(text), ["map", "divert", "retry", "restarting"]);
}
