//! The REST API. `tests/vendors/google` tests it with Google's clients.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_fake_google::FakeGoogle;
use reqwest::{Client, Method};
use serde_json::{Value, json};

const RING: &str = "projects/p/locations/global/keyRings/r";

struct World {
    fake: FakeGoogle,
    client: Client,
}

impl World {
    async fn new() -> Self {
        // A second installation fails and changes nothing.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let fake = FakeGoogle::start().await.unwrap();
        fake.make_ring(RING).unwrap();
        Self {
            fake,
            client: Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
        }
    }

    async fn request(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, format!("{}/v1/{path}", self.fake.url()));
        let response = request.bearer_auth("any").json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, response) = self.request(Method::POST, path, body).await;
        assert_eq!(status, 200, "{path}: {response}");
        response
    }

    async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path, Value::Null).await.1
    }

    async fn refused(&self, method: Method, path: &str, body: Value, status: u16, code: &str) -> Value {
        let (refused, response) = self.request(method, path, body).await;
        assert_eq!(
            (refused, response["error"]["status"].as_str()),
            (status, Some(code)),
            "{path}: {response}"
        );
        assert_eq!(response["error"]["code"], status);
        response
    }
}

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn crc(text: &[u8]) -> String {
    crc32c::crc32c(text).to_string()
}

#[tokio::test]
async fn a_symmetric_key_binds_context_and_names_its_version() {
    let world = World::new().await;
    let key = world.post(&format!("{RING}/cryptoKeys?cryptoKeyId=k"), json!({"purpose": 1})).await;
    assert_eq!(
        (&key["purpose"], &key["primary"]["state"]),
        (&json!("ENCRYPT_DECRYPT"), &json!("ENABLED"))
    );
    let key = format!("{RING}/cryptoKeys/k");
    let numbers = world.get(&format!("{key}?$alt=json;enum-encoding=int")).await;
    assert_eq!((&numbers["purpose"], &numbers["primary"]["state"]), (&json!(1), &json!(1)));

    let sent = json!({"plaintext": b64("key"), "plaintextCrc32c": crc(b"key"), "additionalAuthenticatedData": b64("aad")});
    let made = world.post(&format!("{key}:encrypt"), sent).await;
    assert_eq!(made["name"], format!("{key}/cryptoKeyVersions/1"));
    assert_eq!(made["verifiedPlaintextCrc32c"], true);
    assert!(
        made.get("verifiedAdditionalAuthenticatedDataCrc32c").is_none(),
        "it came without one"
    );
    let ciphertext = STANDARD.decode(made["ciphertext"].as_str().unwrap()).unwrap();
    assert_eq!(made["ciphertextCrc32c"], crc(&ciphertext));

    let opened = json!({"ciphertext": made["ciphertext"], "additionalAuthenticatedData": b64("aad")});
    let response = world.post(&format!("{key}:decrypt"), opened.clone()).await;
    assert_eq!(
        (&response["plaintext"], &response["usedPrimary"]),
        (&json!(b64("key")), &json!(true))
    );
    assert_eq!(response["plaintextCrc32c"], crc(b"key"));

    let decrypt = format!("{key}:decrypt");
    for (field, value) in [
        ("additionalAuthenticatedData", json!(b64("other"))),
        ("additionalAuthenticatedData", Value::Null),
        ("ciphertext", json!(b64("nonsense"))),
        ("ciphertext", Value::Null),
        ("ciphertextCrc32c", json!("1")),
        ("ciphertext", json!("%")),
        ("unknown", json!(1)),
    ] {
        let mut wrong = opened.clone();
        wrong[field] = value;
        world.refused(Method::POST, &decrypt, wrong, 400, "INVALID_ARGUMENT").await;
    }
    world
        .post(&format!("{RING}/cryptoKeys?cryptoKeyId=other"), json!({"purpose": 1}))
        .await;
    let other = format!("{RING}/cryptoKeys/other:decrypt");
    world.refused(Method::POST, &other, opened.clone(), 400, "INVALID_ARGUMENT").await;

    // A new version is not used before it is the primary one.
    world.post(&format!("{key}/cryptoKeyVersions"), json!({})).await;
    world
        .post(&format!("{key}:updatePrimaryVersion"), json!({"cryptoKeyVersionId": "2"}))
        .await;
    let response = world.post(&decrypt, opened).await;
    assert!(response.get("usedPrimary").is_none());
    let made = world.post(&format!("{key}:encrypt"), json!({"plaintext": b64("key")})).await;
    assert_eq!(made["name"], format!("{key}/cryptoKeyVersions/2"));
}

