//! Holds `table.toml` complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use claviger::protocols::rest::endpoints::Endpoint;
use serde::Deserialize;
use serde_json::Value;

use crate::one_key::all_that_name_nothing;
use crate::routes::{Names, calls};

/// The least number of words of a reason.
const REASON: usize = 3;
/// The test of the routes that ask no key service.
const ASKS_NONE: &str = "hostile: what_asks_no_key_service_sends_it_nothing";
/// The test of the routes that name something.
const ALIKE: &str = "hostile: a_token_for_one_key_is_answered_alike_for_what_exists_and_what_does_not";
/// What is served and is in no OpenAPI document: paths, and what is reached in another way.
const UNDOCUMENTED: [(&str, &str); 8] = [
    ("GET", "/docs"),
    ("GET", "/docs/{file}"),
    ("GET", "(a path that is not served)"),
    ("TRACE", "(a method that the path does not take)"),
    ("HEAD", "(every path that takes GET)"),
    ("ANY", "(the operator's listener)"),
    ("ANY", "(the listener of the service endpoints)"),
    ("ANY", "(the time of the start)"),
];

#[derive(Deserialize)]
struct Table {
    questions: BTreeMap<String, String>,
    /// Tests and reasons that several cells have, by the name that stands for them.
    shared: BTreeMap<String, String>,
    route: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    method: String,
    path: String,
    #[serde(flatten)]
    cells: BTreeMap<String, String>,
}

impl Table {
    fn read(root: &Path) -> Self {
        let mut table: Self = toml::from_str(&std::fs::read_to_string(root.join("tests/hostile/table.toml")).unwrap()).unwrap();
        for cell in table.route.iter_mut().flat_map(|row| row.cells.values_mut()) {
            let parts = cell.split("; ").map(|part| match part.strip_prefix('@') {
                Some(name) => table.shared.get(name).unwrap_or_else(|| panic!("nothing is named {name}")),
                None => part,
            });
            *cell = parts.collect::<Vec<_>>().join("; ");
        }
        table
    }
}

/// The routes that need a row: those of the document, and what is in none.
fn served(root: &Path) -> BTreeSet<(String, String)> {
    let document = std::fs::read_to_string(root.join("openapi/claviger.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let undocumented = UNDOCUMENTED.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    operations.chain(undocumented).collect()
}

#[test]
fn every_route_has_an_answer_to_every_question() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = Table::read(root);
    let rows = table.route.iter().map(|row| (row.method.clone(), row.path.clone()));
    assert_eq!(
        rows.clone().count(),
        rows.clone().collect::<BTreeSet<_>>().len(),
        "a row stands twice"
    );
    assert_eq!(rows.collect::<BTreeSet<_>>(), served(root));

    // A route that was forgotten among those that ask a key service would be tried in none of their tests.
    let nothing: BTreeSet<String> = all_that_name_nothing().collect();
    for call in calls(&Names::of_evil("", "", &Value::Null)) {
        let is_row = |row: &&Row| row.method == call.method.as_str() && row.path == call.route;
        let row = table.route.iter().find(is_row).unwrap();
        let route = Endpoint::ALL.iter().map(|endpoint| endpoint.route());
        let mut route = route.filter(|route| route.method == call.method && route.path == call.route);
        assert_eq!(call.is_cut(), route.next().unwrap().revocation, "{}", call.name());
        let asks_none = row.cells["own_provider"].contains(ASKS_NONE);
        assert_eq!(asks_none, !call.asks_key_service(), "{}", call.name());
        // The filters of a list of keys name something.
        let names_nothing = nothing.contains(&call.name()) && call.name() != "GET /v1/keys";
        let is_compared = row.cells["one_key"].contains(ALIKE);
        assert!(!(is_compared && names_nothing), "{} names nothing", call.name());
    }

    let tests = sources(root);
    let questions: BTreeSet<&String> = table.questions.keys().collect();
    let mut wrong = Vec::new();
    for row in &table.route {
        assert_eq!(row.cells.keys().collect::<BTreeSet<_>>(), questions, "{} {}", row.method, row.path);
        for (question, cell) in &row.cells {
            let unknown = cell.split("; ").filter(|part| !is_known(&tests, part));
            wrong.extend(unknown.map(|part| format!("{} {} {question}: {part:?}", row.method, row.path)));
        }
    }
    assert!(wrong.is_empty(), "neither a test nor a reason: {wrong:#?}");
}

/// Whether a part of a cell names a test that exists, or is a reason: words, and nothing that looks like a test's name.
fn is_known(tests: &[(String, String)], part: &str) -> bool {
    match part.split_once(": ") {
        Some((suite, test)) if is_name(suite) && is_name(test) => is_test(tests, suite, test),
        _ => !part.contains('_') && part.split_whitespace().count() >= REASON,
    }
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether a suite, or the unit tests of a module, has a test of this name.
fn is_test(sources: &[(String, String)], suite: &str, test: &str) -> bool {
    let (folder, file) = (format!("/{suite}/"), format!("/{suite}.rs"));
    let of_suite = sources.iter().filter(|(path, _)| path.contains(&folder) || path.ends_with(&file));
    let mut of_suite = of_suite.map(|(_, text)| text);
    // A function, or an entry of a suite that lists its tests.
    of_suite.any(|text| has_attribute(text, test) || is_listed(text, test))
}

/// Whether a function has the attribute of a test.
fn has_attribute(text: &str, test: &str) -> bool {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.contains(&format!("fn {test}(")) && is_test {
            return true;
        }
        let goes_on = line.starts_with("#[") || line.starts_with("//");
        is_test = (is_test && goes_on) || line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    }
    false
}

/// Whether a suite that runs its tests itself lists this one: by its name, or as a case of a contract.
fn is_listed(text: &str, test: &str) -> bool {
    let by_name = ["(\"", "::"].iter().any(|before| text.contains(&format!("{before}{test}\",")));
    by_name || text.lines().any(|line| line.trim() == format!("{test},"))
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

#[test]
fn a_misspelt_test_and_a_function_that_nobody_runs_are_no_answer() {
    let tests = [
        ("tests/hostile/a.rs", "#[tokio::test]\nasync fn it_holds() {}\nfn helps() {}\n"),
        ("tests/crash/main.rs", "    Trial::test(\"kill::it_ends\", || {\n"),
    ];
    let tests = tests.map(|(path, text)| (path.to_owned(), text.to_owned()));
    for known in [
        "hostile: it_holds",
        "crash: it_ends",
        "needs no token",
        "keeps no record: it shows nothing",
    ] {
        assert!(is_known(&tests, known), "{known}");
    }
    for unknown in [
        "hostile: helps",
        "hostile:it_holds",
        "hostile : it_holds",
        "hos_tile: it_holds",
        "hostile: it holds_",
        "nothing happens",
        "",
    ] {
        assert!(!is_known(&tests, unknown), "{unknown}");
    }
}
