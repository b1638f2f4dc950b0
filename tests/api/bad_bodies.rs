//! Bodies that cannot be used: one clear problem with its place, and nothing changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Api;

/// A body and where the problem's first place must be; `None` where it is not told.
type Case = (Vec<u8>, Option<&'static str>);

fn case(body: impl Into<Vec<u8>>, pointer: &'static str) -> Case {
    (body.into(), Some(pointer))
}

async fn refused(api: &Api, path: &str, cases: Vec<Case>) {
    let before = api.state().await;
    for (body, pointer) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let answer = api.client.post_raw(path, body).await;
        assert_eq!(api.outcome(&answer)["code"], "invalid_request", "{shown}");
        let problem = answer.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"].as_str(), pointer, "{shown}: {problem}");
        assert!(!problem["errors"][0]["expected"].as_str().unwrap().is_empty());
    }
    assert_eq!(api.state().await, before);
}

#[tokio::test]
async fn what_is_no_json() {
    let api = Api::with_key().await;
    let whole = r#"{"name":"x","connection":"embedded","labels":{"a":"b"}}"#;
    let mut cases: Vec<Case> = (1..whole.len()).map(|end| case(&whole[..end], "")).collect();
    for text in [
        "null",
        "true",
        "17",
        "\"text\"",
        "[]",
        "{}",
        "{",
        "}",
        "nul",
        "{'name':'x'}",
        "{\"name\":\"x\",}",
        "\u{feff}{}",
        "NaN",
        "{\"name\":\"x\",\"connection\":\"embedded\"} x",
        "{\"name\":\"x\",\"connection\":\"embedded\"}{}",
        " ",
        "\0",
        "{\"name\":\"x\\ud800\",\"connection\":\"embedded\"}",
        "{\"name\":\"\u{1}\",\"connection\":\"embedded\"}",
        "{name:1}",
        "/* */ {}",
        "1e999999",
        "-",
        "\"",
    ] {
        cases.push(case(text, ""));
    }
    cases.push(case(b"{\"name\":\"\xff\xfe\"}".to_vec(), ""));
    cases.push(case("", ""));
    refused(&api, "/v1/keys", cases).await;
}

#[tokio::test]
async fn what_is_nested_too_deeply_or_is_huge() {
    let api = Api::with_key().await;
    let deep = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    let within = |value: &str| format!("{{\"name\":\"x\",\"provider\":\"local\",\"settings\":{value}}}");
    let mut cases = vec![
        case(deep("[", "]", 30_000), ""),
        case(deep("{\"a\":", "}", 10_000), ""),
        case("[".repeat(60_000), ""),
    ];
    // Settings are the one free-form member: no depth gets through it.
    for depth in [100, 127, 200, 20_000] {
        cases.push((within(&deep("[", "]", depth)).into(), None));
    }
    let before = api.state().await;
    for (body, _) in cases {
        api.client
            .post_raw("/v1/connections", body)
            .await
            .expect_problem(400, "invalid_request");
    }
    assert_eq!(api.state().await, before);
    // The longest number that JSON readers hold, and one that none does.
    let numbers = [("9".repeat(19), "/bytes"), ("9".repeat(60_000), "")];
    let cases = numbers.map(|(number, pointer)| case(format!("{{\"bytes\":{number}}}"), pointer));
    refused(&api, "/v1/keys/orders/data-keys", cases.into()).await;
}

#[tokio::test]
async fn bodies_over_64_kib_are_too_large_on_every_route_that_takes_one() {
    let api = Api::with_key().await;
    let before = api.state().await;
    for path in [
        "/v1/keys",
        "/v1/keys/orders/wrap",
        "/v1/unwrap",
        "/v1/tenants",
        "/v1/keys/orders/rotate",
    ] {
        let mut body = vec![b' '; 64 << 10];
        // The longest that is taken: what is in it decides.
        api.client.post_raw(path, body.clone()).await.expect_problem(400, "invalid_request");
        body.push(b' ');
        let answer = api.client.post_raw(path, body).await;
        assert_eq!(api.outcome(&answer)["code"], "too_large");
        answer.expect_problem(413, "too_large");
    }
    assert_eq!(api.state().await, before);
}

#[tokio::test]
async fn unknown_and_duplicate_members() {
    let api = Api::with_key().await;
    let key = |more: &str| format!("{{\"name\":\"x\",\"connection\":\"embedded\"{more}}}");
    let cases = vec![
        case(key(",\"surprise\":1"), ""),
        case(key(",\"name\":\"y\""), ""),
        case(key(",\"Name\":\"y\""), ""),
        case(key(",\"labels\":{\"a\":\"1\",\"a\":\"2\"}"), "/labels"),
        case(key(",\"labels\":{\"a\":\"1\",\"\\u0061\":\"2\"}"), "/labels"),
        case(key(",\"cache\":{\"max_age\":\"5s\",\"max_age\":\"6s\"}"), "/cache"),
        case(key(",\"cache\":{\"surprise\":1}"), "/cache"),
        case(key(",\"spec\":null,\"spec\":\"aes-256\""), ""),
    ];
    refused(&api, "/v1/keys", cases).await;
    let cases = vec![
        case("{\"context\":{\"a\":\"1\",\"a\":\"1\"}}", "/context"),
        case("{\"context\":{\"a\":\"1\",\"\\u0061\":\"2\"}}", "/context"),
        case("{\"context\":{},\"context\":{}}", ""),
        case("{\"plaintext\":true,\"plaintext\":false}", ""),
        case("{\"algorithm\":\"AES\"}", ""),
    ];
    refused(&api, "/v1/keys/orders/data-keys", cases).await;
    for (path, body) in [
        ("/v1/keys/orders/rotate", "{\"force\":true}"),
        ("/v1/keys/orders/disable", "{\"at_provider\":true,\"at_provider\":false}"),
        ("/v1/keys/orders/disable", "{\"at_provider\":\"yes\"}"),
        ("/v1/connections/embedded/sever", "[]"),
        ("/v1/principals", "{\"name\":\"x\",\"name\":\"x\"}"),
        ("/v1/tenants", "{\"name\":\"x\",\"state\":\"suspended\"}"),
    ] {
        api.client.post_raw(path, body).await.expect_problem(400, "invalid_request");
    }
    let settings = "{\"name\":\"x\",\"provider\":\"local\",\"settings\":{\"a\":{},\"a\":{}}}";
    api.client
        .post_raw("/v1/connections", settings)
        .await
        .expect_problem(400, "invalid_request");
    assert_eq!(api.client.get("/v1/keys/orders").await.body["state"], "enabled");
}

