//! Every code of the contract: caused here, caused in `tests/conformance` by a provider that
//! misbehaves, or not built yet. A code that stands nowhere, or twice, stops the test.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use claviger::broker::Code;
use claviger_test_support::{Answer, Tune};
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::Method;
use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::full_disk::FullDisk;
use crate::support::Api;

type Cause = fn(&Api) -> Pin<Box<dyn Future<Output = Answer> + '_>>;

/// How it is known that a code is answered.
enum Shown {
    /// This brings it about.
    Here(Cause),
    /// This case of the blob battery does, `module::case`: it needs a provider that misbehaves.
    Battery(&'static str),
    /// This test of another suite does: its file, and its name.
    Elsewhere(&'static str, &'static str),
}
use Shown::{Battery, Elsewhere, Here};

macro_rules! cause {
    ($name:ident) => {
        Here(|api| Box::pin($name(api)))
    };
}

/// Code, status and how it is shown, in the order of the contract.
#[rustfmt::skip]
const TABLE: &[(&str, u16, Shown)] = &[
    ("invalid_request", 400, cause!(invalid_request)),
    ("invalid_envelope", 400, cause!(invalid_envelope)),
    ("envelope_version_unsupported", 400, cause!(envelope_version_unsupported)),
    ("operator_only_setting", 400, cause!(operator_only_setting)),
    ("connection_refused_at_check", 400, cause!(connection_refused_at_check)),
    ("unauthenticated", 401, cause!(unauthenticated)),
    ("permission_denied", 403, cause!(permission_denied)),
    ("not_found", 404, cause!(not_found)),
    ("method_not_allowed", 405, cause!(method_not_allowed)),
    ("too_large", 413, cause!(too_large)),
    ("unsupported_media_type", 415, cause!(unsupported_media_type)),
    ("already_exists", 409, cause!(already_exists)),
    ("already_created", 409, cause!(already_created)),
    ("in_progress", 409, cause!(in_progress)),
    ("idempotency_mismatch", 409, cause!(idempotency_mismatch)),
    ("provider_key_taken", 409, cause!(provider_key_taken)),
    ("key_disabled", 409, cause!(key_disabled)),
    ("key_state", 409, cause!(key_state)),
    ("connection_severed", 409, cause!(connection_severed)),
    ("in_use", 409, cause!(in_use)),
    ("managed_by_config", 409, Elsewhere("tests/cli/declared.rs", "a_state_is_never_changed_and_the_api_leaves_the_rest_alone")),
    ("quota_exceeded", 409, cause!(quota_exceeded)),
    ("precondition_failed", 412, cause!(precondition_failed)),
    ("ciphertext_rejected", 422, cause!(ciphertext_rejected)),
    ("provider_denied", 424, Battery("faults::denied")),
    ("external_denied", 424, Elsewhere("tests/servers/held.rs", "a_denial_is_told_as_such")),
    ("connection_misconfigured", 424, cause!(connection_misconfigured)),
    ("rate_limited", 429, cause!(rate_limited)),
    ("internal", 500, cause!(internal)),
    ("unsupported", 501, cause!(unsupported)),
    ("provider_protocol", 502, Battery("faults::garbage")),
    ("provider_unavailable", 503, Battery("faults::making")),
    ("circuit_open", 503, Battery("outage::circuit")),
    ("audit_unavailable", 503, cause!(audit_unavailable)),
    ("effective_not_recorded", 503, cause!(effective_not_recorded)),
    ("effective_in_memory_only", 503, cause!(effective_in_memory_only)),
    ("not_ready", 503, Elsewhere("tests/api/starting.rs", "until_the_store_is_open_the_process_is_alive_not_ready_and_refuses_the_rest")),
    ("deadline_exceeded", 504, cause!(deadline_exceeded)),
];

#[test]
fn every_code_of_the_contract_stands_here_once() {
    let mut seen = BTreeMap::new();
    for (code, status, _) in TABLE {
        assert_eq!(seen.insert(*code, *status), None, "{code} stands twice");
    }
    for code in Code::ALL {
        assert!(seen.remove(code.as_str()).is_some(), "{} has no row", code.as_str());
    }
    assert!(seen.is_empty(), "no codes of the contract: {seen:?}");
}

#[tokio::test]
async fn each_cause_that_is_built_here_is_answered_with_its_code() {
    for (code, status, shown) in TABLE {
        if let Here(cause) = shown {
            let api = Api::with_key().await;
            let answer = cause(&api).await;
            let waits = [429, 503].contains(status);
            assert_eq!(!answer.header("retry-after").is_empty(), waits, "{code}: {:?}", answer.headers);
            let problem = answer.expect_problem(*status, code);
            assert_eq!(problem["type"], format!("urn:claviger:error:{code}"));
        }
    }
}

#[test]
fn the_battery_has_the_cases_that_are_named_here() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    for (code, _, shown) in TABLE {
        if let Battery(case) = shown {
            let (module, name) = case.split_once("::").unwrap();
            let places = [
                folder.join(format!("{module}.rs")),
                folder.join("cases").join(format!("{module}.rs")),
            ];
            let text = places
                .iter()
                .find_map(|path| std::fs::read_to_string(path).ok())
                .unwrap_or_default();
            assert!(
                text.contains(&format!("fn {name}(")) && text.contains(code),
                "{code}: no case {case} that expects it"
            );
        }
    }
}

