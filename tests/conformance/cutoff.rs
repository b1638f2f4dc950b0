//! Nothing is handed over after a disable, sever or detach was answered, also where the
//! provider call was under way.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use claviger_test_support::{Answer, Client};
use claviger_testkit::Fault;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::bench::{Bench, CONNECTION, data_key, unwrap, wrap};
use crate::wire::Wire;
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("disable_while_a_call_is_under_way", Needs::Faults, |bench| {
        Box::pin(under_way(bench, Cut::Disable))
    }),
    ("sever_while_a_call_is_under_way", Needs::Faults, |bench| {
        Box::pin(under_way(bench, Cut::Sever))
    }),
    ("detach_while_a_call_is_under_way", Needs::Faults, |bench| {
        Box::pin(under_way(bench, Cut::Detach))
    }),
    ("disable_while_a_batch_is_under_way", Needs::Faults, |bench| {
        Box::pin(batch(bench, Cut::Disable))
    }),
    ("sever_while_a_batch_is_under_way", Needs::Faults, |bench| {
        Box::pin(batch(bench, Cut::Sever))
    }),
    ("disable_under_load", Needs::Keys, |bench| Box::pin(under_load(bench, Cut::Disable))),
    ("sever_under_load", Needs::Keys, |bench| Box::pin(under_load(bench, Cut::Sever))),
    ("a_hanging_rotation_does_not_hold_up_a_disable", Needs::Faults, |bench| {
        Box::pin(not_held_up(bench, "rotate", "/v1/keys/orders/rotate", json!({})))
    }),
    ("a_hanging_enable_does_not_hold_up_a_disable", Needs::Faults, |bench| {
        Box::pin(not_held_up(
            bench,
            "set_state",
            "/v1/keys/orders/enable",
            json!({"at_provider": true}),
        ))
    }),
    ("a_disable_here_stands_when_the_provider_fails", Needs::Faults, |bench| {
        Box::pin(stands(bench))
    }),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Disable,
    Sever,
    Detach,
}

impl Cut {
    async fn make(self, bench: &Bench) -> Answer {
        match self {
            Self::Disable | Self::Sever => bench.client.post_empty(&self.path()).await,
            Self::Detach => bench.client.delete(&self.path()).await,
        }
    }

    fn path(self) -> String {
        match self {
            Self::Disable => "/v1/keys/orders/disable".to_owned(),
            Self::Sever => format!("/v1/connections/{CONNECTION}/sever"),
            Self::Detach => "/v1/keys/orders".to_owned(),
        }
    }

    /// Undoes it. `owner` is one of the tenant's own: an operator restores no connection to an external key manager.
    async fn undo(self, bench: &Bench, owner: &Client) {
        let undone = match self {
            Self::Disable => bench.client.post_empty("/v1/keys/orders/enable").await,
            Self::Sever => owner.post_empty(&format!("/v1/connections/{CONNECTION}/restore")).await,
            Self::Detach => panic!("a detach is not undone in place"),
        };
        undone.expect_status(200);
    }

    fn refusal(self) -> (u16, &'static str) {
        match self {
            Self::Disable => (409, "key_disabled"),
            Self::Sever => (409, "connection_severed"),
            Self::Detach => (404, "not_found"),
        }
    }

    /// The verbs of the change and of what undoes it, as the record has them.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Self::Disable => ("disable", "enable"),
            Self::Sever => ("sever", "restore"),
            Self::Detach => ("detach", "adopt"),
        }
    }
}

/// Stops when these records say that something was handed over.
fn nothing_handed_over(records: &[Value], code: &str) {
    assert!(!records.is_empty());
    for record in records {
        match (record["kind"].as_str(), record["result"].as_str()) {
            (Some("outcome"), Some("success")) => {
                let withheld = records
                    .iter()
                    .any(|other| other["kind"] == "withheld" && other["withholds"] == record["sequence"] && other["code"] == code);
                assert!(withheld, "{records:#?}");
            }
            (Some("outcome"), Some("failed")) => assert_eq!(record["code"], code),
            (Some("withheld"), _) => assert_eq!(record["code"], code),
            _ => panic!("{record}"),
        }
    }
}

