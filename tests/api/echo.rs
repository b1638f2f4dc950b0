//! A value that was sent never comes back, in no answer, no log and no record: whatever is
//! wrong with the place that it was put in.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Api;

/// A value that stands nowhere else: a secret that was put in the wrong place.
const CANARY: &str = "canary.7f3a9c51e2";

/// The same in the forms in which it could be repeated.
fn forms() -> [String; 4] {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    [
        CANARY.to_owned(),
        CANARY.to_ascii_uppercase(),
        STANDARD_NO_PAD.encode(CANARY),
        URL_SAFE_NO_PAD.encode(CANARY),
    ]
}

#[track_caller]
fn clean(place: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{place}: {text}");
    }
}

#[tokio::test]
async fn no_body_comes_back() {
    let api = Api::with_key().await;
    api.token("ci", &["ReadKey"], None).await;
    let routes: [(&str, Value); 10] = [
        (
            "/v1/connections",
            json!({"name": "x", "provider": "local", "settings": {}, "labels": {"a": "b"}}),
        ),
        (
            "/v1/keys",
            json!({"name": "x", "connection": "embedded", "spec": "aes-256", "provider_key": "x", "labels": {"a": "b"},
            "cache": {"max_age": "5s", "enabled": true}, "id": "x"}),
        ),
        (
            "/v1/keys/orders/data-keys",
            json!({"bytes": 32, "context": {"a": "b"}, "scope": "x", "plaintext": true}),
        ),
        (
            "/v1/keys/orders/wrap",
            json!({"plaintext": "AAAA", "context": {"a": "b"}, "scope": "x"}),
        ),
        ("/v1/keys/orders/unwrap", json!({"wrapped": "x", "context": {"a": "b"}})),
        ("/v1/keys/orders/rewrap", json!({"wrapped": "x", "context": {"a": "b"}, "to": "x"})),
        ("/v1/keys/orders/disable", json!({"at_provider": true})),
        ("/v1/principals", json!({"name": "x", "kind": "person"})),
        (
            "/v1/principals/ci/tokens",
            json!({"operations": ["Wrap"], "keys": ["x"], "expires_in": "1h"}),
        ),
        ("/v1/batch/wrap", json!({"items": [{"key": "orders", "plaintext": "AAAA"}]})),
    ];
    let spoiled = |value: &Value| -> Vec<Value> {
        vec![
            json!(CANARY),
            json!([CANARY]),
            json!({CANARY: CANARY}),
            json!({"a": {"b": CANARY}}),
            match value {
                Value::Object(members) => {
                    let mut members = members.clone();
                    members.insert(CANARY.to_owned(), json!(CANARY));
                    Value::Object(members)
                }
                other => json!([other, CANARY]),
            },
        ]
    };
    for (path, body) in &routes {
        for value in spoiled(body) {
            let answer = api.client.post(path, &value).await;
            assert!(answer.status >= 400, "{path} {value}: {}", answer.text);
            clean(path, &answer.text);
        }
        for member in body.as_object().unwrap().keys() {
            for value in spoiled(&body[member]) {
                let mut wrong = body.clone();
                wrong[member] = value;
                let answer = api.client.post(path, &wrong).await;
                // Where the canary is a value that can be (a context, a label), it is kept as such.
                if answer.status >= 400 {
                    clean(&format!("{path} {member}"), &answer.text);
                }
            }
        }
        let text = body.to_string();
        for broken in [
            format!("{text}{CANARY}"),
            format!("{{\"{CANARY}\""),
            CANARY.to_owned(),
            format!("{{\"a\":{CANARY}}}"),
        ] {
            let answer = api.client.post_raw(path, broken).await;
            assert!(answer.status >= 400);
            clean(path, &answer.text);
        }
    }
}

#[tokio::test]
async fn no_header_query_or_path_comes_back() {
    let api = Api::with_key().await;
    let bad = format!("{CANARY}/\u{e9}");
    for header in [
        "if-match",
        "idempotency-key",
        "claviger-timeout",
        "claviger-justification",
        "claviger-tenant",
        "authorization",
        "content-type",
        "x-request-id",
        "traceparent",
        "accept",
        "range",
        "cookie",
        "expect-ct",
    ] {
        for value in [CANARY, bad.as_str()] {
            for (method, path, body) in [
                (Method::POST, "/v1/keys/orders/rotate", "{}"),
                (Method::PATCH, "/v1/keys/orders", "{}"),
                (Method::GET, "/v1/keys", ""),
            ] {
                let client = api.client.clone().without_header(header);
                let request = client.request(method, path).header(header, value).body(body);
                let answer = client.send(request).await;
                clean(header, &answer.text);
                let repeated = answer
                    .headers
                    .iter()
                    .any(|(_, value)| value.as_bytes().windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
                assert!(!repeated, "{header}: {:?}", answer.headers);
            }
        }
    }
    for path in [
        format!("/v1/keys/{CANARY}%2f"),
        format!("/v1/keys/{CANARY}"),
        format!("/v1/keys/orders/{CANARY}"),
        format!("/{CANARY}"),
        format!("/v1/keys?{CANARY}=1"),
        format!("/v1/keys?page_size={CANARY}"),
        format!("/v1/keys?page_token={CANARY}"),
        format!("/v1/keys?state={CANARY}"),
        format!("/v1/keys?label={CANARY}"),
        format!("/v1/principals/{CANARY}"),
        format!("/v1/tenants/{CANARY}"),
        format!("/v1/connections/{CANARY}"),
        format!("/docs/{CANARY}"),
    ] {
        let answer = api.client.get(&path).await;
        assert!(answer.status >= 400, "{path}: {}", answer.text);
        clean(&path, &answer.text);
    }
}

#[tokio::test]
async fn no_secret_reaches_the_log_or_a_record() {
    let api = Api::with_key().await;
    let secret = "S3cretCanaryS3cretCanaryS3cretCanary00/+";
    let made = api
        .client
        .post("/v1/keys/orders/wrap", &json!({"plaintext": secret}))
        .await
        .expect_status(200);
    let opened = api
        .client
        .post("/v1/unwrap", &json!({"wrapped": made["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!(opened["plaintext"], secret);
    let (issued, _) = api.token("ci", &["ReadKey"], None).await;
    // And where each was put in a wrong place.
    for wrong in [
        json!({"plaintext": format!("{secret}=")}),
        json!({"plaintext": [secret]}),
        json!({"wrapped": secret}),
        json!({secret: 1}),
    ] {
        for path in ["/v1/keys/orders/wrap", "/v1/unwrap", "/v1/keys", "/v1/tenants"] {
            let answer = api.client.post(path, &wrong).await;
            assert!(answer.status >= 400 && !answer.text.contains(secret), "{}", answer.text);
        }
    }
    let settings = json!({"name": "x", "provider": "local", "settings": {"secret": secret}});
    api.client
        .post("/v1/connections", &settings)
        .await
        .expect_problem(400, "invalid_request");
    api.client
        .with_token(secret)
        .get("/v1/keys")
        .await
        .expect_problem(401, "unauthenticated");
    let token = issued["token"].as_str().unwrap();
    let admin = api.started.token();
    let decoded = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.decode(secret).unwrap()
    };
    let mut searched = vec![("the log", api.started.output().into_bytes())];
    for file in std::fs::read_dir(api.gateway.data()).unwrap().map(Result::unwrap) {
        searched.push(("a file of the data folder", std::fs::read(file.path()).unwrap()));
    }
    for (place, bytes) in searched {
        for needle in [secret.as_bytes(), &decoded, &token.as_bytes()[17..], &admin.as_bytes()[17..]] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{place}");
        }
    }
}
