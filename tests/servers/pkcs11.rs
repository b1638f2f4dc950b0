//! A SoftHSM token that the configuration declares: keys in it open what they wrapped after a restart and after the
//! end of the helper process, and a severed connection has no helper.

use std::time::Duration;

use claviger_test_support::Client;
use claviger_test_support::softhsm::{PIN, VARIABLES, declared, helpers, is_running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{CONNECTION, TENANT, World, variable};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("pkcs11::a_data_key_opens_after_restarts", VARIABLES, || {
            Box::pin(a_data_key_opens_after_restarts())
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

async fn a_data_key_opens_after_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let tune = declared(folder.path(), TENANT, CONNECTION, PIN);
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
    kill_process(Pid::from_raw(i32::try_from(helper).unwrap()).unwrap(), Signal::KILL).unwrap();
    until("the helper's end", || !is_running(helper)).await;
    assert_eq!(unwrapped(&world.client, &data_key).await, dek);
    let [second] = helpers(world.started.pid())[..] else {
        panic!("one helper")
    };

    // A gateway that is killed leaves none behind.
    let World { gateway, started, .. } = world;
    started.kill();
    until("the end of a helper without a gateway", || !is_running(second)).await;
    let started = gateway.serve(&tune);
    let client = started.tenant(TENANT);
    assert_eq!(unwrapped(&client, &data_key).await, dek);

    let [third] = helpers(started.pid())[..] else {
        panic!("one helper")
    };
    client
        .post_empty(&format!("/v1/connections/{CONNECTION}/sever"))
        .await
        .expect_status(200);
    until("the end of a severed connection's helper", || !is_running(third)).await;
    let body = json!({"wrapped": data_key["wrapped"]});
    client.post("/v1/unwrap", &body).await.expect_problem(409, "connection_severed");
    assert_eq!(helpers(started.pid()), [] as [u32; 0]);
    assert!(started.terminate());
}

async fn a_wrong_pin_and_a_tenants_module_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tune = declared(folder.path(), TENANT, CONNECTION, "11111111");
    let world = World::of(tune.clone());
    let refused = async |client: &Client, code: &str| {
        let body = json!({"name": "orders", "connection": CONNECTION});
        let problem = client.post("/v1/keys", &body).await.expect_problem(424, "provider_denied");
        assert!(problem.to_string().contains("not tried again"), "{problem}");
        let checked = client
            .post_empty(&format!("/v1/connections/{CONNECTION}/check"))
            .await
            .expect_status(200);
        assert!(checked.to_string().contains(code), "{checked}");
    };
    refused(&world.client, "CKR_PIN_INCORRECT").await;
    let own = json!({"name": "own", "provider": "pkcs11", "settings": {
        "module": variable("CLAVIGER_TEST_SOFTHSM_MODULE"), "token": {"label": "hyok"}, "pin": PIN,
    }});
    let answer = world.client.post("/v1/connections", &own).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    // A restarted gateway does not try the PIN again: it says that it was refused before.
    let World { gateway, started, .. } = world;
    assert!(started.terminate());
    let started = gateway.serve(&tune);
    refused(&started.tenant(TENANT), "PIN_REFUSED_BEFORE").await;
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
