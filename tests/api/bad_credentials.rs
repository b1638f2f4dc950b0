//! Credentials that are none: each is answered alike, and counted instead of recorded.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, parts};

#[tokio::test]
async fn every_credential_that_is_none_is_answered_alike() {
    let api = Api::with_key().await;
    let (issued, _) = api.token("ci", &["ReadKey"], None).await;
    let good = issued["token"].as_str().unwrap();
    let (head, check) = good.split_at(good.len() - 6);
    let swapped: String = good.chars().rev().collect();
    let wrong_secret = {
        // Another token's secret half under this one's id, with a check sum that holds for neither.
        let (other, _) = api.token("ci", &["ReadKey"], None).await;
        let other = other["token"].as_str().unwrap().to_owned();
        format!("{}{}", &good[..17], &other[17..])
    };
    let bearer = |token: &str| format!("Bearer {token}");
    let values = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.to_owned(),
        format!("Basic {good}"),
        format!("Bearer  {good}"),
        bearer(&good[..good.len() - 1]),
        bearer(&good[..20]),
        bearer(head),
        bearer(&format!("{head}{}", if check == "000000" { "000001" } else { "000000" })),
        bearer(&format!("{good}x")),
        bearer(&good.to_ascii_uppercase()),
        bearer(&good.replacen("clv_", "clw_", 1)),
        bearer(&swapped),
        bearer(&wrong_secret),
        bearer("clv_"),
        bearer(&"A".repeat(4000)),
        bearer("eyJhbGciOiJub25lIn0.e30."),
    ];
    let records = api.log().len();
    let mut all: Vec<Value> = Vec::new();
    let bare = api.client.clone().without_header("authorization").without_header("claviger-tenant");
    all.push(told(bare.get("/v1/keys").await));
    for value in values {
        let request = bare.request(Method::GET, "/v1/keys").header("authorization", &value);
        all.push(told(bare.send(request).await));
    }
    let twice = bare.request(Method::GET, "/v1/keys");
    let twice = twice.header("authorization", bearer(good)).header("authorization", bearer(good));
    all.push(told(bare.send(twice).await));
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:#?}");
    // No record each: failed authentication is summed up.
    let more: Vec<Value> = api.log().drain(records..).collect();
    assert!(more.iter().all(|record| record["kind"] == "aggregate"), "{more:#?}");
    let output = api.started.output();
    assert!(!output.contains(&good[17..]) && !api.log().iter().any(|record| record.to_string().contains(&good[17..])));
    // The scheme's case is free (RFC 9110, 11.1).
    let lower = bare
        .request(Method::GET, "/v1/keys")
        .header("authorization", format!("bEARER {good}"));
    bare.send(lower).await.expect_status(200);
}

/// What an answer tells beside its own id.
#[track_caller]
fn told(answer: claviger_test_support::Answer) -> Value {
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    assert_eq!(answer.header("claviger-audit-index"), "");
    let mut problem = answer.expect_problem(401, "unauthenticated");
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

#[tokio::test]
async fn nothing_of_a_stranger_s_request_is_looked_at() {
    let api = Api::with_key().await;
    let stranger = api.client.with_token("clv_nothing");
    // Neither body, nor query, nor headers decide before the credential does.
    for (path, body) in [("/v1/keys?nonsense=1", "{"), ("/v1/keys/..%2f/rotate", "[]"), ("/v1/keys", "")] {
        let request = stranger
            .request(Method::POST, path)
            .header("claviger-timeout", "soon")
            .header("content-type", "text/plain");
        stranger.send(request.body(body)).await.expect_problem(401, "unauthenticated");
    }
    let large = stranger.post_raw("/v1/keys", vec![b' '; 60_000]).await;
    large.expect_problem(401, "unauthenticated");
    // A body that never comes is not waited for.
    let head = "POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n";
    let (status, problem) = parts(&api.exchange(head.as_bytes()).await);
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    for value in ["caf\u{e9}", "\u{7f}x"] {
        let Ok(name) = reqwest::header::HeaderValue::from_bytes(value.as_bytes()) else {
            continue;
        };
        let request = stranger.request(Method::GET, "/v1/keys").header("claviger-tenant", name);
        stranger.send(request).await.expect_problem(401, "unauthenticated");
    }
}
