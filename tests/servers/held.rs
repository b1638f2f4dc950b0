//! What holds of every external key manager, whatever it speaks: over HTTP against the real binary, with an XKS proxy, the
//! KMIP server on kmip-go and a PKCS#11 module.

mod manager;

use std::time::{Duration, Instant};

use claviger_test_support::{log_end, records_of};
use futures::future::join_all;
use serde_json::json;

use self::manager::{BESIDE, BUDGET, Fault, HASTY, Held, KEY, Kind};
use crate::world::{CONNECTION, World};
use crate::{Boxed, Case};

/// How often a key manager is asked at most for an operation that changes nothing.
const ATTEMPTS: usize = 3;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        let mut case = |name: &str, run: fn(Kind) -> Boxed| {
            let name = format!("held::{}::{name}", kind.word());
            cases.push(Case::new(name, kind.needs(), move || run(kind)));
        };
        case("a_denial_is_told_as_such", |kind| Box::pin(a_denial_is_told_as_such(kind)));
        case("a_wrong_plaintext_reaches_nobody", |kind| {
            Box::pin(a_wrong_plaintext_reaches_nobody(kind))
        });
        case("no_call_is_shared_and_none_is_doubled", |kind| {
            Box::pin(no_call_is_shared_and_none_is_doubled(kind))
        });
        case("who_is_slow_or_hangs_holds_up_nobody_else", |kind| {
            Box::pin(who_is_slow_or_hangs_holds_up_nobody_else(kind))
        });
        case("a_sever_ends_what_is_under_way_and_the_owner_restores_it", |kind| {
            Box::pin(a_sever_ends_what_is_under_way_and_the_owner_restores_it(kind))
        });
        case("a_sever_takes_effect_on_a_full_disk", |kind| {
            Box::pin(a_sever_takes_effect_on_a_full_disk(kind))
        });
        case("data_keys_are_cached_for_their_owner_until_a_sever", |kind| {
            Box::pin(data_keys_are_cached_for_their_owner_until_a_sever(kind))
        });
    }
    cases
}

fn sever() -> String {
    format!("/v1/connections/{CONNECTION}/sever")
}

fn restore() -> String {
    format!("/v1/connections/{CONNECTION}/restore")
}

async fn a_denial_is_told_as_such(kind: Kind) {
    let held = Held::new(kind).await;
    let made = held.data_key(KEY).await;
    held.have(Fault::Denied);
    let before = held.asked();
    let body = json!({"wrapped": made["wrapped"]});
    // As often as would open a circuit, if it was an outage.
    for path in ["/v1/unwrap".to_owned(), format!("/v1/keys/{KEY}/unwrap")] {
        for _ in 0..10 {
            let denied = held.world.client.post(&path, &body).await;
            let problem = denied.expect_problem(424, "external_denied");
            assert_eq!(
                (&problem["provider"], &problem["retryable"]),
                (&json!(kind.word()), &json!(false)),
                "{problem}"
            );
            assert!(!problem["what_to_do"].as_str().unwrap().is_empty(), "{problem}");
        }
    }
    let batch = held.world.client.post("/v1/batch/unwrap", &json!({"items": [body]})).await;
    assert_eq!(batch.expect_status(200)["items"][0]["error"]["code"], "external_denied");
    assert_eq!(held.asked() - before, 21, "each request is asked for once");
    // What is not denied goes on.
    held.data_key(KEY).await;
    let check = format!("/v1/connections/{CONNECTION}/check");
    let report = held.world.client.post_empty(&check).await.expect_status(200);
    assert_eq!(report["reachable"], true, "{report}");
    held.have(Fault::None);
    held.opens(&made).await;
}

