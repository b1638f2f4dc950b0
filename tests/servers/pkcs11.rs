//! A SoftHSM token that the configuration declares: keys in it open what they wrapped after a restart and after the
//! end of the helper process, and a severed connection has no helper.

use std::time::Duration;

use claviger_test_support::Client;
use claviger_test_support::softhsm::{PIN, VARIABLES, configuration, declared, helpers, import, is_running, token};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{CONNECTION, TENANT, World, variable};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("pkcs11::a_data_key_opens_after_restarts", VARIABLES, || {
            Box::pin(a_data_key_opens_after_restarts())
        }),
        Case::new("pkcs11::a_replaced_token_is_taken_once_its_keys_open", VARIABLES, || {
            Box::pin(a_replaced_token_is_taken_once_its_keys_open())
        }),
        Case::new("pkcs11::a_token_whose_files_are_away_is_told_and_used_again", VARIABLES, || {
            Box::pin(a_token_whose_files_are_away_is_told_and_used_again())
        }),
        Case::new("pkcs11::a_wrong_pin_and_a_tenants_module_are_refused", VARIABLES, || {
            Box::pin(a_wrong_pin_and_a_tenants_module_are_refused())
        }),
    ]
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited)
        .await
        .unwrap_or_else(|_| panic!("not within 30 s: {what}"));
}

async fn unwrapped(client: &Client, data_key: &Value) -> Value {
    let body = json!({"wrapped": data_key["wrapped"]});
    client.post("/v1/unwrap", &body).await.expect_status(200)["plaintext"].clone()
}

/// A helper dumps no core, and its memory is locked where the limit permits that (proc_pid_limits(5), proc_pid_status(5)).
fn is_hardened(helper: u32) {
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{helper}/{file}")).unwrap();
    let limits = of("limits");
    let soft = |limit: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(soft("Max core file size"), "0");
    let status = of("status");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let is_locked = locked.trim() != "0 kB";
    assert_eq!(is_locked, soft("Max locked memory") == "unlimited", "{locked}");
}

async fn a_data_key_opens_after_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let tune = declared(folder.path(), &[TENANT], &[CONNECTION], PIN);
    let world = World::of(tune.clone());
    assert_eq!(helpers(world.started.pid()), [] as [u32; 0], "a helper before the first call");
    let checked = world.client.post_empty(&format!("/v1/connections/{CONNECTION}/check")).await;
    let checked = checked.expect_status(200);
    assert_eq!(checked["reachable"], true, "{checked}");
    assert!(checked["detail"].as_str().unwrap().contains("SoftHSM"), "{checked}");

    let key = world.key("orders", json!({})).await;
    assert_eq!(key["custody"], "external", "{key}");
    let data_key = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let dek = data_key["plaintext"].clone();
    assert_eq!(unwrapped(&world.client, &data_key).await, dek);
    let rotated = world.client.post("/v1/keys/orders/rotate", &json!({})).await.expect_status(200);
    assert_ne!(rotated["provider_key"], key["provider_key"]);

    // One helper, which is replaced when it has ended.
    let [helper] = helpers(world.started.pid())[..] else {
        panic!("one helper")
    };
    let environment = std::fs::read(format!("/proc/{helper}/environ"));
    assert!(environment.is_err() || !environment.unwrap().windows(9).any(|part| part == b"CLAVIGER_"));
    is_hardened(helper);
    let files = std::fs::read_dir(format!("/proc/{helper}/fd")).into_iter().flatten();
    let inherited = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    let of_the_gateway = inherited.filter(|path| path.starts_with(world.gateway.data()));
    assert_eq!(of_the_gateway.count(), 0, "files of the gateway's");
    kill_process(Pid::from_raw(i32::try_from(helper).unwrap()).unwrap(), Signal::KILL).unwrap();
    until("the helper's end", || !is_running(helper)).await;
    assert_eq!(unwrapped(&world.client, &data_key).await, dek);
    let [second] = helpers(world.started.pid())[..] else {
        panic!("one helper")
    };

    // Without its token nothing opens, and all does once it is back.
    let (tokens, away) = (folder.path().join("tokens"), folder.path().join("away"));
    std::fs::rename(&tokens, &away).unwrap();
    kill_process(Pid::from_raw(i32::try_from(second).unwrap()).unwrap(), Signal::KILL).unwrap();
    until("the helper's end", || !is_running(second)).await;
    let body = json!({"wrapped": data_key["wrapped"]});
    world
        .client
        .post("/v1/unwrap", &body)
        .await
        .expect_problem(503, "provider_unavailable");
    std::fs::rename(&away, &tokens).unwrap();
    assert_eq!(unwrapped(&world.client, &data_key).await, dek);
    let [third] = helpers(world.started.pid())[..] else {
        panic!("one helper")
    };

    // A gateway that is killed leaves none behind.
    let World { gateway, started, .. } = world;
    started.kill();
    until("the end of a helper without a gateway", || !is_running(third)).await;
    let started = gateway.serve(&tune);
    let client = started.tenant(TENANT);
    assert_eq!(unwrapped(&client, &data_key).await, dek);

    let [last] = helpers(started.pid())[..] else { panic!("one helper") };
    let path = format!("/v1/connections/{CONNECTION}");
    client.post_empty(&format!("{path}/sever")).await.expect_status(200);
    until("the end of a severed connection's helper", || !is_running(last)).await;
    client.post("/v1/unwrap", &body).await.expect_problem(409, "connection_severed");
    assert_eq!(helpers(started.pid()), [] as [u32; 0]);
    // The operator declares the connection, and the switch is the customer's all the same.
    let restore = format!("{path}/restore");
    client.post_empty(&restore).await.expect_problem(403, "permission_denied");
    client.post("/v1/principals", &json!({"name": "owner"})).await.expect_status(201);
    let body = json!({"operations": ["Restore"], "expires_in": "1h"});
    let issued = client.post("/v1/principals/owner/tokens", &body).await.expect_status(201);
    let owner = client.with_token(issued["token"].as_str().unwrap());
    owner.post_empty(&restore).await.expect_status(200);
    assert_eq!(unwrapped(&client, &data_key).await, dek);
    assert!(started.terminate());
}

