//! Each tenant's quotas: what is refused over them, and what never is.

use claviger_test_support::{Answer, Client, Tune, records, records_from, records_of, text_of, token};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::Api;

fn tune(quotas: &[(&str, u32)]) -> Tune {
    let set = |tune: Tune, (name, number): &(&str, u32)| tune.set(&format!("CLAVIGER_QUOTAS__{name}"), number.to_string());
    quotas.iter().fold(Tune::default(), set)
}

/// Refused over a quota, with the setting to raise.
#[track_caller]
fn over(answer: Answer, setting: &str) -> Value {
    let problem = answer.expect_problem(409, "quota_exceeded");
    let advice = problem["what_to_do"].as_str().unwrap();
    assert!(advice.contains(&format!("`quotas.{setting}`")), "{advice}");
    problem
}

async fn new_key(client: &Client, name: &str) -> Answer {
    client.post("/v1/keys", &json!({"name": name, "connection": "embedded"})).await
}

async fn new_connection(client: &Client, name: &str) -> Answer {
    let body = json!({"name": name, "provider": "local", "settings": {}});
    client.post("/v1/connections", &body).await
}

async fn new_principal(client: &Client, name: &str) -> Answer {
    client.post("/v1/principals", &json!({"name": name})).await
}

async fn new_token(client: &Client, principal: &str) -> Answer {
    let path = format!("/v1/principals/{principal}/tokens");
    client.post(&path, &json!({"operations": ["ReadKey"]})).await
}

#[tokio::test]
async fn at_its_quota_a_tenant_is_refused_and_another_is_not() {
    let api = Api::tuned(&tune(&[
        ("KEYS", 1),
        ("VERSIONS", 2),
        ("CONNECTIONS", 2),
        ("PRINCIPALS", 1),
        ("TOKENS", 1),
    ]))
    .await;
    let other = api.started.with_tenant("other").await;
    for client in [&api.client, &other] {
        new_key(client, "orders").await.expect_status(201);
        client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
        new_connection(client, "second").await.expect_status(201);
        new_principal(client, "ci").await.expect_status(201);
        new_token(client, "ci").await.expect_status(201);
    }
    let before = api.state().await;
    let refused = new_key(&api.client, "more").await;
    assert_eq!(api.outcome(&refused)["code"], "quota_exceeded");
    // No intent: the provider was not asked.
    assert_eq!(records_of(&api.gateway.data(), refused.header("x-request-id")).len(), 1);
    over(refused, "keys");
    over(api.client.post_empty("/v1/keys/orders/rotate").await, "versions");
    let moved = json!({"connection": "second"});
    over(api.client.post("/v1/keys/orders/rotate", &moved).await, "versions");
    over(new_connection(&api.client, "third").await, "connections");
    over(new_principal(&api.client, "more").await, "principals");
    over(new_token(&api.client, "ci").await, "tokens");
    assert_eq!(api.state().await, before);
}

#[tokio::test]
async fn one_key_leaves_versions_for_the_others() {
    let api = Api::tuned(&tune(&[("VERSIONS", 1000)])).await;
    for name in ["orders", "others"] {
        new_key(&api.client, name).await.expect_status(201);
    }
    let (_, thief) = api.token("thief", &["Rotate"], Some(&["orders"])).await;
    for _ in 1..100 {
        thief.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    }
    over(thief.post_empty("/v1/keys/orders/rotate").await, "versions");
    new_connection(&api.client, "second").await.expect_status(201);
    let moved = json!({"connection": "second"});
    over(api.client.post("/v1/keys/orders/rotate", &moved).await, "versions");
    api.client.post_empty("/v1/keys/others/rotate").await.expect_status(200);
}

/// At every quota, and beyond: the operator lowered them.
#[tokio::test]
async fn no_revocation_is_ever_refused() {
    let Api { gateway, started, client } = Api::with_key().await;
    new_principal(&client, "ci").await.expect_status(201);
    new_principal(&client, "cd").await.expect_status(201);
    let issued = new_token(&client, "ci").await.expect_status(201);
    let once = client.clone().with_header("idempotency-key", "once");
    new_key(&once, "kept").await.expect_status(201);
    assert!(started.terminate());

    let lowest = tune(&[
        ("KEYS", 1),
        ("VERSIONS", 1),
        ("CONNECTIONS", 1),
        ("PRINCIPALS", 1),
        ("TOKENS", 1),
        ("IDEMPOTENCY_KEYS", 1),
    ]);
    let started = gateway.serve(&lowest);
    // The header is ignored where it means nothing.
    let client = started.tenant("acme").with_header("idempotency-key", "another");
    over(new_principal(&client, "more").await, "idempotency_keys");
    over(new_principal(&started.tenant("acme"), "more").await, "principals");
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    client.post_empty("/v1/connections/embedded/sever").await.expect_status(200);
    let token = format!("/v1/principals/ci/tokens/{}", issued["id"].as_str().unwrap());
    client.delete(&token).await.expect_status(204);
    client.delete("/v1/principals/ci").await.expect_status(204);
    client.delete("/v1/keys/orders").await.expect_status(204);
    started.operator().post_empty("/v1/tenants/acme/suspend").await.expect_status(200);
}

