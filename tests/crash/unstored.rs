//! Revocations that are in force and that the store does not take: no change is made with the credential that they
//! ended, and nobody else waits for them.

use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Client, Gateway, Started, Tune, log_end, records};
use futures::StreamExt;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::answers::{PATIENCE, world};
use crate::creations::{begun, found_out, let_be_due, lose, new_key};
use crate::lifted::kill_file_is_empty;
use crate::media::take;
use crate::ready::{state_of, until_sound};
use crate::run;
use crate::service::{Loss, Service};

/// How many slots of the kill file a single tenant may take: half of those that are not the operator's.
const SHARE: usize = (4096 - 64) / 2;
/// How many requests are under way at once.
const AT_ONCE: usize = 16;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "unstored::a_slot_of_the_kill_file_is_free_once_store_and_log_have_the_revocation",
            || run(freed()),
        ),
        Trial::test("unstored::a_revocation_that_finds_no_slot_is_not_answered_as_durable", || {
            run(without_slot())
        }),
        Trial::test(
            "unstored::a_change_under_way_is_not_made_with_a_credential_that_the_store_has_in_force",
            || run(under_way()),
        ),
        Trial::test(
            "unstored::a_creation_is_finished_for_everybody_but_whom_the_revocation_ended",
            || run(in_the_background()),
        ),
        Trial::test("unstored::a_key_comes_back_disabled_although_the_store_lacks_the_sever", || {
            run(adopted())
        }),
    ]
}

/// As [`take`], of revocations of tokens.
async fn take_revocations(gateway: &Gateway, takes: bool) {
    take(gateway, "revoked", "tokens", takes).await;
}

async fn until(so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < until, "never so");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A token that may create keys, and the path whose deletion ends it.
async fn issued(issuer: &Client, principal: &str) -> (String, String) {
    issuer.post("/v1/principals", &json!({"name": principal})).await.expect_status(201);
    let body = json!({"operations": ["CreateKey", "ReadKey"], "expires_in": "1h", "kind": "standing"});
    let tokens = format!("/v1/principals/{principal}/tokens");
    let token = issuer.post(&tokens, &body).await.expect_status(201);
    let text = |name: &str| token[name].as_str().expect("a text").to_owned();
    (text("token"), format!("{tokens}/{}", text("id")))
}

/// How many revocations the store lacks.
async fn lacks(started: &Started) -> usize {
    let metrics = started.operator().get("/metrics").await.text;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"claviger_revocations_unstored{kept="log_or_kill_file"} "#));
    line.map_or(0, |number| number.parse().expect("a number"))
}

/// The service has the request while the token is revoked, and answers then.
async fn under_way() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    service.slow(Duration::from_secs(2));
    let operator = started.operator();
    let tenants = issued(&client, "thief").await;
    let operators = issued(&operator, "former").await;
    take_revocations(&gateway, false).await;
    for (name, (token, path), revoker, acts_for) in [
        ("tenants", tenants, &client, None),
        ("operators", operators, &operator, Some("acme")),
    ] {
        let (ended, changes) = (Client::new(started.endpoint(), &token, acts_for), service.changes());
        let asks = tokio::spawn({
            let ended = ended.clone();
            async move { ended.post("/v1/keys", &new_key(name, "aws")).await }
        });
        until(async || service.changes() > changes).await;
        assert_eq!(revoker.delete(&path).await.status, 204);
        let answer = asks.await.expect("an answer");
        answer.expect_problem(401, "unauthenticated");
        client.get(&format!("/v1/keys/{name}")).await.expect_problem(404, "not_found");
    }
    until(async || lacks(&started).await == 2).await;
    take_revocations(&gateway, true).await;
    until(async || lacks(&started).await == 0).await;
}

async fn in_the_background() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    let other = started.with_tenant("other").await;
    other.post("/v1/connections", &service.connections()[0]).await.expect_status(201);
    let operator = started.operator();
    let (token, path) = issued(&client, "thief").await;
    let thief = client.with_token(&token);
    let (token, former) = issued(&operator, "former").await;
    let operators = Client::new(started.endpoint(), &token, Some("acme"));
    service.lose(Some(Loss::Closed));
    let mut lost = Vec::<Value>::new();
    for (name, by) in [("thief", &thief), ("former", &operators), ("own", &client), ("other", &other)] {
        lost.push(lose(&gateway, by, "/v1/keys", &new_key(name, "vault"), "provider_unavailable").await);
    }
    service.lose(None);
    take_revocations(&gateway, false).await;
    assert_eq!(client.delete(&path).await.status, 204);
    assert_eq!(operator.delete(&former).await.status, 204);
    until(async || lacks(&started).await == 2).await;
    let_be_due(&gateway).await;
    until(async || begun(&gateway).await.is_empty()).await;
    client.get("/v1/keys/own").await.expect_status(200);
    other.get("/v1/keys/other").await.expect_status(200);
    for (name, lost) in ["thief", "former"].into_iter().zip(&lost) {
        client.get(&format!("/v1/keys/{name}")).await.expect_problem(404, "not_found");
        let told = found_out(&gateway, &lost["change"]["id"]);
        assert_eq!(
            (&told["result"], &told["code"]),
            (&json!("failed"), &json!("unauthenticated")),
            "{told}"
        );
    }
    assert_eq!(lacks(&started).await, 2, "the store has taken them meanwhile");
}

