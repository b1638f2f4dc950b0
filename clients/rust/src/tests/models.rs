//! What is made of responses, batches and secrets.

use serde_json::json;

use super::*;
use crate::models::{FailedItem, GenerateItem, KeyState, UnwrapItem, WrapItem};
use crate::{Change, Secret, SecretText};

const CONTENT: &str = "secret-content";

fn unwrapped(changes: Value) -> Value {
    let mut made = json!({"plaintext": "c2VjcmV0LWNvbnRlbnQ=", "key": "orders", "version": 1, "cached": false});
    for (name, value) in changes.as_object().unwrap() {
        made[name] = value.clone();
    }
    made
}

fn object(body: &Value) -> Script {
    Script::of(vec![responds(200, "application/json", body.to_string(), &[])])
}

#[tokio::test]
async fn problems_and_words_of_later_gateways_are_kept() {
    let problem = json!({
        "type": "urn:x", "code": "moon_phase", "title": "Title", "detail": "Detail.", "status": 418, "request_id": "0193", "retryable": false,
        "moon": CONTENT, "what_to_do": "Wait.", "errors": [{"pointer": "/a", "expected": "b", "moon": 1}], "provider_message": "P.", "provider": "moon",
    });
    let headers = &[("claviger-audit-index", "log#1")];
    let script = Script::of(vec![responds(418, "application/problem+json", problem.to_string(), headers)]);
    let error = failed(script.client(builder()).get_key("orders").await, ErrorKind::Other);
    assert_eq!(
        error.to_string(),
        "Detail. [moon_phase] /a: expected b. The provider: P. Wait. (request 0193)"
    );
    assert_eq!((error.title(), error.audit_index()), ("Title", Some("log#1")));
    assert_eq!(error.extra().get("moon"), Some(&json!(CONTENT)));
    assert!(!error.provider().unwrap().is_known());
    assert!(!format!("{error:?}").contains(CONTENT), "{error:?}");

    let body = key(json!({"state": "eclipsed", "moon": CONTENT, "rotation": {"state": "idle", "since": "now"}}));
    let found = object(&body).client(builder()).get_key("orders").await.unwrap();
    assert_eq!(
        (found.state.as_str(), found.state.is_known(), found.state == KeyState::Enabled),
        ("eclipsed", false, false)
    );
    assert_eq!(found.extra.get("moon"), Some(&json!(CONTENT)));
    assert_eq!(found.rotation.extra.get("since"), Some(&json!("now")));
    assert_eq!(found.extra.iter().count(), 1);
    assert!(!format!("{found:?}").contains(CONTENT));

    // Members of the wrong kind do not hide the error.
    let problem = json!({"code": "not_found", "detail": 5, "errors": "x", "provider": [], "status": "x"});
    let script = Script::of(vec![responds(404, "application/problem+json", problem.to_string(), &[])]);
    let error = failed(script.client(builder()).get_key("orders").await, ErrorKind::NotFound);
    assert_eq!((error.status(), error.detail()), (Some(404), "The request failed."));
}

#[tokio::test]
async fn a_response_that_is_not_the_documented_one_is_refused() {
    let get = async |body: Value| {
        let client = object(&body).client(builder().retries(0));
        client.get_key("orders").await
    };
    let mut without = key(json!({}));
    without.as_object_mut().unwrap().remove("state");
    for (body, member) in [
        (without, "`state`"),
        (key(json!({"primary_version": "2"})), "`primary_version`"),
        (key(json!({"primary_version": -1})), "`primary_version`"),
        (key(json!({"rotation": {}})), "`rotation.state`"),
        (key(json!({"cache": {"max_age": "1w"}})), "`cache.max_age`"),
        (key(json!({"created": "yesterday"})), "`created`"),
        (key(json!({"labels": {"a": 1}})), "`labels.a`"),
        (key(json!({"name": null})), "`name`"),
    ] {
        let error = failed(get(body).await, ErrorKind::UnexpectedResponse);
        assert!(error.detail().contains(member), "{error}");
        assert!(error.maybe_executed() && !error.is_retryable() && error.status() == Some(200));
    }
    for body in [json!([]), json!("x"), json!(null)] {
        failed(get(body).await, ErrorKind::UnexpectedResponse);
    }
    // JSON that ends too early was lost on the way.
    let cut = responds(200, "application/json", "{\"plaintext\": \"c2Vj", &[]);
    let script = Script::of(vec![cut, responds(200, "application/json", unwrapped(json!({})).to_string(), &[])]);
    let found = script.client(builder()).unwrap("clv1.x").await.unwrap();
    assert_eq!((found.key.as_str(), script.count()), ("orders", 2));
    let trailing = responds(200, "application/json", format!("{} {{}}", key(json!({}))), &[]);
    failed(
        Script::of(vec![trailing]).client(builder().retries(0)).get_key("orders").await,
        ErrorKind::UnexpectedResponse,
    );
}

