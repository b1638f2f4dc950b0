//! Cells of `tests/owners.toml` that name a case of this suite name one that runs on the cell's provider.

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use toml::{Table, Value};

use crate::cases;
use crate::entries::ENTRIES;

/// The check, as a test of its own.
pub fn trial() -> Trial {
    Trial::test("tables::each_cell_names_a_case_of_its_provider", || {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/owners.toml");
        let table: Table = toml::from_str(&std::fs::read_to_string(path)?)?;
        let (named, wrong) = cells(&table);
        if named == 0 {
            return Err(Failed::from("no cell names a case"));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Failed::from(format!("run on no entry of their provider: {wrong:?}")))
        }
    })
}

/// How many cells name a case, and those whose case runs on no entry of the provider.
fn cells(table: &Table) -> (usize, Vec<String>) {
    let (mut named, mut wrong) = (0, Vec::new());
    let acts = table["act"].as_array().into_iter().flatten().filter_map(Value::as_table);
    for (provider, cell) in acts.flatten() {
        let shown = cell.get("shown").and_then(Value::as_str).unwrap_or_default();
        for (module, case) in shown.split("; ").filter_map(|part| part.split_once(": ")) {
            let known = cases::MODULES.iter().find(|(name, _)| *name == module);
            let Some((_, needs, _)) = known.and_then(|(_, cases)| cases.iter().find(|(name, _, _)| *name == case)) else {
                continue;
            };
            named += 1;
            if !ENTRIES.iter().any(|entry| entry.provider == provider && needs.met_by(entry)) {
                wrong.push(format!("{provider}: {module}: {case}"));
            }
        }
    }
    (named, wrong)
}
