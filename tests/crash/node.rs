//! The node's name in the data folder: without it, and without the log, a start is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use claviger_test_support::{Gateway, Tune, log_files};
use libtest_mimic::Trial;
use serde_json::json;

use crate::disagree::{accepting, accepting_lost_log, refused, starts_plainly};
use crate::run;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("node::its_name_stands_in_the_folder_and_in_every_index", || run(named())),
        Trial::test("node::a_folder_without_its_name_is_refused_until_it_is_written_again", || {
            run(without_name())
        }),
        Trial::test("node::a_node_that_lost_its_log_is_refused_whatever_its_name_file_has", || {
            run(without_log())
        }),
        Trial::test("node::a_name_file_without_a_name_is_refused", || run(malformed())),
    ]
}

/// A stopped gateway with a key, and its name.
async fn furnished() -> (Gateway, String) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let key = json!({"name": "first", "connection": "embedded"});
    client.post("/v1/keys", &key).await.expect_status(201);
    assert!(started.terminate());
    let name = fs::read_to_string(gateway.data().join("node")).expect("the name");
    (gateway, name.trim_end().to_owned())
}

fn remove(gateway: &Gateway, names: &[&str]) {
    for name in names {
        fs::remove_file(gateway.data().join(name)).expect("removed");
    }
}

async fn named() {
    let (gateway, name) = furnished().await;
    let path = gateway.data().join("node");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&path).expect("the file"), format!("{name}\n"));
    let started = gateway.serve(&Tune::default());
    let answer = started.tenant("acme").get("/v1/keys/first").await;
    assert_eq!(answer.header("claviger-audit-index").split('/').nth(1), Some(name.as_str()));
    assert!(started.terminate());
    // No two gateways have the same.
    assert_ne!(furnished().await.1, name);
}

async fn without_name() {
    let (gateway, name) = furnished().await;
    remove(&gateway, &["node"]);
    for tune in [Tune::default(), accepting()] {
        let said = refused(&gateway, &tune);
        let mut rest = said.as_str();
        // The likeliest case first.
        for part in [
            "node does not exist",
            "only this file is lost",
            &format!("echo {name} > "),
            "log is lost, too",
            "--accept-lost-log",
        ] {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part}: {said}"));
            rest = &rest[at..];
        }
    }
    assert!(!gateway.data().join("node").exists(), "a refused start writes no name");
    fs::write(gateway.data().join("node"), format!("{name}\n")).expect("written");
    starts_plainly(&gateway);
    remove(&gateway, &["node"]);
    assert!(gateway.serve(&accepting_lost_log()).terminate());
    assert_eq!(
        fs::read_to_string(gateway.data().join("node")).expect("the name"),
        format!("{name}\n")
    );
    starts_plainly(&gateway);
}

async fn without_log() {
    let (gateway, name) = furnished().await;
    let file = gateway.data().join("node");
    remove(&gateway, &["audit-00000000000000000000.log", "audit.index"]);
    let said = refused(&gateway, &Tune::default());
    assert!(said.contains("log was restored from an older copy"), "{said}");
    assert!(log_files(&gateway.data()).is_empty(), "a refused start makes no log");
    // Without its name it is not taken for a new node.
    remove(&gateway, &["node"]);
    let said = refused(&gateway, &Tune::default());
    assert!(said.contains(&format!("node {name} with changes up to byte")), "{said}");
    assert!(log_files(&gateway.data()).is_empty());
    // Nor under another name, or under its own.
    fs::write(&file, "another\n").expect("written");
    for tune in [Tune::default(), accepting()] {
        let said = refused(&gateway, &tune);
        assert!(said.contains("has the node name another") && said.contains(&name), "{said}");
    }
    fs::write(&file, format!("{name}\n")).expect("written");
    let said = refused(&gateway, &Tune::default());
    assert!(said.contains("log was restored from an older copy"), "{said}");

    remove(&gateway, &["node"]);
    let started = gateway.serve(&accepting_lost_log());
    let answer = started.tenant("acme").get("/v1/keys/first").await;
    assert_eq!(answer.header("claviger-audit-index").split('/').nth(1), Some(name.as_str()));
    assert_eq!(answer.expect_status(200)["name"], "first");
    assert!(started.terminate());
    starts_plainly(&gateway);
}

async fn malformed() {
    let (gateway, name) = furnished().await;
    let file = gateway.data().join("node");
    for content in [&b""[..], b"\n", b"Two Words\n", b"\xff\n", &[b'a'; 64]] {
        fs::write(&file, content).expect("written");
        for tune in [Tune::default(), accepting()] {
            let said = refused(&gateway, &tune);
            assert!(
                said.contains("does not contain a node name") && said.contains("first line of the audit log"),
                "{said}"
            );
        }
    }
    fs::write(&file, name).expect("written");
    starts_plainly(&gateway);
}