#[tokio::test]
async fn nothing_secret_is_in_an_error() {
    for body in [
        unwrapped(json!({"version": CONTENT})),
        unwrapped(json!({"plaintext": "c2VjcmV0LWNvbnRlbnQ"})),
        unwrapped(json!({"plaintext": [CONTENT]})),
        unwrapped(json!({"plaintext": CONTENT})),
    ] {
        let client = object(&body).client(builder().retries(0));
        let error = failed(client.unwrap("clv1.x").await, ErrorKind::UnexpectedResponse);
        let text = format!("{error} {error:?} {client:?}");
        for hidden in [CONTENT, "c2VjcmV0", &TOKEN[17..]] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}

#[test]
fn secrets_do_not_print_and_are_equal_by_content() {
    let secret = Secret::new(CONTENT);
    let text = SecretText::from(CONTENT);
    let settings = crate::settings::VaultAuth::Token(text.clone());
    let item = WrapItem::new("orders", CONTENT.as_bytes());
    let json = crate::SecretJson::from(json!({"token": CONTENT}));
    let printed = format!("{secret:?} {secret:#?} {text:?} {settings:?} {item:?} {json:?}");
    assert!(!printed.contains(CONTENT) && !printed.contains("115"), "{printed}");
    assert_eq!(secret, Secret::from(CONTENT.as_bytes().to_vec()));
    assert_ne!(secret, Secret::from(b"secret-conten"));
    assert_ne!(secret, Secret::from([0; 14]));
    assert_eq!((secret.len(), secret.is_empty(), secret.expose()), (14, false, CONTENT.as_bytes()));
    assert_eq!((text.expose(), &text), (CONTENT, &SecretText::new(CONTENT)));
}

#[tokio::test]
async fn base64_is_standard_and_whole() {
    for (text, expected) in [
        ("", Some(0)),
        ("AA==", Some(1)),
        ("AAA=", Some(2)),
        ("AAAA", Some(3)),
        ("A\\/8=", Some(2)),
    ] {
        let found: Option<Secret> = serde_json::from_str(&format!("\"{text}\"")).ok();
        assert_eq!(found.map(|secret| secret.len()), expected, "{text}");
    }
    for text in ["A", "AA", "AA=", "AB==", "A-8=", " AA==", "AA==\\n", "AA==AA=="] {
        assert!(serde_json::from_str::<Secret>(&format!("\"{text}\"")).is_err(), "{text}");
    }
}

/// A batch of these items whose requests have these many items, by the bodies that were sent.
async fn sizes(items: Vec<UnwrapItem>) -> Vec<usize> {
    // The object itself and one for each item.
    let count = |body: &[u8]| body.iter().filter(|byte| **byte == b'{').count() - 1;
    let script = Script::of((1..).take(20).map(|_| refusal(500, "internal", false, &[])).collect());
    let client = script.client(builder());
    // Each request fails, so each is asked for by a batch of what is left.
    let mut sizes = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        failed(client.batch_unwrap(rest.clone()).await, ErrorKind::Other);
        let sent = script.with_request(script.count() - 1, |request| count(request.body.as_ref().unwrap()));
        sizes.push(sent);
        rest.drain(..sent);
    }
    sizes
}

#[tokio::test]
async fn batches_are_cut_to_what_a_request_takes() {
    let items = |count| (0..count).map(|_| UnwrapItem::new("clv1.x")).collect::<Vec<_>>();
    assert_eq!(sizes(items(1)).await, [1]);
    assert_eq!(sizes(items(1000)).await, [1000]);
    assert_eq!(sizes(items(2001)).await, [1000, 1000, 1]);
    // By bytes: `{"items":[{"wrapped":"..."},...]}` in 16 MiB.
    let of_bytes = |bytes: usize| UnwrapItem::new("x".repeat(bytes - "{\"wrapped\":\"\"}".len()));
    let half = (16 << 20) / 2 - 6;
    assert_eq!(12 + 1 + 2 * half, 16 << 20 | 1);
    assert_eq!(sizes(vec![of_bytes(half), of_bytes(half - 1), of_bytes(20)]).await, [2, 1]);
    assert_eq!(sizes(vec![of_bytes(half), of_bytes(half), of_bytes(20)]).await, [1, 2]);
    // One that is too large by itself has a request of its own, so that the gateway says so.
    assert_eq!(sizes(vec![of_bytes(20), of_bytes(17 << 20), of_bytes(20)]).await, [1, 1, 1]);
    // Without items nothing is sent.
    let script = Script::of(vec![lost()]);
    assert!(script.client(builder()).batch_unwrap([]).await.unwrap().is_empty());
    assert_eq!(script.count(), 0);
}

