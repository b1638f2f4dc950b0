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
        !is_of_another && is_of_suite && text.contains(&format!("fn {test}("))
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
        ("providers/gcp/tests/answers.rs", "async fn own_answer() {}"),
        (
            "tests/support/src/fault_battery/kinds.rs",
            "pub async fn a_shared_case(subject: Subject) {}",
        ),
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
