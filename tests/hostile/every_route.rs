//! The six questions of `tests/hostile/table.toml`, asked of every route.

use std::collections::BTreeMap;

use claviger::audit::Action;
use claviger_test_support::Client;
use claviger_test_support::raw::{Http1, Http2, answer_of, head_of};
use reqwest::Method;
use serde_json::{Value, json};

#[cfg(feature = "testkit")]
use crate::key_service::KeyService;
use crate::routes::{Call, Names, calls};
use crate::world::{World, make_key, token};

/// Everything that a tenant's own credential can be allowed.
fn everything() -> Vec<&'static str> {
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

/// The time that a caller gives a request, and what a loaded machine may add to it.
#[cfg(feature = "testkit")]
const GIVEN: std::time::Duration = std::time::Duration::from_secs(2);
#[cfg(feature = "testkit")]
const ADDED: std::time::Duration = std::time::Duration::from_secs(3);

#[cfg(feature = "testkit")]
#[tokio::test]
async fn a_key_service_that_never_answers_holds_up_its_own_tenant_alone() {
    let (world, control) = World::with_fake().await;
    let settings = json!({"server": KeyService::NAME});
    let connection = json!({"name": "own", "provider": "vault", "settings": settings});
    world.evil.post("/v1/connections", &connection).await.expect_status(201);
    let key = json!({"name": "slow", "connection": "own"});
    world.evil.post("/v1/keys", &key).await.expect_status(201);
    let admin = world.evil_token("admin", &["ReadKey"], None).await;
    let wrapped = data_key(&world.evil, "slow").await;
    let names = Names {
        tenant: "clinic",
        connection: "own",
        ..Names::of_evil("slow", admin["id"].as_str().unwrap(), &wrapped)
    };
    let issued = world.evil_token("attacker", &everything(), None).await;
    let attacker = world.evil.with_token(issued["token"].as_str().unwrap());
    let attacker = attacker.with_header("claviger-timeout", "2s");
    let honest = world.honest().await;
    KeyService::at(control).await.hang().await;
    let begun = std::time::Instant::now();
    // At once, so without those that would end the others: a deletion, and a sever.
    let mut all = calls(&names);
    all.retain(|call| call.method != Method::DELETE && !call.route.ends_with("/sever"));
    let answers = futures::future::join_all(all.iter().map(|call| call.send(&attacker))).await;
    assert!(begun.elapsed() < GIVEN + ADDED, "{:?}", begun.elapsed());
    let mut waited = 0;
    for (call, answer) in all.iter().zip(answers) {
        assert!(answer.status != 500, "{}: {}", call.name(), answer.text);
        waited += usize::from(answer.status == 504);
    }
    assert!(waited > 0, "the key service was asked");
    // The brake does not wait for the key service.
    world.evil.post_empty("/v1/connections/own/sever").await.expect_status(200);
    honest.end().await;
}

#[tokio::test]
async fn what_never_reads_or_never_ends_holds_up_nobody() {
    let world = World::start().await;
    let honest = world.honest().await;
    let issued = world.evil_token("attacker", &everything(), None).await;
    let text = issued["token"].as_str().unwrap();
    let wrapped = data_key(&world.evil, "orders").await;
    let names = Names {
        principal: "nobody",
        ..Names::of_evil("orders", "0123456789abcdef0123456789abcdef", &wrapped)
    };
    // No window: not a byte of an answer's body is taken.
    let deaf = Http2::connect(world.started.address(), 0).await;
    let mut never_read = Vec::new();
    let connection = Http2::connect(world.started.address(), 65_535).await;
    let mut never_ended = Vec::new();
    for call in calls(&names) {
        // Those that end something end what the others need.
        if !is_end(&call) {
            never_read.push(deaf.whole(call.method.clone(), text, &call.path, &call.body).await);
        }
        let (response, mut body) = connection.open_with(call.method.clone(), text, &call.path, Some("*")).await;
        if !call.body.is_null() {
            body.send_data(bytes::Bytes::from_static(b"{"), false).unwrap();
        }
        never_ended.push((call, response, body));
    }
    for (call, response, body) in never_ended {
        let (status, answer) = answer_of(response).await;
        // What the token may not do at all is refused without its body.
        assert!(matches!(status, 403 | 504), "{}: {status} {answer}", call.name());
        drop(body);
    }
    drop(never_read);
    assert_eq!(
        world.evil.get("/v1/keys/orders").await.body["state"],
        "enabled",
        "nothing that never ended was done"
    );
    // What ends something takes effect though nobody reads the answer.
    let deaf = Http2::connect(world.started.address(), 0).await;
    let ends = calls(&names).into_iter().filter(is_end);
    let mut unread = Vec::new();
    for call in ends {
        unread.push(head_of(deaf.whole(call.method.clone(), text, &call.path, &call.body).await).await);
    }
    world.evil.get("/v1/keys/orders").await.expect_problem(404, "not_found");
    let connection = world.evil.get("/v1/connections/embedded").await;
    assert!(
        connection.status == 404 || connection.body["state"] == "severed",
        "{}",
        connection.text
    );
    honest.end().await;
}

/// Whether it ends an object, or stops its use.
fn is_end(call: &Call) -> bool {
    call.method == Method::DELETE || call.is_cut()
}

#[tokio::test]
async fn with_a_full_disk_only_cuts_are_done() {
    let world = World::on_full_disk().await;
    let wrapped = data_key(&world.evil, "orders").await;
    let issued = world.evil_token("attacker", &everything(), None).await;
    let names = Names {
        tenant: "clinic",
        principal: "attacker",
        ..Names::of_evil("orders", issued["id"].as_str().unwrap(), &wrapped)
    };
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
}
