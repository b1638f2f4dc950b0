//! A gateway with tenant `acme`, and commands that are run against it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use claviger_test_support::{Gateway, Started, Tune};
use serde_json::Value;

/// A gateway and a folder for files.
pub struct Cli {
    pub gateway: Gateway,
    pub started: Started,
    folder: tempfile::TempDir,
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Cli {
    /// With tenant `acme` and its connection `embedded`, both made by commands.
    pub fn new() -> Self {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(&Tune::default());
        let folder = tempfile::tempdir().unwrap();
        let cli = Self { gateway, started, folder };
        cli.good(&["tenants", "create", "acme"]);
        cli.good(&["connections", "create", "embedded", "--provider", "local"]);
        cli
    }

    /// As [`Cli::new`], with a key `orders`.
    pub fn with_key() -> Self {
        let cli = Self::new();
        cli.good(&["keys", "create", "orders", "--connection", "embedded"]);
        cli
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in the folder with this content.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The binary with the operator's token, acting for `acme`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(crate::BINARY);
        command
            .env_clear()
            .env("CLAVIGER_ADDRESS", format!("http://{}", self.started.address()))
            .env("CLAVIGER_TOKEN_FILE", self.gateway.token_file());
        command
    }

    /// Runs a command with nothing on standard input.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.piped(arguments, b"")
    }

    /// Runs a command with this on standard input.
    pub fn piped(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = self.command();
        if arguments[0] != "tenants" {
            command.env("CLAVIGER_TENANT", "acme");
        }
        ended(command.args(arguments), input)
    }

    /// Runs a command that must do what it says.
    #[track_caller]
    pub fn good(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
        ended.text()
    }

    /// Runs a command that must do what it says, and answers its JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(&[arguments, &["--output", "json"]].concat())).unwrap()
    }

    /// Runs a command that must end with this code, and answers what it says of it.
    #[track_caller]
    pub fn bad(&self, arguments: &[&str], code: i32) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(!ended.err.is_empty(), "{arguments:?} says nothing");
        ended.err
    }
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }
}

/// Runs a command to its end.
pub fn ended(command: &mut Command, input: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A file's mode, without its type.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
