//! A gateway whose files cannot grow: without a record there is no answer, and a cut holds
//! nevertheless.

use std::time::Instant;

use claviger_test_support::{Client, Gateway, Started, Tune, log_end};
use serde_json::{Value, json};

use crate::support::PATIENCE;

/// A gateway with tenant `acme` and key `orders`, whose files can be kept from growing.
pub struct FullDisk {
    gateway: Gateway,
    started: Started,
    pub client: Client,
    /// A data key of `orders`.
    made: Value,
}

impl FullDisk {
    pub async fn new() -> Self {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(&Tune::default());
        let client = started.with_tenant("acme").await;
        client
            .post("/v1/keys", &json!({"name": "orders", "connection": "embedded"}))
            .await
            .expect_status(201);
        let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
        Self {
            gateway,
            started,
            client,
            made,
        }
    }

    /// From now on nothing is written to any file at an offset behind the log's last record.
    pub fn fill(&self) {
        let (_, length) = log_end(&self.gateway.data());
        self.started.limit_files(Some(length));
    }

    /// From now on no file can be written at all.
    pub fn fail(&self) {
        self.started.limit_files(Some(0));
    }

    /// From now on the log has room for what a test records, and the store has none.
    async fn fill_store(&self) {
        const ROOM: u64 = 64 << 10;
        let wal = self.gateway.data().join("claviger.db-wal");
        let room = || log_end(&self.gateway.data()).1 + ROOM;
        let mut number = 0;
        while std::fs::metadata(&wal).unwrap().len() < room() {
            let key = json!({"name": format!("more-{number}"), "connection": "embedded"});
            self.client.post("/v1/keys", &key).await.expect_status(201);
            number += 1;
        }
        self.started.limit_files(Some(room()));
    }

    /// The state of `revocations` in `/readyz`, and the status of the answer.
    async fn revocations(&self) -> (u16, String) {
        let ready = self.started.watcher().get("/readyz").await;
        let parts = ready.body["parts"].as_array().unwrap().clone();
        let part = parts.iter().find(|part| part["name"] == "revocations").unwrap();
        (ready.status, part["state"].as_str().unwrap().to_owned())
    }

    /// There is room again.
    fn empty(&self) {
        self.started.limit_files(None);
    }

