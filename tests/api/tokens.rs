//! API tokens: their form, what they can do, and how they end.

use std::time::{Duration, Instant};

use claviger::access::Action;
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE};

const PATH: &str = "/v1/principals/indexer/tokens";

#[tokio::test]
async fn a_token_is_shown_once_and_has_the_form_of_the_contract() {
    let api = Api::with_key().await;
    let (first, _) = api.token("indexer", &["Wrap", "Unwrap"], Some(&["orders"])).await;
    let text = first["token"].as_str().unwrap();
    let parts: Vec<&str> = text.split('_').collect();
    assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("clv", 12, 49));
    assert!(text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()));
    let (body, check) = text.split_at(text.len() - 6);
    assert_eq!(check, base62(crc32(body.as_bytes())));
    assert_eq!(first["prefix"], format!("clv_{}", parts[1]));
    assert_eq!(
        (&first["operations"], &first["revoked"]),
        (&json!(["Wrap", "Unwrap"]), &Value::Null)
    );
    let key = api.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(first["keys"], json!([key["id"]]));

    let answer = api.client.post(PATH, &json!({"operations": ["ReadKey"]})).await;
    let record = api.recorded(&answer, "ManageTokens", "success");
    assert!(!record.to_string().contains(answer.body["token"].as_str().unwrap()));
    let second = answer.expect_status(201);
    assert_eq!(second["keys"], Value::Null);
    let listed = api.client.get(PATH).await;
    api.recorded(&listed, "ManageTokens", "success");
    assert!(!listed.text.contains(text) && !listed.text.contains("\"token\""));
    let listed = listed.expect_status(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    for shown in listed["items"].as_array().unwrap() {
        let issued = if shown["id"] == first["id"] { &first } else { &second };
        for (member, value) in shown.as_object().unwrap() {
            assert_eq!(&issued[member], value, "{member}");
        }
    }
    // The table and the files hold neither the token nor its secret half.
    for file in std::fs::read_dir(api.gateway.data()).unwrap().map(Result::unwrap) {
        let bytes = std::fs::read(file.path()).unwrap();
        let secret = parts[2].as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{:?}", file.path());
    }
    assert!(!api.started.output().contains(parts[2]));
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn base62(mut value: u32) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = ['0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = char::from(ALPHABET[(value % 62) as usize]);
        value /= 62;
    }
    digits.iter().collect()
}

#[tokio::test]
async fn nobody_hands_out_more_than_they_have() {
    let api = Api::with_key().await;
    api.key("sales").await;
    api.client
        .post("/v1/principals", &json!({"name": "indexer"}))
        .await
        .expect_status(201);
    let (_, issuer) = api.token("issuer", &["ManageTokens", "Unwrap"], Some(&["orders"])).await;
    for body in [
        json!({"operations": ["Wrap"], "keys": ["orders"]}),
        json!({"operations": ["Unwrap", "Wrap"], "keys": ["orders"]}),
        json!({"operations": ["Unwrap"], "keys": ["orders", "sales"]}),
        json!({"operations": ["Unwrap"], "keys": ["absent"]}),
        json!({"operations": ["Unwrap"]}),
    ] {
        let refused = issuer.post(PATH, &body).await;
        api.recorded(&refused, "ManageTokens", "denied");
        refused.expect_problem(403, "permission_denied");
    }
    assert_eq!(api.client.get(PATH).await.expect_status(200)["items"], json!([]));
    // Whom nothing is left of the tenant as a whole issues nothing, not even less than it has.
    let less = issuer.post(PATH, &json!({"operations": ["Unwrap"], "keys": ["orders"]})).await;
    less.expect_problem(403, "permission_denied");
    let (_, issuer) = api.token("issuer", &["ManageTokens", "Unwrap", "ReadKey"], None).await;
    for operations in [json!(["Wrap"]), json!(["Unwrap", "Wrap"])] {
        let refused = issuer.post(PATH, &json!({"operations": operations, "keys": ["orders"]})).await;
        api.recorded(&refused, "ManageTokens", "denied");
        refused.expect_problem(403, "permission_denied");
    }
    issuer
        .post(PATH, &json!({"operations": ["Unwrap", "ManageTokens"], "keys": ["orders"]}))
        .await
        .expect_status(201);
    // One who reaches every key may learn that a name leads nowhere.
    let keys = json!({"operations": ["Unwrap"], "keys": ["orders", "absent"]});
    let absent = api.client.post(PATH, &keys).await.expect_problem(404, "not_found");
    assert_eq!(
        (&absent["detail"], &absent["errors"][0]["pointer"]),
        (&json!("There is no key of that name in this tenant."), &json!("/keys/1"))
    );
}

