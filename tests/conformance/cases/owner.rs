//! What the owner of a key does at its provider, and what of it is seen here. `tests/owners.toml` lists all of it.

use serde_json::{Value, json};

use crate::bench::{Bench, data_key, until, unwrap};
use crate::owner::Owner;
use crate::{Act, Case, Needs};

pub const CASES: &[Case] = &[
    (
        "a_key_that_was_deleted_softly_works_again_once_recovered",
        Needs::Owner(Act::SoftDelete),
        |bench| Box::pin(a_key_that_was_deleted_softly_works_again_once_recovered(bench)),
    ),
    (
        "a_key_that_was_deleted_softly_is_adopted_once_recovered",
        Needs::Owner(Act::SoftDelete),
        |bench| Box::pin(a_key_that_was_deleted_softly_is_adopted_once_recovered(bench)),
    ),
    (
        "a_key_that_was_disabled_works_again_once_enabled",
        Needs::Owner(Act::Disable),
        |bench| Box::pin(a_key_that_was_disabled_works_again_once_enabled(bench)),
    ),
    (
        "a_deleted_key_is_told_apart_from_one_that_never_was",
        Needs::Owner(Act::Delete),
        |bench| Box::pin(a_deleted_key_is_told_apart_from_one_that_never_was(bench)),
    ),
    (
        "a_key_of_another_type_is_not_taken_for_the_old_one",
        Needs::Owner(Act::Delete),
        |bench| Box::pin(a_key_of_another_type_is_not_taken_for_the_old_one(bench)),
    ),
    (
        "a_key_made_again_is_not_taken_for_the_old_one",
        Needs::Owner(Act::Delete),
        |bench| Box::pin(a_key_made_again_is_not_taken_for_the_old_one(bench)),
    ),
    (
        "imported_material_that_is_removed_comes_back",
        Needs::Owner(Act::RemoveMaterial),
        |bench| Box::pin(imported_material_that_is_removed_comes_back(bench)),
    ),
    ("a_moved_alias_moves_no_key", Needs::Owner(Act::MoveAlias), |bench| {
        Box::pin(a_moved_alias_moves_no_key(bench))
    }),
    (
        "a_right_is_missed_and_used_again_at_the_next_call",
        Needs::Owner(Act::ChangeRights),
        |bench| Box::pin(a_right_is_missed_and_used_again_at_the_next_call(bench)),
    ),
];

fn provider_key(key: &Value) -> &str {
    key["provider_key"].as_str().expect("a provider key")
}

/// Whether each wrap is a call to the provider. Otherwise the gateway wraps with a public key, which it keeps for a
/// minute.
async fn wraps_at_provider(bench: &Bench) -> bool {
    bench.capabilities().await["wrap"] == "inside_provider"
}

async fn wrap(bench: &Bench) -> claviger_test_support::Answer {
    bench.client.post("/v1/keys/orders/wrap", &json!({"plaintext": "AAAA"})).await
}

async fn a_key_that_was_deleted_softly_works_again_once_recovered(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    owner.soft_delete(provider_key(&key)).await;
    // By the service's own refusal, and by the state that is known then.
    for _ in 0..2 {
        says_how_to_recover(&owner, unwrap(&bench.client, &made["wrapped"]).await);
    }
    if wraps_at_provider(&bench).await {
        wrap(&bench).await.expect_problem(409, "key_state");
    }
    // Here nobody disabled it.
    assert_eq!(bench.client.get("/v1/keys/orders").await.expect_status(200)["state"], "enabled");
    owner.recover(provider_key(&key)).await;
    until("the recovered key opens", async || {
        unwrap(&bench.client, &made["wrapped"]).await.status == 200
    })
    .await;
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    until("the recovered key wraps", async || wrap(&bench).await.status == 200).await;
}

#[track_caller]
fn says_how_to_recover(owner: &Owner, answer: claviger_test_support::Answer) {
    let refused = answer.expect_problem(409, "key_state");
    let advice = refused["what_to_do"].as_str().expect("advice");
    assert!(advice.contains(owner.recovery()), "{refused}");
}

