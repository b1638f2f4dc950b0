//! The search through everything that stays: log output, database, write-ahead files, audit
//! files, the whole folder, while the gateway runs and after it ended.

use std::fs;
use std::path::Path;

use claviger_test_support::{Gateway, Tune};

use crate::BINARY;
use crate::forms::{Canaries, Search};
use crate::operations::Caller;

/// The log at its finest.
pub fn tune() -> Tune {
    Tune::default()
        .set("CLAVIGER_TELEMETRY__LOG_LEVEL", "trace")
        .set("RUST_BACKTRACE", "full")
}

/// All files under a folder.
fn files(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Stops the test if a file under the folder holds a canary; answers the names of the files.
pub fn silent(folder: &Path, search: &Search) -> Vec<String> {
    let mut paths = Vec::new();
    files(folder, &mut paths);
    let mut names = Vec::new();
    for path in paths {
        let found = search.find(&fs::read(&path).expect("a file"));
        assert!(found.is_empty(), "{} holds {found:?}", path.display());
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names
}

pub async fn search() {
    let gateway = Gateway::new(BINARY);
    let started = gateway.serve(&tune());
    let mut canaries = Canaries::default();
    let client = started.with_tenant("acme").await;
    let mut caller = Caller::new(&started, client, &mut canaries);
    let blobs = caller.operations().await;
    caller.errors(&blobs).await;
    caller.tokens().await;

    let folder = gateway.data();
    let folder = folder.parent().expect("the gateway's folder");
    let search = canaries.search();
    let names = silent(folder, &search);
    for name in [
        "claviger.db",
        "claviger.db-wal",
        "audit-00000000000000000000.log",
        "audit.index",
        "cuts.kill",
        "serve.log",
        "root.key",
    ] {
        assert!(names.iter().any(|there| there == name), "{name} was not searched: {names:?}");
    }
    assert!(
        started.output().contains("TRACE") || started.output().contains("DEBUG"),
        "the log is not at its finest"
    );
    assert!(started.terminate());
    silent(folder, &search);
    println!("kept: {} canaries, {} files", canaries.len(), names.len());
}
