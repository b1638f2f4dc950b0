//! A provider key serves one key: within a tenant always, for the installation where the operator
//! lends the identity. Nobody learns what another tenant has claimed.

use claviger_test_support::{Client, records_of, text_of, token};
use claviger_testkit::Fault;
use claviger_testkit::control::Request;
use serde_json::{Value, json};

use crate::fake_world::{FakeWorld, adopt, connect, problem};
use crate::support::Api;

#[tokio::test]
async fn tenants_with_services_of_their_own_take_nothing_from_each_other() {
    let world = FakeWorld::start().await;
    for (client, server) in [(&world.bank, "bank"), (&world.evil, "evil")] {
        connect(client, "own", server, false).await;
        for id in ["orders", "payments"] {
            world.made(server, id).await;
        }
    }
    adopt(&world.bank, "orders", "own", "orders").await.expect_status(201);
    adopt(&world.evil, "orders", "own", "orders").await.expect_status(201);
    // The one who comes first keeps nothing from the other, neither while it has the key nor after.
    adopt(&world.evil, "payments", "own", "payments").await.expect_status(201);
    world.evil.delete("/v1/keys/payments").await.expect_status(204);
    let payments = adopt(&world.bank, "payments", "own", "payments").await.expect_status(201);
    assert_eq!(payments["provider_key"], "payments");
}

#[tokio::test]
async fn within_a_tenant_a_provider_key_is_taken_once() {
    let world = FakeWorld::start().await;
    world.made("bank", "orders").await;
    connect(&world.bank, "own", "bank", false).await;
    connect(&world.bank, "lent", "bank", true).await;
    adopt(&world.bank, "orders", "own", "orders").await.expect_status(201);
    for connection in ["own", "lent"] {
        let refused = adopt(&world.bank, "copy", connection, "orders").await;
        refused.expect_problem(409, "provider_key_taken");
    }
}

#[tokio::test]
async fn a_key_that_was_made_and_cannot_be_claimed_is_named() {
    let world = FakeWorld::start().await;
    let id = "00000000000000000000000000000001";
    connect(&world.bank, "own", "bank", false).await;
    connect(&world.bank, "second", "elsewhere", false).await;
    world.made("bank", &format!("fake/{id}")).await;
    adopt(&world.bank, "orders", "own", &format!("fake/{id}")).await.expect_status(201);
    let body = json!({"name": "other", "connection": "second", "id": id});
    let refused = world.bank.post("/v1/keys", &body).await.expect_problem(409, "provider_key_taken");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("made the key `fake/{id}`")), "{refused}");
    // What was not made for the request is not named so.
    let taken = adopt(&world.bank, "other", "own", &format!("fake/{id}")).await;
    let taken = taken.expect_problem(409, "provider_key_taken");
    assert!(!taken["detail"].as_str().unwrap().contains("made the key"), "{taken}");
}

#[tokio::test]
async fn where_the_operator_lends_the_identity_another_s_key_is_a_failed_proof() {
    let world = FakeWorld::start().await;
    for client in [&world.bank, &world.evil] {
        connect(client, "cloud", "cloud", true).await;
    }
    world.made("cloud", "orders").await;
    world.made("cloud", "denied").await;
    let orders = adopt(&world.bank, "orders", "cloud", "orders").await.expect_status(201);
    world.fault("cloud", "create_key", Fault::Denied, 1).await;
    let unproven = adopt(&world.evil, "orders", "cloud", "denied").await;
    unproven.clone().expect_problem(424, "provider_denied");
    let refused = adopt(&world.evil, "orders", "cloud", "orders").await;
    assert_eq!(problem(&refused), problem(&unproven));
    world.evil.get("/v1/keys/orders").await.expect_problem(404, "not_found");

    // Once bank lets go of it, evil may have it, since both may use it at the provider.
    world.bank.delete("/v1/keys/orders").await.expect_status(204);
    let theirs = adopt(&world.evil, "orders", "cloud", "orders").await.expect_status(201);
    assert_ne!(theirs["id"], orders["id"]);
    assert_eq!(problem(&adopt(&world.bank, "orders", "cloud", "orders").await), problem(&unproven));
    // Both remember it: each comes back under its own id.
    for (client, id) in [
        (&world.bank, &orders["id"]),
        (&world.evil, &theirs["id"]),
        (&world.bank, &orders["id"]),
    ] {
        for tenant in [&world.bank, &world.evil] {
            tenant.delete("/v1/keys/orders").await;
        }
        let back = adopt(client, "orders", "cloud", "orders").await.expect_status(201);
        assert_eq!(&back["id"], id);
    }
}

