//! The mixed load: each task sends requests, notes the answers, and ends when an answer is missing.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::random::Random;
use crate::world::{Blob, Created, Token, World};

/// The principal whose tokens are issued and revoked.
pub const PRINCIPAL: &str = "worker";

/// The state that the tasks share.
pub type Shared = Arc<Mutex<World>>;

/// Locks the model.
pub fn world(shared: &Shared) -> MutexGuard<'_, World> {
    shared.lock().expect("no task failed while it held the model")
}

/// Starts all tasks, each with a random stream of its own.
pub fn start(shared: &Shared, client: &Client, random: impl Fn(u64) -> Random, round: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for stream in 0..4 {
        tasks.spawn(data(Arc::clone(shared), client.clone(), random(stream)));
    }
    for (key, stream) in world(shared).rotated.keys().cloned().zip(10..) {
        tasks.spawn(rotate(Arc::clone(shared), client.clone(), key, random(stream)));
    }
    for (key, stream) in world(shared).switched.keys().cloned().zip(20..) {
        tasks.spawn(switch(Arc::clone(shared), client.clone(), key, random(stream)));
    }
    tasks.spawn(create(Arc::clone(shared), client.clone(), round));
    tasks.spawn(tokens(Arc::clone(shared), client.clone(), random(30)));
    tasks
}

/// Sends a request and notes its answer. `None` once the gateway was killed.
async fn ask(shared: &Shared, client: &Client, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
    let mut request = client.request(method, path);
    if let Some(body) = body {
        request = request.json(body);
    }
    settle(shared, client.try_send(request).await)
}

fn settle(shared: &Shared, answer: Option<Answer>) -> Option<Answer> {
    let mut world = world(shared);
    match answer {
        Some(answer) => {
            world.note(&answer);
            Some(answer)
        }
        None => {
            assert!(world.killed, "a connection broke before the kill");
            None
        }
    }
}

/// Generates, wraps, unwraps and rewraps under keys that are never disabled.
async fn data(shared: Shared, client: Client, mut random: Random) {
    loop {
        let (keys, blob) = {
            let world = world(&shared);
            // One under a key that is disabled and enabled may be refused; it has a task of its own.
            let blob = random.pick(&world.blobs).filter(|blob| !world.switched.contains_key(&blob.key));
            (world.usable(), blob.cloned())
        };
        let key = random.pick(&keys).expect("a key").clone();
        let context = json!({"n": random.below(1000).to_string()});
        let kept = match (random.below(4), blob) {
            (0, Some(blob)) => {
                let body = json!({"wrapped": blob.wrapped, "context": blob.context});
                let Some(answer) = ask(&shared, &client, Method::POST, "/v1/unwrap", Some(&body)).await else {
                    return;
                };
                assert_eq!(answer.expect_status(200)["plaintext"], blob.plaintext);
                continue;
            }
            (1, Some(blob)) => {
                let path = format!("/v1/keys/{}/rewrap", blob.key);
                let body = json!({"wrapped": blob.wrapped, "context": blob.context});
                let Some(answer) = ask(&shared, &client, Method::POST, &path, Some(&body)).await else {
                    return;
                };
                let made = answer.expect_status(200);
                Blob {
                    wrapped: text(&made["wrapped"]),
                    ..blob
                }
            }
            (2, _) => {
                let plaintext = STANDARD.encode(random.bytes(32));
                let body = json!({"plaintext": plaintext, "context": context});
                let path = format!("/v1/keys/{key}/wrap");
                let Some(answer) = ask(&shared, &client, Method::POST, &path, Some(&body)).await else {
                    return;
                };
                let wrapped = text(&answer.expect_status(200)["wrapped"]);
                Blob {
                    key,
                    wrapped,
                    context,
                    plaintext,
                }
            }
            (_, _) => {
                let path = format!("/v1/keys/{key}/data-keys");
                let Some(answer) = ask(&shared, &client, Method::POST, &path, Some(&json!({"context": context}))).await else {
                    return;
                };
                let made = answer.expect_status(200);
                Blob {
                    key,
                    wrapped: text(&made["wrapped"]),
                    context,
                    plaintext: text(&made["plaintext"]),
                }
            }
        };
        world(&shared).blobs.push(kept);
    }
}

