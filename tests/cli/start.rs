//! The commands that are the gateway: what they refuse to begin with.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use claviger_test_support::{Gateway, Tune};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Ended, ended, mode, text};

fn run(gateway: &Gateway, arguments: &[&str]) -> Ended {
    ended(gateway.command(&Tune::default()).args(arguments), b"")
}

#[test]
fn init_makes_everything_once_and_keeps_it_private() {
    let gateway = Gateway::new(crate::BINARY);
    assert_eq!((mode(&gateway.token_file()), mode(&gateway.root_key())), (0o600, 0o600));
    assert_eq!(mode(&gateway.data()) & 0o077, 0);
    let token = std::fs::read_to_string(gateway.token_file()).unwrap();
    let again = gateway.token_file().with_extension("again");
    let refused = run(&gateway, &["init", "--token-out", text(&again)]);
    assert!(refused.code != 0 && !again.exists(), "{}", refused.err);
    // Its own token file is never written over.
    let refused = run(&gateway, &["init", "--new-token", "--token-out", text(&gateway.token_file())]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert_eq!(std::fs::read_to_string(gateway.token_file()).unwrap(), token);
    let more = run(&gateway, &["init", "--new-token", "--token-out", text(&again)]);
    assert_eq!((more.code, mode(&again)), (0, 0o600), "{}", more.err);
    assert_ne!(std::fs::read_to_string(&again).unwrap(), token);
}

#[test]
fn a_folder_without_data_names_restore_and_init() {
    let gateway = Gateway::empty(crate::BINARY);
    for arguments in [&["serve"][..], &["init", "--new-token", "--token-out", "unused"]] {
        let refused = run(&gateway, arguments);
        assert_eq!(refused.code, 1, "{}", refused.err);
        for command in ["claviger restore", "claviger init"] {
            assert!(refused.err.contains(command), "{}", refused.err);
        }
    }
}

#[test]
fn init_prints_a_token_to_no_pipe() {
    let gateway = Gateway::empty(crate::BINARY);
    let refused = run(&gateway, &["init"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.out.is_empty() && refused.err.contains("--token-out"), "{}", refused.err);
    assert!(!gateway.data().exists() && !gateway.root_key().exists(), "nothing was made");
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.toml");
    let content = "[server]\nlisten = \"nowhere\"\nsurprise = 1\n[server.limits]\nmax_in_flight = 0\n[cache]\nmax_age = \"hunter2\"\n";
    std::fs::write(&file, content).unwrap();
    for command in [&["check-config"][..], &["serve"], &["init", "--token-out", "unused"]] {
        let mut line = Command::new(crate::BINARY);
        line.env_clear().current_dir(folder.path()).env("CLAVIGER_STORAGE__SURPRISE", "x");
        let said = ended(line.args(command).args(["--config", text(&file)]), b"");
        assert_eq!(said.code, 2, "{command:?}: {}", said.err);
        for place in [":2:", ":3:", ":5:", ":7:", "CLAVIGER_STORAGE__SURPRISE"] {
            assert!(said.err.contains(place), "{place}: {}", said.err);
        }
        assert!(!said.err.contains("hunter2") && !said.err.contains("nowhere"), "{}", said.err);
    }
    assert!(!folder.path().join("unused").exists());
    let absent = ended(
        Command::new(crate::BINARY)
            .env_clear()
            .args(["check-config", "--config", "absent.toml"]),
        b"",
    );
    assert_eq!(absent.code, 2, "{}", absent.err);
}

#[test]
fn a_variable_that_nobody_reads_ends_the_start() {
    let gateway = Gateway::new(crate::BINARY);
    // `serve` last: if the variable were accepted, it would not end.
    for command in [&["check-config"][..], &["init", "--new-token", "--token-out", "unused"], &["serve"]] {
        let mut line = gateway.command(&Tune::default().set("CLAVIGER_LISTEN", "127.0.0.1:1"));
        let refused = ended(line.args(command), b"");
        assert_eq!(refused.code, 2, "{command:?}: {}", refused.err);
        assert!(
            refused.err.contains("CLAVIGER_LISTEN: ") && refused.err.contains("CLAVIGER_SERVER__LISTEN"),
            "{}",
            refused.err
        );
    }
    // Those of the command line and of Kubernetes are none of ours to read.
    let others = Tune::default()
        .set("CLAVIGER_TENANT", "acme")
        .set("CLAVIGER_PORT", "tcp://10.0.0.1:8420");
    assert!(gateway.serve(&others).terminate());
}

#[test]
fn a_good_configuration_is_shown() {
    let gateway = Gateway::new(crate::BINARY);
    let shown = run(&gateway, &["check-config", "--output", "json"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let shown: serde_json::Value = serde_json::from_slice(&shown.out).unwrap();
    assert_eq!((&shown["configuration"], &shown["tls"]), (&"good".into(), &false.into()));
    assert!(shown["operator"].is_null());
    let tune = Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:8422");
    let shown = gateway.command(&tune).args(["check-config", "--output", "json"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["operator"], "127.0.0.1:8422");
}

#[test]
fn a_configuration_whose_files_cannot_be_used_is_not_good() {
    let gateway = Gateway::new(crate::BINARY);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.toml");
    let check = |content: &str, tune: Tune| {
        std::fs::write(&file, content).unwrap();
        let checked = ended(gateway.command(&tune).args(["check-config", "--config", text(&file)]), b"");
        (checked.code, checked.err)
    };
    assert_eq!(check("", Tune::default()), (0, String::new()));

    // The root key.
    std::fs::set_permissions(gateway.root_key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = check("", Tune::default());
    assert!(
        code == 2 && said.contains("storage.root_key") && said.contains("chmod 600"),
        "{said}"
    );
    std::fs::set_permissions(gateway.root_key(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, said) = check("", Tune::default().set("CLAVIGER_STORAGE__ROOT_KEY__FILE", "absent.key"));
    assert!(
        code == 2 && said.contains("absent.key does not exist") && said.contains("claviger init"),
        "{said}"
    );
    // Another installation's, where there is a store; and nothing is left beside the store.
    let other = Gateway::new(crate::BINARY);
    let others = Tune::default().set("CLAVIGER_STORAGE__ROOT_KEY__FILE", text(&other.root_key()));
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(gateway.data())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = names();
    let (code, said) = check("", others);
    assert!(
        code == 2 && said.contains("does not open this store") && said.contains("another installation"),
        "{said}"
    );
    assert_eq!(check("", Tune::default()).0, 0);
    assert_eq!(names(), before);

    // Everything else at once, each with its place.
    let declared = "[server]\nallow_plain_http = true\n[server.service]\nlisten = \"127.0.0.1:0\"\n\
        tls = { certificate = \"absent.crt\", key = \"absent.pem\" }\n\
        [audit]\nkeep = { bytes = \"1GiB\" }\narchive = { folder = \"absent/archive\" }\n\
        [providers.azure.application]\nclient_id = \"0a\"\nsecret_file = \"absent.secret\"\n\
        [[tenants]]\nname = \"acme\"\n\
        [[connections]]\ntenants = [\"acme\"]\nname = \"bao\"\nprovider = \"vault\"\n\
        settings = { address = \"https://bao.example\", auth = { token = { file = \"absent.token\" } } }\n\
        [[connections]]\ntenants = [\"acme\"]\nname = \"odd\"\nprovider = \"vault\"\nsettings = { surprise = 1 }\n\
        [[keys]]\ntenant = \"acme\"\nname = \"orders\"\nconnection = \"boa\"\n\
        [[keys]]\ntenant = \"acme\"\nname = \"sales\"\nconnection = \"bao\"\n";
    let (code, said) = check(declared, Tune::default());
    assert_eq!(code, 2, "{said}");
    for told in [
        "server.service.tls: absent.crt: cannot be read (no such file)",
        "absent.secret cannot be read (no such file)",
        "audit.archive.folder: the archive's folder absent/archive cannot be used: No such file",
        "the declared connection `bao`: the file absent.token cannot be read (no such file)",
        "the declared connection `odd`: settings: ",
        "the declared key `orders` of the tenant `acme`: no [[connections]] declares a connection `boa`",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("`sales`"), "{said}");

    // What may be right is told, and refuses nothing.
    let lone = "[[tenants]]\nname = \"acme\"\n[[keys]]\ntenant = \"acme\"\nname = \"orders\"\nconnection = \"boa\"\n";
    std::fs::write(&file, lone).unwrap();
    let arguments = ["check-config", "--output", "json", "--config", text(&file)];
    let shown = gateway.command(&Tune::default()).args(arguments).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["configuration"], "good");
    assert!(shown["warnings"][0].as_str().unwrap().contains("a connection `boa`"), "{shown}");
}

#[test]
fn dev_on_a_busy_port_names_the_option() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let refused = ended(
        Command::new(crate::BINARY).env_clear().args(["dev", "--once", "--port", &port]),
        b"",
    );
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains(&port) && refused.err.contains("--port"), "{}", refused.err);
}

#[test]
fn serve_begins_with_nothing_but_its_own_folder_and_key() {
    let empty = Gateway::empty(crate::BINARY);
    let refused = run(&empty, &["serve"]);
    assert_ne!(refused.code, 0);
    assert!(!empty.data().join("claviger.db").exists(), "serve makes no gateway");

    let gateway = Gateway::new(crate::BINARY);
    let key = std::fs::read(gateway.root_key()).unwrap();
    std::fs::set_permissions(gateway.root_key(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let wide = run(&gateway, &["serve"]);
    assert!(wide.code == 1 && wide.err.contains("root.key"), "{}", wide.err);
    std::fs::set_permissions(gateway.root_key(), std::fs::Permissions::from_mode(0o600)).unwrap();

    let other = Gateway::new(crate::BINARY);
    std::fs::copy(other.root_key(), gateway.root_key()).unwrap();
    let wrong = run(&gateway, &["serve"]);
    assert!(wrong.code == 1 && wrong.err.contains("root key"), "{}", wrong.err);
    std::fs::write(gateway.root_key(), "not a key").unwrap();
    assert_eq!(run(&gateway, &["serve"]).code, 1);
    std::fs::remove_file(gateway.root_key()).unwrap();
    assert_eq!(run(&gateway, &["serve"]).code, 1);
    assert!(!gateway.root_key().exists(), "no new key for an old store");
    // With its own key all is as it was.
    std::fs::write(gateway.root_key(), key).unwrap();
    std::fs::set_permissions(gateway.root_key(), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(gateway.serve(&Tune::default()).terminate());
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    for arguments in [&["serve"][..], &["init", "--new-token", "--token-out", "unused"]] {
        let second = run(&gateway, arguments);
        assert_eq!(second.code, 1, "{}", second.err);
        assert!(!second.err.contains("panicked"), "{}", second.err);
    }
    assert!(started.terminate());
    assert!(gateway.serve(&Tune::default()).terminate());
}

#[test]
fn dev_walks_once_through_the_whole_way() {
    let walked = ended(Command::new(crate::BINARY).env_clear().args(["dev", "--once", "--port", "0"]), b"");
    assert_eq!(walked.code, 0, "{}{}", walked.text(), walked.err);
    let said = walked.text();
    for step in ["rotate", "rewrap", "disable"] {
        assert!(said.to_lowercase().contains(step), "{step}: {said}");
    }
}

#[test]
fn dev_writes_the_variables_of_clients_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.env");
    let dev = |more: &[&str]| {
        let mut command = Command::new(crate::BINARY);
        // A folder whose name a shell would take apart.
        command
            .env_clear()
            .current_dir(folder.path())
            .args(["dev", "--port", "0", "--data-dir", "it's here"]);
        command.args(["--env-file", "claviger.env"]).args(more);
        command
    };
    for _ in 0..2 {
        let mut serving = dev(&[]).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(serving.stdout.take().unwrap());
        assert!(out.lines().any(|line| line.unwrap().contains("/docs. ")), "it ended");
        let script = format!("set -a; . {}; exec {} tenants list", text(&file), crate::BINARY);
        let listed = ended(Command::new("sh").env_clear().args(["-c", &script]), b"");
        assert!(listed.code == 0 && listed.text().contains("dev"), "{}{}", listed.text(), listed.err);
        kill_process(Pid::from_child(&serving), Signal::TERM).unwrap();
        assert!(serving.wait().unwrap().success());
    }
    std::fs::write(&file, "PASSWORD=theirs\n").unwrap();
    let refused = ended(&mut dev(&["--once"]), b"");
    assert!(refused.code == 2 && refused.err.contains("claviger.env"), "{}", refused.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "PASSWORD=theirs\n");
}