/// What one adoption by a caller of evil's shows: the problem, the calls that the service got, the records, and how many the log has
/// after it.
async fn attempt(world: &FakeWorld, caller: &Client, path: &str, body: &Value) -> (Value, u64, Vec<Value>, u64) {
    let before = world.all_calls("cloud").await;
    let refused = caller.post(path, body).await;
    let calls = world.all_calls("cloud").await - before;
    let mut records = records_of(&world.gateway.data(), refused.header("x-request-id"));
    let end = records.last().unwrap()["sequence"].as_u64().unwrap();
    for record in &mut records {
        let members = record.as_object_mut().unwrap();
        // The key's id is drawn for each request. The calls are for the operator, and for the owner of the tenant's log.
        for member in ["time", "sequence", "request_id", "latency_us", "intent", "key", "provider_calls"] {
            members.remove(member);
        }
        members.get_mut("change").map(|change| change.as_object_mut().unwrap().remove("id"));
    }
    (problem(&refused), calls, records, end)
}

/// A key that another tenant has claimed is refused as one that the service denies: in the same words, after as many
/// calls and with the same records, and while the service is away it is away for both.
#[tokio::test]
async fn a_claim_of_another_tenant_s_is_refused_as_a_denied_key_in_every_respect() {
    for (world, provider) in [(FakeWorld::start().await, "vault"), (FakeWorld::external().await, "xks")] {
        for client in [&world.bank, &world.evil] {
            let settings = json!({"server": "cloud", "shared": true});
            let body = json!({"name": "cloud", "provider": provider, "settings": settings});
            client.post("/v1/connections", &body).await.expect_status(201);
        }
        for id in ["orders", "mine", "denied"] {
            world.made("cloud", id).await;
        }
        adopt(&world.bank, "orders", "cloud", "orders").await.expect_status(201);
        let key = adopt(&world.evil, "mine", "cloud", "mine").await.expect_status(201);
        // An operator is told the service's own reason.
        let issued = token(&world.evil, "caller", &["CreateKey", "Rotate"], None).await;
        let caller = world.evil.with_token(text_of(&issued));
        for (path, detached) in [("/v1/keys", false), ("/v1/keys/mine/rotate", false), ("/v1/keys", true)] {
            if detached {
                // Where a tenant has detached keys, the provider's own name is looked up first.
                assert_eq!(world.evil.delete("/v1/keys/mine").await.status, 204);
            }
            let body = |id: &str| match path {
                "/v1/keys" => json!({"name": "other", "connection": "cloud", "provider_key": id}),
                _ => json!({"connection": "cloud", "provider_key": id}),
            };
            world.fault("cloud", "create_key", Fault::Denied, 1).await;
            let (denied, calls, records, end) = attempt(&world, &caller, path, &body("denied")).await;
            let (claimed, of_claimed, recorded, its_end) = attempt(&world, &caller, path, &body("orders")).await;
            assert_eq!((&denied["code"], denied["status"].as_u64()), (&json!("provider_denied"), Some(424)));
            assert_eq!((&claimed, of_claimed), (&denied, calls), "{provider} {path}");
            assert_eq!(recorded, records, "{provider} {path}");
            assert_eq!(its_end - end, records.len() as u64, "{provider} {path}");
            // Nor does a service that is away tell.
            for op in ["create_key", "describe"] {
                world.fault("cloud", op, Fault::Unavailable, 20).await;
            }
            let (away, calls, ..) = attempt(&world, &caller, path, &body("denied")).await;
            assert_eq!(away["code"], "provider_unavailable", "{away}");
            let (claimed, of_claimed, ..) = attempt(&world, &caller, path, &body("orders")).await;
            assert_eq!((&claimed, of_claimed), (&away, calls), "{provider} {path}");
            world.at("cloud", Request::Clear).await;
        }
        let back = adopt(&world.evil, "mine", "cloud", "mine").await.expect_status(201);
        assert_eq!(back["id"], key["id"]);
    }
}

