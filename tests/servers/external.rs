//! An external key manager behind the fake XKS proxy: its keys and refusals over HTTP against the real binary.

mod cache;
mod network;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use claviger_fake::{Act, Fault};
use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_test_support::{Answer, Client, Tune, free_address, records_of};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn() -> crate::Boxed| Case::new(format!("external::{name}"), &[], run);
    vec![
        case("a_data_key_outlives_restarts_of_gateway_and_proxy", || Box::pin(restarted())),
        case("each_request_is_told_to_the_key_manager", || Box::pin(told())),
        case("data_keys_are_cached_only_where_their_owner_turned_that_on", || {
            Box::pin(cache::cached())
        }),
        case("a_cache_that_is_turned_on_while_a_key_moves_in_is_decided_on", || {
            Box::pin(cache::cached_meanwhile())
        }),
        case("a_key_comes_back_on_no_other_servers_key", || Box::pin(another_server())),
        case("the_printed_rights_are_those_of_every_key_and_version", || Box::pin(least_rights())),
        case("new_access_keys_need_no_restart", || Box::pin(access_keys())),
        case("a_key_without_a_usage_is_not_the_callers_mistake", || Box::pin(usage())),
        case("a_key_moves_to_another_external_key", || Box::pin(moved())),
        case("the_authority_and_the_address_change", || Box::pin(network::changed())),
        case("a_clock_ten_minutes_off_is_told", || Box::pin(clock())),
        case("a_severed_connection_calls_nothing_and_only_its_owner_restores_it", || {
            Box::pin(severed())
        }),
    ]
}

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway with a key `orders` of an external key of the same name.
struct External {
    world: World,
    fake: FakeXks,
    settings: Value,
}

const KEY: &str = "/v1/keys/orders";

