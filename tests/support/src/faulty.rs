//! Key managers with faults that a test chooses by a file: a small PKCS#11 module in C before another one, and the server on
//! kmip-go.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The file with the name of the fault that a key manager has. Beside it the key manager notes what it was asked for.
#[derive(Debug, Clone)]
pub struct Switch(PathBuf);

impl Switch {
    /// In this folder, without a fault.
    pub fn in_folder(folder: &Path) -> Self {
        let switch = Self(folder.join("fault"));
        switch.have("");
        switch
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Has the key manager have a fault from now on; none if it is empty.
    pub fn have(&self, fault: &str) {
        // Replaced as a whole: the key manager must not read a part of it.
        let new = self.0.with_extension("new");
        std::fs::write(&new, fault).expect("a file");
        std::fs::rename(new, &self.0).expect("a file");
    }

    /// How often it noted something, such as `decryptions`.
    pub fn noted(&self, what: &str) -> usize {
        let noted = std::fs::metadata(self.0.with_extension(what));
        noted.map_or(0, |file| usize::try_from(file.len()).expect("a length"))
    }

    /// The text that it noted.
    pub fn text(&self, what: &str) -> String {
        std::fs::read_to_string(self.0.with_extension(what)).expect("a file")
    }
}

/// The PKCS#11 module with faults. It reads the variables `FAULTY_MODULE`, the module that it stands before, and
/// `FAULTY_SWITCH`, the path of a [`Switch`]. Compiled once; the folder stays until the tests end.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = tempfile::tempdir().expect("a folder").keep().join("faulty.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/faulty.c");
        let compiled = Command::new("cc")
            .args(["-std=gnu11", "-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .args([source, "-ldl"])
            .output()
            .expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        path
    })
}