#[tokio::test]
async fn wrong_base64() {
    let api = Api::with_key().await;
    let texts = [
        "AAA",
        "AAAA=",
        "A",
        "====",
        "AA==AA==",
        "AAA\\nA",
        " AAAA",
        "AA-_",
        "AA\u{e9}=",
        "AB==",
        "AAB=",
        "!!!!",
    ];
    let mut cases: Vec<Case> = texts
        .iter()
        .map(|text| case(format!("{{\"plaintext\":\"{text}\"}}"), "/plaintext"))
        .collect();
    for value in ["1", "null", "[65,65]", "{}"] {
        cases.push(case(format!("{{\"plaintext\":{value}}}"), "/plaintext"));
    }
    cases.push(case("{}", ""));
    refused(&api, "/v1/keys/orders/wrap", cases).await;
}

#[tokio::test]
async fn contexts_over_the_limits() {
    let api = Api::with_key().await;
    let pairs = |count: usize, value: &str| -> Value {
        let pairs: serde_json::Map<_, _> = (0..count).map(|n| (format!("n{n}"), json!(value))).collect();
        Value::Object(pairs)
    };
    let one = |name: String, value: Value| Value::Object([(name, value)].into_iter().collect());
    let bad = [
        pairs(17, "x"),
        pairs(65, "x"),
        pairs(1000, "x"),
        pairs(3, &"x".repeat(700)),
        one("n".repeat(129), json!("x")),
        one(String::new(), json!("x")),
        one("n".to_owned(), json!("")),
        one("n".to_owned(), json!("x".repeat(1025))),
        one("claviger:tenant".to_owned(), json!("x")),
        one("claviger:".to_owned(), json!("x")),
        one("n".to_owned(), json!(1)),
        one("n".to_owned(), json!(null)),
        one("n".to_owned(), json!({"a": "b"})),
        json!([["a", "b"]]),
        json!("a=b"),
    ];
    let made = api.data_key("orders").await;
    for context in bad {
        for (path, mut body) in [
            ("/v1/keys/orders/data-keys", json!({})),
            ("/v1/keys/orders/wrap", json!({"plaintext": "AAAA"})),
            ("/v1/keys/orders/unwrap", json!({"wrapped": made["wrapped"]})),
            ("/v1/keys/orders/rewrap", json!({"wrapped": made["wrapped"]})),
            ("/v1/unwrap", json!({"wrapped": made["wrapped"]})),
            ("/v1/inspect", json!({"wrapped": made["wrapped"]})),
        ] {
            body["context"] = context.clone();
            let problem = api.client.post(path, &body).await.expect_problem(400, "invalid_request");
            let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
            assert!(pointer == "/context" || pointer == "/context/n", "{path} {pointer}");
        }
    }
    // The limits themselves are kept.
    for context in [
        pairs(16, "x"),
        one("n".repeat(128), json!("x".repeat(1024))),
        one("\u{0}\u{7f}".to_owned(), json!("\u{0}")),
    ] {
        let made = api
            .client
            .post("/v1/keys/orders/data-keys", &json!({"context": context}))
            .await
            .expect_status(200);
        let body = json!({"wrapped": made["wrapped"], "context": context});
        assert_eq!(
            api.client.post("/v1/unwrap", &body).await.expect_status(200)["plaintext"],
            made["plaintext"]
        );
    }
}

#[tokio::test]
async fn another_media_type() {
    let api = Api::with_key().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json+x",
        "",
        "json",
        "multipart/form-data",
    ] {
        let request = api
            .client
            .request(Method::POST, "/v1/keys/orders/data-keys")
            .header("content-type", kind)
            .body("{}");
        let answer = api.client.send(request).await;
        assert_eq!(api.outcome(&answer)["code"], "unsupported_media_type");
        answer.expect_problem(415, "unsupported_media_type");
    }
    let without = api.client.request(Method::POST, "/v1/keys/orders/data-keys").body("{}");
    api.client.send(without).await.expect_problem(415, "unsupported_media_type");
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let request = api
            .client
            .request(Method::POST, "/v1/keys/orders/data-keys")
            .header("content-type", kind)
            .body("{}");
        api.client.send(request).await.expect_status(200);
    }
}