impl External {
    async fn new() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        // Where it is found again after a restart.
        let fake = FakeXks::start_at(free_address(), Transport::Tls, "/of/acme").await.unwrap();
        fake.keys().make("orders");
        // A slow machine must not end an attempt.
        let world = World::new(Tune::default().set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s")).await;
        let key = AccessKey::first();
        let settings = json!({
            "address": fake.url(), "region": "eu-central-1", "budget_ms": 10_000, "ca": fake.tls().unwrap().ca_pem(),
            "auth": {"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}},
        });
        world.connect("xks", &settings).await;
        let made = world.key("orders", json!({"provider_key": "orders"})).await;
        assert_eq!((&made["custody"], &made["provider_key"]), (&json!("external"), &json!("orders")));
        Self { world, fake, settings }
    }

    async fn data_key(&self) -> Value {
        let body = json!({"context": {"table": "orders"}});
        self.world.client.post(&format!("{KEY}/data-keys"), &body).await.expect_status(200)
    }

    async fn unwrap(&self, wrapped: &Value) -> Answer {
        let body = json!({"wrapped": wrapped, "context": {"table": "orders"}});
        self.world.client.post("/v1/unwrap", &body).await
    }

    async fn opens(&self, made: &Value) {
        let opened = self.unwrap(&made["wrapped"]).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }

    /// The metadata of the requests since the last look, without health checks.
    fn requests(&self) -> Vec<Value> {
        let journal = &self.fake.switches().journal;
        let requests = journal
            .all()
            .into_iter()
            .map(|request| request.body["requestMetadata"].clone())
            .filter(|metadata| metadata["kmsOperation"] != "KmsHealthCheck")
            .collect();
        journal.clear();
        requests
    }

    /// How many decryptions the proxy was asked for since the last look, by how many requests.
    fn decryptions(&self) -> (usize, usize) {
        let requests = self.requests();
        let decryptions = requests.iter().filter(|request| request["kmsOperation"] == "Decrypt");
        let ids: Vec<&str> = decryptions.map(|request| request["kmsRequestId"].as_str().unwrap()).collect();
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        (ids.len(), distinct.len())
    }

    /// A severed key comes back through a second connection, and stays disabled until its owner enables it.
    async fn comes_back_disabled(&self, owner: &Client) {
        let client = &self.world.client;
        let second = json!({"name": "second", "provider": "xks", "settings": self.settings});
        client.post("/v1/connections", &second).await.expect_status(201);
        assert_eq!(client.delete(KEY).await.status, 204);
        let back = json!({"name": "orders", "connection": "second", "provider_key": "orders"});
        let key = client.post("/v1/keys", &back).await.expect_status(201);
        assert_eq!(key["state"], "disabled", "{key}");
        client
            .post_empty(&format!("{KEY}/enable"))
            .await
            .expect_problem(403, "permission_denied");
        owner.post_empty(&format!("{KEY}/enable")).await.expect_status(200);
    }

    async fn check(&self) -> Value {
        let path = format!("/v1/connections/{CONNECTION}/check");
        self.world.client.post_empty(&path).await.expect_status(200)
    }
}

async fn restarted() {
    let mut external = External::new().await;
    let made = external.data_key().await;
    external.opens(&made).await;
    external.world = external.world.restarted();
    external.opens(&made).await;
    // The connections that the gateway has open end, and new ones are opened.
    external.fake = external.fake.restarted().await.unwrap();
    external.opens(&made).await;
    external.world = external.world.restarted();
    external.fake = external.fake.restarted().await.unwrap();
    external.opens(&made).await;
    // The owner rotates the key where it is: older wrapped keys open.
    external.fake.keys().change("orders", claviger_fake_xks::Key::rotate);
    external.opens(&made).await;
    let newer = external.data_key().await;
    external.opens(&newer).await;
    let mut other = json!({"wrapped": made["wrapped"], "context": {"table": "invoices"}});
    let refused = external.world.client.post("/v1/unwrap", &other).await;
    refused.expect_problem(422, "ciphertext_rejected");
    other["context"] = json!({"table": "orders"});
    external.world.client.post("/v1/unwrap", &other).await.expect_status(200);
}

async fn told() {
    let external = External::new().await;
    let key = external.world.client.get(KEY).await.expect_status(200);
    external.requests();
    let made = external.data_key().await;
    external.opens(&made).await;
    // No data key of an external key is cached.
    external.opens(&made).await;
    let body = json!({"wrapped": made["wrapped"], "context": {"table": "orders"}});
    external.world.client.post(&format!("{KEY}/rewrap"), &body).await.expect_status(200);
    let body = json!({"plaintext": "AAAA"});
    let wrapped = external.world.client.post(&format!("{KEY}/wrap"), &body).await;
    let record = records_of(&external.world.gateway.data(), wrapped.header("x-request-id"));
    let request_id = wrapped.header("x-request-id").to_owned();
    wrapped.expect_status(200);
    let requests = external.requests();
    let operations: Vec<&str> = requests.iter().map(|request| request["kmsOperation"].as_str().unwrap()).collect();
    assert_eq!(
        operations,
        ["GenerateDataKey", "Decrypt", "Decrypt", "ReEncrypt", "ReEncrypt", "Encrypt"]
    );
    let wrap = requests.last().unwrap();
    let record = record.iter().find(|record| record["kind"] == "outcome").unwrap();
    let (tenant, principal) = (record["tenant"].as_str().unwrap(), record["principal"].as_str().unwrap());
    let expected = json!({
        "awsPrincipalArn": format!("arn:claviger:iam::{tenant}:principal/{principal}"),
        "kmsKeyArn": format!("arn:claviger:kms:eu-central-1:{tenant}:key/{}", key["id"].as_str().unwrap()),
        "kmsOperation": "Encrypt", "kmsRequestId": request_id,
    });
    assert_eq!(*wrap, expected);
}

/// A key that was detached does not come back on the key of the same name of somebody else's proxy.
async fn another_server() {
    let external = External::new().await;
    let made = external.data_key().await;
    let thief = external.world.owner(&["CreateConnection", "CreateKey", "DeleteKey"]).await;
    let theirs = FakeXks::start(Transport::Tls, "/of/acme").await.unwrap();
    theirs.keys().make("orders");
    let mut settings = external.settings.clone();
    settings["address"] = json!(theirs.url());
    settings["ca"] = json!(theirs.tls().unwrap().ca_pem());
    let body = json!({"name": "theirs", "provider": "xks", "settings": settings});
    thief.post("/v1/connections", &body).await.expect_status(201);
    assert_eq!(thief.delete(KEY).await.status, 204);
    let through = |connection: &str| json!({"name": "orders", "connection": connection, "provider_key": "orders"});
    for client in [&thief, &external.world.client] {
        let refused = client.post("/v1/keys", &through("theirs")).await.expect_problem(409, "key_state");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("does not open its canary"), "{refused}");
    }
    // A connection of another name to the same proxy proves itself.
    let body = json!({"name": "second", "provider": "xks", "settings": external.settings});
    thief.post("/v1/connections", &body).await.expect_status(201);
    thief.post("/v1/keys", &through("second")).await.expect_status(201);
    external.opens(&made).await;
}

