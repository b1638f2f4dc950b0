//! Tokens of modules in software, each in a folder of its own, and connections to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_provider::{Factory, SealedStore, Secret, SettingsOrigin};
use claviger_provider_pkcs11::{HelperProgram, Pkcs11Factory, Pkcs11Provider};
use claviger_testkit::MemoryStore;
use claviger_testkit::connection::parts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::objects;

/// The argument with which this program is the helper.
pub const HELPER: &str = "pkcs11-host";
/// The PIN of the tokens' user.
pub const PIN: &str = "31415926";
/// The label of the tokens.
pub const LABEL: &str = "claviger";

/// A module whose tokens are files.
#[derive(Debug, Clone, Default)]
pub struct Module {
    pub path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    SoftHsm,
    Kryoptic,
}

impl Module {
    /// As `tests/backends/softhsm/start` prints it.
    pub fn softhsm() -> Option<Self> {
        Self::named("CLAVIGER_TEST_SOFTHSM_MODULE", Kind::SoftHsm)
    }

    /// As `tests/backends/kryoptic/start` prints it.
    pub fn kryoptic() -> Option<Self> {
        Self::named("CLAVIGER_TEST_KRYOPTIC_MODULE", Kind::Kryoptic)
    }

    fn named(variable: &str, kind: Kind) -> Option<Self> {
        let path = PathBuf::from(std::env::var_os(variable)?);
        Some(Self { path, kind })
    }

    /// The environment variable that names the module's configuration.
    pub const fn variable(&self) -> &'static str {
        match self.kind {
            Kind::SoftHsm => "SOFTHSM2_CONF",
            Kind::Kryoptic => "KRYOPTIC_CONF",
        }
    }
}

/// A token.
pub struct Token {
    folder: TempDir,
    pub module: Module,
    pub store: Arc<MemoryStore>,
}

impl Token {
    /// Makes a token with a user.
    pub fn make(module: &Module) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let tokens = tokens.display();
        let configuration = match module.kind {
            Kind::SoftHsm => format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"),
            Kind::Kryoptic => (1..=3)
                .map(|slot| format!("[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{tokens}/{slot}.sql\"\n"))
                .collect(),
        };
        std::fs::write(folder.path().join("token.conf"), configuration).unwrap();
        let token = Self {
            folder,
            module: module.clone(),
            store: Arc::default(),
        };
        token.add(LABEL);
        token
    }

    /// Makes another token beside it.
    pub fn add(&self, label: &str) {
        objects::make(self, "", label, "token");
    }

    /// The token's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of the module's configuration.
    pub fn configuration(&self) -> String {
        self.folder.path().join("token.conf").display().to_string()
    }

    /// The settings of a connection.
    pub fn settings(&self) -> Value {
        json!({
            "module": self.module.path,
            "token": {"label": LABEL},
            "pin": PIN,
            "environment": {self.module.variable(): self.configuration()},
            // A slow machine must not end a call.
            "budget_ms": 10_000,
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
