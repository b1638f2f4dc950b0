//! Holds `tests/faults.toml` complete: what becomes of each fault of a key service, on each provider.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// The least length of a reason, in characters: a word alone is none.
pub const REASON: usize = 12;
/// The suite that every provider's battery runs whole.
const SHARED: &str = "fault_battery";

#[derive(Deserialize)]
pub struct Table {
    pub providers: BTreeMap<String, String>,
    pub fault: Vec<Row>,
}

#[derive(Deserialize)]
pub struct Row {
    pub name: String,
    #[serde(flatten)]
    pub cells: BTreeMap<String, String>,
}

/// A source, by its path.
pub type Sources = BTreeMap<String, String>;

#[test]
fn every_fault_has_an_answer_on_every_provider() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/faults.toml")).unwrap();
    let table: Table = toml::from_str(&text).unwrap();
    let wrong = mistakes(&table, &sources(root));
    assert!(wrong.is_empty(), "neither a test nor a reason: {wrong:#?}");
}

/// The crates below `providers` that are no provider.
const OTHERS: [&str; 2] = ["core", "testkit"];

/// The cells of a table that name neither a test that exists nor a reason.
pub fn mistakes(table: &Table, sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    let providers: BTreeSet<&str> = table.providers.keys().map(String::as_str).collect();
    let folders = sources.keys().filter_map(|path| path.strip_prefix("providers/")?.split('/').next());
    let folders: BTreeSet<&str> = folders.filter(|folder| !OTHERS.contains(folder)).collect();
    if providers != folders {
        wrong.push(format!("the columns are {providers:?}, the providers {folders:?}"));
    }
    for row in &table.fault {
        let columns: BTreeSet<&str> = row.cells.keys().map(String::as_str).collect();
        if columns != providers {
            wrong.push(format!("{}: has the columns {columns:?}", row.name));
        }
        for (provider, cell) in &row.cells {
            let unknown = cell.split("; ").filter(|part| match part.split_once(": ") {
                Some((suite, test)) if is_name(suite) && is_name(test) => !is_test(sources, provider, suite, test),
                _ => part.chars().count() < REASON,
            });
            wrong.extend(unknown.map(|part| format!("{}, {provider}: {part:?}", row.name)));
        }
    }
    wrong
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether the provider's own tests, or those that providers share, have a test of this name in this suite.
fn is_test(sources: &Sources, provider: &str, suite: &str, test: &str) -> bool {
    let own = format!("providers/{provider}/");
    if suite == SHARED && !sources.iter().any(|(path, text)| path.starts_with(&own) && text.contains(SHARED)) {
        return false;
    }
    let (folder, file) = (format!("/{suite}/"), format!("/{suite}.rs"));
    sources.iter().any(|(path, text)| {
        let is_of_another = path
            .strip_prefix("providers/")
            .is_some_and(|path| !path.starts_with("core/") && !path.starts_with("testkit/"))
            && !path.starts_with(&own);
        let is_of_suite = path.contains(&folder) || path.ends_with(&file);
        let is_run = || has_attribute(text, test) || sources.iter().any(|(other, text)| beside(path, other) && lists(text, test));
        !is_of_another && is_of_suite && text.contains(&format!("fn {test}(")) && is_run()
    })
}

/// Whether two sources are in the same folder of tests, or in the same package of a provider.
fn beside(one: &str, other: &str) -> bool {
    one.split('/').take(2).eq(other.split('/').take(2))
}

/// Whether a function has the attribute of a test.
fn has_attribute(text: &str, test: &str) -> bool {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.contains(&format!("fn {test}(")) {
            return is_test;
        }
        let goes_on = line.starts_with("#[") || line.starts_with("//");
        is_test = (is_test && goes_on) || line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    }
    false
}

/// What a case is handed to that is run.
const RUNNERS: [&str; 3] = ["Box::pin(", "run(", "block_on("];