async fn under_way(bench: Bench, cut: Cut) {
    for key in ["orders", "people"] {
        bench.key(key).await;
    }
    bench.connection("second").await;
    bench
        .client
        .post("/v1/keys", &bench.new_key_with("elsewhere", json!({"connection": "second"})))
        .await
        .expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    let wrapped = wrap(&bench.client, "orders", b"some bytes").await;
    let other = data_key(&bench.client, "elsewhere").await;
    let requests = [
        ("/v1/unwrap", json!({"wrapped": made["wrapped"]})),
        ("/v1/keys/orders/unwrap", json!({"wrapped": wrapped})),
        ("/v1/keys/orders/data-keys", json!({})),
        ("/v1/keys/orders/data-keys", json!({"plaintext": false})),
        ("/v1/keys/orders/wrap", json!({"plaintext": "AA=="})),
        ("/v1/keys/orders/rewrap", json!({"wrapped": made["wrapped"]})),
        ("/v1/keys/orders/rewrap", json!({"wrapped": made["wrapped"], "to": "elsewhere"})),
        ("/v1/keys/elsewhere/rewrap", json!({"wrapped": other["wrapped"], "to": "orders"})),
    ];
    for op in ["unwrap_key", "wrap_key", "generate_data_key", "rewrap_key"] {
        bench.plan(op, Fault::Slow, 0).await;
    }
    let answers = join_all(requests.iter().map(|(path, body)| bench.client.post(path, body)));
    let cuts = async {
        bench.at_gate(requests.len() as u64).await;
        let answer = cut.make(&bench).await;
        assert!(matches!(answer.status, 200 | 204), "{}", answer.text);
        // It waits for no provider. A sever ends all calls through its connection before it is answered,
        // and leaves the one through the other.
        let left = if cut == Cut::Sever { 1 } else { requests.len() as u64 };
        assert_eq!(bench.journal().await.at_gate, left);
        bench.clear().await;
    };
    let (answers, ()) = tokio::join!(answers, cuts);
    let (status, code) = cut.refusal();
    for (answer, (path, body)) in answers.into_iter().zip(&requests) {
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
        nothing_handed_over(&bench.records_of(&answer), code);
        answer.expect_problem(status, code);
    }
}

async fn batch(bench: Bench, cut: Cut) {
    let owner = bench.limited(&["Restore"]).await;
    bench.key("orders").await;
    bench.connection("second").await;
    bench
        .client
        .post("/v1/keys", &bench.new_key_with("elsewhere", json!({"connection": "second"})))
        .await
        .expect_status(201);
    let key = |at: usize| if at.is_multiple_of(2) { "orders" } else { "elsewhere" };
    let items: Vec<_> = (0..20).map(|at| json!({"key": key(at)})).collect();
    let made = bench
        .client
        .post("/v1/batch/data-keys", &json!({"items": items}))
        .await
        .expect_status(200);
    let unwraps: Vec<_> = (0..20).map(|at| json!({"wrapped": made["items"][at]["wrapped"]})).collect();
    let rewraps: Vec<_> = (0..20)
        .map(|at| json!({"key": key(at), "wrapped": made["items"][at]["wrapped"]}))
        .collect();
    let mut waiting = 0;
    for (path, items) in [("unwrap", unwraps), ("data-keys", items), ("rewrap", rewraps)] {
        waiting += 1;
        for op in ["unwrap_key", "wrap_key", "generate_data_key", "rewrap_key"] {
            bench.plan(op, Fault::Slow, 0).await;
        }
        let body = json!({"items": items});
        let path = format!("/v1/batch/{path}");
        let answer = bench.client.post(&path, &body);
        let cuts = async {
            bench.at_gate(20).await;
            cut.make(&bench).await.expect_status(200);
            bench.clear().await;
        };
        let (answer, ()) = tokio::join!(answer, cuts);
        let records = bench.records_of(&answer);
        let (_, code) = cut.refusal();
        let answer = answer.expect_status(200);
        for at in 0..20 {
            let item = &answer["items"][at];
            if key(at) == "orders" {
                assert_eq!(item["error"]["code"], code, "{path} {at}: {item}");
                assert!(item["plaintext"].is_null() && item["wrapped"].is_null(), "{item}");
                let of_item: Vec<_> = records.iter().filter(|record| record["item"] == at).cloned().collect();
                nothing_handed_over(&of_item, code);
            } else {
                assert!(item["error"].is_null(), "{path} {at}: {item}");
            }
        }
        cut.undo(&bench, &owner).await;
    }
    assert_eq!(waiting, 3);
}

/// How often a cut comes into the middle of a load.
const ROUNDS: usize = 100;
/// How many callers make the load.
const CALLERS: usize = 6;

async fn under_load(bench: Bench, cut: Cut) {
    let owner = bench.limited(&["Restore"]).await;
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let wrapped = &made["wrapped"];
    let single = json!({"wrapped": wrapped});
    let several = json!({"items": vec![single.clone(); 3]}).to_string();
    let single = single.to_string();
    let cutter = bench.wire().await;
    let callers = join_all((0..CALLERS).map(|_| bench.wire())).await;
    let opened = Cell::new(0);
    for _ in 0..ROUNDS {
        unwrap(&bench.client, wrapped).await.expect_status(200);
        // All of it is one task, so nobody looks at an answer between the cut's and the moment.
        let is_answered = Cell::new(false);
        let load = join_all(callers.iter().enumerate().map(async |(place, caller)| {
            loop {
                let begun_after = is_answered.get();
                let answer = if place % 3 == 0 {
                    caller.post("/v1/batch/unwrap", &several).await
                } else {
                    caller.post("/v1/unwrap", &single).await
                };
                assert!(matches!(answer.status, 200 | 409), "{}", answer.text);
                if answer.status == 200 && answer.text.contains("\"plaintext\"") {
                    opened.set(opened.get() + 1);
                    assert!(!begun_after, "opened by a request that began after the cut was answered");
                    assert_eq!(answer.late, 0, "bytes of an answer that arrived after the cut's own");
                }
                if begun_after {
                    return;
                }
            }
        }));
        let cuts = async {
            // Different places of the load, without a clock: after some requests of our own.
            unwrap(&bench.client, wrapped).await.expect_status(200);
            let answer = cutter.post(&cut.path(), "").await;
            callers.iter().for_each(Wire::moment);
            is_answered.set(true);
            assert_eq!(answer.status, 200, "{}", answer.text);
        };
        tokio::join!(load, cuts);
        cut.undo(&bench, &owner).await;
    }
    assert!(opened.get() >= ROUNDS, "{}", opened.get());
    in_the_log(&bench, cut);
}