#[test]
fn the_tests_exist_that_are_named_here() {
    for (code, _, shown) in TABLE {
        if let Elsewhere(file, name) = shown {
            let text = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let test = text.split(&format!("fn {name}(")).nth(1).and_then(|rest| rest.split("\n}").next());
            assert!(
                test.is_some_and(|test| test.contains(code)),
                "{code}: no test {name} in {file} that expects it"
            );
        }
    }
}

/// The page's table has each code once, under its status, and marks those that nothing returns yet.
#[test]
fn the_page_lists_the_codes_as_they_are() {
    let page = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let table = page
        .split("| status | code | meaning |")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let mut listed = Vec::new();
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let statuses: Vec<u16> = cells[1].split(", ").map(|status| status.parse().unwrap()).collect();
        let codes: Vec<&str> = cells[2].split(", ").collect();
        for (at, code) in codes.iter().enumerate() {
            // A row has one status for all its codes, or one for each.
            let status = statuses.get(at).filter(|_| statuses.len() > 1).unwrap_or(&statuses[0]);
            assert!(statuses.len() == 1 || statuses.len() == codes.len(), "{row}");
            listed.push((code.trim_matches('`').to_owned(), *status));
        }
    }
    let built: Vec<_> = TABLE.iter().map(|(code, status, _)| ((*code).to_owned(), *status)).collect();
    let (mut listed, mut built) = (listed, built);
    listed.sort_unstable();
    built.sort_unstable();
    assert_eq!(listed, built, "docs/api.md differs from the codes");
}

async fn invalid_request(api: &Api) -> Answer {
    api.client.post("/v1/keys", &json!({"name": "x"})).await
}

async fn invalid_envelope(api: &Api) -> Answer {
    api.client.post("/v1/unwrap", &json!({"wrapped": "clv1.Q0xWAQ"})).await
}

async fn envelope_version_unsupported(api: &Api) -> Answer {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/bad/outer-version-2.json");
    let vector: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    api.client.post("/v1/unwrap", &json!({"wrapped": vector["blob"]})).await
}

async fn operator_only_setting(api: &Api) -> Answer {
    let (_, maker) = api.token("maker", &["CreateKey"], None).await;
    let body = json!({"name": "x", "connection": "embedded", "id": "0".repeat(31) + "1"});
    maker.post("/v1/keys", &body).await
}

/// No key uses the connection, so nothing shows where other network settings lead.
async fn connection_refused_at_check(api: &Api) -> Answer {
    let settings = json!({"address": "https://vault.example", "auth": {"token": "t"}});
    let body = json!({"name": "away", "provider": "vault", "settings": settings});
    api.client.post("/v1/connections", &body).await.expect_status(201);
    let change = json!({"settings": {"proxy": "http://proxy.example:3128"}, "secrets": {"token": "t"}});
    api.client.patch("/v1/connections/away", "*", &change).await
}

