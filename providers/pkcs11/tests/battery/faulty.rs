//! A module with faults: a small one in C before SoftHSM's, compiled for the tests.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::token::{Module, Token};

/// Compiles the module, once; the folder stays until the tests end.
pub fn library() -> &'static PathBuf {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = tempfile::tempdir().unwrap().keep().join("faulty.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/battery/faulty.c");
        let compiled = Command::new("cc")
            .args(["-std=gnu11", "-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .args([source, "-ldl"])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        path
    })
}

/// A token behind the faulty module.
pub struct Faulty {
    pub token: Token,
    switch: PathBuf,
}

impl Faulty {
    /// Without a fault.
    pub fn make(module: &Module) -> Self {
        let token = Token::make(module);
        let switch = token.folder().join("fault");
        let faulty = Self { token, switch };
        faulty.have("");
        faulty
    }

    /// Has the module have a fault from now on.
    pub fn have(&self, fault: &str) {
        // Replaced as a whole: the module must not read a part of it.
        let new = self.switch.with_extension("new");
        std::fs::write(&new, fault).unwrap();
        std::fs::rename(new, &self.switch).unwrap();
    }

    /// How many logins the token has seen.
    pub fn logins(&self) -> usize {
        let noted = self.switch.with_extension("logins");
        std::fs::metadata(noted).map_or(0, |file| usize::try_from(file.len()).unwrap())
    }

    /// The process that the module left behind at its last login, and the standard input that it has.
    pub fn child(&self) -> (u32, String) {
        let noted = std::fs::read_to_string(self.switch.with_extension("child")).unwrap();
        let (process, input) = noted.split_once(' ').unwrap();
        (process.parse().unwrap(), input.to_owned())
    }

    /// The settings of a connection.
    pub fn settings(&self) -> Value {
        let mut settings = self.token.settings();
        settings["environment"]["FAULTY_MODULE"] = settings["module"].take();
        settings["module"] = json!(library());
        settings["environment"]["FAULTY_SWITCH"] = json!(self.switch);
        settings
    }
}