/// The key was detached before its first connection was severed, and comes back through the second one.
async fn adopted() {
    let service = Service::start().await;
    service.wrap();
    let (gateway, started, client) = world(&service).await;
    let moved = client
        .post("/v1/keys/on-aws/rotate", &json!({"connection": "vault"}))
        .await
        .expect_status(200);
    assert_eq!(client.delete("/v1/keys/on-aws").await.status, 204);
    let body = json!({"name": "back", "connection": "vault", "provider_key": moved["provider_key"]});
    take(&gateway, "severed", "connections", false).await;
    client.post_empty("/v1/connections/aws/sever").await.expect_status(200);
    let refused = client.post("/v1/keys", &body).await;
    assert_eq!(
        refused.status, 500,
        "adopted as if the connection was not severed: {}",
        refused.text
    );
    take(&gateway, "severed", "connections", true).await;
    let back = client.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!((&back["id"], &back["state"]), (&moved["id"], &json!("disabled")), "{back}");
    until(async || lacks(&started).await == 0).await;
}

/// The store refuses the disable for a while.
async fn freed() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let body = json!({"name": "orders", "connection": "embedded"});
    client.post("/v1/keys", &body).await.expect_status(201);
    take(&gateway, "state", "keys", false).await;
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    assert!(!kill_file_is_empty(&gateway));
    take(&gateway, "state", "keys", true).await;
    until(async || kill_file_is_empty(&gateway)).await;
    started.kill();
    let started = gateway.serve(&Tune::default());
    let key = started.tenant("acme").get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["state"], "disabled");
    let all = records(&gateway.data()).into_iter();
    let outcomes = all.filter(|record| record["operation"] == "Disable" && record["kind"] == "outcome");
    assert_eq!(outcomes.count(), 1);
}

/// Issues tokens. Returns each, and its path.
async fn tokens(issuer: &Client, many: usize) -> Vec<(String, String)> {
    issuer.post("/v1/principals", &json!({"name": "many"})).await.expect_status(201);
    let path = "/v1/principals/many/tokens";
    let body = json!({"operations": ["ReadKey"], "expires_in": "1h"});
    let issue = async || {
        let token = issuer.post(path, &body).await.expect_status(201);
        let text = |name: &str| token[name].as_str().expect("a text").to_owned();
        (text("token"), format!("{path}/{}", text("id")))
    };
    let issued = futures::stream::iter((0..many).map(|_| issue()));
    issued.buffer_unordered(AT_ONCE).collect().await
}

/// A tenant has taken all slots that it may, and then neither store nor log takes its revocation.
async fn without_slot() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    let [acme, globex] = [started.with_tenant("acme").await, started.with_tenant("globex").await];
    let mut many = tokens(&acme, SHARE + 1).await;
    let (last, other) = (many.pop().expect("one"), tokens(&globex, 1).await.remove(0));
    take_revocations(&gateway, false).await;
    assert_eq!(state_of(&started, "kill_file").await, "ok");
    let revoked = futures::stream::iter(many.iter().map(|(_, path)| acme.delete(path)));
    let revoked: Vec<Answer> = revoked.buffer_unordered(AT_ONCE).collect().await;
    assert!(
        revoked.iter().all(|answer| answer.status == 204),
        "{:?}",
        revoked.iter().find(|answer| answer.status != 204)
    );
    let full = state_of(&started, "kill_file").await;
    assert!(full.starts_with("full for a tenant"), "{full}");

    // The kill file is shorter than the log, so it can still be written.
    started.limit_files(Some(log_end(&gateway.data()).1));
    let answer = acme.delete(&last.1).await;
    answer.expect_problem(503, "effective_in_memory_only");
    let state = state_of(&started, "revocations").await;
    assert!(state.starts_with("effective_in_memory_only"), "{state}");
    let answer = globex.delete(&other.1).await;
    answer.expect_problem(503, "effective_not_recorded");

    started.limit_files(None);
    until_sound(&started).await;
    take_revocations(&gateway, true).await;
    until(async || state_of(&started, "revocations").await == "ok" && state_of(&started, "kill_file").await == "ok").await;
    started.kill();
    let started = gateway.serve(&Tune::default());
    for (token, _) in [&many[0], &last, &other] {
        let used = started.operator().with_token(token).get("/v1/keys").await;
        used.expect_problem(401, "unauthenticated");
    }
}