#[tokio::test]
async fn states_are_enforced_and_time_destroys() {
    let world = World::new().await;
    let body = json!({"purpose": "ENCRYPT_DECRYPT", "destroyScheduledDuration": "86400s"});
    world.post(&format!("{RING}/cryptoKeys?cryptoKeyId=k"), body).await;
    let (key, version) = (format!("{RING}/cryptoKeys/k"), format!("{RING}/cryptoKeys/k/cryptoKeyVersions/1"));
    let encrypt = format!("{key}:encrypt");
    let state = async |wanted: &str| {
        let path = format!("{version}?updateMask=state");
        let (status, response) = world.request(Method::PATCH, &path, json!({"name": version, "state": wanted})).await;
        assert_eq!((status, response["state"].as_str()), (200, Some(wanted)), "{response}");
    };
    state("DISABLED").await;
    state("DISABLED").await;
    let body = json!({"plaintext": b64("key")});
    let refused = world
        .refused(Method::POST, &encrypt, body.clone(), 400, "FAILED_PRECONDITION")
        .await;
    let violation = &refused["error"]["details"][0]["violations"][0];
    assert_eq!(
        (&violation["type"], &violation["subject"]),
        (&json!("KEY_DISABLED"), &json!(version))
    );
    state("ENABLED").await;
    world.post(&encrypt, body.clone()).await;

    let destroyed = world.post(&format!("{version}:destroy"), json!({})).await;
    assert_eq!(destroyed["state"], "DESTROY_SCHEDULED");
    let restored = world.post(&format!("{version}:restore"), json!({})).await;
    assert_eq!(restored["state"], "DISABLED");
    world.post(&format!("{version}:destroy"), json!({})).await;
    world.fake.switches().clock.advance(std::time::Duration::from_secs(86_401));
    let gone = world.get(&version).await;
    assert!(gone["state"] == "DESTROYED" && gone["destroyEventTime"].is_string(), "{gone}");
    let restore = format!("{version}:restore");
    world.refused(Method::POST, &restore, json!({}), 400, "FAILED_PRECONDITION").await;
}

#[tokio::test]
async fn what_is_not_there_or_not_so_is_refused() {
    let world = World::new().await;
    let keys = format!("{RING}/cryptoKeys?cryptoKeyId=k");
    for (body, status, code) in [
        (json!({}), 400, "INVALID_ARGUMENT"),
        (json!({"purpose": "ASYMMETRIC_DECRYPT"}), 400, "INVALID_ARGUMENT"),
        (
            json!({"purpose": 1, "versionTemplate": {"algorithm": "RSA_DECRYPT_OAEP_3072_SHA256"}}),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            json!({"purpose": 1, "versionTemplate": {"protectionLevel": "EXTERNAL"}}),
            400,
            "INVALID_ARGUMENT",
        ),
        (json!({"purpose": 1, "labels": {"Upper": "x"}}), 400, "INVALID_ARGUMENT"),
    ] {
        world.refused(Method::POST, &keys, body, status, code).await;
    }
    world.post(&keys, json!({"purpose": 1})).await;
    world
        .refused(Method::POST, &keys, json!({"purpose": 1}), 409, "ALREADY_EXISTS")
        .await;
    for path in [
        "projects/p/locations/mars/keyRings/r".to_owned(),
        "projects/p/locations/global/keyRings/none".to_owned(),
        format!("{RING}/cryptoKeys/none"),
        format!("{RING}/cryptoKeys/k/cryptoKeyVersions/7"),
    ] {
        world.refused(Method::GET, &path, Value::Null, 404, "NOT_FOUND").await;
    }
    let public_key = format!("{RING}/cryptoKeys/k/cryptoKeyVersions/1/publicKey");
    world
        .refused(Method::GET, &public_key, Value::Null, 400, "FAILED_PRECONDITION")
        .await;
    let bare = world.client.get(format!("{}/v1/{RING}", world.fake.url())).send().await.unwrap();
    assert_eq!(bare.status(), 401);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    for id in ["a", "b", "c"] {
        world
            .post(&format!("{RING}/cryptoKeys?cryptoKeyId={id}"), json!({"purpose": 1}))
            .await;
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = world.get(&format!("{RING}/cryptoKeys?pageSize=2&pageToken={token}")).await;
        assert_eq!(page["totalSize"], 3);
        names.extend(page["cryptoKeys"].as_array().unwrap().iter().map(|key| key["name"].clone()));
        match page["nextPageToken"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<_> = ["a", "b", "c"].map(|id| json!(format!("{RING}/cryptoKeys/{id}"))).into();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn throttling_and_outages_are_in_googles_words() {
    use claviger_fake::{Act, Fault};
    let world = World::new().await;
    let faults = &world.fake.switches().faults;
    let throttle = Act::Throttle { retry_after: Some(3) };
    faults.set(vec![Fault::once("keyRings", throttle), Fault::once("keyRings", Act::Unavailable)]);
    world.refused(Method::GET, RING, Value::Null, 429, "RESOURCE_EXHAUSTED").await;
    world.refused(Method::GET, RING, Value::Null, 503, "UNAVAILABLE").await;
    assert_eq!(world.get(RING).await["name"], RING);
}