async fn unauthenticated(api: &Api) -> Answer {
    api.client.with_token("clv_nothing").get("/v1/keys").await
}

async fn permission_denied(api: &Api) -> Answer {
    let (_, reader) = api.token("reader", &["ReadKey"], None).await;
    reader.post_empty("/v1/keys/orders/rotate").await
}

async fn not_found(api: &Api) -> Answer {
    api.client.get("/v1/keys/absent").await
}

async fn method_not_allowed(api: &Api) -> Answer {
    api.client.delete("/v1/keys").await
}

async fn too_large(api: &Api) -> Answer {
    api.client.post_raw("/v1/keys", vec![b' '; (64 << 10) + 1]).await
}

async fn unsupported_media_type(api: &Api) -> Answer {
    let request = api
        .client
        .request(Method::POST, "/v1/keys")
        .header("content-type", "text/plain")
        .body("{}");
    api.client.send(request).await
}

async fn already_exists(api: &Api) -> Answer {
    api.client
        .post("/v1/keys", &json!({"name": "orders", "connection": "embedded"}))
        .await
}

async fn already_created(api: &Api) -> Answer {
    api.client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let once = api.client.clone().with_header("idempotency-key", "once");
    let body = json!({"operations": ["ReadKey"]});
    once.post("/v1/principals/ci/tokens", &body).await.expect_status(201);
    once.post("/v1/principals/ci/tokens", &body).await
}

/// Of requests with one key at the same time all but one find it under way.
async fn in_progress(api: &Api) -> Answer {
    let once = api.client.clone().with_header("idempotency-key", "once");
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let once = once.clone();
        tasks.push(tokio::spawn(async move { once.post_empty("/v1/keys/orders/rotate").await }));
    }
    let mut found = None;
    for task in tasks {
        let answer = task.await.unwrap();
        if answer.status == 409 {
            found = Some(answer);
        }
    }
    found.expect("sixteen at once, and none met another")
}

async fn idempotency_mismatch(api: &Api) -> Answer {
    let once = api.client.clone().with_header("idempotency-key", "once");
    once.post("/v1/principals", &json!({"name": "one"})).await.expect_status(201);
    once.post("/v1/principals", &json!({"name": "two"})).await
}

async fn provider_key_taken(api: &Api) -> Answer {
    let key = api.client.get("/v1/keys/orders").await.expect_status(200);
    let body = json!({"name": "x", "connection": "embedded", "provider_key": key["provider_key"]});
    api.client.post("/v1/keys", &body).await
}

async fn key_disabled(api: &Api) -> Answer {
    api.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    api.client.post("/v1/keys/orders/data-keys", &json!({})).await
}

/// A provider key that is disabled at the provider cannot be adopted.
async fn key_state(api: &Api) -> Answer {
    let key = api.client.get("/v1/keys/orders").await.expect_status(200);
    api.client
        .post("/v1/keys/orders/disable", &json!({"at_provider": true}))
        .await
        .expect_status(200);
    api.client.delete("/v1/keys/orders").await.expect_status(204);
    let body = json!({"name": "x", "connection": "embedded", "provider_key": key["provider_key"]});
    api.client.post("/v1/keys", &body).await
}

async fn connection_severed(api: &Api) -> Answer {
    api.client.post_empty("/v1/connections/embedded/sever").await.expect_status(200);
    api.client.post("/v1/keys/orders/data-keys", &json!({})).await
}

async fn in_use(api: &Api) -> Answer {
    api.client.delete("/v1/connections/embedded").await
}

/// One key is all that the tenant may have.
async fn quota_exceeded(_: &Api) -> Answer {
    let api = Api::tuned(&Tune::default().set("CLAVIGER_QUOTAS__KEYS", "1")).await;
    api.key("orders").await;
    api.client
        .post("/v1/keys", &json!({"name": "more", "connection": "embedded"}))
        .await
}

