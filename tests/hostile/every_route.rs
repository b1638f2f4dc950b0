//! The six questions of `tests/hostile/table.toml`, asked of every route.

use std::collections::BTreeMap;

use claviger::audit::Action;
use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::{Client, Tune};
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::{Call, Names, calls};
use crate::world::{HOSTILE, World, make_key};

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
    for (list, members) in [("/v1/keys", "versions"), ("/v1/principals", "tokens")] {
        for item in objects[list]["items"].as_array().unwrap().clone() {
            let path = format!("{list}/{}/{members}", item["name"].as_str().unwrap());
            objects[&path] = client.get(&path).await.expect_status(200);
        }
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
    let state = async || {
        let mut state = objects(&world.evil).await;
        // Of the stolen token itself it tells the revocation.
        state.as_object_mut().unwrap().remove("/v1/principals/thief/tokens");
        state
    };
    let before = state().await;
    let mut half_sent = Vec::new();
    for call in calls(&names).into_iter().filter(|call| call.method == Method::POST) {
        let body = if call.body.is_null() { b"{}".to_vec() } else { call.body_text() };
        // The gateway has read the head: it asks for the body.
        let mut request = Http1::begin(world.started.address(), &call.method, text, &call.path, "").await;
        request.chunk(&body[..1]).await;
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
        request.chunk(&body[1..]).await;
        request.chunk(b"").await;
        let (status, answer) = request.answer().await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (401, Some("unauthenticated")),
            "{}: {answer}",
            call.name()
        );
    }
    for (call, response, mut sending, rest) in begun {
        // A stream that was answered without its body is closed.
        let _ = sending.send_data(rest.into(), true);
        let (status, answer) = answer_of(response).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (401, Some("unauthenticated")),
            "{}: {answer}",
            call.name()
        );
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
    assert_eq!(state().await, before, "a refused call changes nothing");
    honest.end().await;
}

/// What the cuts of a full disk made, as the gateway tells it.
async fn tells_the_cuts(evil: &Client, operator: &Client) {
    for (client, path, state) in [
        (evil, "/v1/keys/orders", "disabled"),
        (evil, "/v1/connections/embedded", "severed"),
        (operator, "/v1/tenants/clinic", "suspended"),
    ] {
        assert_eq!(client.get(path).await.expect_status(200)["state"], state, "{path}");
    }
    let tokens = evil.get("/v1/principals/ended/tokens").await.expect_status(200);
    assert!(tokens["items"][0]["revoked"].is_string(), "{tokens}");
    evil.get("/v1/principals/attacker").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn with_a_full_disk_only_cuts_are_done() {
    let world = World::on_full_disk().await;
    let wrapped = data_key(&world.evil, "orders").await;
    let issued = world.evil_token("attacker", &everything(), None).await;
    // One whose principal stays.
    let other = world.evil_token("other", &["ReadKey"], None).await;
    // One whose token ends and whose principal stays.
    let ended = world.evil_token("ended", &["ReadKey"], None).await;
    let names = Names {
        tenant: "clinic",
        principal: "attacker",
        ..Names::of_evil("orders", issued["id"].as_str().unwrap(), &wrapped)
    };
    // One whose principal is there after the test, too.
    let of_other = Names {
        principal: "other",
        ..names
    };
    let before = objects(&world.evil).await;
    let mut codes: BTreeMap<String, String> = BTreeMap::new();
    let of_ended = Names {
        principal: "ended",
        token: ended["id"].as_str().unwrap(),
        ..names
    };
    let revokes = |call: &Call| call.route == "/v1/principals/{principal}/tokens/{token}";
    let ends = calls(&of_ended).into_iter().find(revokes).unwrap();
    world.fill_disk();
    let mut all = calls(&names);
    let issues = |call: &Call| call.method == Method::POST && call.route == "/v1/principals/{principal}/tokens";
    all.extend(calls(&of_other).into_iter().filter(issues));
    all.push(ends);
    // Who is told that a cut is not recorded repeats it.
    let again: Vec<Call> = all.iter().filter(|call| call.is_cut()).cloned().collect();
    let (repeated, first) = (again.clone(), all.len());
    all.extend(again);
    for (at, call) in all.into_iter().enumerate() {
        let answer = call.send(&world.evil).await;
        let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
        let expected = if call.is_cut() {
            // The reserve may have room for its record.
            matches!((answer.status, code.as_str()), (503, "effective_not_recorded") | (200 | 204, ""))
        } else {
            (answer.status, code.as_str()) == (503, "audit_unavailable")
        };
        if !expected {
            let time = if at < first { "first" } else { "again" };
            codes.insert(format!("{} {time}", call.name()), answer.text);
        }
    }
    assert!(codes.is_empty(), "{codes:#?}");

    // Once there is room the same process tells the state that each of them made, and a repetition is answered as done.
    world.has_room().await;
    tells_the_cuts(&world.evil, &world.started.operator()).await;
    for call in &repeated {
        let answer = call.send(&world.evil).await;
        if call.path.starts_with("/v1/principals/attacker/tokens/") {
            // It ended with its principal, unless its own end is still being recorded.
            assert!(matches!(answer.status, 204 | 404), "{} with room: {}", call.name(), answer.text);
            continue;
        }
        assert!(matches!(answer.status, 200 | 204), "{} with room: {}", call.name(), answer.text);
    }
    tells_the_cuts(&world.evil, &world.started.operator()).await;

    // What was done and what was not is what a gateway finds that starts anew.
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
    tells_the_cuts(&evil, &started.operator()).await;
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
    for (token, status) in [(&issued, 401), (&ended, 401), (&other, 200)] {
        let holder = evil.with_token(token["token"].as_str().unwrap());
        assert_eq!(holder.get("/v1/whoami").await.status, status);
    }
    let tokens = evil.list("/v1/principals/other/tokens").await;
    assert_eq!(tokens.len(), 1, "no token was issued: {tokens:?}");
    let versions = evil.get("/v1/keys/orders/versions").await.expect_status(200);
    assert_eq!(versions["items"].as_array().unwrap().len(), 1, "no rotation was done");
    let opened = evil.post("/v1/unwrap", &json!({"wrapped": wrapped})).await;
    assert!(
        matches!(opened.body["code"].as_str(), Some("key_disabled" | "connection_severed")),
        "{}",
        opened.text
    );
}
