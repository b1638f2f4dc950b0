//! The six questions of `tests/hostile/table.toml`, asked of every route.

use std::collections::BTreeMap;

use claviger::audit::Action;
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::{Client, Tune};
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::{Names, calls};
use crate::world::{HOSTILE, World, make_key, token};

/// Everything that a tenant's own credential can be allowed.
pub fn everything() -> Vec<&'static str> {
    Action::ALL.iter().map(|action| action.as_str()).collect()
}

/// All objects of a tenant, as an operator sees them.
async fn objects(client: &Client) -> Value {
    let mut objects = json!({});
    for list in ["/v1/keys", "/v1/connections", "/v1/principals", "/v1/tenants"] {
        objects[list] = client.get(list).await.expect_status(200);
    }
    objects
}

async fn data_key(client: &Client, key: &str) -> Value {
    let path = format!("/v1/keys/{key}/data-keys");
    client.post(&path, &json!({})).await.expect_status(200)["wrapped"].clone()
}

#[tokio::test]
async fn a_token_limited_to_one_key_reaches_nothing_else() {
    let world = World::start().await;
    let honest = world.honest().await;
    make_key(&world.evil, "other").await;
    let admin = world.evil_token("admin", &["ReadKey"], None).await;
    let limited = world.evil_token("thief", &everything(), Some(&["orders"])).await;
    let thief = world.evil.with_token(limited["token"].as_str().unwrap());
    let wrapped = data_key(&world.evil, "other").await;
    let names = Names::of_evil("other", admin["id"].as_str().unwrap(), &wrapped);
    let before = objects(&world.evil).await;
    for call in calls(&names) {
        let answer = call.send(&thief).await;
        let named = call.name();
        match (&call.method, call.route) {
            // Connections show how a key is reached, so whoever reads keys may read them.
            (
                &Method::GET,
                "/v1/whoami" | "/v1/connections" | "/v1/connections/{connection}" | "/v1/connections/{connection}/capabilities",
            ) => {
                answer.expect_status(200);
            }
            (&Method::GET, "/v1/keys") => {
                let keys = answer.expect_status(200);
                let seen: Vec<&Value> = keys["items"].as_array().unwrap().iter().map(|key| &key["name"]).collect();
                assert_eq!(seen, ["orders"], "{named}");
            }
            (&Method::POST, route) if route.starts_with("/v1/batch/") => {
                let items = answer.expect_status(200);
                assert_eq!(items["items"][0]["error"]["code"], "permission_denied", "{named}: {items}");
            }
            _ => assert_eq!(
                (answer.status, answer.body["code"].as_str()),
                (403, Some("permission_denied")),
                "{named}: {}",
                answer.text
            ),
        }
    }
    assert_eq!(objects(&world.evil).await, before, "a refused call changes nothing");
    honest.end().await;
}

#[tokio::test]
async fn a_revoked_token_is_refused_on_every_route_also_in_the_middle_of_a_body() {
    let world = World::start().await;
    let honest = world.honest().await;
    let other = world.evil_token("admin", &["ReadKey"], None).await;
    let stolen = world.evil_token("thief", &everything(), None).await;
    let (id, text) = (stolen["id"].as_str().unwrap(), stolen["token"].as_str().unwrap());
    let wrapped = data_key(&world.evil, "orders").await;
    let names = Names::of_evil("orders", other["id"].as_str().unwrap(), &wrapped);
    let before = objects(&world.evil).await;
    let mut half_sent = Vec::new();
    for call in calls(&names).into_iter().filter(|call| call.method == Method::POST) {
        let body = if call.body.is_null() { b"{}".to_vec() } else { call.body_text() };
        let mut request = Http1::post(world.started.address(), text, &call.path, body.len()).await;
        request.send(&body[..1]).await;
        half_sent.push((call, request, body));
    }
    // Over HTTP/2 every route: whatever its method is, a request with a body to come has not ended.
    let connection = Http2::connect(world.started.address(), 65_535).await;
    let mut begun = Vec::new();
    for call in calls(&names) {
        let (response, mut sending) = connection.open_with(call.method.clone(), text, &call.path, Some("*")).await;
        let mut body = call.body_text();
        let rest = body.split_off(body.len().min(1));
        if !body.is_empty() {
            sending.send_data(body.into(), false).unwrap();
        }
        begun.push((call, response, sending, rest));
    }
    // A whole request on the same connection: those before it were let in.
    let (status, answer) = answer_of(connection.get(text, "/v1/whoami").await).await;
    assert_eq!(status, 200, "{answer}");
    let revoked = world.evil.delete(&format!("/v1/principals/thief/tokens/{id}")).await;
    assert_eq!(revoked.status, 204, "{}", revoked.text);
    for (call, mut request, body) in half_sent {
        request.send(&body[1..]).await;
        let (status, answer) = request.answer().await;
        assert!(is_refusal(status, &answer), "{}: {status} {answer}", call.name());
    }
    for (call, response, mut sending, rest) in begun {
        // What the token may not do at all was refused without its body, and its stream is closed.
        let _ = sending.send_data(rest.into(), true);
        let (status, answer) = answer_of(response).await;
        assert!(is_refusal(status, &answer), "{}: {status} {answer}", call.name());
    }
    let thief = world.evil.with_token(text);
    for call in calls(&names) {
        let answer = call.send(&thief).await;
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (401, Some("unauthenticated")),
            "{}",
            call.name()
        );
    }
    assert_eq!(objects(&world.evil).await, before, "a refused call changes nothing");
    honest.end().await;
}