#[tokio::test]
async fn an_item_of_a_batch_fails_alone() {
    let failure = json!({"error": {"code": "key_disabled", "detail": "D.", "retryable": false, "moon": 1}, "audit_index": "log#2"});
    let succeeded = json!({"plaintext": "c2VjcmV0LWNvbnRlbnQ=", "wrapped": "clv1.x", "key": "orders", "version": 1, "audit_index": "log#1", "error": null});
    let script = object(&json!({"items": [succeeded, failure]}));
    let client = script.client(builder());
    let generate = || [GenerateItem::new("orders").bytes(16), GenerateItem::new("disabled")];
    let results = client.batch_generate_data_keys(generate()).await.unwrap();
    let made = results[0].as_ref().unwrap();
    assert_eq!(made.plaintext.as_ref().unwrap().expose(), CONTENT.as_bytes());
    assert_eq!(made.audit_index.as_deref(), Some("log#1"));
    let FailedItem { error, audit_index, .. } = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), audit_index.as_deref()), (ErrorKind::KeyUnusable, Some("log#2")));
    // Results would be taken for those of other items.
    let script = object(&json!({"items": [succeeded]}));
    let error = failed(
        script.client(builder()).batch_generate_data_keys(generate()).await,
        ErrorKind::UnexpectedResponse,
    );
    assert!(error.maybe_executed());
    let script = object(&json!({"items": [{"key": CONTENT}, {}]}));
    let error = failed(
        script.client(builder()).batch_generate_data_keys(generate()).await,
        ErrorKind::UnexpectedResponse,
    );
    assert!(
        error.detail().contains("`items[0]`") && !error.to_string().contains(CONTENT),
        "{error}"
    );
}

#[tokio::test]
async fn results_before_a_failed_request_are_kept() {
    let succeeded = json!({"wrapped": "clv1.x", "key": "orders", "version": 1});
    let first = json!({"items": vec![succeeded; 1000]}).to_string();
    let script = Script::of(vec![
        responds(200, "application/json", first, &[]),
        refusal(403, "permission_denied", false, &[]),
    ]);
    let items = (0..1001).map(|_| WrapItem::new("orders", [1]));
    let mut results = script.client(builder()).batch_wrap(items).results();
    assert_eq!(script.count(), 0);
    for _ in 0..1000 {
        assert!(results.next().await.unwrap().unwrap().is_ok());
    }
    assert_eq!(script.count(), 1);
    failed(results.next().await.unwrap(), ErrorKind::PermissionDenied);
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn settings_are_written_as_the_api_reads_them() {
    let script = Script::of(vec![lost()]);
    let client = script.client(builder().retries(0));
    let settings = crate::settings::NetworkSettings::default().ca(Change::Remove).address("https://a");
    let request = client
        .update_connection("c", "*")
        .secrets(json!({"pin": "1\"2"}))
        .settings(settings);
    failed(request.await, ErrorKind::ConnectionLost);
    let sent = script.with_request(0, |request| String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap());
    assert_eq!(
        serde_json::from_str::<Value>(&sent).unwrap(),
        json!({"secrets": {"pin": "1\"2"}, "settings": {"address": "https://a", "ca": null}})
    );
}

#[tokio::test]
async fn the_environment_has_the_variables_of_the_command_line() {
    let from = |variables: &'static [(&str, &str)]| {
        ClientBuilder::from_variables(|name| {
            variables
                .iter()
                .find(|(other, _)| *other == name)
                .map(|(_, value)| (*value).to_owned())
        })
    };
    let missing = |result: Result<ClientBuilder>, name: &str| {
        let error = failed(result, ErrorKind::InvalidArgument);
        assert!(error.detail().contains(name), "{error}");
    };
    missing(from(&[]), "CLAVIGER_ADDRESS");
    missing(from(&[("CLAVIGER_ADDRESS", "http://localhost")]), "CLAVIGER_TOKEN_FILE");
    let script = Script::of(vec![success()]);
    let made = from(&[
        ("CLAVIGER_ADDRESS", "http://localhost"),
        ("CLAVIGER_TOKEN", TOKEN),
        ("CLAVIGER_TENANT", "acme"),
    ]);
    script.client(made.unwrap()).get_key("orders").await.unwrap();
    assert_eq!(script.headers("claviger-tenant"), [Some("acme".to_owned())]);
    // As on the command line, the file goes before the text.
    let made = from(&[
        ("CLAVIGER_ADDRESS", "http://localhost"),
        ("CLAVIGER_TOKEN", TOKEN),
        ("CLAVIGER_TOKEN_FILE", "/no/such/file"),
    ]);
    failed(script.client(made.unwrap()).get_key("orders").await, ErrorKind::Token);
}