/// No success stands in the log between a cut's outcome and the intent of what undid it,
/// unless it was withheld.
fn in_the_log(bench: &Bench, cut: Cut) {
    let records = bench.records();
    let withheld: Vec<_> = records.iter().filter(|record| record["kind"] == "withheld").collect();
    let (cuts, undoes) = cut.verbs();
    // A cut that went on without its intent, on a machine that is late, has two outcomes: its own, and that of the intent,
    // which may come before it took effect.
    let mut cut_by = BTreeSet::new();
    let (mut is_cut, mut successes, mut after) = (false, 0, Vec::new());
    for record in &records {
        let verb = record["change"]["verb"].as_str();
        match (record["kind"].as_str(), verb, record["operation"].as_str()) {
            (Some("outcome"), Some(verb), _) if verb == cuts => {
                is_cut |= cut_by.insert(record["request_id"].to_string());
                after.clear();
            }
            (Some("intent"), Some(verb), _) if verb == undoes => {
                assert!(after.is_empty(), "handed over after the cut: {after:?}");
                is_cut = false;
            }
            (Some("outcome"), None, Some("Unwrap")) if record["result"] == "success" => {
                successes += 1;
                let is_withheld = withheld.iter().any(|other| other["withholds"] == record["sequence"]);
                if is_cut && !is_withheld {
                    after.push(record);
                }
            }
            _ => {}
        }
    }
    let rounds = cut_by.len();
    assert_eq!(rounds, ROUNDS);
    assert!(successes >= 2 * ROUNDS, "{successes}");
    eprintln!("{successes} successes over {rounds} cuts, {} of them withheld", withheld.len());
}

/// A change that waits for its provider leaves the way free for a disable.
async fn not_held_up(bench: Bench, op: &'static str, path: &str, body: Value) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.plan(op, Fault::Slow, 0).await;
    let change = bench.client.post(path, &body);
    let cuts = async {
        bench.at_gate(1).await;
        Cut::Disable.make(&bench).await.expect_status(200);
        assert_eq!(bench.journal().await.at_gate, 1, "the provider has not answered yet");
        unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_disabled");
        bench.clear().await;
    };
    let (answer, ()) = tokio::join!(change, cuts);
    // The disable came last, so it stands, whatever became of the other.
    assert!(answer.status < 500, "{}", answer.text);
    let key = bench.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["state"], "disabled");
    unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_disabled");
    Cut::Disable.undo(&bench, &bench.client).await;
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    data_key(&bench.client, "orders").await;
}

async fn stands(bench: Bench) {
    bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let body = json!({"at_provider": true});
    let hasty = bench.client.clone().with_header("claviger-timeout", "600ms");
    for (fault, result, recorded) in [
        (Fault::Denied, "denied", "failed"),
        (Fault::Unavailable, "pending", "interrupted"),
        (Fault::Hang, "pending", "interrupted"),
    ] {
        unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
        bench.plan("set_state", fault, 0).await;
        let answer = hasty.post("/v1/keys/orders/disable", &body).await;
        let records = bench.records_of(&answer);
        let told = answer.expect_status(200);
        assert_eq!(told["at_provider"]["result"], result, "{told}");
        let key = bench.client.get("/v1/keys/orders").await.expect_status(200);
        assert_eq!(key["state"], "disabled");
        unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_disabled");
        let outcomes: Vec<_> = records
            .iter()
            .filter(|record| record["kind"] == "outcome")
            .map(|record| {
                (
                    record["change"]["verb"].clone(),
                    record["change"]["at_provider"].clone(),
                    record["result"].clone(),
                )
            })
            .collect();
        assert_eq!(
            outcomes,
            [
                (json!("disable"), Value::Null, json!("success")),
                (json!("update"), json!(true), json!(recorded))
            ]
        );
        bench.clear().await;
        Cut::Disable.undo(&bench, &bench.client).await;
    }
    // A refusal to do it here as there answers both; the disable here was not undone by it.
    let begun = std::time::Instant::now();
    bench.client.post("/v1/keys/orders/disable", &body).await.expect_status(200);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