#[tokio::test]
async fn a_connection_that_is_the_tenant_s_own_claims_nothing_from_those_of_the_operator() {
    let world = FakeWorld::start().await;
    world.made("cloud", "orders").await;
    connect(&world.evil, "own", "cloud", false).await;
    connect(&world.bank, "cloud", "cloud", true).await;
    adopt(&world.evil, "orders", "own", "orders").await.expect_status(201);
    adopt(&world.bank, "orders", "cloud", "orders").await.expect_status(201);
}

#[tokio::test]
async fn a_detached_key_is_listed_with_what_brings_it_back() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    for id in ["a", "b", "c"] {
        world.made("bank", id).await;
        // All under one name, one after another.
        let key = adopt(&world.bank, "orders", "own", id).await.expect_status(201);
        assert!(key.get("reattach").is_none() && key.get("detached_at").is_none(), "{key}");
        world.bank.delete("/v1/keys/orders").await.expect_status(204);
    }
    let (mut listed, mut token): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let page = token.map(|token| format!("&page_token={token}")).unwrap_or_default();
        let page = world
            .bank
            .get(&format!("/v1/keys?state=detached&page_size=2{page}"))
            .await
            .expect_status(200);
        listed.extend(page["items"].as_array().unwrap().iter().cloned());
        token = page["next_page_token"].as_str().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    let mut named: Vec<&str> = listed.iter().map(|key| key["reattach"]["provider_key"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, ["a", "b", "c"]);
    assert_eq!(world.bank.get("/v1/keys").await.expect_status(200)["items"], json!([]));
    assert_eq!(
        world.evil.get("/v1/keys?state=detached").await.expect_status(200)["items"],
        json!([])
    );
    let through = |name: &str| format!("/v1/keys?state=detached&connection={name}");
    let all = world.bank.get(&through("own")).await.expect_status(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
    assert_eq!(world.bank.get(&through("embedded")).await.expect_status(200)["items"], json!([]));
    world
        .bank
        .get("/v1/keys?state=detached&label=a=b")
        .await
        .expect_problem(400, "invalid_request");

    let key = &listed[0];
    assert!(key["detached_at"].as_str().unwrap().ends_with('Z'), "{key}");
    assert_eq!(key["reattach"]["connection"], "own");
    let back = world.bank.post("/v1/keys", &key["reattach"]).await.expect_status(201);
    assert_eq!(back["id"], key["id"]);
    // One whose connection was deleted says so, and comes back through another one.
    world.bank.delete("/v1/keys/orders").await.expect_status(204);
    world.bank.delete("/v1/connections/own").await.expect_status(204);
    connect(&world.bank, "second", "bank", false).await;
    let listed = world.bank.get("/v1/keys?state=detached").await.expect_status(200);
    assert_eq!(listed["items"][0]["reattach"]["connection"], Value::Null);
    let provider_key = listed["items"][0]["reattach"]["provider_key"].as_str().unwrap();
    let back = adopt(&world.bank, "orders", "second", provider_key).await.expect_status(201);
    assert_eq!(back["id"], listed["items"][0]["id"]);
}

#[tokio::test]
async fn inspect_tells_one_who_may_read_the_key_what_brings_it_back() {
    let world = FakeWorld::start().await;
    let body = json!({"name": "orders", "connection": "embedded"});
    let key = world.bank.post("/v1/keys", &body).await.expect_status(201);
    let made = world.bank.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    world.bank.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let issue = async |operations: &[&str]| {
        let body = json!({"operations": operations, "expires_in": "1h"});
        let issued = world.bank.post("/v1/principals/ci/tokens", &body).await.expect_status(201);
        world.bank.with_token(issued["token"].as_str().unwrap())
    };
    let (reader, blind) = (issue(&["Inspect", "ReadKey"]).await, issue(&["Inspect"]).await);
    let blob = json!({"wrapped": made["wrapped"]});
    for client in [&reader, &blind] {
        let there = client.post("/v1/inspect", &blob).await.expect_status(200);
        assert!(there.get("reattach").is_none(), "{there}");
    }
    world.bank.delete("/v1/keys/orders").await.expect_status(204);
    let found = reader.post("/v1/inspect", &blob).await.expect_status(200);
    assert_eq!(
        found["reattach"],
        json!({"name": "orders", "connection": "embedded", "provider_key": key["provider_key"], "spec": "aes-256"})
    );
    assert_eq!(
        (&found["key_id"], &found["key"], &found["sealed"]),
        (&key["id"], &json!("orders"), &json!(true))
    );
    assert_eq!(found["recipients"][0]["version"], 1);
    let unnamed = blind.post("/v1/inspect", &blob).await.expect_problem(422, "ciphertext_rejected");
    let foreign = world
        .evil
        .post("/v1/inspect", &blob)
        .await
        .expect_problem(422, "ciphertext_rejected");
    let is_told = |problem: &Value| problem["detail"] == "This tenant does not have the key that the wrapped key names.";
    assert!(is_told(&foreign) && !is_told(&unnamed), "{foreign} {unnamed}");
    world.bank.post("/v1/keys", &found["reattach"]).await.expect_status(201);
    world.bank.post("/v1/keys/orders/unwrap", &blob).await.expect_status(200);
}

#[tokio::test]
async fn inspect_recovers_a_moved_key_with_the_version_that_opens_the_wrapped_key() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "old", "bank", false).await;
    connect(&world.bank, "new", "elsewhere", false).await;
    world.made("bank", "k-old").await;
    world.made("elsewhere", "k-new").await;
    let key = adopt(&world.bank, "orders", "old", "k-old").await.expect_status(201);
    let id = key["id"].as_str().unwrap();
    let recovery = async |made: &Value| -> Vec<String> {
        let found = world.bank.post("/v1/inspect", &json!({"wrapped": made["wrapped"]})).await;
        let lines = found.expect_status(200)["on_another_installation"].clone();
        let lines: Vec<String> = serde_json::from_value(lines).unwrap();
        lines.into_iter().filter(|line| line.starts_with("claviger ")).skip(1).collect()
    };
    let data_key = async || world.bank.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let created = |connection: &str, provider_key: &str| {
        format!("claviger keys create orders --connection {connection} --spec aes-256 --provider-key {provider_key} --id {id}")
    };
    let first = data_key().await;
    let unmoved = [
        "claviger connections create old --provider vault --settings settings.json".to_owned(),
        created("old", "k-old"),
    ];
    assert_eq!(recovery(&first).await, unmoved);

    let to = json!({"connection": "new", "provider_key": "k-new"});
    world.bank.post("/v1/keys/orders/rotate", &to).await.expect_status(200);
    assert_eq!(
        recovery(&first).await,
        [
            "claviger connections create old --provider vault --settings settings-old.json".to_owned(),
            created("old", "k-old"),
            "claviger connections create new --provider vault --settings settings-new.json".to_owned(),
            "claviger keys rotate orders --connection new --spec aes-256 --provider-key k-new".to_owned(),
        ]
    );
    let second = data_key().await;
    let new = [
        "claviger connections create new --provider vault --settings settings.json".to_owned(),
        created("new", "k-new"),
    ];
    assert_eq!(recovery(&second).await, new);

    // Where the key moved to the embedded provider, the rest still comes back.
    world
        .bank
        .post("/v1/keys/orders/rotate", &json!({"connection": "embedded"}))
        .await
        .expect_status(200);
    assert_eq!(recovery(&first).await, unmoved);
    assert!(recovery(&data_key().await).await.is_empty());
}

