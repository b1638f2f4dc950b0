//! A token in files that a gateway's configuration declares, of SoftHSM or Kryoptic, and the helper processes that call it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Tune;
use crate::faulty::{self, Switch};

/// The variables that `tests/backends/softhsm/start` prints.
pub const VARIABLES: &[&str] = &["CLAVIGER_TEST_SOFTHSM_MODULE", "CLAVIGER_TEST_SOFTHSM_TOOL"];

/// The PIN of the token's user.
pub const PIN: &str = "31415926535897932384";

/// A connection to the token.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Its name.
    pub name: &'a str,
    /// Set for one by way of the module with faults.
    pub switch: Option<&'a Switch>,
    /// The time of one call, in milliseconds.
    pub budget_ms: u64,
}

impl<'a> Declared<'a> {
    /// Without faults, and with so much time that a slow machine ends no call.
    pub const fn named(name: &'a str) -> Self {
        Self {
            name,
            switch: None,
            budget_ms: 10_000,
        }
    }
}

/// A module whose tokens are files.
#[derive(Debug)]
pub struct Module {
    /// The variables that name it, and softhsm2-util, which makes the tokens of both.
    pub variables: &'static [&'static str],
    /// The environment variable that names its configuration.
    environment: &'static str,
    /// The configuration's name in a folder.
    file: &'static str,
    /// The configuration, of tokens in this folder.
    configuration: fn(&Path) -> String,
}

/// SoftHSM.
pub const SOFTHSM: Module = Module {
    variables: VARIABLES,
    environment: "SOFTHSM2_CONF",
    file: "softhsm2.conf",
    configuration: |tokens| format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()),
};

/// Kryoptic, as `tests/backends/kryoptic/start` prints it.
pub const KRYOPTIC: Module = Module {
    variables: &["CLAVIGER_TEST_KRYOPTIC_MODULE", "CLAVIGER_TEST_SOFTHSM_TOOL"],
    environment: "KRYOPTIC_CONF",
    file: "kryoptic.conf",
    configuration: |tokens| {
        format!(
            "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}/1.sql\"\n",
            tokens.display()
        )
    },
};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

impl Module {
    /// Whether the module or the tool is absent.
    pub fn is_absent(&self) -> bool {
        self.variables.iter().any(|name| std::env::var_os(name).is_none())
    }

    /// The module's path.
    fn path(&self) -> String {
        variable(self.variables[0])
    }

    /// The path of the configuration in this folder.
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(self.file)
    }

    /// Runs softhsm2-util on the tokens of a folder.
    fn tool(&self, folder: &Path, arguments: &[&str]) {
        let made = Command::new(variable(self.variables[1]))
            // The tool reads SoftHSM's configuration, whatever the module.
            .env(SOFTHSM.environment, SOFTHSM.file(folder))
            .env(self.environment, self.file(folder))
            .args(["--module", &self.path()])
            .args(arguments)
            .output()
            .expect("the tool runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Makes a token of this label in the folder of [`Module::declared`].
    fn token(&self, folder: &Path, label: &str) {
        self.tool(
            folder,
            &["--init-token", "--free", "--so-pin", "27182818", "--pin", PIN, "--label", label],
        );
    }

    /// Makes the token `hyok` in this folder, and a configuration that declares these tenants, each with these connections to
    /// the token. The PIN of the connections is in the file `pin` of the folder.
    pub fn declared(&self, folder: &Path, tenants: &[&str], connections: &[&str], pin: &str) -> Tune {
        let connections: Vec<Declared<'_>> = connections.iter().map(|name| Declared::named(name)).collect();
        self.declared_as(folder, tenants, &connections, pin)
    }

    /// As [`Module::declared`], with these connections.
    pub fn declared_as(&self, folder: &Path, tenants: &[&str], connections: &[Declared<'_>], pin: &str) -> Tune {
        let (tokens, secret) = (folder.join("tokens"), folder.join("pin"));
        std::fs::create_dir(&tokens).expect("a folder");
        for module in [&SOFTHSM, self] {
            std::fs::write(module.file(folder), (module.configuration)(&tokens)).expect("a file");
        }
        std::fs::write(&secret, pin).expect("a file");
        self.token(folder, "hyok");
        let own = format!("{} = \"{}\"", self.environment, self.file(folder).display());
        let declared = tenants.iter().map(|name| format!("[[tenants]]\nname = \"{name}\"\n"));
        let connected = connections.iter().map(|connection| {
            let Declared { name, switch, budget_ms } = connection;
            let (module, environment) = match switch {
                Some(switch) => {
                    let faulty = format!(
                        "FAULTY_MODULE = \"{}\", FAULTY_SWITCH = \"{}\"",
                        self.path(),
                        switch.path().display()
                    );
                    (faulty::module().display().to_string(), format!("{own}, {faulty}"))
                }
                None => (self.path(), own.clone()),
            };
            format!(
                "[[connections]]\ntenants = {tenants:?}\nname = \"{name}\"\nprovider = \"pkcs11\"\n[connections.settings]\n\
                 module = \"{module}\"\ntoken = {{ label = \"hyok\" }}\npin = {{ file = \"{}\" }}\nenvironment = {{ {environment} }}\n\
                 budget_ms = {budget_ms}\n",
                secret.display(),
            )
        });
        let text: String = declared.chain(connected).collect();
        let configuration = configuration(folder);
        std::fs::write(&configuration, text).expect("a file");
        Tune {
            arguments: vec!["--config".to_owned(), configuration.display().to_string()],
            ..Tune::default()
        }
    }
}

/// Makes a token of this label in the folder of [`declared`].
pub fn token(folder: &Path, label: &str) {
    SOFTHSM.token(folder, label);
}

/// Imports an AES key into a token, with the `CKA_ID` 01.
pub fn import(folder: &Path, label: &str, key: &[u8; 32]) {
    let file = folder.join("imported");
    std::fs::write(&file, key).expect("a file");
    let path = file.display().to_string();
    SOFTHSM.tool(
        folder,
        &[
            "--import", &path, "--aes", "--token", label, "--pin", PIN, "--label", "theirs", "--id", "01",
        ],
    );
}

/// [`Module::declared`] of SoftHSM.
pub fn declared(folder: &Path, tenants: &[&str], connections: &[&str], pin: &str) -> Tune {
    SOFTHSM.declared(folder, tenants, connections, pin)
}

/// The configuration of [`declared`].
pub fn configuration(folder: &Path) -> PathBuf {
    folder.join("claviger.toml")
}

/// State and parent of a process (proc_pid_stat(5)); `None` if there is none.
fn state(process: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the program's name, which may contain anything.
    let mut behind = stat.rsplit(") ").next()?.split(' ');
    Some((behind.next()?.chars().next()?, behind.next()?.parse().ok()?))
}

/// Whether a process runs.
pub fn is_running(process: u32) -> bool {
    state(process).is_some_and(|(state, _)| state != 'Z')
}

/// The processes that this one started and that run: of a gateway, the helpers of its PKCS#11 connections.
pub fn helpers(of: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("proc(5)").filter_map(Result::ok);
    let processes = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes
        .filter(|process| state(*process).is_some_and(|(state, parent)| state != 'Z' && parent == of))
        .collect()
}
