//! Tokens of SoftHSM, each in a folder of its own, and connections to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use claviger_provider::{Factory, SealedStore, Secret, SettingsOrigin};
use claviger_provider_pkcs11::{HelperProgram, Pkcs11Factory, Pkcs11Provider};
use claviger_testkit::MemoryStore;
use claviger_testkit::connection::parts;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The argument with which this program is the helper.
pub const HELPER: &str = "pkcs11-host";
/// The PIN of the tokens' user.
pub const PIN: &str = "31415926";
/// The label of the tokens.
pub const LABEL: &str = "claviger";

/// The module, and the tool that makes tokens.
#[derive(Default)]
pub struct SoftHsm {
    pub module: PathBuf,
    tool: PathBuf,
}

impl SoftHsm {
    /// As `tests/backends/softhsm/start` prints it.
    pub fn of_environment() -> Option<Self> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            module: path("CLAVIGER_TEST_SOFTHSM_MODULE")?,
            tool: path("CLAVIGER_TEST_SOFTHSM_TOOL")?,
        })
    }
}

/// A token.
pub struct Token {
    folder: TempDir,
    module: PathBuf,
    tool: PathBuf,
    pub store: Arc<MemoryStore>,
}

impl Token {
    /// Makes a token with a user.
    pub fn make(softhsm: &SoftHsm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        std::fs::write(folder.path().join("softhsm2.conf"), configuration).unwrap();
        let token = Self {
            folder,
            module: softhsm.module.clone(),
            tool: softhsm.tool.clone(),
            store: Arc::default(),
        };
        token.add(LABEL);
        token
    }

    /// Makes another token beside it.
    pub fn add(&self, label: &str) {
        let made = Command::new(&self.tool)
            .env("SOFTHSM2_CONF", self.configuration())
            .args(["--init-token", "--free", "--so-pin", "27182818", "--pin", PIN, "--label", label])
            .arg("--module")
            .arg(&self.module)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// The token's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of SoftHSM's configuration.
    pub fn configuration(&self) -> String {
        self.folder.path().join("softhsm2.conf").display().to_string()
    }

    /// The settings of a connection.
    pub fn settings(&self) -> Value {
        json!({
            "module": self.module,
            "token": {"label": LABEL},
            "pin": PIN,
            "environment": {"SOFTHSM2_CONF": self.configuration()},
        })
    }

    /// A factory, as that of a gateway that was started.
    pub fn factory(&self) -> Pkcs11Factory {
        Pkcs11Factory::new(HelperProgram::own(&[HELPER]), Arc::clone(&self.store) as Arc<dyn SealedStore>)
    }

    /// A connection with the token's settings.
    pub fn connect(&self) -> Pkcs11Provider {
        self.connect_with(&self.settings())
    }

    /// A connection with these settings, of a gateway that was started for it.
    pub fn connect_with(&self, settings: &Value) -> Pkcs11Provider {
        connect(&self.factory(), settings)
    }
}

/// A connection of a gateway.
pub fn connect(factory: &Pkcs11Factory, settings: &Value) -> Pkcs11Provider {
    let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
    let secrets: Vec<(String, Secret)> = parsed.secrets;
    factory.provider(parts(&parsed.public, secrets)).unwrap()
}