/// Whether a list of cases has a function: as a line of its own, as the only element, or as the future of a case.
fn lists(text: &str, test: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines().map(str::trim).filter(|line| !line.starts_with("//")).any(|line| {
        line.match_indices(test).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + test.len()..]);
            let before = before.trim_end_matches(|c| is_part(c) || c == ':');
            let is_whole = !line[before.len()..at].ends_with(is_part) && !after.starts_with(is_part);
            let is_element = ((before.is_empty() || before.ends_with("=> ")) && after == ",") || (before.ends_with("![") && after == "]");
            let is_future = after.starts_with('(') && RUNNERS.iter().any(|runner| before.ends_with(runner));
            is_whole && (is_element || is_future)
        })
    })
}

/// All Rust sources of the repository.
pub fn sources(root: &Path) -> Sources {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()
        .unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let read = |name: &str| Some((name.to_owned(), std::fs::read_to_string(root.join(name)).ok()?));
    names.lines().filter_map(read).collect()
}

#[test]
fn an_empty_cell_and_a_test_that_does_not_exist_are_mistakes() {
    let sources: Sources = [
        ("providers/aws/tests/battery/faults.rs", "use support::fault_battery::cases;"),
        ("providers/gcp/tests/answers.rs", "#[test]\nasync fn own_answer() {}"),
        (
            "tests/support/src/fault_battery/kinds.rs",
            "pub async fn a_shared_case(subject: Subject) {}",
        ),
        ("tests/support/src/fault_battery/mod.rs", "cases![\n    kinds::a_shared_case,\n]"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into();
    let found = |aws: &str, gcp: &str| {
        let cells = [("aws", aws), ("gcp", gcp)].map(|(name, cell)| (name.to_owned(), cell.to_owned()));
        let providers = cells.clone().map(|(name, _)| (name, String::new())).into();
        let row = Row {
            name: "a fault".to_owned(),
            cells: cells.into_iter().filter(|(_, cell)| cell != "absent").collect(),
        };
        mistakes(
            &Table {
                providers,
                fault: vec![row],
            },
            &sources,
        )
        .len()
    };
    assert_eq!(found("fault_battery: a_shared_case", "answers: own_answer"), 0);
    assert_eq!(
        found("fault_battery: a_shared_case; no socket is ever open", "makes no such call"),
        0
    );
    // Not the provider's own, not run by it, of no suite, no reason.
    assert_eq!(found("answers: own_answer", "fault_battery: a_shared_case"), 2);
    assert_eq!(found("fault_battery: another", ""), 2);
    assert_eq!(found("no", "absent"), 2);
}

#[test]
fn a_function_that_nobody_runs_is_no_test() {
    for text in [
        "#[test]\nfn works() {}",
        "#[tokio::test(flavor = \"multi_thread\")]\n/// Why.\nasync fn works() {}",
    ] {
        assert!(has_attribute(text, "works"), "{text}");
    }
    for text in [
        "fn works() {}",
        "#[test]\nfn other() {}\nfn works() {}",
        "#[test]\nfn it_works() {}",
    ] {
        assert!(!has_attribute(text, "works"), "{text}");
    }
    for text in [
        "    works,",
        "    kinds::works,",
        "[Server::Moto] => owner::works,",
        "cases![works]",
        "|| Box::pin(works())",
        "run(own::works(bench))",
        "runtime()?.block_on(works());",
    ] {
        assert!(lists(text, "works"), "{text}");
    }
    for text in [
        "fn works() {}",
        "    // works,",
        "    it_works,",
        "    works_too,",
        "works(1);",
        "Box::pin(it_works())",
        "let works = 1;",
    ] {
        assert!(!lists(text, "works"), "{text}");
    }
    assert!(beside("tests/servers/logins.rs", "tests/servers/main.rs"));
    assert!(!beside("tests/servers/logins.rs", "tests/cli/main.rs"));
}