#[tokio::test]
async fn a_deletion_frees_and_a_detached_key_counts() {
    let api = Api::tuned(&tune(&[("KEYS", 1), ("CONNECTIONS", 2), ("PRINCIPALS", 1), ("TOKENS", 1)])).await;
    for _ in 0..2 {
        new_connection(&api.client, "second").await.expect_status(201);
        over(new_connection(&api.client, "third").await, "connections");
        api.client.delete("/v1/connections/second").await.expect_status(204);
        new_principal(&api.client, "ci").await.expect_status(201);
        new_token(&api.client, "ci").await.expect_status(201);
        over(new_token(&api.client, "ci").await, "tokens");
        api.client.delete("/v1/principals/ci").await.expect_status(204);
    }
    let key = new_key(&api.client, "orders").await.expect_status(201);
    api.client.delete("/v1/keys/orders").await.expect_status(204);
    over(new_key(&api.client, "more").await, "keys");
    let back = json!({"name": "back", "connection": "embedded", "provider_key": key["provider_key"]});
    let back = api.client.post("/v1/keys", &back).await.expect_status(201);
    assert_eq!(back["id"], key["id"]);
}

#[tokio::test]
async fn a_repetition_at_the_quota_answers_as_before() {
    let api = Api::tuned(&tune(&[("KEYS", 1), ("IDEMPOTENCY_KEYS", 1)])).await;
    let once = api.client.clone().with_header("idempotency-key", "once");
    let first = new_key(&once, "orders").await.expect_status(201);
    assert_eq!(new_key(&once, "orders").await.expect_status(201), first);
    let another = api.client.clone().with_header("idempotency-key", "another");
    over(new_principal(&another, "ci").await, "idempotency_keys");
    over(another.post_empty("/v1/keys/orders/rotate").await, "idempotency_keys");
    new_principal(&api.client, "ci").await.expect_status(201);
    assert_eq!(new_key(&once, "orders").await.expect_status(201), first);
}

#[tokio::test]
async fn creations_at_the_same_time_do_not_exceed() {
    let api = Api::tuned(&tune(&[("KEYS", 5)])).await;
    let creations = (0..24).map(|number| {
        let client = api.client.clone();
        tokio::spawn(async move { new_key(&client, &format!("k{number}")).await })
    });
    let mut made = 0;
    for creation in creations.collect::<Vec<_>>() {
        let answer = creation.await.unwrap();
        if answer.status == 201 {
            made += 1;
        } else {
            over(answer, "keys");
        }
    }
    let listed = api.client.list("/v1/keys").await;
    assert_eq!((made, listed.len()), (5, 5));
}

/// Each request of a tenant has a record.
#[tokio::test]
async fn a_tenant_cannot_fill_the_log() {
    const REFUSED: u64 = 100;
    let tune = Tune::default().set("CLAVIGER_QUOTAS__LOG_BYTES_PER_DAY", "1MiB");
    let Api { gateway, started, client } = Api::tuned(&tune).await;
    let other = started.with_tenant("other").await;
    for operator in [&client, &other] {
        new_key(operator, "orders").await.expect_status(201);
    }
    let operations = ["GenerateDataKey", "ReadKey", "Disable"];
    let issued = token(&client, "filler", &operations, None).await;
    let own = client.with_token(text_of(&issued));
    let neighbour = other.with_token(text_of(&token(&other, "honest", &operations, None).await));

    let end = || records_from(&gateway.data(), 0).1;
    let begin = end();
    let batch = json!({"items": vec![json!({"key": "orders"}); 1000]});
    let refused = loop {
        let answer = own.post("/v1/batch/data-keys", &batch).await;
        let written = end() - begin;
        // The quota, and the batch that passed it.
        assert!(written < 3 << 20, "{written} bytes");
        if answer.status != 200 {
            break answer;
        }
    };
    over(refused, "log_bytes_per_day");
    let full = end();
    for _ in 1..REFUSED {
        over(own.get("/v1/keys/orders").await, "log_bytes_per_day");
    }
    // Nor can those that are never refused, but fail.
    let unusable = own.clone().with_header("claviger-timeout", "soon");
    for _ in 0..REFUSED {
        let failed = unusable.post_empty("/v1/keys/orders/disable").await;
        failed.expect_problem(400, "invalid_request");
        own.post_empty("/v1/keys/absent/disable").await.expect_problem(404, "not_found");
    }
    // A sum each second, and not a record each.
    let grown = end() - full;
    assert!(grown < REFUSED * 200, "{grown} bytes");
    neighbour.get("/v1/keys/orders").await.expect_status(200);
    client.get("/v1/keys/orders").await.expect_status(200);
    own.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    assert!(started.terminate());
    let limit = records(&gateway.data()).into_iter().filter(|record| record["operation"] == "Limit");
    let limit: Vec<Value> = limit.collect();
    let sums = limit.iter().filter_map(|record| record["counts"]["quota_exceeded"].as_u64());
    assert_eq!(sums.sum::<u64>(), REFUSED);
    // However many principals it has.
    assert!(limit.iter().all(|record| record.get("principal").is_none()), "{limit:#?}");

    let started = gateway.serve(&tune);
    let own = started.tenant("acme").with_token(text_of(&issued));
    over(own.get("/v1/keys/orders").await, "log_bytes_per_day");
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    let own = started.tenant("acme").with_token(text_of(&issued));
    own.get("/v1/keys/orders").await.expect_status(200);
}