#[tokio::test]
async fn adopting_a_key_that_never_existed_says_what_to_check() {
    let world = FakeWorld::start().await;
    connect(&world.bank, "own", "bank", false).await;
    let problem = adopt(&world.bank, "orders", "own", "never").await.expect_problem(409, "key_state");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("no such key") && !detail.contains("any more"), "{problem}");
    assert!(
        problem["what_to_do"].as_str().unwrap().contains("Check the provider key's id"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_credential_for_a_detached_key_is_told_that_it_is_detached() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let made = api.data_key("orders").await;
    let wrapped = json!({"wrapped": made["wrapped"]});
    let operations = ["ReadKey", "Wrap", "Unwrap", "CreateKey"];
    let (_, ours) = api.token("ours", &operations, Some(&["orders"])).await;
    let (_, others) = api.token("others", &operations, Some(&["sales"])).await;
    let (orders, wrap) = ("/v1/keys/orders", "/v1/keys/orders/wrap");
    let plaintext = json!({"plaintext": "AAAA"});
    assert_eq!(api.client.delete(orders).await.status, 204);

    let gone = ours.get(orders).await.expect_problem(404, "not_found");
    assert_eq!(gone["detail"], "The key was detached.");
    assert!(gone["what_to_do"].as_str().unwrap().contains("--state detached"), "{gone}");
    let answer = ours.post(wrap, &plaintext).await;
    let record = api.recorded(&answer, "Wrap", "failed");
    answer.expect_problem(404, "not_found");
    for path in ["/v1/unwrap", "/v1/keys/orders/unwrap"] {
        let answer = ours.post(path, &wrapped).await;
        assert!([404, 422].contains(&answer.status), "{path}: {}", answer.text);
    }
    let listed = ours.get("/v1/keys?state=detached").await.expect_status(200);
    let key = &listed["items"][0];
    assert_eq!((&key["name"], &key["id"]), (&json!("orders"), &record["key"]));
    // To bring it back is to create a key, which is not of one key alone.
    ours.post("/v1/keys", &key["reattach"])
        .await
        .expect_problem(403, "permission_denied");
    // Whoever reaches other keys learns nothing of this one, and nobody of one that never was.
    for (client, path) in [(&others, orders), (&ours, "/v1/keys/absent"), (&ours, "/v1/keys/sales")] {
        client.get(path).await.expect_problem(403, "permission_denied");
    }
    others.post("/v1/unwrap", &wrapped).await.expect_problem(403, "permission_denied");
    assert_eq!(others.get("/v1/keys?state=detached").await.expect_status(200)["items"], json!([]));

    let mut back = key["reattach"].clone();
    back["name"] = json!("renamed");
    api.client.post("/v1/keys", &back).await.expect_status(201);
    let opened = ours.post("/v1/unwrap", &wrapped).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    ours.get(orders).await.expect_problem(403, "permission_denied");
}

#[tokio::test]
async fn two_tenants_keys_of_one_id_are_two_keys() {
    let world = FakeWorld::start().await;
    for (client, server) in [(&world.bank, "bank"), (&world.evil, "evil")] {
        connect(client, "own", server, false).await;
        world.made(server, "orders").await;
    }
    let bank = adopt(&world.bank, "orders", "own", "orders").await.expect_status(201);
    // An operator chooses the id, as in an installation that is built anew.
    let body = json!({"name": "loot", "connection": "own", "provider_key": "orders", "id": bank["id"]});
    world.evil.post("/v1/keys", &body).await.expect_status(201);
    for (client, name) in [(&world.evil, "loot"), (&world.bank, "orders"), (&world.evil, "loot")] {
        let path = format!("/v1/keys/{name}/data-keys");
        client.post(&path, &json!({})).await.expect_status(200);
    }
    // A disable ends the use of its own tenant's key.
    world.bank.post("/v1/keys/orders/disable", &json!({})).await.expect_status(200);
    let refused = world.bank.post("/v1/keys/orders/data-keys", &json!({})).await;
    refused.expect_problem(409, "key_disabled");
    world.evil.post("/v1/keys/loot/data-keys", &json!({})).await.expect_status(200);
    world.evil.delete("/v1/keys/loot").await.expect_status(204);
    world.bank.post("/v1/keys/orders/enable", &json!({})).await.expect_status(200);
    world.bank.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
}
