//! OpenBao as its administrator uses it: by its own command line.

use std::process::Command;

use serde_json::{Value, json};

use crate::world::{good, variable};

/// The dev server's variables.
pub const DEV: &[&str] = &[
    "CLAVIGER_TEST_OPENBAO_ADDRESS",
    "CLAVIGER_TEST_OPENBAO_TOKEN",
    "CLAVIGER_TEST_OPENBAO_CLI",
];
/// The variables of the server with TLS.
pub const TLS: &[&str] = &[
    "CLAVIGER_TEST_OPENBAO_TLS_ADDRESS",
    "CLAVIGER_TEST_OPENBAO_TLS_TOKEN",
    "CLAVIGER_TEST_OPENBAO_TLS_CLI",
    "CLAVIGER_TEST_OPENBAO_TLS_FOLDER",
];

/// One of the two servers.
#[derive(Clone, Copy)]
pub enum Server {
    Dev,
    Tls,
}

impl Server {
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Dev => DEV,
            Self::Tls => TLS,
        }
    }

    pub fn address(self) -> String {
        variable(self.variables()[0])
    }

    /// The root token.
    pub fn token(self) -> String {
        variable(self.variables()[1])
    }

    /// A file that the server with TLS made for its clients.
    pub fn file(self, name: &str) -> String {
        let folder = variable(self.variables()[3]);
        std::fs::read_to_string(format!("{folder}/{name}")).unwrap()
    }

    /// What `bao` writes, run by the administrator.
    pub fn bao(self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(variable(self.variables()[2]));
        // The program keeps a token in the user's home folder.
        let home = tempfile::tempdir().unwrap();
        command
            .env_clear()
            .env("HOME", home.path())
            .env("VAULT_ADDR", self.address())
            .env("VAULT_TOKEN", self.token())
            .args(arguments);
        if let Self::Tls = self {
            command.env("VAULT_CACERT", format!("{}/ca.pem", variable(self.variables()[3])));
        }
        good(command, input)
    }

    /// The settings of a connection with this login.
    pub fn settings(self, auth: &Value) -> Value {
        let mut settings = json!({"address": self.address(), "auth": auth});
        if let Self::Tls = self {
            settings["ca"] = json!(self.file("ca.pem"));
        }
        settings
    }

    /// A token of this policy alone; `more` are arguments of `bao token create`.
    pub fn limited(self, policy: &str, more: &[&str]) -> String {
        let name = unique("policy");
        self.bao(&["policy", "write", &name, "-"], policy);
        let policy = format!("-policy={name}");
        let create = ["token", "create", "-orphan", "-no-default-policy", "-field=token", &policy];
        self.bao(&[&create[..], more].concat(), "").trim().to_owned()
    }
}

/// A name that no other case has.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", claviger_provider::KeyId::random())
}
