//! A token of SoftHSM that a gateway's configuration declares, and the helper processes that call it.

use std::path::Path;
use std::process::Command;

use crate::Tune;

/// The variables that `tests/backends/softhsm/start` prints.
pub const VARIABLES: &[&str] = &["CLAVIGER_TEST_SOFTHSM_MODULE", "CLAVIGER_TEST_SOFTHSM_TOOL"];

/// The PIN of the token's user.
pub const PIN: &str = "31415926535897932384";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// Makes a token in this folder, and a configuration that declares the tenant and its connection to the token. The PIN of
/// the connection is in the file `pin` of the folder.
pub fn declared(folder: &Path, tenant: &str, connection: &str, pin: &str) -> Tune {
    let [module, tool] = ["CLAVIGER_TEST_SOFTHSM_MODULE", "CLAVIGER_TEST_SOFTHSM_TOOL"].map(variable);
    let (tokens, softhsm, secret) = (folder.join("tokens"), folder.join("softhsm2.conf"), folder.join("pin"));
    std::fs::create_dir(&tokens).expect("a folder");
    std::fs::write(
        &softhsm,
        format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()),
    )
    .expect("a file");
    std::fs::write(&secret, pin).expect("a file");
    let made = Command::new(tool)
        .env("SOFTHSM2_CONF", &softhsm)
        .args([
            "--init-token",
            "--free",
            "--so-pin",
            "27182818",
            "--pin",
            PIN,
            "--label",
            "hyok",
            "--module",
            &module,
        ])
        .output()
        .expect("the tool runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = format!(
        "[[tenants]]\nname = \"{tenant}\"\n[[connections]]\ntenants = [\"{tenant}\"]\nname = \"{connection}\"\nprovider = \"pkcs11\"\n\
         [connections.settings]\nmodule = \"{module}\"\ntoken = {{ label = \"hyok\" }}\npin = {{ file = \"{}\" }}\n\
         environment = {{ SOFTHSM2_CONF = \"{}\" }}\n",
        secret.display(),
        softhsm.display()
    );
    let configuration = folder.join("claviger.toml");
    std::fs::write(&configuration, text).expect("a file");
    Tune {
        arguments: vec!["--config".to_owned(), configuration.display().to_string()],
        ..Tune::default()
    }
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
