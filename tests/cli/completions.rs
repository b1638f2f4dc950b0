//! Scripts that complete commands in a shell.

use std::process::Command;

use crate::support::ended;

fn script(shell: &str) -> String {
    let made = ended(Command::new(crate::BINARY).env_clear().args(["completions", shell]), b"");
    assert_eq!((made.code, made.err.as_str()), (0, ""), "{shell}");
    made.text()
}

#[test]
fn each_shell_gets_a_script_with_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = script(shell);
        for word in ["claviger", "data-key", "capabilities", "token-file"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let unknown = ended(Command::new(crate::BINARY).args(["completions", "cmd.exe"]), b"");
    assert!(unknown.code == 2 && unknown.err.contains("zsh"), "{}", unknown.err);
}

#[test]
fn bash_reads_its_script_and_completes_with_it() {
    let script = script("bash");
    let parsed = ended(Command::new("bash").arg("-n"), script.as_bytes());
    assert_eq!((parsed.code, parsed.err.as_str()), (0, ""));
    let ask = "\nCOMP_WORDS=(claviger keys ro) COMP_CWORD=2\n_claviger claviger ro keys\necho \"${COMPREPLY[@]}\"\n";
    let completed = ended(Command::new("bash").arg("--norc"), (script + ask).as_bytes());
    assert_eq!((completed.text().as_str(), completed.code), ("rotate\n", 0), "{}", completed.err);
}
