//! The check of a connection.

use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::bench::{Bench, CONNECTION};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("each_right_is_reported_and_the_policy_can_be_pasted", Needs::Keys, |bench| {
        Box::pin(report(bench))
    }),
    ("a_bad_key_takes_nothing_from_the_rest", Needs::Faults, |bench| {
        Box::pin(bad_key(bench))
    }),
    ("what_fails_as_a_whole_is_told_with_its_code", Needs::Faults, |bench| {
        Box::pin(fails(bench))
    }),
];

async fn check(bench: &Bench) -> Value {
    let path = format!("/v1/connections/{CONNECTION}/check");
    bench.client.post_empty(&path).await.expect_status(200)
}

async fn report(bench: Bench) {
    bench.key("orders").await;
    bench.key("invoices").await;
    let report = check(&bench).await;
    assert_eq!((&report["reachable"], &report["code"]), (&json!(true), &Value::Null), "{report}");
    for right in report["rights"].as_array().expect("a list") {
        let (operation, how) = (
            right["operation"].as_str().unwrap_or_default(),
            right["how"].as_str().unwrap_or_default(),
        );
        assert!(!operation.is_empty() && (1..=1024).contains(&how.len()), "{right}");
        // LocalStack is started without its STS, which is another service.
        let finding = right["finding"].as_str().unwrap_or_default();
        let known = ["granted", "denied", "excessive", "not_testable"].contains(&finding) || operation == "identity";
        assert!(known, "{right}");
        assert!(finding != "denied" || right["what_to_do"].is_string(), "{right}");
    }
    if let Some(policy) = report["policy"].as_str() {
        assert!(policy.lines().count() > 3 && !policy.contains("\\u"), "{policy}");
    }
}

async fn bad_key(bench: Bench) {
    let bad = bench.key("bad").await;
    bench.key("good").await;
    let id = bad["provider_key"].as_str().expect("a provider key").to_owned();
    bench
        .at_provider(&Request::BreakKey {
            id: id.clone(),
            broken: true,
        })
        .await;
    let report = check(&bench).await;
    assert_eq!(report["reachable"], true, "{report}");
    let rights = report["rights"].as_array().expect("a list");
    let of_bad = |right: &&Value| right["how"].as_str().is_some_and(|how| how.contains(&id));
    let (bad, good): (Vec<_>, Vec<_>) = rights.iter().partition(of_bad);
    assert!(
        bad.iter()
            .all(|right| right["finding"] == "failed" && right["how"].as_str().is_some_and(|how| how.contains("500")))
    );
    assert!(good.iter().all(|right| right["finding"] == "granted"), "{report}");
    assert_eq!((bad.len(), good.len()), (1, 1), "{report}");
}

async fn fails(bench: Bench) {
    for (fault, code) in [
        (Fault::Denied, "provider_denied"),
        (Fault::Garbage, "provider_protocol"),
        (Fault::Hang, "deadline_exceeded"),
    ] {
        bench.plan("probe", fault, 1).await;
        let hasty = bench.client.clone().with_header("claviger-timeout", "1500ms");
        let path = format!("/v1/connections/{CONNECTION}/check");
        let answer = hasty.post_empty(&path).await;
        if answer.status == 504 {
            answer.expect_problem(504, code);
            continue;
        }
        let report = answer.expect_status(200);
        assert_eq!((&report["reachable"], &report["code"]), (&json!(false), &json!(code)), "{report}");
        assert!(!report["detail"].as_str().unwrap_or_default().is_empty(), "{report}");
    }
}
