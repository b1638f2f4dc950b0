//! A key that moves to another connection: what was wrapped before opens through the old one, and
//! no side answers after its owner ended it.

use claviger_test_support::Answer;
use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::bench::{Bench, CONNECTION, data_key, unwrap};
use crate::blob::{Parts, Recipient};
use crate::{Case, Needs};

pub const CASES: &[Case] = &[
    ("both_sides_open", Needs::Keys, |bench| Box::pin(both_sides(bench))),
    ("a_key_made_at_the_provider_becomes_a_version", Needs::Faults, |bench| {
        Box::pin(adopted(bench))
    }),
    ("a_rotation_under_way_comes_first", Needs::Faults, |bench| Box::pin(rotating(bench))),
    ("a_move_whose_answer_was_lost_changes_nothing_here", Needs::Faults, |bench| {
        Box::pin(lost_answer(bench))
    }),
    ("a_hanging_move_does_not_hold_up_a_disable", Needs::Faults, |bench| {
        Box::pin(not_held_up(bench))
    }),
    ("a_sever_of_the_old_connection_ends_a_move_under_way", Needs::Faults, |bench| {
        Box::pin(source_severed(bench))
    }),
    ("a_rewrap_depends_on_both_connections", Needs::Faults, |bench| {
        Box::pin(rewrap_under_way(bench))
    }),
    ("a_severed_member_ends_an_envelope_with_several", Needs::Keys, |bench| {
        Box::pin(several(bench))
    }),
    ("a_sever_of_another_member_ends_an_unwrap_under_way", Needs::Faults, |bench| {
        Box::pin(several_under_way(bench))
    }),
];

const ROTATE: &str = "/v1/keys/orders/rotate";
const SECOND: &str = "second";

/// With key `orders`, and a second connection.
async fn begin(bench: &Bench) {
    bench.key("orders").await;
    bench.connection(SECOND).await;
}

async fn go(bench: &Bench) -> Answer {
    bench.rotate_with("orders", json!({"connection": SECOND})).await
}

async fn opens(bench: &Bench, made: &Value, version: u32) {
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!((&opened["plaintext"], &opened["version"]), (&made["plaintext"], &json!(version)));
}

async fn switch(bench: &Bench, connection: &str, verb: &str) {
    let path = format!("/v1/connections/{connection}/{verb}");
    bench.client.post_empty(&path).await.expect_status(200);
}

