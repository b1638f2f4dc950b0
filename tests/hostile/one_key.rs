//! What a token that is limited to one key finds out of the other objects of its own tenant: nothing, whatever it
//! sends beside a name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use claviger_test_support::{Answer, Client, records, text_of, token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::names::{Bare, elsewhere, wrapped};
use crate::others_names::more_calls;
use crate::routes::{Call, Names, calls};
use crate::world::{HOSTILE, World, make_key};

/// The routes whose calls name no object of a tenant, or whose answers about all connections are for whoever reads one:
/// there is nothing to compare.
pub fn all_that_name_nothing() -> impl Iterator<Item = String> {
    let names_nothing = |call: &Call| call.body.is_null() && !call.route.contains('{') || shows_connections(call);
    calls(&Names::of_evil("", "", &Value::Null))
        .into_iter()
        .filter(move |call| names_nothing(call))
        .map(|call| call.name())
}

/// Whoever reads a connection reads all of them.
fn shows_connections(call: &Call) -> bool {
    call.method == Method::GET && call.route.starts_with("/v1/connections/{connection}")
}

/// The name that one has already whom a call would make.
fn taken(call: &Call) -> Option<&'static str> {
    match (&call.method, call.route) {
        (&Method::POST, "/v1/keys") => Some("payroll"),
        (&Method::POST, "/v1/connections") => Some("spare"),
        (&Method::POST, "/v1/principals") => Some("admin"),
        (&Method::POST, "/v1/tenants") => Some("bank"),
        _ => None,
    }
}

/// Headers that a route may read beside its name, and what they say: a good etag and a wrong one, a key under which
/// the tenant's administrator has made something, a short time.
const HEADERS: [&[(&str, &str)]; 5] = [
    &[("if-match", "*")],
    &[("if-match", "\"1\"")],
    &[("if-match", "\"77\"")],
    &[("if-match", "*"), ("idempotency-key", "administrators")],
    &[("if-match", "*"), ("claviger-timeout", "5s"), ("claviger-justification", "none")],
];

async fn send(client: &Client, call: &Call, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(call.method.clone(), &call.path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = if call.body.is_null() { request } else { request.json(&call.body) };
    client.send(request).await
}

/// What the log has of each request, without what differs from request to request: ids, times and places.
fn recorded(data: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut requests = BTreeMap::<String, Vec<Value>>::new();
    for mut record in records(data) {
        let members = record.as_object_mut().unwrap();
        let Some(Value::String(request)) = members.remove("request_id") else {
            continue;
        };
        for member in ["time", "sequence", "intent", "latency_us"] {
            members.remove(member);
        }
        requests.entry(request).or_default().push(record);
    }
    requests
}

#[tokio::test]
async fn a_token_for_one_key_is_answered_alike_for_what_exists_and_what_does_not() {
    let world = World::start().await;
    let honest = world.honest().await;
    let evil = &world.evil;
    let keyed = evil.clone().with_header("idempotency-key", "administrators");
    let labelled = json!({"name": "payroll", "connection": "embedded", "labels": {"owner": "admin"}});
    keyed.post("/v1/keys", &labelled).await.expect_status(201);
    keyed.post("/v1/keys/payroll/rotate", &json!({})).await.expect_status(200);
    let spare = json!({"name": "spare", "provider": "local", "settings": {}});
    keyed.post("/v1/connections", &spare).await.expect_status(201);
    make_key(evil, "gone").await;
    assert_eq!(evil.delete("/v1/keys/gone").await.status, 204);
    let admin = world.evil_token("admin", &["ReadKey"], None).await;
    let issued = world.evil_token("spy", &everything(), Some(&["orders"])).await;
    let thief = evil.with_token(text_of(&issued));
    let own_id = thief.get("/v1/whoami").await.expect_status(200)["tenant"]
        .as_str()
        .unwrap()
        .to_owned();
    let of_payroll = wrapped(evil, "payroll").await;
    let of_nobody = elsewhere(HOSTILE, &own_id).await;
    let own = wrapped(evil, "orders").await;
    let there = Names {
        tenant: "bank",
        connection: "spare",
        key: "payroll",
        principal: "admin",
        token: admin["id"].as_str().unwrap(),
        wrapped: &of_payroll,
        new: "spare",
    };
    let absent = Names {
        tenant: "nobodys",
        connection: "nobodys",
        key: "nobodys",
        principal: "nobody",
        token: "0123456789abcdef0123456789abcdef",
        wrapped: &of_nobody,
        new: "nobodys",
    };
    // What it may open, to a key that it does not reach.
    let (to_there, to_absent) = (Names { wrapped: &own, ..there }, Names { wrapped: &own, ..absent });
    let detached = Names { key: "gone", ..there };
    let all = |names| calls(names).into_iter().chain(more_calls(names));
    let (mut asked, mut compared) = (Vec::new(), BTreeSet::new());
    for (there, absent) in [(&there, &absent), (&to_there, &to_absent), (&detached, &absent)] {
        let pairs = all(there).zip(all(absent)).filter(|(call, _)| !shows_connections(call));
        for (mut there, absent) in pairs {
            if let Some(taken) = taken(&there) {
                there.body["name"] = json!(taken);
            }
            if there.path == absent.path && there.body == absent.body {
                continue;
            }
            compared.insert(there.name());
            for headers in HEADERS {
                let (of_there, of_absent) = (send(&thief, &there, headers).await, send(&thief, &absent, headers).await);
                let named = format!("{} {} {headers:?}", there.name(), there.path);
                assert_eq!(Bare::of(&of_there), Bare::of(&of_absent), "{named}");
                let ids = [of_there, of_absent].map(|answer| answer.header("x-request-id").to_owned());
                asked.push((named, ids));
            }
        }
    }
    let never = calls(&there).into_iter().filter(|call| !compared.contains(&call.name()));
    assert!(never.map(|call| call.name()).eq(all_that_name_nothing()), "{compared:?}");
    // The log has the same of both.
    let recorded = recorded(&world.gateway.data());
    for (named, [there, absent]) in &asked {
        let of_there = recorded.get(there);
        assert!(of_there.is_some(), "{named}: no record");
        assert_eq!(of_there, recorded.get(absent), "{named}");
    }
    // Nor by what pages are asked for: of others' cursors it gets what it gets of none that there is.
    let page = evil.get("/v1/keys?page_size=1").await.expect_status(200);
    let of_admin = page["next_page_token"].as_str().unwrap();
    let cursors = [of_admin, "AAAA"].map(|token| format!("/v1/keys?page_size=1&page_token={token}"));
    let refused = [thief.get(&cursors[0]).await, thief.get(&cursors[1]).await];
    assert_eq!(Bare::of(&refused[0]), Bare::of(&refused[1]));
    assert_eq!(refused[0].status, 400);
    // After a full page it is told of a next one, as where there is no other key at all; and that one is empty.
    let alone = world.started.tenant("clinic");
    let issued = token(&alone, "spy", &everything(), Some(&["orders"])).await;
    for client in [thief, alone.with_token(text_of(&issued))] {
        let first = client.get("/v1/keys?page_size=1").await.expect_status(200);
        assert_eq!(first["items"][0]["name"], "orders");
        let next = first["next_page_token"].as_str().unwrap();
        let rest = client.get(&format!("/v1/keys?page_size=1&page_token={next}")).await;
        assert_eq!(rest.expect_status(200), json!({"items": []}));
    }
    assert_eq!(evil.list("/v1/keys/payroll/versions").await.len(), 2, "nothing was done");
    honest.end().await;
}
