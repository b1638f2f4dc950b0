//! Holds `tests/owners.toml` complete: what becomes of each act of a key's owner, on each provider, and that each
//! provider's README has its part.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;

use super::fault_table::{REASON, Row, Sources, Table, mistakes, sources};

#[derive(Deserialize)]
struct Owners {
    providers: BTreeMap<String, String>,
    act: Vec<Act>,
}

#[derive(Deserialize)]
struct Act {
    name: String,
    #[serde(flatten)]
    cells: BTreeMap<String, Cell>,
}

/// What becomes of an act, or why there is none.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Cell {
    Seen {
        does: String,
        within: String,
        told: String,
        shown: String,
    },
    Never {
        cannot: String,
    },
}

/// Where a README has its part.
const BEGIN: &str = "<!-- from tests/owners.toml -->\n";
const END: &str = "<!-- end -->\n";

fn read(root: &Path) -> Owners {
    toml::from_str(&std::fs::read_to_string(root.join("tests/owners.toml")).unwrap()).unwrap()
}

fn wrong(owners: &Owners, sources: &Sources) -> Vec<String> {
    let shown = |cell: &Cell| match cell {
        Cell::Seen { shown, .. } => shown.clone(),
        Cell::Never { cannot } => cannot.clone(),
    };
    let row = |act: &Act| Row {
        name: act.name.clone(),
        cells: act.cells.iter().map(|(provider, cell)| (provider.clone(), shown(cell))).collect(),
    };
    let table = Table {
        providers: owners.providers.clone(),
        fault: owners.act.iter().map(row).collect(),
    };
    let mut wrong = mistakes(&table, sources);
    for act in &owners.act {
        for (provider, cell) in &act.cells {
            if let Cell::Seen { does, within, told, shown } = cell {
                let too_short = does.len() < REASON || within.is_empty() || told.is_empty();
                if too_short || !shown.contains(": ") {
                    wrong.push(format!("{}, {provider}: does, within, told and a test", act.name));
                }
            }
        }
    }
    wrong
}

/// A provider's part of the table, as its README has it.
fn rendered(owners: &Owners, provider: &str) -> String {
    let cells: Vec<(&str, &Cell)> = owners.act.iter().map(|act| (act.name.as_str(), &act.cells[provider])).collect();
    let reasons: Vec<&str> = cells
        .iter()
        .filter_map(|(_, cell)| match cell {
            Cell::Never { cannot } => Some(cannot.as_str()),
            Cell::Seen { .. } => None,
        })
        .collect();
    let mut text = BEGIN.to_owned();
    if reasons.len() == cells.len() && reasons.iter().all(|reason| *reason == reasons[0]) {
        writeln!(text, "None of it: {}.", reasons[0]).unwrap();
    } else {
        text.push_str("| the owner | the gateway | within | callers are told | shown by |\n|---|---|---|---|---|\n");
        for (act, cell) in cells {
            match cell {
                Cell::Seen { does, within, told, shown } => {
                    let tests: Vec<String> = shown.split("; ").map(|test| format!("`{test}`")).collect();
                    writeln!(text, "| {act} | {does} | {within} | {told} | {} |", tests.join(", ")).unwrap();
                }
                Cell::Never { cannot } => writeln!(text, "| {act} | cannot happen: {cannot} | | | |").unwrap(),
            }
        }
    }
    text.push_str(END);
    text
}

#[test]
fn every_act_of_an_owner_is_answered_on_every_provider() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wrong = wrong(&read(root), &sources(root));
    assert!(wrong.is_empty(), "neither a test nor a reason: {wrong:#?}");
}

#[test]
fn each_readme_has_the_table_of_its_owners() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let owners = read(root);
    for provider in owners.providers.keys() {
        let page = root.join("providers").join(provider).join("README.md");
        let expected = rendered(&owners, provider);
        let found = std::fs::read_to_string(&page).unwrap().contains(&expected);
        assert!(found, "{} lacks this, or has it otherwise:\n{expected}", page.display());
    }
}

#[test]
fn a_cell_without_a_test_and_one_without_a_reason_are_mistakes() {
    let sources: Sources = [("providers/aws/tests/answers.rs".to_owned(), "#[test]\nfn shown() {}".to_owned())].into();
    let found = |cell: Cell| {
        let owners = Owners {
            providers: [("aws".to_owned(), String::new())].into(),
            act: vec![Act {
                name: "an act".to_owned(),
                cells: [("aws".to_owned(), cell)].into(),
            }],
        };
        wrong(&owners, &sources).len()
    };
    let seen = |does: &str, told: &str, shown: &str| Cell::Seen {
        does: does.to_owned(),
        within: "the next call".to_owned(),
        told: told.to_owned(),
        shown: shown.to_owned(),
    };
    let never = |cannot: &str| Cell::Never { cannot: cannot.to_owned() };
    assert_eq!(found(seen("passes it on", "409", "answers: shown")), 0);
    assert_eq!(found(never("it has no such thing")), 0);
    assert_eq!(found(seen("passes it on", "409", "answers: absent")), 1);
    assert_eq!(found(seen("passes it on", "409", "everybody knows that")), 1);
    assert_eq!(found(seen("passes it on", "", "answers: shown")), 1);
    assert_eq!(found(seen("", "409", "answers: shown")), 1);
    assert_eq!(found(never("no")), 1);
}