async fn a_key_that_was_deleted_softly_is_adopted_once_recovered(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    bench.client.delete("/v1/keys/orders").await.expect_status(204);
    owner.soft_delete(provider_key(&key)).await;
    let adopt = bench.new_key_with("orders", json!({"provider_key": key["provider_key"]}));
    says_how_to_recover(&owner, bench.client.post("/v1/keys", &adopt).await);
    owner.recover(provider_key(&key)).await;
    bench.client.post("/v1/keys", &adopt).await.expect_status(201);
    unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
}

async fn a_key_that_was_disabled_works_again_once_enabled(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    let state = async || bench.client.list("/v1/keys/orders/versions").await[0]["provider_state"].clone();
    assert_eq!(state().await, "enabled");
    owner.switch(provider_key(&key), false).await;
    let refused = unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_state");
    assert!(refused["what_to_do"].is_string(), "{refused}");
    // The refusal alone has shown it: nobody made a check.
    assert_eq!(state().await, "disabled");
    if wraps_at_provider(&bench).await {
        wrap(&bench).await.expect_problem(409, "key_state");
    }
    // Here nobody disabled it.
    assert_eq!(bench.client.get("/v1/keys/orders").await.expect_status(200)["state"], "enabled");
    owner.switch(provider_key(&key), true).await;
    until("the enabled key opens", async || {
        unwrap(&bench.client, &made["wrapped"]).await.status == 200
    })
    .await;
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    until("the enabled key wraps", async || wrap(&bench).await.status == 200).await;
    until("it is told as enabled", async || state().await == "enabled").await;
}

async fn imported_material_that_is_removed_comes_back(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let key = owner.new_key_for_import().await;
    let adopt = bench.new_key_with("orders", json!({"provider_key": key}));
    let early = bench.client.post("/v1/keys", &adopt).await.expect_problem(409, "key_state");
    assert!(
        early["what_to_do"].as_str().expect("advice").contains("import-key-material"),
        "{early}"
    );
    owner.import_material(&key).await;
    bench.client.post("/v1/keys", &adopt).await.expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    owner.remove_material(&key).await;
    let refused = unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_state");
    assert!(
        refused["what_to_do"].as_str().expect("advice").contains("import-key-material"),
        "{refused}"
    );
    wrap(&bench).await.expect_problem(409, "key_state");
    let state = async || bench.client.list("/v1/keys/orders/versions").await[0]["provider_state"].clone();
    assert_eq!(state().await, "pending_import");
    owner.import_material(&key).await;
    until("the material is back", async || {
        unwrap(&bench.client, &made["wrapped"]).await.status == 200
    })
    .await;
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
}

async fn a_deleted_key_is_told_apart_from_one_that_never_was(bench: Bench) {
    let owner = Owner::of(bench.entry);
    // A name that a policy for the gateway's own keys permits.
    let name = format!("claviger-{}", claviger_provider::KeyId::random());
    let never = bench
        .client
        .post("/v1/keys", &bench.new_key_with("never", json!({"provider_key": name})))
        .await
        .expect_problem(409, "key_state");
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    owner.delete(provider_key(&key)).await;
    let gone = unwrap(&bench.client, &made["wrapped"]).await.expect_problem(409, "key_state");
    for (problem, says) in [(&never, "no such key"), (&gone, "not at the provider any more")] {
        assert!(problem["detail"].as_str().expect("a detail").contains(says), "{problem}");
        assert!(problem["what_to_do"].is_string(), "{problem}");
    }
    assert_eq!(never["errors"][0]["pointer"], "/provider_key");
    assert_eq!(wrap(&bench).await.expect_problem(409, "key_state")["detail"], gone["detail"]);
}

async fn a_key_of_another_type_is_not_taken_for_the_old_one(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    owner.delete(provider_key(&key)).await;
    owner.replace(provider_key(&key), bench.entry.spec).await;
    wrap(&bench).await.expect_problem(409, "key_state");
    let refused = unwrap(&bench.client, &made["wrapped"]).await;
    assert!([409, 422].contains(&refused.status), "{}", refused.text);
    // Nor does it come back as this key: the refusal says what it is.
    bench.client.delete("/v1/keys/orders").await.expect_status(204);
    let again = bench.new_key_with("orders", json!({"provider_key": key["provider_key"]}));
    let answer = bench.client.post("/v1/keys", &again).await;
    assert!([400, 424].contains(&answer.status), "{}", answer.text);
    if answer.status == 400 {
        let problem = answer.expect_problem(400, "invalid_request");
        let detail = problem["detail"].as_str().expect("a detail");
        let named = ["`rsa-3072`", "`aes256-gcm96`", "`RSA_3072`"]
            .iter()
            .any(|kind| detail.contains(kind));
        assert!(named && problem["what_to_do"].is_string(), "{problem}");
    }
}