async fn both_sides(bench: Bench) {
    begin(&bench).await;
    let old = data_key(&bench.client, "orders").await;
    let moved = go(&bench).await.expect_status(200);
    assert_eq!((&moved["connection"], &moved["primary_version"]), (&json!(SECOND), &json!(2)));
    let new = data_key(&bench.client, "orders").await;
    for (made, version) in [(&old, 1), (&new, 2)] {
        opens(&bench, made, version).await;
    }
    let body = json!({"wrapped": old["wrapped"]});
    let rewrapped = bench.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
    assert_eq!(
        (&rewrapped["version"], &rewrapped["changed"], &rewrapped["inside_provider"]),
        (&json!(2), &json!(true), &json!(false))
    );
    switch(&bench, CONNECTION, "sever").await;
    let refused = unwrap(&bench.client, &old["wrapped"]).await;
    refused.expect_problem(409, "connection_severed");
    opens(&bench, &new, 2).await;
    let opened = unwrap(&bench.client, &rewrapped["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], old["plaintext"]);
    // A rotation from here on is one at the new connection.
    if !bench.capabilities().await["rotation"].is_null() {
        let rotated = bench.client.post_empty(ROTATE).await.expect_status(200);
        assert_eq!((&rotated["connection"], &rotated["primary_version"]), (&json!(SECOND), &json!(3)));
        opens(&bench, &new, 2).await;
    }
    let again = json!({"connection": SECOND, "provider_key": moved["provider_key"]});
    bench.client.post(ROTATE, &again).await.expect_problem(409, "provider_key_taken");
}

async fn adopted(bench: Bench) {
    begin(&bench).await;
    let mut made = vec![data_key(&bench.client, "orders").await];
    for id in ["theirs", "others", "held"] {
        bench.at_provider(&Request::MakeKey { id: id.to_owned() }).await;
    }
    // At its own connection, and at another one.
    for body in [
        json!({"provider_key": "theirs"}),
        json!({"provider_key": "others", "connection": SECOND}),
    ] {
        let key = bench.client.post(ROTATE, &body).await.expect_status(200);
        assert_eq!(
            (&key["provider_key"], &key["primary_version"]),
            (&body["provider_key"], &json!(made.len() + 1))
        );
        made.push(data_key(&bench.client, "orders").await);
    }
    for (number, made) in (1..).zip(&made) {
        opens(&bench, made, number).await;
    }
    let holder = bench.new_key_with("holder", json!({"provider_key": "held"}));
    bench.client.post("/v1/keys", &holder).await.expect_status(201);
    let absent = bench.client.post(ROTATE, &json!({"provider_key": "absent"})).await;
    absent.expect_problem(409, "key_state");
    // One that it had before, its own, and another key's.
    for taken in ["theirs", "others", "held"] {
        for connection in [CONNECTION, SECOND] {
            let body = json!({"provider_key": taken, "connection": connection});
            bench.client.post(ROTATE, &body).await.expect_problem(409, "provider_key_taken");
        }
    }
    let body = json!({"name": "thief", "connection": CONNECTION, "provider_key": "theirs"});
    bench.client.post("/v1/keys", &body).await.expect_problem(409, "provider_key_taken");
    let disabled = Request::ChangeState {
        id: "late".to_owned(),
        enabled: false,
    };
    bench.at_provider(&Request::MakeKey { id: "late".to_owned() }).await;
    bench.at_provider(&disabled).await;
    bench
        .client
        .post(ROTATE, &json!({"provider_key": "late"}))
        .await
        .expect_problem(409, "key_state");
    assert_eq!(bench.client.list("/v1/keys/orders/versions").await.len(), 3);
}

async fn rotating(bench: Bench) {
    if bench.capabilities().await["rotation"] == "new_key" {
        return;
    }
    begin(&bench).await;
    bench.plan("rotate", Fault::Later, 1).await;
    // The look before the rotation is answered.
    if bench.entry.provider == "vault" {
        bench.plan("describe", Fault::Later, 1).await;
    }
    // Enough that no question of the gateway's is answered before the end.
    bench.plan("describe", Fault::Denied, 100_000).await;
    bench.client.post_empty(ROTATE).await.expect_status(202);
    go(&bench).await.expect_problem(409, "in_progress");
    assert_eq!(bench.calls().await.of("create_key"), 1, "that of the key itself");
}

async fn lost_answer(bench: Bench) {
    begin(&bench).await;
    let old = data_key(&bench.client, "orders").await;
    bench.plan("create_key", Fault::Reset, 1).await;
    let lost = go(&bench).await;
    let records = bench.records_of(&lost);
    lost.expect_problem(503, "provider_unavailable");
    assert!(
        records
            .iter()
            .any(|record| record["kind"] == "intent" && record["change"]["verb"] == "move")
    );
    assert_eq!(bench.client.list("/v1/keys/orders/versions").await.len(), 1);
    opens(&bench, &old, 1).await;
    let moved = go(&bench).await.expect_status(200);
    assert_eq!(moved["primary_version"], 2);
    opens(&bench, &old, 1).await;
}

async fn not_held_up(bench: Bench) {
    begin(&bench).await;
    let old = data_key(&bench.client, "orders").await;
    bench.plan("create_key", Fault::Slow, 1).await;
    let disable = async {
        bench.at_gate(1).await;
        let disabled = bench.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
        assert_eq!(disabled["state"], "disabled");
        bench.clear().await;
    };
    let (moved, ()) = tokio::join!(go(&bench), disable);
    // The provider key is there; the disable stands.
    let moved = moved.expect_status(200);
    assert_eq!((&moved["state"], &moved["primary_version"]), (&json!("disabled"), &json!(2)));
    unwrap(&bench.client, &old["wrapped"]).await.expect_problem(409, "key_disabled");
}

async fn source_severed(bench: Bench) {
    begin(&bench).await;
    bench.plan("create_key", Fault::Slow, 1).await;
    let sever = async {
        bench.at_gate(1).await;
        switch(&bench, CONNECTION, "sever").await;
        bench.clear().await;
    };
    let (refused, ()) = tokio::join!(go(&bench), sever);
    refused.expect_problem(409, "connection_severed");
    let key = bench.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!((&key["connection"], &key["primary_version"]), (&json!(CONNECTION), &json!(1)));
}

async fn rewrap_under_way(bench: Bench) {
    begin(&bench).await;
    let old = data_key(&bench.client, "orders").await;
    go(&bench).await.expect_status(200);
    let body = json!({"wrapped": old["wrapped"]});
    // While it is opened at the one, and while it is wrapped at the other.
    for op in ["unwrap_key", "wrap_key"] {
        for connection in [CONNECTION, SECOND] {
            bench.plan(op, Fault::Slow, 1).await;
            let sever = async {
                bench.at_gate(1).await;
                switch(&bench, connection, "sever").await;
                bench.clear().await;
            };
            let (answer, ()) = tokio::join!(bench.client.post("/v1/keys/orders/rewrap", &body), sever);
            answer.expect_problem(409, "connection_severed");
            switch(&bench, connection, "restore").await;
        }
    }
    bench.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
}

/// A data key of key `orders`, and an envelope's parts and recipients of it: through both connections, the old one first.
async fn both_members(bench: &Bench) -> (Value, Parts, [Recipient; 2]) {
    let old = data_key(&bench.client, "orders").await;
    go(bench).await.expect_status(200);
    let body = json!({"wrapped": old["wrapped"]});
    let new = bench.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
    let [old_parts, new] = [&old, &new].map(|made| Parts::of(made["wrapped"].as_str().expect("text")));
    let recipients = [old_parts.recipient(), new.recipient()];
    (old, old_parts, recipients)
}

async fn several(bench: Bench) {
    begin(&bench).await;
    bench.key("other").await;
    let (made, parts, [old, new]) = both_members(&bench).await;
    let seal_key = bench.seal_key().await;
    let sealed = |recipients: &[Recipient]| json!(parts.clone().with_recipients(recipients).sealed(seal_key).text());
    let recovery = |of: &Recipient| Recipient { role: 1, ..of.clone() };
    let members = [
        sealed(&[old.clone(), new.clone()]),
        sealed(&[new.clone(), old.clone()]),
        // A member that cannot be used is one all the same.
        sealed(&[
            new.clone(),
            Recipient {
                ciphertext: vec![1],
                ..old.clone()
            },
        ]),
    ];
    // Twice, so that no cache entry opens it.
    for wrapped in members.iter().chain(&members) {
        let opened = unwrap(&bench.client, wrapped).await.expect_status(200);
        assert_eq!((&opened["plaintext"], &opened["cached"]), (&made["plaintext"], &json!(false)));
    }
    // An operator restores no connection to an external key manager.
    let owner = bench.limited(&["Restore"]).await;
    let with_recovery = sealed(&[old.clone(), recovery(&new)]);
    for (connection, opens_by_member) in [(CONNECTION, false), (SECOND, true)] {
        switch(&bench, connection, "sever").await;
        for wrapped in &members {
            unwrap(&bench.client, wrapped).await.expect_problem(409, "connection_severed");
            for body in [json!({"wrapped": wrapped}), json!({"wrapped": wrapped, "to": "other"})] {
                let refused = bench.client.post("/v1/keys/orders/rewrap", &body).await;
                refused.expect_problem(409, "connection_severed");
            }
        }
        // A recovery recipient is no member: it ends nothing, and opens nothing.
        let answer = unwrap(&bench.client, &with_recovery).await;
        match opens_by_member {
            true => assert_eq!(answer.expect_status(200)["plaintext"], made["plaintext"]),
            false => drop(answer.expect_problem(409, "connection_severed")),
        }
        let restore = format!("/v1/connections/{connection}/restore");
        owner.post_empty(&restore).await.expect_status(200);
    }
    let recoveries = sealed(&[recovery(&old), recovery(&new)]);
    unwrap(&bench.client, &recoveries).await.expect_problem(422, "ciphertext_rejected");
    unwrap(&bench.client, &members[0]).await.expect_status(200);
}

async fn several_under_way(bench: Bench) {
    begin(&bench).await;
    let (_, parts, recipients) = both_members(&bench).await;
    let wrapped = json!(parts.with_recipients(&recipients).sealed(bench.seal_key().await).text());
    bench.plan("unwrap_key", Fault::Slow, 1).await;
    let sever = async {
        bench.at_gate(1).await;
        switch(&bench, SECOND, "sever").await;
        bench.clear().await;
    };
    let (answer, ()) = tokio::join!(unwrap(&bench.client, &wrapped), sever);
    answer.expect_problem(409, "connection_severed");
}