/// What a credential that was cut gets; a batch has an answer for each of its items.
fn is_refusal(status: u16, answer: &Value) -> bool {
    match status {
        401 => answer["code"] == "unauthenticated",
        // The token never was allowed what only an operator may do, and that is told first.
        403 => answer["code"] == "permission_denied",
        200 => answer["items"][0]["error"]["code"] == "unauthenticated",
        _ => false,
    }
}

#[tokio::test]
async fn another_tenant_s_names_answer_as_names_that_nobody_has() {
    let world = World::start().await;
    let honest = world.honest().await;
    let bank = world.started.tenant("bank");
    make_key(&bank, "ledger").await;
    let connection = json!({"name": "vault-of-bank", "provider": "local", "settings": {}});
    bank.post("/v1/connections", &connection).await.expect_status(201);
    let treasurer = token(&bank, "treasurer", &["ReadKey"], None).await;
    let spy = world.evil_token("spy", &everything(), None).await;
    let spy = world.evil.with_token(spy["token"].as_str().unwrap());
    let theirs = data_key(&bank, "ledger").await;
    // Of the same form, and nobody's.
    let nobody = "0123456789abcdef0123456789abcdef";
    let before = objects(&bank).await;
    let of_bank = calls(&Names {
        tenant: "bank",
        connection: "vault-of-bank",
        key: "ledger",
        principal: "treasurer",
        token: treasurer["id"].as_str().unwrap(),
        wrapped: &theirs,
        new: "fresh-1",
    });
    let of_nobody = calls(&Names {
        tenant: "none",
        connection: "vault-of-none",
        key: "nobody",
        principal: "stranger",
        token: nobody,
        wrapped: &theirs,
        new: "fresh-2",
    });
    for (there, absent) in of_bank.into_iter().zip(of_nobody) {
        let (there, absent, named) = (there.send(&spy).await, absent.send(&spy).await, there.name());
        assert_eq!(there.status, absent.status, "{named}: {} and {}", there.text, absent.text);
        if there.status >= 400 {
            assert_eq!(told(there.body), told(absent.body), "{named}");
        } else {
            let text = there.text;
            let tells = ["ledger", "vault-of-bank", "treasurer"].iter().any(|name| text.contains(name));
            assert!(!tells, "{named}: {text}");
        }
    }
    assert_eq!(objects(&bank).await, before);
    honest.end().await;
}

/// What two answers have in common when they must not tell a difference.
fn told(mut problem: Value) -> Value {
    if let Some(problem) = problem.as_object_mut() {
        problem.remove("request_id");
    }
    problem
}

#[tokio::test]
async fn with_a_full_disk_only_cuts_are_done() {
    let world = World::on_full_disk().await;
    let wrapped = data_key(&world.evil, "orders").await;
    let issued = world.evil_token("attacker", &everything(), None).await;
    // One whose principal stays.
    let other = world.evil_token("other", &["ReadKey"], None).await;
    let names = Names {
        tenant: "clinic",
        principal: "attacker",
        ..Names::of_evil("orders", issued["id"].as_str().unwrap(), &wrapped)
    };
    let before = objects(&world.evil).await;
    let mut codes: BTreeMap<String, String> = BTreeMap::new();
    world.fill_disk();
    for call in calls(&names) {
        let answer = call.send(&world.evil).await;
        let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
        let expected = if call.is_cut() {
            // The reserve may have room for its record.
            matches!((answer.status, code.as_str()), (503, "effective_not_recorded") | (200 | 204, ""))
        } else {
            (answer.status, code.as_str()) == (503, "audit_unavailable")
        };
        if !expected {
            codes.insert(call.name(), answer.text);
        }
    }
    assert!(codes.is_empty(), "{codes:#?}");

    // What was done and what was not is what a gateway finds that starts anew, on a disk with room.
    let World { gateway, started, .. } = world;
    started.kill();
    let started = gateway.serve(&Tune::default());
    let evil = started.tenant(HOSTILE);
    let cut = |mut list: Value, name: &str, state: &str| {
        for item in list["items"].as_array_mut().unwrap() {
            // A cut changes these members as well.
            for member in ["updated", "etag", "revision"] {
                item.as_object_mut().unwrap().remove(member);
            }
            if item["name"] == name && !state.is_empty() {
                item["state"] = json!(state);
            }
        }
        list
    };
    let after = objects(&evil).await;
    for (list, name, state) in [
        ("/v1/keys", "orders", "disabled"),
        ("/v1/connections", "embedded", "severed"),
        ("/v1/tenants", "clinic", "suspended"),
    ] {
        assert_eq!(cut(after[list].clone(), "", ""), cut(before[list].clone(), name, state), "{list}");
    }
    let mut principals = before["/v1/principals"].clone();
    let left = principals["items"].as_array_mut().unwrap();
    left.retain(|principal| principal["name"] != "attacker");
    assert_eq!(after["/v1/principals"], principals);
    for (token, status) in [(&issued, 401), (&other, 200)] {
        let holder = evil.with_token(token["token"].as_str().unwrap());
        assert_eq!(holder.get("/v1/whoami").await.status, status);
    }
    let versions = evil.get("/v1/keys/orders/versions").await.expect_status(200);
    assert_eq!(versions["items"].as_array().unwrap().len(), 1, "no rotation was done");
    let opened = evil.post("/v1/unwrap", &json!({"wrapped": wrapped})).await;
    assert!(
        matches!(opened.body["code"].as_str(), Some("key_disabled" | "connection_severed")),
        "{}",
        opened.text
    );
}
