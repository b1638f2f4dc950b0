//! Data folders of earlier commits: this build opens each of them, with everything in it.
//!
//! A folder was made by the release that its comment names and ended by SIGKILL, so its last
//! intents have no outcome in the store's list of applied ones. Its database was checkpointed
//! once, to keep the fixture in few files. Folders are never changed, only added.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::path::{Path, PathBuf};

use claviger::store::sqlite::SqliteStore;
use claviger_test_support::{Gateway, Tune, records};
use serde_json::{Value, json};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade").join(name)
}

/// A copy of a fixture as a gateway's folder.
fn copied(name: &str) -> Gateway {
    let gateway = Gateway::empty(BINARY);
    gateway.copy_older(&fixture(name));
    gateway
}

/// Starts this build on the folder for the first time.
fn open(gateway: &Gateway, name: &str) -> Value {
    // The tokens of the fixture expire; the root key's holder issues another one.
    let output = gateway.init(&Tune::default()).arg("--new-token").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = std::fs::read_to_string(fixture(name).join("expected.json")).unwrap();
    serde_json::from_str(&expected).unwrap()
}

/// The node in the first line of the log.
fn node_of_log(gateway: &Gateway) -> String {
    let log = std::fs::read(gateway.data().join("audit.log")).unwrap();
    let line = log.split(|byte| *byte == b'\n').next().unwrap();
    std::str::from_utf8(line).unwrap().rsplit_once(' ').unwrap().1.to_owned()
}

fn name_file(gateway: &Gateway) -> PathBuf {
    gateway.data().join("node")
}

/// Every envelope of a key that is in use opens, and the folder has its node's name.
async fn is_whole(gateway: &Gateway, expected: &Value) {
    let name = std::fs::read_to_string(name_file(gateway)).unwrap();
    assert_eq!(name, format!("{}\n", node_of_log(gateway)));
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let usable = |wrapped: &&Value| !["k1", "k3"].contains(&wrapped["key"].as_str().unwrap());
    for wrapped in expected["wrapped"].as_array().unwrap().iter().filter(usable) {
        let body = json!({"wrapped": wrapped["wrapped"], "context": wrapped["context"]});
        let answer = client.post("/v1/unwrap", &body).await;
        assert_eq!(answer.header("claviger-audit-index").split('/').nth(1), Some(name.trim_end()));
        assert_eq!(answer.expect_status(200)["plaintext"], wrapped["plaintext"]);
    }
    assert!(started.terminate());
}

/// The folder of commit 617684d: format 1 of the store and of the log. Tenant `acme` has five
/// keys of the embedded provider in use, `k1` disabled, `k3` detached, `kc` on a severed connection.
#[tokio::test]
async fn folder_1_opens_with_every_envelope_state_and_record() {
    let gateway = copied("folder-1");
    let expected = open(&gateway, "folder-1");
    let records_before = records(&gateway.data()).len();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");

    for wrapped in expected["wrapped"].as_array().unwrap() {
        let body = json!({"wrapped": wrapped["wrapped"], "context": wrapped["context"]});
        let answer = client.post("/v1/unwrap", &body).await;
        match wrapped["key"].as_str().unwrap() {
            "k1" => assert_eq!((answer.status, &answer.body["code"]), (409, &json!("key_disabled"))),
            "k3" => assert_eq!((answer.status, &answer.body["code"]), (422, &json!("ciphertext_rejected"))),
            _ => assert_eq!(answer.expect_status(200)["plaintext"], wrapped["plaintext"]),
        }
    }
    client.post("/v1/keys/k1/enable", &json!({})).await.expect_status(200);
    for wrapped in expected["wrapped"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|wrapped| wrapped["key"] == "k1")
    {
        let body = json!({"wrapped": wrapped["wrapped"], "context": wrapped["context"]});
        assert_eq!(
            client.post("/v1/unwrap", &body).await.expect_status(200)["plaintext"],
            wrapped["plaintext"]
        );
    }

    let connection = client.get("/v1/connections/cut").await.expect_status(200);
    assert_eq!(connection["state"], "severed");
    let refused = client.post("/v1/keys/kc/data-keys", &json!({})).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("connection_severed")));
    assert_eq!(client.get("/v1/keys/idem").await.expect_status(200)["id"], expected["key_id"]);
    assert_eq!(
        client.get("/v1/keys/k0/versions").await.expect_status(200)["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let revoked = client.with_token(expected["revoked"].as_str().unwrap());
    assert_eq!(revoked.get("/v1/keys").await.status, 401);

    // Tokens of before have a life of their own.
    let tokens = client.list("/v1/principals/svc/tokens").await;
    assert_eq!(tokens.len(), 2);
    for token in tokens {
        assert_eq!((&token["kind"], &token["parent"]), (&json!("standing"), &Value::Null));
    }

    // The log goes on where it ended, and what this build adds is read with it.
    assert!(records(&gateway.data()).len() > records_before);
}

/// The migration moves the node's name to the store's list of nodes; the first start after it
/// writes the name into the folder and notes that. A kill after each of these steps.
#[tokio::test]
async fn the_node_s_name_reaches_the_folder_whatever_step_a_kill_follows() {
    for written in [false, true] {
        let gateway = copied("folder-1");
        let database = gateway.data().join("claviger.db");
        let [node] = <[_; 1]>::try_from(SqliteStore::nodes(&database).await.unwrap()).unwrap();
        assert_eq!((node.name.as_str(), node.named), (node_of_log(&gateway).as_str(), false));
        assert!(node.last.is_some(), "the last position moves with it");
        assert!(!name_file(&gateway).exists());
        if written {
            std::fs::write(name_file(&gateway), format!("{}\n", node.name)).unwrap();
        }
        let expected = open(&gateway, "folder-1");
        is_whole(&gateway, &expected).await;
        let [node] = <[_; 1]>::try_from(SqliteStore::nodes(&database).await.unwrap()).unwrap();
        assert!(node.named);
        // From now on the file must be there: with it a log can get lost.
        std::fs::remove_file(name_file(&gateway)).unwrap();
        let said = gateway.try_serve(&Tune::default()).err().unwrap();
        assert!(said.contains("does not exist") && said.contains(node.name.as_str()), "{said}");
    }
}

/// Kills the first start at many moments, from before the migration to after its end.
#[tokio::test]
async fn a_first_start_that_is_killed_leaves_a_folder_that_opens() {
    let gateway = copied("folder-1");
    let whole = std::time::Instant::now();
    open(&gateway, "folder-1");
    let whole = whole.elapsed();
    for step in 0..20 {
        let gateway = copied("folder-1");
        let mut start = gateway.command(&Tune::default()).arg("serve").spawn().unwrap();
        std::thread::sleep(whole * step / 20);
        start.kill().unwrap();
        start.wait().unwrap();
        let expected = open(&gateway, "folder-1");
        is_whole(&gateway, &expected).await;
    }
}