/// It is refused as a wrong context is: an answer that told the two apart would tell a caller which bits of a wrapped key
/// he changed.
async fn a_wrong_plaintext_reaches_nobody(kind: Kind) {
    let held = Held::new(kind).await;
    let made = held.data_key(KEY).await;
    let body = json!({"wrapped": made["wrapped"], "context": {"table": "other"}});
    let rejected = held.world.client.post("/v1/unwrap", &body).await;
    let told = rejected.expect_problem(422, "ciphertext_rejected");
    held.have(Fault::WrongPlaintext);
    let problem = held.unwrap(&made).await.expect_problem(422, "ciphertext_rejected");
    assert_eq!((&problem["detail"], &problem["what_to_do"]), (&told["detail"], &told["what_to_do"]));
    held.have(Fault::None);
    held.opens(&made).await;
}

/// The key manager sees each of the callers, and each of them once. Only a call without an answer is repeated, after its
/// budget: none is sent beside another one to be faster.
async fn no_call_is_shared_and_none_is_doubled(kind: Kind) {
    let held = Held::new(kind).await;
    let (made, hasty) = (held.data_key(KEY).await, held.data_key(HASTY).await);
    held.have(Fault::Pause);
    let before = held.asked();
    let unwraps = std::iter::repeat_with(|| held.opens(&made)).take(4);
    assert_eq!(join_all(unwraps).await, [false; 4]);
    assert_eq!(held.asked() - before, 4);

    held.have(Fault::Hang);
    let (before, begun) = (held.asked(), Instant::now());
    let hung = held.unwrapping(&hasty);
    held.until_asked(before + 1).await;
    while held.asked() < before + 2 && !hung.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed() >= BUDGET, "asked again before the first call was over");
    let answer = hung.await.unwrap();
    let took = begun.elapsed();
    assert!(matches!(answer.status, 503 | 504), "{}", answer.text);
    // The pauses before the repetitions, and a slow machine.
    let most = BUDGET * u32::try_from(ATTEMPTS).unwrap() + Duration::from_secs(2);
    assert!(took < most, "{took:?}");
    let asked = held.asked() - before;
    assert!((2..=ATTEMPTS).contains(&asked), "asked {asked} times");
    held.have(Fault::None);
    held.opens(&hasty).await;
    assert_eq!(held.asked() - before, asked + 1, "asked once more after the answer");
}

async fn who_is_slow_or_hangs_holds_up_nobody_else(kind: Kind) {
    let held = Held::new(kind).await;
    let (made, beside) = (held.data_key(KEY).await, held.data_key(BESIDE).await);
    held.have(Fault::SlowOnce);
    let before = held.asked();
    let slow = held.unwrapping(&made);
    held.until_asked(before + 1).await;
    held.opens(&made).await;
    assert!(!slow.is_finished(), "it waited for the slow one");
    let opened = slow.await.unwrap().expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);

    held.have(Fault::Hang);
    let hung: Vec<_> = (0..16).map(|_| held.unwrapping(&made)).collect();
    // All sessions of a token.
    held.until_asked(before + 2 + 8).await;
    for _ in 0..20 {
        held.opens(&beside).await;
    }
    assert!(
        hung.iter().all(|hung| !hung.is_finished()),
        "they ended before the others were answered"
    );
    // Nor a sever.
    held.world.client.post_empty(&sever()).await.expect_status(200);
    for hung in hung {
        hung.await.unwrap().expect_problem(409, "connection_severed");
    }
    held.opens(&beside).await;
}

async fn a_sever_ends_what_is_under_way_and_the_owner_restores_it(kind: Kind) {
    let held = Held::new(kind).await;
    let made = held.data_key(KEY).await;
    let owner = held.world.owner(&["Sever", "Restore"]).await;
    held.have(Fault::Hang);
    let before = held.asked();
    let under_way: Vec<_> = (0..4).map(|_| held.unwrapping(&made)).collect();
    held.until_asked(before + 4).await;
    owner.post_empty(&sever()).await.expect_status(200);
    for ended in under_way {
        ended.await.unwrap().expect_problem(409, "connection_severed");
    }
    held.have(Fault::None);
    let before = held.asked();
    held.unwrap(&made).await.expect_problem(409, "connection_severed");
    assert_eq!(held.asked(), before, "a severed connection calls nothing");
    // The switch is the customer's: an operator severs, and restores nothing.
    let operators = held.world.client.post_empty(&restore()).await;
    operators.expect_problem(403, "permission_denied");
    held.unwrap(&made).await.expect_problem(409, "connection_severed");
    owner.post_empty(&restore()).await.expect_status(200);
    held.opens(&made).await;
}

