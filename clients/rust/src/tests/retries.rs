//! Credentials, deadlines and retries, in time that passes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::SecretText;
use crate::models::{Key, Operation};
use crate::random::jitter;

async fn get(script: &Script, builder: ClientBuilder) -> Result<Key> {
    script.client(builder).get_key("orders").await
}

#[tokio::test(start_paused = true)]
async fn a_success_has_its_request_and_record() {
    let script = Script::of(vec![success()]);
    let key = get(&script, builder().tenant("acme").justification("Ticket 4711")).await.unwrap();
    assert_eq!(key.meta.request_id.as_deref(), Some("0193"));
    assert_eq!(key.meta.audit_index.as_deref(), Some("log#1"));
    assert_eq!(key.cache.max_age, Some(Duration::from_secs(60)));
    script.with_request(0, |request| {
        assert_eq!(request.url.as_str(), "http://localhost/v1/keys/orders");
        let mut sent: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        sent.sort_unstable();
        let agent = concat!("claviger-client-rust/", env!("CARGO_PKG_VERSION"));
        let bearer = format!("Bearer {TOKEN}");
        let expected = [
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("authorization", bearer.as_str()),
            ("claviger-justification", "Ticket 4711"),
            ("claviger-tenant", "acme"),
            ("claviger-timeout", "29750ms"),
            ("user-agent", agent),
        ];
        assert_eq!(sent, expected);
        assert!(!format!("{request:?}").contains(TOKEN));
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_retryable_is_retried_with_growing_pauses() {
    let script = Script::of(vec![limited()]);
    failed(get(&script, builder()).await, ErrorKind::RateLimited);
    // The documented second, and the random pause on top.
    assert_eq!(script.pauses(), [1250, 1500, 2000, 3000]);
    let script = Script::of(vec![limited()]);
    failed(get(&script, builder().retries(0)).await, ErrorKind::RateLimited);
    assert_eq!(script.count(), 1);
    let script = Script::of(vec![refused()]);
    failed(
        get(&script, builder().retries(300).timeout(Duration::from_secs(9999))).await,
        ErrorKind::GatewayUnreachable,
    );
    assert_eq!((script.count(), script.pauses().into_iter().max()), (301, Some(8000)));
}

#[test]
fn random_pauses_are_no_longer_than_they_may() {
    let longest = Duration::from_secs(8);
    let pauses: Vec<_> = (0..200).map(|_| jitter(longest)).collect();
    assert!(pauses.iter().all(|pause| *pause <= longest));
    assert!(pauses.iter().any(|pause| *pause < longest / 3) && pauses.iter().any(|pause| *pause > longest * 2 / 3));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_the_least_pause() {
    let script = Script::of(vec![refusal(503, "not_ready", true, &[("retry-after", "7")]), success()]);
    get(&script, builder()).await.unwrap();
    assert_eq!(script.pauses(), [7250]);
    // No pause is begun that the deadline does not allow.
    let script = Script::of(vec![refusal(503, "not_ready", true, &[("retry-after", "31")])]);
    let error = failed(get(&script, builder()).await, ErrorKind::Unavailable);
    assert_eq!((script.count(), error.retry_after()), (1, Some(Duration::from_secs(31))));
    for nonsense in [
        &[("retry-after", "soon")],
        &[("retry-after", "-1")],
        &[("retry-after", "+1")],
        &[("retry-after", "1.5")],
        &[("retry-after", "99999999999999999999")],
    ] {
        let script = Script::of(vec![refusal(503, "not_ready", true, nonsense), success()]);
        get(&script, builder()).await.unwrap();
        assert_eq!(script.pauses(), [1250]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_retryable_is_not_retried() {
    let script = Script::of(vec![refusal(409, "key_disabled", false, &[])]);
    failed(get(&script, builder()).await, ErrorKind::KeyUnusable);
    assert_eq!(script.count(), 1);
    // An unknown code goes by `retryable`, too.
    let script = Script::of(vec![refusal(418, "later_code", false, &[])]);
    let error = failed(get(&script, builder()).await, ErrorKind::Other);
    assert_eq!(
        (error.code().as_str(), error.code().is_known(), error.status()),
        ("later_code", false, Some(418))
    );
    assert_eq!(script.count(), 1);
    let script = Script::of(vec![refusal(503, "later_code", true, &[]), success()]);
    get(&script, builder()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_sent_and_shrinks() {
    let script = Script::slow(vec![limited()], Duration::from_secs(2));
    failed(
        get(&script, builder().timeout(Duration::from_secs(10))).await,
        ErrorKind::RateLimited,
    );
    // Each attempt takes 2 s, and the pauses 1.25 s and 1.5 s.
    let sent: Vec<_> = script.headers("claviger-timeout").into_iter().flatten().collect();
    assert_eq!(sent, ["9750ms", "6500ms", "3000ms"]);
    let script = Script::of(vec![success()]);
    get(&script, builder().timeout(Duration::from_millis(100))).await.unwrap();
    assert_eq!(script.headers("claviger-timeout"), [Some("100ms".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_ends_the_call() {
    let script = Script::slow(vec![success()], Duration::from_secs(60));
    let error = failed(
        get(&script, builder().timeout(Duration::from_secs(1))).await,
        ErrorKind::DeadlineExceeded,
    );
    assert!(error.maybe_executed() && error.request_id().is_none());
    // Nothing was sent yet.
    let slow = || async {
        sleep(Duration::from_millis(300)).await;
        Ok(SecretText::from(TOKEN))
    };
    let script = Script::of(vec![success()]);
    let settings = Client::builder("http://localhost")
        .token_function(slow)
        .timeout(Duration::from_millis(200));
    let error = failed(get(&script, settings).await, ErrorKind::DeadlineExceeded);
    assert!(!error.maybe_executed() && script.count() == 0);
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_is_kept_over_retries() {
    let script = Script::of(vec![refused(), lost(), refusal(409, "in_progress", true, &[]), success()]);
    let client = script.client(builder());
    client.create_key("orders", "embedded").await.unwrap();
    let keys = script.headers("idempotency-key");
    let first = keys[0].clone().unwrap();
    assert_eq!((keys.len(), first.len()), (4, 32));
    assert!(keys.iter().all(|key| key.as_deref() == Some(first.as_str())));
    client.create_key("orders", "embedded").await.unwrap();
    assert_ne!(script.headers("idempotency-key")[4], Some(first));
    client.create_key("orders", "embedded").idempotency_key("mine").await.unwrap();
    assert_eq!(script.headers("idempotency-key")[5].as_deref(), Some("mine"));
    client.get_key("orders").await.unwrap();
    assert_eq!(script.headers("idempotency-key")[6], None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_is_repeated_where_that_is_safe() {
    let outcomes = || vec![lost(), refused(), refusal(409, "in_use", false, &[])];
    let check = |script: &Script, error: Error| {
        // What the first attempt may have done stays done. There is no documented second for these.
        assert!(error.maybe_executed());
        assert_eq!(script.pauses(), [250, 500]);
    };
    let script = Script::of(outcomes());
    check(&script, failed(get(&script, builder()).await, ErrorKind::Conflict));
    let script = Script::of(outcomes());
    let made = script.client(builder()).create_token("p", [Operation::Unwrap]).await;
    check(&script, failed(made, ErrorKind::Conflict));
    let script = Script::of(outcomes());
    check(
        &script,
        failed(script.client(builder()).delete_token("p", "t").await, ErrorKind::Conflict),
    );
    let script = Script::of(outcomes());
    check(
        &script,
        failed(script.client(builder()).disable_key("orders").await, ErrorKind::Conflict),
    );
    let script = Script::of(outcomes());
    check(
        &script,
        failed(script.client(builder()).generate_data_key("orders").await, ErrorKind::Conflict),
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_is_not_repeated_where_the_caller_must_look() {
    async fn update(script: &Script) -> Result<()> {
        let request = script.client(builder()).update_key("orders", "*");
        request.labels([("a", "b")]).await.map(drop)
    }
    async fn delete(script: &Script) -> Result<()> {
        script.client(builder()).delete_key("orders").await
    }
    let script = Script::of(vec![lost()]);
    assert!(failed(update(&script).await, ErrorKind::ConnectionLost).maybe_executed());
    assert!(failed(delete(&script).await, ErrorKind::ConnectionLost).maybe_executed());
    assert_eq!(script.count(), 2);
    // The page of a proxy whose gateway is away is like a lost response.
    let script = Script::of(vec![responds(502, "text/html", "<html>", &[])]);
    assert!(failed(update(&script).await, ErrorKind::UnexpectedResponse).maybe_executed());
    assert_eq!(script.count(), 1);
    // Nothing was sent, or the gateway itself says that the request may be repeated.
    for again in [refused(), limited()] {
        let script = Script::of(vec![again]);
        assert!(update(&script).await.is_err());
        assert_eq!(script.count(), 5);
    }
}

/// A gateway that permits a repetition, and is away at the next attempt.
#[tokio::test(start_paused = true)]
async fn a_retry_is_decided_by_its_attempt_alone() {
    let late = || refusal(504, "deadline_exceeded", true, &[]);
    let script = Script::of(vec![late(), refused(), success()]);
    script.client(builder()).update_key("orders", "*").await.unwrap();
    assert_eq!(script.count(), 3);
    let script = Script::of(vec![late(), refused(), refusal(409, "in_use", false, &[])]);
    let error = failed(script.client(builder()).delete_key("orders").await, ErrorKind::Conflict);
    assert!(error.maybe_executed());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_fails_hides_no_earlier_attempt() {
    let count = Arc::new(AtomicUsize::new(0));
    let once = move || {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if is_first {
                Ok(SecretText::from(TOKEN))
            } else {
                Err("no token".into())
            }
        }
    };
    let script = Script::of(vec![lost()]);
    let error = failed(
        get(&script, Client::builder("http://localhost").token_function(once)).await,
        ErrorKind::Token,
    );
    assert!(error.maybe_executed() && script.count() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_changed_is_tried_once_after_a_401() {
    let unauthenticated = || refusal(401, "unauthenticated", false, &[]);
    let changing = || {
        let count = Arc::new(AtomicUsize::new(0));
        let next = move || {
            let token = [TOKEN, OTHER_TOKEN][count.fetch_add(1, Ordering::SeqCst).min(1)];
            async move { Ok(SecretText::from(token)) }
        };
        Client::builder("http://localhost").token_function(next)
    };
    let script = Script::of(vec![unauthenticated(), success()]);
    get(&script, changing()).await.unwrap();
    let sent: Vec<_> = script.headers("authorization").into_iter().flatten().collect();
    assert_eq!(sent, [format!("Bearer {TOKEN}"), format!("Bearer {OTHER_TOKEN}")]);
    assert_eq!(script.pauses(), [0]);
    let script = Script::of(vec![unauthenticated()]);
    failed(get(&script, changing()).await, ErrorKind::Unauthenticated);
    assert_eq!(script.count(), 2);
    // The same token again is no other one.
    let same = Client::builder("http://localhost").token_function(|| async { Ok(SecretText::from(TOKEN)) });
    let script = Script::of(vec![unauthenticated()]);
    failed(get(&script, same).await, ErrorKind::Unauthenticated);
    assert_eq!(script.count(), 1);
    let script = Script::of(vec![unauthenticated()]);
    failed(get(&script, builder()).await, ErrorKind::Unauthenticated);
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_read_while_the_gateway_is_not_ready() {
    let body = json!({"ready": false, "parts": [{"name": "log", "ready": false, "state": "full"}]}).to_string();
    let script = Script::of(vec![responds(503, "application/json", body, &[])]);
    let found = script.client(builder()).get_readiness().await.unwrap();
    assert_eq!((found.ready, found.parts[0].state.as_str()), (false, "full"));
    assert_eq!(script.headers("authorization"), [None]);
    let script = Script::of(vec![refusal(503, "not_ready", false, &[])]);
    failed(script.client(builder()).get_readiness().await, ErrorKind::Unavailable);
    // As when many responses wait to be read.
    let script = Script::of(vec![responds(503, "application/json", "", &[])]);
    failed(
        script.client(builder().retries(0)).get_readiness().await,
        ErrorKind::UnexpectedResponse,
    );
}

#[tokio::test(start_paused = true)]
async fn json_of_a_proxy_is_no_problem_document() {
    for body in [
        "{\"error\": \"no upstream\"}",
        "{\"code\": \"\"}",
        "{\"code\": 502}",
        "[]",
        "502",
        "",
    ] {
        let script = Script::of(vec![responds(502, "application/json", body, &[])]);
        failed(get(&script, builder()).await, ErrorKind::UnexpectedResponse);
    }
    let script = Script::of(vec![responds(404, "text/html", "<html>", &[])]);
    failed(get(&script, builder()).await, ErrorKind::UnexpectedResponse);
    assert_eq!(script.count(), 1);
}

/// So that tasks can be spawned with them.
#[test]
fn futures_and_values_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync + 'static>() {}
    let client = Script::of(vec![success()]).client(builder());
    is_send(&client.get_key("orders"));
    is_send(&client.create_key("orders", "embedded").into_future());
    is_send(&client.list_keys().items());
    is_shared::<Client>();
    is_shared::<Error>();
    is_shared::<Key>();
}