/// Each denial has a record, too.
#[tokio::test]
async fn a_token_that_permits_nothing_leaves_its_tenant_most_of_the_quota() {
    const QUOTA: u64 = 1 << 20;
    let Api {
        gateway,
        started: _started,
        client,
    } = Api::tuned(&Tune::default().set("CLAVIGER_QUOTAS__LOG_BYTES_PER_DAY", "1MiB")).await;
    new_key(&client, "orders").await.expect_status(201);
    let honest = client.with_token(text_of(&token(&client, "honest", &["ReadKey"], None).await));
    // With the longest records that it can cause.
    let denied = client
        .with_token(text_of(&token(&client, "denied", &["Wrap"], None).await))
        .with_header("claviger-justification", &"\"".repeat(256))
        .with_header("x-request-id", &"r".repeat(64));
    let end = || records_from(&gateway.data(), 0).1;
    let begin = end();
    let mut paths = ["/v1/keys/orders", "/v1/whoami", "/v1/keys?page_size=0"].into_iter().cycle();
    let refused = loop {
        let answer = denied.get(paths.next().unwrap()).await;
        if answer.status == 409 {
            break answer;
        }
    };
    over(refused, "log_bytes_per_day");
    let written = end() - begin;
    assert!((QUOTA / 16..QUOTA / 8).contains(&written), "{written} bytes");
    for path in paths.take(3) {
        over(denied.get(path).await, "log_bytes_per_day");
    }
    // Nor with what no quota refuses, but fails.
    let unusable = denied.clone().with_header("claviger-timeout", "soon");
    for _ in 0..100 {
        let failed = unusable.delete("/v1/principals/denied/tokens/none").await;
        failed.expect_problem(400, "invalid_request");
    }
    // Nor with what is denied in its turn: another's token is not its own.
    for _ in 0..300 {
        let other = denied.delete(&format!("/v1/principals/honest/tokens/{}", "0".repeat(32))).await;
        assert!([403, 404].contains(&other.status), "{}", other.status);
    }
    let written = end() - begin;
    assert!(written < QUOTA / 16 * 3, "{written} bytes");
    // Its own it can end, and that is recorded.
    let issued = token(&client, "denied", &["Wrap"], None).await;
    let ended = client.with_token(text_of(&issued));
    let path = format!("/v1/principals/denied/tokens/{}", issued["id"].as_str().unwrap());
    ended.delete(&path).await.expect_status(204);
    honest.get("/v1/keys/orders").await.expect_status(200);
}

/// No quota refuses revocations, so a flood of them must not be recorded one by one.
#[tokio::test]
async fn revocations_whose_turn_does_not_come_are_counted() {
    // More than have a turn within their deadline. With one under way for each token, nothing else refuses any.
    const AT_ONCE: usize = 40;
    let Api { gateway, started, client } = Api::with_key().await;
    let mut flood = JoinSet::new();
    for _ in 0..AT_ONCE {
        let issued = token(&client, "revoker", &["Disable"], None).await;
        let own = client.with_token(text_of(&issued)).with_header("claviger-timeout", "100ms");
        flood.spawn(async move {
            loop {
                let answer = own.post_empty("/v1/keys/orders/disable").await;
                if answer.status == 429 {
                    return answer;
                }
            }
        });
    }
    let refused = flood.join_next().await.unwrap().unwrap();
    refused.expect_problem(429, "rate_limited");
    flood.shutdown().await;
    assert!(started.terminate());
    let all = records(&gateway.data());
    assert!(all.iter().all(|record| record["code"] != "rate_limited"));
    let counted = all.iter().filter_map(|record| record["counts"]["rate_limited"].as_u64());
    assert!(counted.sum::<u64>() > 0);
}