/// The log takes no record, as on a full disk: what is under way ends without its answer, and the sever outlives the gateway.
async fn a_sever_takes_effect_on_a_full_disk(kind: Kind) {
    let mut held = Held::new(kind).await;
    let made = held.data_key(KEY).await;
    let owner = held.world.owner(&["Sever", "Restore"]).await;
    held.have(Fault::Hang);
    let before = held.asked();
    let under_way = held.unwrapping(&made);
    held.until_asked(before + 1).await;
    held.world.started.limit_files(Some(log_end(&held.world.gateway.data()).1));
    let severed = owner.post_empty(&sever()).await;
    severed.expect_problem(503, "effective_not_recorded");
    let ended = under_way.await.unwrap();
    assert!(
        matches!(ended.status, 409 | 503) && ended.body["plaintext"].is_null(),
        "{}",
        ended.text
    );
    held.have(Fault::None);
    let before = held.asked();
    held.world.started.limit_files(None);
    let refused = |answer: &claviger_test_support::Answer| (answer.status, answer.body["code"].as_str().unwrap().to_owned());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = held.unwrap(&made).await;
        match refused(&answer) {
            (409, code) if code == "connection_severed" => break,
            // Until the log takes records again.
            (503, code) if code == "audit_unavailable" && Instant::now() < end => {}
            _ => panic!("{}", answer.text),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    held.world = World::restarted(held.world);
    held.unwrap(&made).await.expect_problem(409, "connection_severed");
    assert_eq!(held.asked(), before, "a severed connection calls nothing");
    let owner = owner.at(&held.world.started.endpoint());
    owner.post_empty(&restore()).await.expect_status(200);
    held.opens(&made).await;
}

async fn data_keys_are_cached_for_their_owner_until_a_sever(kind: Kind) {
    let held = Held::new(kind).await;
    let made = held.data_key(KEY).await;
    let before = held.asked();
    for _ in 0..2 {
        assert!(!held.opens(&made).await);
    }
    assert_eq!(held.asked() - before, 2);

    let path = format!("/v1/keys/{KEY}");
    let caching = json!({"cache": {"enabled": true}});
    let operator = held.world.client.clone();
    let operators = operator
        .with_header("claviger-justification", "faster")
        .patch(&path, "*", &caching)
        .await;
    operators.expect_problem(403, "permission_denied");
    let owner = held.world.owner(&["UpdateKey", "ReadKey", "Sever", "Restore"]).await;
    let silent = owner.patch(&path, "*", &caching).await.expect_problem(400, "invalid_request");
    assert_eq!(silent["errors"][0]["pointer"], "header:Claviger-Justification");
    let with_reason = owner.clone().with_header("claviger-justification", "the key manager is far away");
    let changed = with_reason.patch(&path, "*", &caching).await;
    let record = records_of(&held.world.gateway.data(), changed.header("x-request-id"));
    assert_eq!(record[0]["justification"], "the key manager is far away");
    changed.expect_status(200);

    for _ in 0..2 {
        let before = held.asked();
        for cached in [false, true, true] {
            assert_eq!(held.opens(&made).await, cached);
        }
        assert_eq!(held.asked() - before, 1);
        owner.post_empty(&sever()).await.expect_status(200);
        held.unwrap(&made).await.expect_problem(409, "connection_severed");
        owner.post_empty(&restore()).await.expect_status(200);
    }
}
