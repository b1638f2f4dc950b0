//! Two servers of a kind whose ids do not name the server, each with a key of the same id: over HTTP against the real
//! binary.

use std::net::SocketAddr;

use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_test_support::{Answer, Tune};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::Case;
use crate::world::World;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn() -> crate::Boxed| Case::new(format!("same_ids::{name}"), &[], run);
    vec![
        case("a_key_at_another_server_is_another_key", || Box::pin(another_key())),
        case("another_way_to_the_server_is_no_other_server", || Box::pin(another_way())),
        case("what_nothing_proves_is_taken", || Box::pin(unproven())),
    ]
}

/// A gateway with two proxies, each with a key `orders`, and a connection to each.
struct Two {
    world: World,
    first: FakeXks,
    second: FakeXks,
}

impl Two {
    async fn new() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let two = Self {
            // A slow machine must not end an attempt.
            world: World::new(Tune::default().set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s")).await,
            first: FakeXks::start(Transport::Plain, "").await.unwrap(),
            second: FakeXks::start(Transport::Plain, "").await.unwrap(),
        };
        for (name, fake) in [("first", &two.first), ("second", &two.second)] {
            fake.keys().make("orders");
            two.connect(name, &fake.url()).await;
        }
        two
    }

    async fn connect(&self, name: &str, address: &str) {
        let key = AccessKey::first();
        let settings = json!({
            "address": address, "region": "eu-central-1", "budget_ms": 10_000,
            "auth": {"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}},
        });
        let body = json!({"name": name, "provider": "xks", "settings": settings});
        self.world.client.post("/v1/connections", &body).await.expect_status(201);
    }

    async fn adopt(&self, name: &str, connection: &str, provider_key: &str) -> Answer {
        let body = json!({"name": name, "connection": connection, "provider_key": provider_key});
        self.world.client.post("/v1/keys", &body).await
    }

    async fn data_key(&self, key: &str) -> Value {
        let path = format!("/v1/keys/{key}/data-keys");
        self.world.client.post(&path, &json!({})).await.expect_status(200)
    }

    async fn opens(&self, made: &Value) {
        let body = json!({"wrapped": made["wrapped"]});
        let opened = self.world.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
}

/// A port that leads to a server.
async fn forwarded(to: &str) -> String {
    let to: SocketAddr = to.strip_prefix("http://").unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ended = copy_bidirectional(&mut from, &mut server).await;
            });
        }
    });
    format!("http://{address}")
}

async fn another_key() {
    let two = Two::new().await;
    let first = two.adopt("a", "first", "orders").await.expect_status(201);
    let second = two.adopt("b", "second", "orders").await.expect_status(201);
    assert_ne!(first["id"], second["id"]);
    let made = [two.data_key("a").await, two.data_key("b").await];
    // Each is taken where it is.
    for connection in ["first", "second"] {
        let taken = two.adopt("c", connection, "orders").await;
        taken.expect_problem(409, "provider_key_taken");
    }
    // Each comes back under its own id, whichever the other one is.
    let both = [("a", "first", &first), ("b", "second", &second)];
    for (name, connection, key) in both {
        assert_eq!(two.world.client.delete(&format!("/v1/keys/{name}")).await.status, 204);
        let back = two.adopt(name, connection, "orders").await.expect_status(201);
        assert_eq!(back["id"], key["id"]);
    }
    for (name, ..) in both {
        assert_eq!(two.world.client.delete(&format!("/v1/keys/{name}")).await.status, 204);
    }
    for (name, connection, key) in both {
        let back = two.adopt(name, connection, "orders").await.expect_status(201);
        assert_eq!(back["id"], key["id"]);
    }
    // A key moves to the other server's key, too.
    for fake in [&two.first, &two.second] {
        fake.keys().make("invoices");
    }
    two.adopt("i", "first", "invoices").await.expect_status(201);
    let to = json!({"provider_key": "invoices"});
    two.world.client.post("/v1/keys/b/rotate", &to).await.expect_status(200);
    let to = json!({"connection": "second", "provider_key": "orders"});
    let refused = two.world.client.post("/v1/keys/i/rotate", &to).await;
    refused.expect_problem(409, "provider_key_taken");
    for made in &made {
        two.opens(made).await;
    }
}

async fn another_way() {
    let two = Two::new().await;
    two.connect("way", &forwarded(&two.first.url()).await).await;
    let first = two.adopt("a", "first", "orders").await.expect_status(201);
    for round in 0..2 {
        let taken = two.adopt("b", "way", "orders").await;
        taken.expect_problem(409, "provider_key_taken");
        if round == 0 {
            two.adopt("other", "second", "orders").await.expect_status(201);
        }
    }
    // The key that was detached comes back by the other way, disabled as it was.
    two.world.client.post_empty("/v1/keys/a/disable").await.expect_status(200);
    assert_eq!(two.world.client.delete("/v1/keys/a").await.status, 204);
    let back = two.adopt("b", "way", "orders").await.expect_status(201);
    assert_eq!((&back["id"], &back["state"]), (&first["id"], &json!("disabled")));
}

/// Where the other server does not say that the canary is not its key's.
async fn unproven() {
    let two = Two::new().await;
    two.adopt("a", "first", "orders").await.expect_status(201);
    two.second.keys().change("orders", |key| key.enabled = false);
    let taken = two.adopt("b", "second", "orders").await;
    taken.expect_problem(409, "provider_key_taken");
    two.second.keys().change("orders", |key| key.enabled = true);
    two.adopt("b", "second", "orders").await.expect_status(201);
}