async fn a_key_made_again_is_not_taken_for_the_old_one(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let key = bench.key("orders").await;
    let made = data_key(&bench.client, "orders").await;
    owner.make_again(provider_key(&key), bench.entry.spec).await;
    // The wrapped key is right; its key is lost.
    let lost = unwrap(&bench.client, &made["wrapped"]).await;
    let lost = match owner {
        // Its API tells neither versions of a key nor their times.
        Owner::Xks(_) => lost.expect_problem(422, "ciphertext_rejected"),
        Owner::Vault(_) | Owner::Aws(_) | Owner::Azure(_) | Owner::Google(_) => lost.expect_problem(409, "key_state"),
    };
    assert!(lost["what_to_do"].is_string(), "{lost}");
    // A data key opens, or is refused.
    let answer = bench.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    if answer.status == 200 {
        let new = answer.expect_status(200);
        let opened = unwrap(&bench.client, &new["wrapped"]).await.expect_status(200);
        assert_eq!(opened["plaintext"], new["plaintext"]);
    } else {
        answer.expect_problem(409, "key_state");
    }
}

async fn a_moved_alias_moves_no_key(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let alias = owner.aliased(&claviger_provider::KeyId::random().to_string()).await;
    let adopt = |name: &str, provider_key: &Value| bench.new_key_with(name, json!({"provider_key": provider_key}));
    let key = bench
        .client
        .post("/v1/keys", &adopt("orders", &json!(alias)))
        .await
        .expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    owner.move_alias(&alias).await;
    wrap(&bench).await.expect_status(200);
    assert_eq!(
        bench.client.get("/v1/keys/orders").await.expect_status(200)["provider_key"],
        key["provider_key"]
    );
    // The alias names another key by now, which another logical key may use; the old one comes back by its ARN.
    let other = bench
        .client
        .post("/v1/keys", &adopt("invoices", &json!(alias)))
        .await
        .expect_status(201);
    assert_ne!(other["provider_key"], key["provider_key"]);
    bench.client.delete("/v1/keys/orders").await.expect_status(204);
    bench
        .client
        .post("/v1/keys", &adopt("orders", &json!(alias)))
        .await
        .expect_problem(409, "provider_key_taken");
    let id = key["provider_key"].as_str().and_then(|arn| arn.rsplit('/').next());
    let back = bench.client.post("/v1/keys", &adopt("orders", &json!(id))).await.expect_status(201);
    assert_eq!((&back["id"], &back["provider_key"]), (&key["id"], &key["provider_key"]));
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
}

async fn a_right_is_missed_and_used_again_at_the_next_call(bench: Bench) {
    let owner = Owner::of(bench.entry);
    let policy = format!("owner-{}", claviger_provider::KeyId::random());
    owner.set_policy(&policy, true).await;
    let mut settings = (bench.entry.settings)();
    settings["auth"] = json!({"token": owner.token_of(&policy).await});
    let connection = json!({"name": "limited", "provider": bench.entry.provider, "settings": settings});
    bench.client.post("/v1/connections", &connection).await.expect_status(201);
    let body = bench.new_key_with("orders", json!({"connection": "limited"}));
    bench.client.post("/v1/keys", &body).await.expect_status(201);
    let made = data_key(&bench.client, "orders").await;
    owner.set_policy(&policy, false).await;
    // However many are refused, no circuit opens.
    for _ in 0..8 {
        for refused in [wrap(&bench).await, unwrap(&bench.client, &made["wrapped"]).await] {
            let problem = refused.expect_problem(424, "provider_denied");
            assert!(problem["what_to_do"].is_string(), "{problem}");
        }
    }
    // The other connection to the same server still works.
    bench.key("others").await;
    owner.set_policy(&policy, true).await;
    wrap(&bench).await.expect_status(200);
    let opened = unwrap(&bench.client, &made["wrapped"]).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
}
