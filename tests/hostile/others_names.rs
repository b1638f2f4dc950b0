//! What answers tell of another tenant's names: each is byte by byte the one to a name that nobody has.

use claviger_test_support::{Answer, Client, text_of, token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::names::Bare;
use crate::routes::{Call, Names, calls};
use crate::world::{World, make_key};

/// A tenant that has a connection, a key and a principal, with what a spy could learn of them.
struct Bank {
    client: Client,
    token: Value,
    wrapped: Value,
}

impl Bank {
    async fn prepare(world: &World) -> Self {
        let client = world.started.tenant("bank");
        make_key(&client, "ledger").await;
        let connection = json!({"name": "vault-of-bank", "provider": "local", "settings": {}});
        client.post("/v1/connections", &connection).await.expect_status(201);
        let token = token(&client, "treasurer", &["ReadKey"], None).await;
        let made = client.post("/v1/keys/ledger/data-keys", &json!({})).await.expect_status(200);
        Self {
            client,
            token,
            wrapped: made["wrapped"].clone(),
        }
    }

    async fn objects(&self) -> Value {
        let mut objects = json!({});
        for list in [
            "/v1/keys",
            "/v1/keys/ledger/versions",
            "/v1/connections",
            "/v1/principals",
            "/v1/principals/treasurer/tokens",
            "/v1/tenants",
        ] {
            objects[list] = self.client.get(list).await.expect_status(200);
        }
        objects
    }
}

/// A spy's credential, which may do everything in its own tenant.
async fn spy(world: &World) -> Client {
    let issued = world.evil_token("spy", &everything(), None).await;
    world.evil.with_token(text_of(&issued))
}

/// Calls of the principal `spy`, which has a key `orders`, that name these objects beside those of every route.
pub fn more_calls(names: &Names<'_>) -> Vec<Call> {
    let rows = [
        (&Method::GET, format!("/v1/keys?connection={}", names.connection), Value::Null),
        (
            &Method::GET,
            format!("/v1/keys?state=detached&connection={}", names.connection),
            Value::Null,
        ),
        (&Method::GET, format!("/v1/keys?label=owner={}", names.principal), Value::Null),
        (
            &Method::POST,
            "/v1/keys/orders/rotate".to_owned(),
            json!({"connection": names.connection}),
        ),
        (
            &Method::POST,
            "/v1/keys/orders/rewrap".to_owned(),
            json!({"wrapped": names.wrapped, "to": names.key}),
        ),
        (
            &Method::POST,
            "/v1/keys/orders/unwrap".to_owned(),
            json!({"wrapped": names.wrapped}),
        ),
        (
            &Method::POST,
            "/v1/batch/unwrap".to_owned(),
            json!({"items": [{"key": "orders", "wrapped": names.wrapped}]}),
        ),
        (
            &Method::POST,
            "/v1/batch/unwrap".to_owned(),
            json!({"items": [{"wrapped": names.wrapped}]}),
        ),
        (
            &Method::POST,
            "/v1/batch/rewrap".to_owned(),
            json!({"items": [{"key": "orders", "wrapped": names.wrapped, "to": names.key}]}),
        ),
        (
            &Method::POST,
            "/v1/principals/spy/tokens".to_owned(),
            json!({"operations": ["Wrap"], "keys": [names.key]}),
        ),
        (&Method::DELETE, format!("/v1/principals/spy/tokens/{}", names.token), Value::Null),
    ];
    let calls = rows.map(|(method, path, body)| Call {
        method: method.clone(),
        route: "one with another parameter",
        path,
        body,
    });
    calls.into()
}

#[tokio::test]
async fn another_tenants_names_answer_byte_by_byte_as_names_that_nobody_has() {
    let world = World::start().await;
    let honest = world.honest().await;
    let bank = Bank::prepare(&world).await;
    let spy = spy(&world).await;
    let before = bank.objects().await;
    let of_bank = Names {
        tenant: "bank",
        connection: "vault-of-bank",
        key: "ledger",
        principal: "treasurer",
        token: bank.token["id"].as_str().unwrap(),
        wrapped: &bank.wrapped,
        new: "fresh-1",
    };
    let of_nobody = Names {
        tenant: "none",
        connection: "vault-of-none",
        key: "nobody",
        principal: "stranger",
        // Of the same form, and nobody's.
        token: "0123456789abcdef0123456789abcdef",
        wrapped: &bank.wrapped,
        new: "fresh-2",
    };
    let all = |names| calls(names).into_iter().chain(more_calls(names));
    for (there, absent) in all(&of_bank).zip(all(&of_nobody)) {
        let name = format!("{} {}", there.name(), there.path);
        let bare = |answer: &Answer, new: &str| match answer.status {
            201 => Bare::of_made(answer, new),
            _ => Bare::of(answer),
        };
        // Of an operator's client the header names a tenant: of a tenant's own it tells nothing of who exists.
        for tenant in [None, Some((of_bank.tenant, of_nobody.tenant))] {
            let client = |tenant: Option<&str>| match tenant {
                None => spy.clone(),
                Some(tenant) => spy.clone().with_header("claviger-tenant", tenant),
            };
            let of_there = there.send(&client(tenant.map(|(there, _)| there))).await;
            let of_absent = absent.send(&client(tenant.map(|(_, absent)| absent))).await;
            assert_eq!(bare(&of_there, of_bank.new), bare(&of_absent, of_nobody.new), "{name}");
            let tells = ["ledger", "vault-of-bank", "treasurer"]
                .iter()
                .any(|name| of_there.text.contains(name));
            assert!(!tells, "{name}: {}", of_there.text);
            if tenant.is_some() {
                of_there.expect_problem(403, "permission_denied");
            }
        }
    }
    assert_eq!(bank.objects().await, before);
    honest.end().await;
}

/// A name that another tenant has is free: what takes it is answered as with a name that nobody has, and the object
/// of the other tenant stays as it is.
#[tokio::test]
async fn a_name_that_another_tenant_has_is_free_and_looks_so() {
    let world = World::start().await;
    let honest = world.honest().await;
    let bank = Bank::prepare(&world).await;
    let spy = spy(&world).await;
    let before = bank.objects().await;
    for (route, taken) in [
        ("/v1/keys", "ledger"),
        ("/v1/connections", "vault-of-bank"),
        ("/v1/principals", "treasurer"),
        ("/v1/tenants", "bank"),
    ] {
        let send = async |new: &str| {
            let names = Names {
                principal: "spy",
                new,
                ..Names::of_evil("orders", "0", &bank.wrapped)
            };
            let mut all = calls(&names).into_iter();
            let call = all.find(|call| call.method == Method::POST && call.route == route).unwrap();
            call.send(&spy).await
        };
        let (of_taken, of_free) = (send(taken).await, send("nobodys-name").await);
        assert_eq!(Bare::of_made(&of_taken, taken), Bare::of_made(&of_free, "nobodys-name"), "{route}");
        // A tenant's credential makes no tenant, whatever its name.
        let expected = if route == "/v1/tenants" { 403 } else { 201 };
        assert_eq!(of_taken.status, expected, "{route}: {}", of_taken.text);
    }
    // And so it is for a rename.
    world.evil.delete("/v1/keys/ledger").await;
    let rename = async |name: &str| spy.patch("/v1/keys/orders", "*", &json!({"name": name})).await;
    let of_free = rename("another-name").await;
    spy.patch("/v1/keys/another-name", "*", &json!({"name": "orders"}))
        .await
        .expect_status(200);
    let of_taken = rename("ledger").await;
    let bare = |answer: &Answer, name: &str| {
        let mut bare = answer.clone();
        // The etag counts the renames.
        bare.headers.remove("etag");
        bare.body["etag"] = Value::Null;
        Bare::of_made(&bare, name)
    };
    assert_eq!(bare(&of_taken, "ledger"), bare(&of_free, "another-name"));
    of_taken.expect_status(200);
    assert_eq!(bank.objects().await, before);
    honest.end().await;
}
