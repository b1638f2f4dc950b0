//! Modules and packages use no more than the tables allow. Code that is compiled for tests
//! only is exempt.

use std::collections::BTreeSet;

use super::tables::{CONCRETE, CRATES, MODULES, PACKAGES, REGISTRY};
use super::text::tokens;
use super::workspace::{gateway, manifests, package};

/// Whether a path is `whole` or below it.
fn within(path: &[String], whole: &str) -> bool {
    let whole: Vec<&str> = whole.split("::").collect();
    path.len() >= whole.len() && whole.iter().zip(path).all(|(a, b)| a == b)
}

#[test]
fn modules_use_no_more_than_they_may() {
    let gateway = gateway();
    // The root declares the modules and uses none.
    let room = |module: &[String], file: &str| match file {
        "lib.rs" => None,
        "main.rs" => Some("main".to_owned()),
        _ => Some(module[0].clone()),
    };
    let rooms: BTreeSet<String> = gateway.files.iter().filter_map(|file| room(&file.module, &file.name)).collect();
    let mut wrong = Vec::new();
    for room in &rooms {
        if !MODULES.iter().any(|(module, _)| module == room) {
            wrong.push(format!("src/{room} has no row in the table"));
        }
    }
    for (module, _) in MODULES {
        if !rooms.contains(*module) {
            wrong.push(format!("the table has a row for {module}, which does not exist"));
        }
    }
    let others: BTreeSet<String> = manifests()
        .iter()
        .map(|(_, manifest)| package(manifest).replace('-', "_"))
        .collect();
    for file in &gateway.files {
        let Some(here) = room(&file.module, &file.name) else { continue };
        let allowed = MODULES
            .iter()
            .find(|(row, _)| *row == here)
            .map_or(&[][..], |(_, allowed)| *allowed);
        for path in gateway.absolute_paths(file) {
            // What is no module is an item of the root.
            if path.first().is_none_or(|first| !rooms.contains(first) || *first == here) {
                continue;
            }
            let named = path.join("::");
            if !allowed.iter().any(|(whole, _)| within(&path, whole)) {
                wrong.push(format!("src/{} may not use {named}", file.name));
            }
            if file.name != REGISTRY && CONCRETE.iter().any(|(whole, _)| within(&path, whole)) {
                wrong.push(format!("src/{} may not use {named}: only {REGISTRY} may", file.name));
            }
        }
        for word in tokens(&file.code).map(|token| token.text) {
            if file.name != REGISTRY && others.contains(&word) && !CRATES.contains(&word.as_str()) {
                wrong.push(format!("src/{} may not use {word}: only {REGISTRY} may", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The packages of this workspace that a table of dependencies names.
fn ours(tables: &toml::Table, kind: &str, names: &BTreeSet<String>) -> Vec<String> {
    let dependencies = tables.get(kind).and_then(toml::Value::as_table).into_iter().flatten();
    dependencies
        .map(|(name, value)| value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned())
        .filter(|name| names.contains(name))
        .collect()
}

#[test]
fn packages_depend_on_no_more_than_they_may() {
    let manifests = manifests();
    let mut names: BTreeSet<String> = manifests.iter().map(|(_, manifest)| package(manifest).to_owned()).collect();
    names.insert("claviger".to_owned());
    assert!(names.contains("claviger-provider") && names.contains("claviger-guarded"));
    let mut wrong = Vec::new();
    for (_, manifest) in &manifests {
        let name = package(manifest);
        let (_, always, in_tests) = PACKAGES
            .iter()
            .find(|(row, _, _)| *row == name)
            .or_else(|| PACKAGES.iter().find(|(row, _, _)| *row == "*"))
            .unwrap();
        let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
        let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
        for tables in tables {
            for (kind, also) in [
                ("dependencies", &[][..]),
                ("build-dependencies", &[]),
                ("dev-dependencies", *in_tests),
            ] {
                for used in ours(tables, kind, &names) {
                    if !always.contains(&used.as_str()) && !also.contains(&used.as_str()) {
                        wrong.push(format!("{name} may not depend on {used} ({kind})"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_path_is_within_its_parents() {
    let path = ["store".to_owned(), "model".to_owned()];
    assert!(within(&path, "store::model") && within(&path, "store"));
    assert!(!within(&path[..1], "store::model") && !within(&path, "sto"));
}
