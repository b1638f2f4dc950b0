//! The workspace's crates, read once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::modules::Crate;

/// The folders of crates beside the workspace's own: each holds some.
const FOLDERS: [&str; 4] = ["providers", "providers/testkit", "crates", "clients"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The gateway's own crate.
pub fn gateway() -> &'static Crate {
    &crates()["src"]
}

/// Every crate by its folder, the gateway as `src`; those for the tests under `tests` are not
/// among them.
pub fn crates() -> &'static BTreeMap<String, Crate> {
    static CRATES: LazyLock<BTreeMap<String, Crate>> = LazyLock::new(|| {
        let mut crates = BTreeMap::new();
        crates.insert("src".to_owned(), read("claviger", &root().join("src")));
        for (folder, manifest) in manifests() {
            let name = package(&manifest).replace('-', "_");
            crates.insert(folder.clone(), read(&name, &root().join(folder).join("src")));
        }
        assert!(
            crates.len() > 5 && crates.values().all(|krate| !krate.files.is_empty()),
            "the sources were not found"
        );
        crates
    });
    &CRATES
}

fn read(name: &str, folder: &Path) -> Crate {
    let files: Vec<(String, String)> = files(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (relative(&path, folder), fs::read_to_string(&path).unwrap()))
        .collect();
    Crate::new(name, files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
}

/// The manifests of the crates beside the gateway's, by folder.
pub fn manifests() -> Vec<(String, toml::Table)> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(text) = fs::read_to_string(path.join("Cargo.toml")) {
                all.push((relative(&path, root()), text.parse().unwrap()));
            }
        }
    }
    all
}

/// The name of a manifest's package.
pub fn package(manifest: &toml::Table) -> &str {
    manifest["package"]["name"].as_str().unwrap()
}

/// Every file below a folder, except what builds leave there.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("target" | ".git" | "__pycache__" | "node_modules") => {}
            _ if path.is_dir() => all.extend(files(&path)),
            _ => all.push(path),
        }
    }
    all
}

/// A path below a folder, with `/`.
pub fn relative(path: &Path, folder: &Path) -> String {
    let parts: Vec<_> = path
        .strip_prefix(folder)
        .unwrap()
        .iter()
        .map(|part| part.to_string_lossy())
        .collect();
    parts.join("/")
}