/// What the owner is told to permit is enough for every call.
async fn least_rights() {
    let external = External::new().await;
    let made = external.data_key().await;
    external.fake.keys().make("orders-2027");
    let body = json!({"provider_key": "orders-2027"});
    external.world.client.post(&format!("{KEY}/rotate"), &body).await.expect_status(200);
    // More than a check tries.
    let mut expected = BTreeSet::from(["orders".to_owned(), "orders-2027".to_owned()]);
    for number in 0..20 {
        let name = format!("key-{number}");
        external.fake.keys().make(&name);
        external.world.key(&name, json!({"provider_key": name})).await;
        expected.insert(name);
    }
    let report = external.check().await;
    let policy: Value = serde_json::from_str(report["policy"].as_str().unwrap()).unwrap();
    assert_eq!(policy["externalKeyId"], json!(expected));
    assert_eq!(policy["kmsKeyArn"].as_array().unwrap().len(), 21);
    assert_eq!(policy.get("partial"), None);
    external.opens(&made).await;
}

/// What an owner does to a key is told by its state.
async fn usage() {
    let external = External::new().await;
    let made = external.data_key().await;
    let body = json!({"context": {"table": "orders"}});
    let wrap = async || external.world.client.post(&format!("{KEY}/data-keys"), &body).await;
    let state = async || external.world.client.list(&format!("{KEY}/versions")).await[0]["provider_state"].clone();
    external.fake.keys().change("orders", |key| key.enabled = false);
    wrap().await.expect_problem(409, "key_state");
    assert_eq!(state().await, "disabled");
    external.fake.keys().change("orders", |key| {
        key.enabled = true;
        key.usage = vec!["ENCRYPT".to_owned()];
    });
    let begin = Instant::now();
    while state().await != "unfit" {
        for refused in [wrap().await, external.unwrap(&made["wrapped"]).await] {
            refused.expect_problem(409, "key_state");
        }
        assert!(begin.elapsed() < PATIENCE, "the key is not described");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let refused = wrap().await.expect_problem(409, "key_state");
    assert!(refused["what_to_do"].as_str().unwrap().contains("permit"), "{refused}");
    external.unwrap(&made["wrapped"]).await.expect_problem(409, "key_state");
    let report = external.check().await;
    assert!(report.to_string().contains("is `unfit` at the provider"), "{report}");
    // One that decrypts alone opens what it wrapped.
    external.fake.keys().change("orders", |key| key.usage = vec!["DECRYPT".to_owned()]);
    external.opens(&made).await;
    external.fake.keys().change("orders", |key| key.usage.push("ENCRYPT".to_owned()));
    let begin = Instant::now();
    while wrap().await.status != 200 {
        assert!(begin.elapsed() < PATIENCE, "the key does not wrap again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(state().await, "enabled");
}

async fn access_keys() {
    let external = External::new().await;
    let made = external.data_key().await;
    let second = AccessKey::second();
    let keys = |keys: &[AccessKey]| external.fake.access().change(|settings| settings.access_keys = keys.to_vec());
    keys(&[AccessKey::first(), second.clone()]);
    let secrets = json!({"second": {"access_key_id": second.id, "secret_access_key": second.secret}});
    let path = format!("/v1/connections/{CONNECTION}");
    external
        .world
        .client
        .patch(&path, "*", &json!({"secrets": secrets}))
        .await
        .expect_status(200);
    external.opens(&made).await;
    keys(&[second]);
    external.opens(&made).await;
    keys(&[]);
    external.unwrap(&made["wrapped"]).await.expect_problem(424, "provider_denied");

    let put = async |second: Value| {
        external
            .world
            .client
            .patch(&path, "*", &json!({"secrets": {"second": second}}))
            .await
    };
    let first = AccessKey::first();
    let same = json!({"access_key_id": first.id, "secret_access_key": first.secret});
    let problem = put(same).await.expect_problem(400, "invalid_request");
    assert!(problem["what_to_do"].as_str().unwrap().contains("second"), "{problem}");
    put(Value::Null).await.expect_status(200);
    keys(&[AccessKey::second()]);
    external.unwrap(&made["wrapped"]).await.expect_problem(424, "provider_denied");
    keys(&[first]);
    external.opens(&made).await;
}

async fn moved() {
    let external = External::new().await;
    let made = external.data_key().await;
    let refused = external.world.client.post_empty(&format!("{KEY}/rotate")).await;
    refused.expect_problem(501, "unsupported");
    external.fake.keys().make("orders-2027");
    let body = json!({"provider_key": "orders-2027"});
    let moved = external.world.client.post(&format!("{KEY}/rotate"), &body).await.expect_status(200);
    assert_eq!(
        (&moved["primary_version"], &moved["provider_key"]),
        (&json!(2), &json!("orders-2027"))
    );
    let newer = external.data_key().await;
    for made in [&made, &newer] {
        external.opens(made).await;
    }
    let created = external
        .world
        .client
        .post("/v1/keys", &json!({"name": "made", "connection": CONNECTION}))
        .await;
    let problem = created.expect_problem(501, "unsupported");
    assert_eq!(problem["errors"][0]["pointer"], "/provider_key");
}

async fn clock() {
    let external = External::new().await;
    let made = external.data_key().await;
    external.fake.switches().clock.advance(Duration::from_secs(600));
    let problem = external
        .unwrap(&made["wrapped"])
        .await
        .expect_problem(424, "connection_misconfigured");
    assert!(problem["what_to_do"].as_str().unwrap().contains("clock"), "{problem}");
    let report = external.check().await;
    assert_eq!(report["reachable"], false, "{report}");
    assert!(report["what_to_do"].as_str().unwrap().contains("clock"), "{report}");
}

async fn severed() {
    let external = External::new().await;
    let made = external.data_key().await;
    let owner = external.world.owner(&["Sever", "Restore", "ReadConnection", "Enable"]).await;
    let path = format!("/v1/connections/{CONNECTION}");
    let (sever, restore) = (format!("{path}/sever"), format!("{path}/restore"));
    external.world.client.post_empty(&sever).await.expect_status(200);
    external.requests();
    external.unwrap(&made["wrapped"]).await.expect_problem(409, "connection_severed");
    assert_eq!(external.requests().len(), 0);

    // The switch is the customer's: an operator severs, and restores nothing.
    let operators = external.world.client.post_empty(&restore).await;
    operators.expect_problem(403, "permission_denied");
    // A proxy that does not work stays severed, and only the restore has called it.
    external.fake.switches().faults.set(vec![Fault::always("", Act::Unavailable)]);
    let problem = owner.post_empty(&restore).await.expect_problem(504, "deadline_exceeded");
    assert!(problem["detail"].as_str().unwrap().contains("stays severed"), "{problem}");
    external.fake.switches().journal.clear();
    external.unwrap(&made["wrapped"]).await.expect_problem(409, "connection_severed");
    assert!(external.fake.switches().journal.all().is_empty());

    // A sever during a restore ends its calls, and stands.
    let slow = Fault::always("/health", Act::Delay { milliseconds: 5_000 });
    external.fake.switches().faults.set(vec![slow]);
    let (restored, calls) = tokio::join!(owner.post_empty(&restore), async {
        let journal = &external.fake.switches().journal;
        while journal.all().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        owner.post_empty(&sever).await.expect_status(200);
        journal.all().len()
    });
    restored.expect_problem(409, "connection_severed");
    assert_eq!(external.fake.switches().journal.all().len(), calls);
    let shown = owner.get(&path).await.expect_status(200);
    assert_eq!(shown["state"], "severed", "{shown}");

    external.fake.switches().faults.set(Vec::new());
    owner.post_empty(&restore).await.expect_status(200);
    external.opens(&made).await;

    // Nor does an operator restore it by a detour.
    owner.post_empty(&sever).await.expect_status(200);
    external.comes_back_disabled(&owner).await;
    external.opens(&made).await;
}
