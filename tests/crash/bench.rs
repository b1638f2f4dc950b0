//! A gateway with a folder beside it, for what is kept elsewhere: backups, an archive, a data folder that was
//! moved away.

use std::path::{Path, PathBuf};
use std::process::Output;

use claviger_test_support::{Gateway, Tune};

pub struct Bench {
    pub gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            gateway: Gateway::new(crate::BINARY),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Runs the binary with these arguments.
    pub fn command(&self, tune: &Tune, arguments: &[&str]) -> Output {
        let mut command = self.gateway.command(tune);
        command.args(arguments).output().expect("the binary runs")
    }

    /// As [`Bench::command`], which must succeed. Returns what it printed.
    pub fn run(&self, tune: &Tune, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(tune, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Moves the data folder away.
    pub fn lose_data(&self, name: &str) {
        std::fs::rename(self.gateway.data(), self.path(name)).expect("moved");
    }
}

/// A path as an argument.
pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path")
}