#[tokio::test]
async fn a_token_needs_operations_keys_and_a_life_that_can_be() {
    let api = Api::with_key().await;
    api.client
        .post("/v1/principals", &json!({"name": "indexer"}))
        .await
        .expect_status(201);
    for body in [
        json!({}),
        json!({"operations": []}),
        json!({"operations": ["unwrap"]}),
        json!({"operations": ["Everything"]}),
        json!({"operations": ["Unwrap"], "keys": []}),
        json!({"operations": ["Unwrap"], "keys": vec!["orders"; 257]}),
        json!({"operations": ["Unwrap"], "expires_in": "0s"}),
        json!({"operations": ["Unwrap"], "expires_in": "367d"}),
        json!({"operations": ["Unwrap"], "expires_in": "99999999999999999d"}),
        json!({"operations": ["Unwrap"], "expires_in": 60}),
    ] {
        api.client.post(PATH, &body).await.expect_problem(400, "invalid_request");
    }
    assert_eq!(api.client.get(PATH).await.expect_status(200)["items"], json!([]));
    let all: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    let issued = api
        .client
        .post(PATH, &json!({"operations": all, "expires_in": "366d", "kind": "standing"}))
        .await
        .expect_status(201);
    assert_eq!(issued["operations"], json!(all));
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_the_next_request() {
    let api = Api::start().await;
    let (first, client) = api.token("indexer", &["ReadKey"], None).await;
    let (_, other) = api.token("indexer", &["ReadKey"], None).await;
    client.get("/v1/keys").await.expect_status(200);
    let path = format!("{PATH}/{}", first["id"].as_str().unwrap());
    let revoked = api.client.delete(&path).await;
    api.recorded(&revoked, "ManageTokens", "success");
    assert_eq!(revoked.status, 204);
    client.get("/v1/keys").await.expect_problem(401, "unauthenticated");
    other.get("/v1/keys").await.expect_status(200);
    let listed = api.client.get(PATH).await.expect_status(200);
    let shown = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] == first["id"])
        .unwrap();
    assert!(shown["revoked"].is_string());
    // Again is no harm, another principal's path or an unknown id leads nowhere.
    assert_eq!(api.client.delete(&path).await.status, 204);
    api.client
        .post("/v1/principals", &json!({"name": "second"}))
        .await
        .expect_status(201);
    let strange = path.replace("indexer", "second");
    api.client.delete(&strange).await.expect_problem(404, "not_found");
    api.client
        .delete(&format!("{PATH}/{}", "0".repeat(32)))
        .await
        .expect_problem(404, "not_found");
    api.client
        .delete(&format!("{PATH}/nonsense"))
        .await
        .expect_problem(400, "invalid_request");
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let api = Api::start().await;
    api.client
        .post("/v1/principals", &json!({"name": "indexer"}))
        .await
        .expect_status(201);
    let issued = api
        .client
        .post(PATH, &json!({"operations": ["ReadKey"], "expires_in": "1s"}))
        .await
        .expect_status(201);
    let client = api.client.with_token(issued["token"].as_str().unwrap());
    let begun = Instant::now();
    loop {
        let answer = client.get("/v1/keys").await;
        if answer.status == 401 {
            answer.expect_problem(401, "unauthenticated");
            break;
        }
        answer.expect_status(200);
        assert!(begun.elapsed() < PATIENCE, "never refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_token_lives_no_longer_than_its_issuer_s_grants_after_a_restart() {
    let api = Api::with_key().await;
    let (issued, client) = api.token("indexer", &["ReadKey"], Some(&["orders"])).await;
    let (gone, _) = api.token("indexer", &["ReadKey"], None).await;
    let path = format!("{PATH}/{}", gone["id"].as_str().unwrap());
    assert_eq!(api.client.delete(&path).await.status, 204);
    client.get("/v1/keys/orders").await.expect_status(200);
    let Api { gateway, started, .. } = api;
    started.kill();
    let again = gateway.serve(&claviger_test_support::Tune::default());
    let operator = again.operator();
    operator
        .with_token(issued["token"].as_str().unwrap())
        .get("/v1/keys/orders")
        .await
        .expect_status(200);
    operator
        .with_token(gone["token"].as_str().unwrap())
        .get("/v1/keys")
        .await
        .expect_problem(401, "unauthenticated");
}
