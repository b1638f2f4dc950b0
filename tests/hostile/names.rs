//! What answers tell of names: of another tenant's wrapped keys, and of one's own tenant to a token that reaches a
//! single key.

use claviger_test_support::{Answer, Client, Gateway, Tune, text_of};
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::world::{HOSTILE, World, make_key};

/// An answer without what differs from request to request: its id, its time, the place of its record, and the length
/// that the place has.
#[derive(Debug, PartialEq, Eq)]
pub struct Bare {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Bare {
    pub fn of(answer: &Answer) -> Self {
        let varying = ["x-request-id", "date", "claviger-audit-index", "content-length"];
        let headers = answer.headers.iter().filter(|(name, _)| !varying.contains(&name.as_str()));
        let mut headers: Vec<_> = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        let mut body = answer.text.replace(answer.header("x-request-id"), "");
        while let Some((before, rest)) = body.split_once("\"audit_index\":") {
            let end = rest.find([',', '}']).unwrap();
            body = format!("{before}{}", &rest[end..]);
        }
        Self {
            status: answer.status,
            headers,
            body,
        }
    }

    /// As [`Bare::of`] of an object that was made: without its name, and without what is drawn or read from the clock.
    pub fn of_made(answer: &Answer, name: &str) -> Self {
        let mut bare = Self::of(answer);
        let mut made = answer.body.clone();
        blank(&mut made, name);
        bare.body = made.to_string();
        bare
    }
}

/// Replaces a name, ids, times and tokens.
fn blank(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| blank(member, name)),
        Value::Array(items) => items.iter_mut().for_each(|item| blank(item, name)),
        Value::String(text) => {
            let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let time = text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
            if text == name || digits || time || text.starts_with("clv_") {
                "*".clone_into(text);
            }
        }
        _ => {}
    }
}

/// A wrapped key of a tenant of this id at another installation.
pub async fn elsewhere(tenant: &str, id: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.toml");
    let text = format!(
        "[[tenants]]\nname = \"{tenant}\"\nid = \"{id}\"\n[[connections]]\ntenants = [\"{tenant}\"]\nname = \"embedded\"\nprovider = \"local\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let tune = Tune {
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..Tune::default()
    };
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&tune);
    let client = started.tenant(tenant);
    make_key(&client, "ledger").await;
    wrapped(&client, "ledger").await
}

pub async fn wrapped(client: &Client, key: &str) -> Value {
    let path = format!("/v1/keys/{key}/data-keys");
    client.post(&path, &json!({})).await.expect_status(200)["wrapped"].clone()
}

/// Unwrap, rewrap and inspect, in a batch too, answer byte by byte alike for a wrapped key of another tenant, for
/// one of an installation that is none of ours, and for one of a key that the own tenant never had.
#[tokio::test]
async fn another_tenants_wrapped_key_answers_byte_by_byte_as_one_that_nobody_has() {
    let world = World::start().await;
    let honest = world.honest().await;
    let bank = world.started.tenant("bank");
    make_key(&bank, "ledger").await;
    let limited: Vec<&str> = everything().into_iter().filter(|name| *name != "UnwrapUnsealed").collect();
    let mut spies = Vec::new();
    for (name, operations, keys) in [
        ("all", everything(), None),
        ("sealed", limited.clone(), None),
        ("one", limited, Some(["orders"].as_slice())),
    ] {
        let issued = world.evil_token(name, &operations, keys).await;
        spies.push((name, world.evil.with_token(text_of(&issued))));
    }
    let own_id = spies[0].1.get("/v1/whoami").await.expect_status(200)["tenant"]
        .as_str()
        .unwrap()
        .to_owned();
    let foreign = wrapped(&bank, "ledger").await;
    let nobodys = [
        (
            "of another installation",
            elsewhere("stranger", "00112233445566778899aabbccddeeff").await,
        ),
        ("of no key of its tenant", elsewhere(HOSTILE, &own_id).await),
    ];
    let own = wrapped(&world.evil, "orders").await;
    let calls = |wrapped: &Value| {
        let one = json!({"wrapped": wrapped});
        // Beside an item that succeeds.
        let several = |more: Value| {
            let items = [&own, wrapped].map(|wrapped| {
                let mut item = more.clone();
                item["wrapped"] = wrapped.clone();
                item
            });
            json!({"items": items})
        };
        [
            ("/v1/unwrap", one.clone()),
            ("/v1/inspect", one.clone()),
            ("/v1/keys/orders/unwrap", one.clone()),
            ("/v1/keys/orders/rewrap", one),
            ("/v1/batch/unwrap", several(json!({}))),
            ("/v1/batch/unwrap", several(json!({"key": "orders"}))),
            ("/v1/batch/rewrap", several(json!({"key": "orders"}))),
        ]
    };
    for (spy, client) in &spies {
        for (what, nobodys) in &nobodys {
            for ((path, theirs), (_, nobodys)) in calls(&foreign).into_iter().zip(calls(nobodys)) {
                // What succeeds beside it must not differ either: from the second time on it is in the cache.
                client.post(path, &theirs).await;
                let theirs = Bare::of(&client.post(path, &theirs).await);
                let nobodys = Bare::of(&client.post(path, &nobodys).await);
                let refused = theirs.status >= 400 || theirs.body.contains("\"error\"");
                assert!(refused, "{spy} {path}: {theirs:?}");
                if path.ends_with("rewrap") && path.contains("batch") {
                    // The item that succeeds is wrapped anew each time.
                    let second = |bare: &Bare| bare.body.split("\"error\"").nth(1).map(str::to_owned);
                    assert_eq!(second(&theirs), second(&nobodys), "{spy} {path}, one {what}");
                    assert_eq!(theirs.status, nobodys.status, "{spy} {path}, one {what}");
                } else {
                    assert_eq!(theirs, nobodys, "{spy} {path}, one {what}");
                }
            }
        }
    }
    honest.end().await;
}