async fn precondition_failed(api: &Api) -> Answer {
    api.client.patch("/v1/keys/orders", "\"0\"", &json!({"labels": {}})).await
}

async fn ciphertext_rejected(api: &Api) -> Answer {
    let made = api.data_key("orders").await;
    let body = json!({"wrapped": made["wrapped"], "context": {"another": "one"}});
    api.client.post("/v1/unwrap", &body).await
}

/// Bodies whose ends are still to come have all bytes of the credential.
async fn rate_limited(api: &Api) -> Answer {
    crate::bad_wire::while_its_share_is_taken(api).await
}

/// A row of the store that no longer says what it must.
async fn internal(_: &Api) -> Answer {
    let Api { gateway, started, .. } = Api::with_key().await;
    assert!(started.terminate());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(gateway.data().join("claviger.db"));
    let mut database = options.connect().await.unwrap();
    sqlx::query("UPDATE keys SET cache = 'nonsense'")
        .execute(&mut database)
        .await
        .unwrap();
    database.close().await.unwrap();
    let started = gateway.serve(&Tune::default());
    let answer = started.tenant("acme").get("/v1/keys/orders").await;
    assert!(
        !answer.text.contains("nonsense") && !answer.text.contains("cache"),
        "{}",
        answer.text
    );
    assert!(started.output().contains(answer.header("x-request-id")), "the cause is in the log");
    answer
}

/// A connection whose address the operator no longer permits. It is shown, with what to do, and its use
/// is what fails.
async fn connection_misconfigured(_: &Api) -> Answer {
    let permitted = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
    let Api { gateway, started, client } = Api::tuned(&permitted).await;
    let settings = json!({"address": "http://127.0.0.1:1", "auth": {"token": "t"}});
    for name in ["kms", "spare"] {
        let body = json!({"name": name, "provider": "vault", "settings": settings});
        client.post("/v1/connections", &body).await.expect_status(201);
    }
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    // At creation, the same is a mistake of the request.
    let wrong = json!({"name": "other", "provider": "vault", "settings": settings});
    client.post("/v1/connections", &wrong).await.expect_problem(400, "invalid_request");
    let shown = client.get("/v1/connections/kms").await.expect_status(200);
    assert_eq!(shown["problem"]["code"], "connection_misconfigured", "{shown}");
    assert!(shown["problem"]["what_to_do"].is_string(), "{shown}");
    let checked = client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert_eq!(
        (&checked["reachable"], &checked["code"]),
        (&json!(false), &json!("connection_misconfigured"))
    );
    // It can be severed and deleted like every other.
    client.post_empty("/v1/connections/spare/sever").await.expect_status(200);
    client.delete("/v1/connections/spare").await.expect_status(204);
    let listed = client.list("/v1/connections").await;
    assert!(listed.iter().any(|connection| connection["name"] == "kms"), "{listed:?}");
    let answer = client.post("/v1/keys", &json!({"name": "x", "connection": "kms"})).await;
    assert!(answer.body["what_to_do"].is_string(), "{}", answer.text);
    answer
}

async fn unsupported(api: &Api) -> Answer {
    api.client.post("/v1/keys/orders/data-keys", &json!({"scope": "a"})).await
}

async fn audit_unavailable(_: &Api) -> Answer {
    let full = FullDisk::new().await;
    full.fill();
    full.client.get("/v1/keys/orders").await
}

async fn effective_not_recorded(_: &Api) -> Answer {
    let full = FullDisk::new().await;
    full.fill();
    full.client.post_empty("/v1/keys/orders/disable").await
}

async fn effective_in_memory_only(_: &Api) -> Answer {
    let full = FullDisk::new().await;
    full.fail();
    full.client.post_empty("/v1/keys/orders/disable").await
}

async fn deadline_exceeded(api: &Api) -> Answer {
    // A body whose first byte is all that ever comes.
    let first = futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"{")))]);
    let half = StreamBody::new(first.chain(futures::stream::pending()));
    let request = api
        .client
        .request(Method::POST, "/v1/keys/orders/data-keys")
        .header("claviger-timeout", "300ms")
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap(half));
    api.client.send(request).await
}