    /// Asks until the log records again.
    async fn recovered(&self) {
        let begun = Instant::now();
        loop {
            let answer = self.client.get("/v1/keys").await;
            if answer.status == 200 {
                return;
            }
            answer.expect_problem(503, "audit_unavailable");
            assert!(begun.elapsed() < PATIENCE, "the log never records again");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn without_a_record_nothing_is_answered_and_nothing_done() {
    let full = FullDisk::new().await;
    full.fill();
    let wrapped = json!({"wrapped": full.made["wrapped"]});
    for (path, body) in [
        ("/v1/unwrap", &wrapped),
        ("/v1/keys/orders/data-keys", &json!({})),
        ("/v1/keys/orders/rotate", &json!({})),
        ("/v1/keys", &json!({"name": "x", "connection": "embedded"})),
        ("/v1/principals", &json!({"name": "ci"})),
        ("/v1/keys/absent/rotate", &json!({})),
    ] {
        let answer = full.client.post(path, body).await;
        assert_eq!(answer.header("claviger-audit-index"), "");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        let problem = answer.expect_problem(503, "audit_unavailable");
        assert_eq!(problem["retryable"], true);
        assert!(!problem.to_string().contains(full.made["plaintext"].as_str().unwrap()));
    }
    let ready = full.client.get("/readyz").await.expect_status(503);
    let part = ready["parts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["name"] == "audit_log")
        .unwrap();
    assert_eq!(part["ready"], false);
    full.empty();
    full.recovered().await;
    assert_eq!(full.client.get("/v1/keys/orders").await.expect_status(200)["primary_version"], 1);
    full.client.get("/v1/keys/x").await.expect_problem(404, "not_found");
    full.client.get("/v1/principals/ci").await.expect_problem(404, "not_found");
    assert_eq!(
        full.client.post("/v1/unwrap", &wrapped).await.expect_status(200)["plaintext"],
        full.made["plaintext"]
    );
}

#[tokio::test]
async fn a_suspend_and_a_deletion_take_effect_all_the_same_and_outlive_the_process() {
    let full = FullDisk::new().await;
    full.started.with_tenant("globex").await;
    let mut tokens = Vec::new();
    for tenant in ["acme", "globex"] {
        let client = full.started.tenant(tenant);
        client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
        let body = json!({"operations": ["ReadKey"], "kind": "standing"});
        let issued = client.post("/v1/principals/ci/tokens", &body).await.expect_status(201);
        let token = issued["token"].as_str().unwrap().to_owned();
        client.with_token(&token).get("/v1/keys").await.expect_status(200);
        tokens.push(token);
    }
    full.fill();
    for answer in [
        full.client.delete("/v1/principals/ci").await,
        full.started.operator().post_empty("/v1/tenants/globex/suspend").await,
    ] {
        answer.expect_problem(503, "effective_not_recorded");
    }
    async fn refused(client: &Client, tokens: &[String]) {
        let deleted = client.with_token(&tokens[0]).get("/v1/keys").await;
        deleted.expect_problem(401, "unauthenticated");
        let suspended = client.with_token(&tokens[1]).get("/v1/keys").await;
        suspended.expect_problem(403, "permission_denied");
    }
    refused(&full.client, &tokens).await;
    full.empty();
    let FullDisk { gateway, started, .. } = full;
    started.kill();
    let again = gateway.serve(&Tune::default());
    let client = again.tenant("acme");
    refused(&client, &tokens).await;
    client.get("/v1/principals/ci").await.expect_problem(404, "not_found");
    let records = claviger_test_support::records(&gateway.data());
    for (verb, object) in [("delete", "principal"), ("suspend", "tenant")] {
        let recorded = records
            .iter()
            .any(|record| record["change"]["verb"] == verb && record["change"]["object"] == object && record["result"] == "success");
        assert!(recorded, "{verb} {object} has its record");
    }
    // The suspend can be undone, durably.
    let resumed = again.operator().post_empty("/v1/tenants/globex/resume").await;
    assert_eq!(resumed.expect_status(200)["state"], "active");
    client.with_token(&tokens[1]).get("/v1/keys").await.expect_status(200);
    assert!(again.terminate());
    let again = gateway.serve(&Tune::default());
    let client = again.tenant("acme");
    client.with_token(&tokens[1]).get("/v1/keys").await.expect_status(200);
    client
        .with_token(&tokens[0])
        .get("/v1/keys")
        .await
        .expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_cut_takes_effect_all_the_same_and_outlives_the_process() {
    let full = FullDisk::new().await;
    full.client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let issued = full
        .client
        .post("/v1/principals/ci/tokens", &json!({"operations": ["ReadKey", "ManageTokens"]}))
        .await
        .expect_status(201);
    let token = issued["token"].as_str().unwrap();
    let of_it = full.client.with_token(token);
    let below = of_it
        .post("/v1/principals/ci/tokens", &json!({"operations": ["ReadKey"]}))
        .await
        .expect_status(201);
    let below = below["token"].as_str().unwrap();
    full.client.with_token(below).get("/v1/keys").await.expect_status(200);
    full.fill();
    let revoke = format!("/v1/principals/ci/tokens/{}", issued["id"].as_str().unwrap());
    for answer in [
        full.client.post_empty("/v1/keys/orders/disable").await,
        full.client.delete(&revoke).await,
    ] {
        answer.expect_problem(503, "effective_not_recorded");
    }
    for token in [token, below] {
        let used = full.client.with_token(token).get("/v1/keys").await;
        used.expect_problem(401, "unauthenticated");
    }
    full.empty();
    let FullDisk {
        gateway, started, made, ..
    } = full;
    started.kill();
    let again = gateway.serve(&Tune::default());
    let client = again.tenant("acme");
    let wrapped = json!({"wrapped": made["wrapped"]});
    client.post("/v1/unwrap", &wrapped).await.expect_problem(409, "key_disabled");
    for token in [token, below] {
        let used = client.with_token(token).get("/v1/keys").await;
        used.expect_problem(401, "unauthenticated");
    }
    client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    assert_eq!(
        client.post("/v1/unwrap", &wrapped).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
}

#[tokio::test]
async fn a_cut_that_no_medium_took_is_told_and_tried_again_until_one_has_it() {
    let full = FullDisk::new().await;
    full.client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let issued = full
        .client
        .post("/v1/principals/ci/tokens", &json!({"operations": ["ReadKey"], "kind": "standing"}))
        .await
        .expect_status(201);
    let token = issued["token"].as_str().unwrap().to_owned();
    let revoke = format!("/v1/principals/ci/tokens/{}", issued["id"].as_str().unwrap());
    assert_eq!(full.revocations().await, (200, "ok".to_owned()));
    full.fail();
    for answer in [
        full.client.post_empty("/v1/keys/orders/disable").await,
        full.client.post_empty("/v1/connections/embedded/sever").await,
        full.client.delete(&revoke).await,
    ] {
        let problem = answer.expect_problem(503, "effective_in_memory_only");
        assert_eq!(problem["retryable"], true);
    }
    let (status, state) = full.revocations().await;
    assert_eq!(
        (status, state.as_str()),
        (503, "effective_in_memory_only: some end with this process")
    );
    let counted = async |text: &str| {
        let begun = Instant::now();
        loop {
            let page = full.started.operator().get("/metrics").await.text;
            if page.contains(text) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{page}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    counted(r#"claviger_revocations_unstored{kept="memory"} 3"#).await;
    // The kill file can be written again, and the log cannot.
    full.fill();
    counted(r#"claviger_revocations_unstored{kept="memory"} 0"#).await;
    assert!(!full.revocations().await.1.contains("effective_in_memory_only"));
    let FullDisk {
        gateway, started, made, ..
    } = full;
    started.kill();
    let again = gateway.serve(&Tune::default());
    let client = again.tenant("acme");
    let wrapped = json!({"wrapped": made["wrapped"]});
    client.post("/v1/unwrap", &wrapped).await.expect_problem(409, "key_disabled");
    let key = client.post("/v1/keys", &json!({"name": "x", "connection": "embedded"})).await;
    key.expect_problem(409, "connection_severed");
    client
        .with_token(&token)
        .get("/v1/keys")
        .await
        .expect_problem(401, "unauthenticated");
    // They can be undone, durably.
    client.post_empty("/v1/keys/orders/enable").await.expect_status(200);
    client.post_empty("/v1/connections/embedded/restore").await.expect_status(200);
    assert!(again.terminate());
    let again = gateway.serve(&Tune::default());
    again.tenant("acme").post("/v1/unwrap", &wrapped).await.expect_status(200);
}

#[tokio::test]
async fn a_cut_that_the_store_could_not_take_is_stored_once_it_can() {
    let full = FullDisk::new().await;
    full.fail();
    let disabled = full.client.post_empty("/v1/keys/orders/disable").await;
    disabled.expect_problem(503, "effective_in_memory_only");
    full.empty();
    let begun = Instant::now();
    while full.revocations().await.1 != "ok" {
        assert!(begun.elapsed() < PATIENCE, "{:?}", full.revocations().await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whoever looks after a revocation finds it, also in a list, while the store still has the row from before.
#[tokio::test]
async fn a_cut_that_the_store_could_not_take_is_read_as_done() {
    let full = FullDisk::new().await;
    let (acme, operator) = (&full.client, full.started.operator());
    full.started.with_tenant("globex").await;
    let spare = json!({"name": "spare", "provider": "local", "settings": {}});
    acme.post("/v1/connections", &spare).await.expect_status(201);
    for principal in ["ci", "gone", "below"] {
        acme.post("/v1/principals", &json!({"name": principal})).await.expect_status(201);
    }
    let issue = async |client: &Client, principal: &str, operations: Value| {
        let path = format!("/v1/principals/{principal}/tokens");
        let issued = client.post(&path, &json!({"operations": operations})).await;
        issued.expect_status(201)
    };
    let above = issue(acme, "ci", json!(["ReadKey", "ManageTokens"])).await;
    let of_above = acme.with_token(above["token"].as_str().unwrap());
    issue(&of_above, "below", json!(["ReadKey"])).await;
    full.fill_store().await;
    let token = format!("/v1/principals/ci/tokens/{}", above["id"].as_str().unwrap());
    let cut = async || {
        for path in ["/v1/keys/orders/disable", "/v1/connections/spare/sever"] {
            acme.post_empty(path).await.expect_status(200);
        }
        operator.post_empty("/v1/tenants/globex/suspend").await.expect_status(200);
        for path in [token.as_str(), "/v1/principals/gone"] {
            assert_eq!(acme.delete(path).await.status, 204, "{path}");
        }
    };
    let is_read_as_done = async || {
        for (client, list, name, state) in [
            (acme, "/v1/keys", "orders", "disabled"),
            (acme, "/v1/connections", "spare", "severed"),
            (&operator, "/v1/tenants", "globex", "suspended"),
        ] {
            let one = client.get(&format!("{list}/{name}")).await.expect_status(200);
            let listed = client.list(list).await.into_iter();
            let listed: Vec<Value> = listed.filter(|item| item["name"] == name).collect();
            assert_eq!((&one["state"], &listed[0]["state"]), (&json!(state), &json!(state)), "{name}");
        }
        let of_state = async |state: &str| {
            let page = acme.get(&format!("/v1/keys?page_size=1000&state={state}")).await.expect_status(200);
            page["items"].as_array().unwrap().iter().any(|key| key["name"] == "orders")
        };
        assert_eq!((of_state("enabled").await, of_state("disabled").await), (false, true));
        for principal in ["ci", "below"] {
            let tokens = acme.list(&format!("/v1/principals/{principal}/tokens")).await;
            assert!(tokens[0]["revoked"].is_string(), "{tokens:?}");
        }
        let principals = acme.list("/v1/principals").await;
        assert!(principals.iter().all(|principal| principal["name"] != "gone"), "{principals:?}");
        for path in ["/v1/principals/gone", "/v1/principals/gone/tokens"] {
            acme.get(path).await.expect_problem(404, "not_found");
        }
    };
    cut().await;
    assert_eq!(
        full.revocations().await.1,
        "some are in the audit log or the kill file, and not in the store yet"
    );
    is_read_as_done().await;
    // Repeated, each is carried out again.
    cut().await;
    full.empty();
    let begun = Instant::now();
    while full.revocations().await.1 != "ok" {
        assert!(begun.elapsed() < PATIENCE, "{:?}", full.revocations().await);
        is_read_as_done().await;
    }
    is_read_as_done().await;
}