/// The token of a backup has the key, and another serial number. One with another key under the same `CKA_ID` is not taken.
async fn a_replaced_token_is_taken_once_its_keys_open() {
    let folder = tempfile::tempdir().unwrap();
    let tune = declared(folder.path(), &[TENANT], &[CONNECTION], PIN);
    let text = std::fs::read_to_string(configuration(folder.path())).unwrap() + "adopt_any = true\n";
    std::fs::write(configuration(folder.path()), &text).unwrap();
    let world = World::of(tune);
    for (label, key) in [("hyok", [7; 32]), ("spare", [7; 32]), ("other", [8; 32])] {
        if label != "hyok" {
            token(folder.path(), label);
        }
        import(folder.path(), label, &key);
    }
    world.key("orders", json!({"provider_key": "01"})).await;
    let versions = world.client.list("/v1/keys/orders/versions").await;
    let provider_key = versions[0]["provider_key"].as_str().unwrap();
    let serial = provider_key.strip_suffix("/01").unwrap();
    let data_key = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);

    for (label, is_taken) in [("other", false), ("spare", true)] {
        let replaced = format!("token = {{ label = \"{label}\" }}\nknown_as = \"{serial}\"");
        let text = text.replace("token = { label = \"hyok\" }", &replaced);
        std::fs::write(configuration(folder.path()), text).unwrap();
        let mut apply = world.command(&["apply"]);
        let applied = apply.env_remove("CLAVIGER_TENANT").output().unwrap();
        assert_eq!(applied.status.success(), is_taken, "{}", String::from_utf8_lossy(&applied.stdout));
        let path = format!("/v1/connections/{CONNECTION}");
        let connection = world.client.get(&path).await.expect_status(200);
        assert_eq!(connection["settings"]["token"]["label"] == label, is_taken, "{connection}");
        assert_eq!(unwrapped(&world.client, &data_key).await, data_key["plaintext"]);
    }
    // What was tried is in the record, also of a change that was refused.
    let records = claviger_test_support::records(&world.gateway.data());
    let changes: Vec<&Value> = records.iter().filter_map(|record| record.get("network")).collect();
    assert!(changes.len() >= 2, "{changes:?}");
    assert!(changes.iter().all(|change| change["after"] != change["before"]), "{changes:?}");
    assert_eq!(world.client.list("/v1/keys/orders/versions").await[0]["provider_key"], provider_key);
    let made = world.key("more", json!({})).await;
    assert_eq!(made["custody"], "external");
}

/// The helper goes on: SoftHSM keeps its sessions and their login, and finds no keys.
async fn a_token_whose_files_are_away_is_told_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::of(declared(folder.path(), &[TENANT], &[CONNECTION], PIN));
    world.key("orders", json!({})).await;
    let data_key = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let shown = async || world.client.get(&format!("/v1/connections/{CONNECTION}")).await.expect_status(200);
    assert_eq!(shown().await["login"]["state"], "ok");

    let (tokens, away) = (folder.path().join("tokens"), folder.path().join("away"));
    std::fs::rename(&tokens, &away).unwrap();
    // No call is made, so it is the check that notices.
    let noticed = async {
        while shown().await["health"]["state"] != "failing" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), noticed).await.unwrap();
    assert_eq!(shown().await["login"]["state"], "failing");
    let body = json!({"wrapped": data_key["wrapped"]});
    let refused = world.client.post("/v1/unwrap", &body).await;
    refused.expect_problem(503, "provider_unavailable");
    let version = &world.client.list("/v1/keys/orders/versions").await[0];
    assert_eq!(version["provider_state"], "enabled", "the key is not taken for lost: {version}");

    std::fs::rename(&away, &tokens).unwrap();
    assert_eq!(unwrapped(&world.client, &data_key).await, data_key["plaintext"]);
    assert_eq!(shown().await["login"]["state"], "ok");
}

async fn a_wrong_pin_and_a_tenants_module_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tune = declared(folder.path(), &[TENANT], &[CONNECTION], "11111111");
    let world = World::of(tune.clone());
    let refused = async |client: &Client| {
        let body = json!({"name": "orders", "connection": CONNECTION});
        let problem = client.post("/v1/keys", &body).await.expect_problem(424, "provider_denied");
        assert!(problem.to_string().contains("not tried again"), "{problem}");
        let checked = client
            .post_empty(&format!("/v1/connections/{CONNECTION}/check"))
            .await
            .expect_status(200);
        assert!(checked.to_string().contains("PIN_REFUSED_BEFORE"), "{checked}");
    };
    refused(&world.client).await;
    let own = json!({"name": "own", "provider": "pkcs11", "settings": {
        "module": variable("CLAVIGER_TEST_SOFTHSM_MODULE"), "token": {"label": "hyok"}, "pin": PIN,
    }});
    let answer = world.client.post("/v1/connections", &own).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    // A restarted gateway does not try the PIN again either.
    let World { gateway, started, .. } = world;
    assert!(started.terminate());
    let started = gateway.serve(&tune);
    refused(&started.tenant(TENANT)).await;
    // The right one in the file is tried at once.
    std::fs::write(folder.path().join("pin"), PIN).unwrap();
    let client = started.tenant(TENANT);
    let body = json!({"name": "orders", "connection": CONNECTION});
    let made = async {
        while client.post("/v1/keys", &body).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), made).await.unwrap();
}