/// A rename takes a name. A token for one key must not find out by it which names are taken, nor take one that
/// others' configurations and policies expect.
#[tokio::test]
async fn a_token_for_one_key_learns_and_takes_no_name_by_a_rename() {
    let world = World::start().await;
    let honest = world.honest().await;
    make_key(&world.evil, "payroll").await;
    let issued = world.evil_token("thief", &everything(), Some(&["orders"])).await;
    let thief = world.evil.with_token(text_of(&issued));
    let rename = async |client: &Client, name: &str| client.patch("/v1/keys/orders", "*", &json!({"name": name})).await;
    let taken = rename(&thief, "payroll").await;
    let free = rename(&thief, "payroll-2").await;
    assert_eq!(Bare::of(&taken), Bare::of(&free));
    taken.expect_problem(403, "permission_denied");
    let names = async |client: &Client| {
        let keys = client.list("/v1/keys").await.into_iter();
        keys.map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&world.evil).await, ["orders", "payroll"]);
    // Its own name is no other one, and what else it may change it changes.
    rename(&thief, "orders").await.expect_status(200);
    let labels = json!({"labels": {"seen": "yes"}});
    thief.patch("/v1/keys/orders", "*", &labels).await.expect_status(200);
    // Who may create keys may rename them, and is told of a name that is taken, as by a creation.
    let issued = world.evil_token("owner", &["UpdateKey"], None).await;
    let cannot_create = world.evil.with_token(text_of(&issued));
    rename(&cannot_create, "bills").await.expect_problem(403, "permission_denied");
    let issued = world.evil_token("owner", &["UpdateKey", "CreateKey"], None).await;
    let owner = world.evil.with_token(text_of(&issued));
    rename(&owner, "payroll").await.expect_problem(409, "already_exists");
    rename(&owner, "bills").await.expect_status(200);
    assert_eq!(names(&world.evil).await, ["bills", "payroll"]);
    honest.end().await;
}

/// Every token may revoke itself. Under another principal's name it is a token that does not exist, whether there is
/// such a principal or not.
#[tokio::test]
async fn ones_own_token_under_a_guessed_principal_tells_nothing() {
    let world = World::start().await;
    let honest = world.honest().await;
    world.evil_token("admin", &["ReadKey"], None).await;
    for (operations, keys) in [
        (vec!["ReadKey"], Some(["orders"].as_slice())),
        (vec!["ReadKey", "ManageTokens"], Some(["orders"].as_slice())),
        (vec!["ReadKey"], None),
    ] {
        let issued = world.evil_token("thief", &operations, keys).await;
        let thief = world.evil.with_token(text_of(&issued));
        let own = issued["id"].as_str().unwrap();
        let nobodys = "0123456789abcdef0123456789abcdef";
        let delete = async |principal: &str, token: &str| {
            let path = format!("/v1/principals/{principal}/tokens/{token}");
            thief.send(thief.request(Method::DELETE, &path)).await
        };
        let guessed = delete("admin", own).await;
        for (principal, token) in [("nobody", own), ("admin", nobodys), ("nobody", nobodys), ("thief", nobodys)] {
            let other = delete(principal, token).await;
            assert_eq!(Bare::of(&guessed), Bare::of(&other), "{operations:?} {principal} {token}");
        }
        guessed.expect_problem(403, "permission_denied");
        thief.get("/v1/whoami").await.expect_status(200);
        assert_eq!(delete("thief", own).await.status, 204);
        thief.get("/v1/whoami").await.expect_problem(401, "unauthenticated");
    }
    honest.end().await;
}