/// Rotates one key repeatedly. No other task rotates it.
pub async fn rotate(shared: Shared, client: Client, key: String, mut random: Random) {
    let rotated = |change: &dyn Fn(&mut crate::world::Rotated)| {
        change(world(&shared).rotated.get_mut(&key).expect("the key is in the model"));
    };
    loop {
        rotated(&|key| key.pending = true);
        let path = format!("/v1/keys/{key}/rotate");
        let Some(answer) = ask(&shared, &client, Method::POST, &path, None).await else {
            return;
        };
        let primary = answer.expect_status(200)["primary_version"].as_u64().expect("a number");
        rotated(&|key| {
            assert_eq!(primary, key.answered + 1, "one rotate makes one version");
            (key.answered, key.pending) = (primary, false);
        });
        for _ in 0..random.below(3) {
            tokio::task::yield_now().await;
        }
    }
}

/// Disables and enables one key in turn, and checks that each takes effect.
async fn switch(shared: Shared, client: Client, key: String, mut random: Random) {
    let blob = {
        let world = world(&shared);
        world.blobs.iter().find(|blob| blob.key == key).expect("a blob of each key").clone()
    };
    loop {
        let disable = {
            let mut world = world(&shared);
            let switch = world.switched.get_mut(&key).expect("the key is in the model");
            switch.pending = Some(!switch.disabled);
            !switch.disabled
        };
        let path = format!("/v1/keys/{key}/{}", if disable { "disable" } else { "enable" });
        let Some(answer) = ask(&shared, &client, Method::POST, &path, None).await else {
            return;
        };
        let state = answer.expect_status(200)["state"].clone();
        assert_eq!(state, if disable { "disabled" } else { "enabled" });
        {
            let mut world = world(&shared);
            let switch = world.switched.get_mut(&key).expect("the key is in the model");
            (switch.disabled, switch.pending) = (disable, None);
        }
        if random.below(2) == 0 {
            let body = json!({"wrapped": blob.wrapped, "context": blob.context});
            let Some(answer) = ask(&shared, &client, Method::POST, "/v1/unwrap", Some(&body)).await else {
                return;
            };
            if disable {
                answer.expect_problem(409, "key_disabled");
            } else {
                assert_eq!(answer.expect_status(200)["plaintext"], blob.plaintext);
            }
        }
    }
}

/// Creates keys with idempotency keys.
async fn create(shared: Shared, client: Client, round: u64) {
    for number in 0_u64.. {
        let name = format!("made-{round}-{number}");
        let once = format!("once-{name}");
        world(&shared).created.insert(
            name.clone(),
            Created {
                once: once.clone(),
                id: None,
            },
        );
        let Some(answer) = settle(&shared, client.try_send(create_request(&client, &name, &once)).await) else {
            return;
        };
        let id = text(&answer.expect_status(201)["id"]);
        world(&shared).created.get_mut(&name).expect("just noted").id = Some(id);
    }
}

/// The request that creates a key: always the same for the same name.
pub fn create_request(client: &Client, name: &str, once: &str) -> reqwest::RequestBuilder {
    client
        .request(Method::POST, "/v1/keys")
        .header("idempotency-key", once)
        .json(&json!({"name": name, "connection": "embedded"}))
}

/// Issues tokens, and revokes every other one.
async fn tokens(shared: Shared, client: Client, mut random: Random) {
    loop {
        let path = format!("/v1/principals/{PRINCIPAL}/tokens");
        let Some(answer) = ask(&shared, &client, Method::POST, &path, Some(&json!({"operations": ["ReadKey"]}))).await else {
            return;
        };
        let issued = answer.expect_status(201);
        let (id, token) = (text(&issued["id"]), text(&issued["token"]));
        let revoke = random.below(2) == 0;
        world(&shared).tokens.push(Token {
            id: id.clone(),
            text: token,
            revoked: if revoke { None } else { Some(false) },
        });
        if revoke {
            let Some(answer) = ask(&shared, &client, Method::DELETE, &format!("{path}/{id}"), None).await else {
                return;
            };
            answer.expect_status(204);
            world(&shared).tokens.last_mut().expect("just noted").revoked = Some(true);
        }
    }
}

/// A string member of an answer.
pub fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
