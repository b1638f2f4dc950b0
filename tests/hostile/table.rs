//! Holds `table.toml` complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use claviger::protocols::rest::endpoints::Endpoint;
use serde::Deserialize;
use serde_json::Value;

use crate::routes::{Names, calls};

/// The least length of a reason, in characters: a word alone is none.
const REASON: usize = 12;
/// The test of the routes that ask no key service.
const ASKS_NONE: &str = "hostile: what_asks_no_key_service_sends_it_nothing";

#[derive(Deserialize)]
struct Table {
    questions: BTreeMap<String, String>,
    route: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    method: String,
    path: String,
    #[serde(flatten)]
    cells: BTreeMap<String, String>,
}

#[test]
fn every_route_has_an_answer_to_every_question() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let table: Table = toml::from_str(&read("tests/hostile/table.toml")).unwrap();
    let document: Value = serde_json::from_str(&read("openapi/claviger.json")).unwrap();
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let rows = table.route.iter().map(|row| (row.method.clone(), row.path.clone()));
    assert_eq!(
        rows.clone().count(),
        rows.clone().collect::<BTreeSet<_>>().len(),
        "a row stands twice"
    );
    assert_eq!(rows.collect::<BTreeSet<_>>(), operations.collect::<BTreeSet<_>>());

    // A route that was forgotten among those that ask a key service would be tried in none of their tests.
    for call in calls(&Names::of_evil("", "", &Value::Null)) {
        let is_row = |row: &&Row| row.method == call.method.as_str() && row.path == call.route;
        let row = table.route.iter().find(is_row).unwrap();
        let route = Endpoint::ALL.iter().map(|endpoint| endpoint.route());
        let mut route = route.filter(|route| route.method == call.method && route.path == call.route);
        assert_eq!(call.is_cut(), route.next().unwrap().revocation, "{}", call.name());
        let asks_none = row.cells["own_provider"].contains(ASKS_NONE);
        assert_eq!(asks_none, !call.asks_key_service(), "{}", call.name());
    }

    let tests = sources(root);
    let questions: BTreeSet<&String> = table.questions.keys().collect();
    let mut wrong = Vec::new();
    for row in &table.route {
        assert_eq!(row.cells.keys().collect::<BTreeSet<_>>(), questions, "{} {}", row.method, row.path);
        for (question, cell) in &row.cells {
            for part in cell.split("; ") {
                let known = match part.split_once(": ") {
                    Some((suite, test)) if suite.chars().all(char::is_alphanumeric) => is_test(&tests, suite, test),
                    _ => part.chars().count() >= REASON,
                };
                if !known {
                    wrong.push(format!("{} {} {question}: {part:?}", row.method, row.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "neither a test nor a reason: {wrong:#?}");
}

/// Whether a suite, or the unit tests of a module, has a test of this name.
fn is_test(sources: &[(String, String)], suite: &str, test: &str) -> bool {
    let (folder, file) = (format!("/{suite}/"), format!("/{suite}.rs"));
    let of_suite = sources.iter().filter(|(path, _)| path.contains(&folder) || path.ends_with(&file));
    let mut of_suite = of_suite.map(|(_, text)| text);
    // A function, or an entry of a suite that lists its tests.
    of_suite.any(|text| text.contains(&format!("fn {test}(")) || text.contains(&format!("(\"{test}\",")))
}

/// All Rust sources of the repository, by their paths.
fn sources(root: &Path) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()
        .unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    names
        .lines()
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root.join(name)).ok()?)))
        .collect()
}
