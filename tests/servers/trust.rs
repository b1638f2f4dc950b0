//! Other network settings of a connection: OpenBao whose authority is renewed, and servers of an attacker's.

mod declared;

use claviger_fake::Tls;
use claviger_test_support::proxy::Setup;
use claviger_test_support::{Answer, Tune, records_of};
use serde_json::{Value, json};

use crate::Case;
use crate::front::{Front, Manner};
use crate::openbao::{DEV, Server, unique};
use crate::world::{CONNECTION, World, variable};

const MOTO: &[&str] = &["CLAVIGER_TEST_MOTO_ADDRESS"];
const PATH: &str = "/v1/connections/kms";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("trust::a_renewed_authority_is_taken_and_the_keys_stay", DEV, || Box::pin(renewed())),
        Case::new("trust::a_renewed_authority_is_taken_by_an_aws_connection", MOTO, || {
            Box::pin(renewed_before_aws())
        }),
        Case::new("trust::stored_secrets_are_not_sent_elsewhere", DEV, || Box::pin(secrets_again())),
        Case::new("trust::it_needs_the_right_to_create_connections", DEV, || Box::pin(rights())),
        Case::new("trust::a_server_without_the_keys_gets_no_data_key", DEV, || Box::pin(stranger())),
        Case::new("trust::a_server_that_passes_canaries_on_is_believed", DEV, || Box::pin(liar())),
        Case::new("trust::a_detached_key_comes_back_on_its_own_server_alone", DEV, || {
            Box::pin(detached())
        }),
        Case::new("trust::a_key_without_a_canary_keeps_its_way", DEV, || Box::pin(no_canary())),
        Case::new("trust::a_severed_connection_is_not_tried", DEV, || Box::pin(severed())),
        Case::new("trust::the_configuration_leads_its_connections", DEV, || {
            Box::pin(declared::declared())
        }),
        Case::new("trust::a_key_without_a_canary_keeps_no_declared_connection", DEV, || {
            Box::pin(declared::without_canary())
        }),
    ]
}

fn token() -> Value {
    json!({"token": Server::Dev.token()})
}

async fn world(front: &Front) -> World {
    let world = World::new(Tune::default()).await;
    world.connect("vault", &front.settings(&token())).await;
    world.key("orders", json!({})).await;
    world
}

async fn patch(world: &World, body: &Value) -> Answer {
    world.client.patch(PATH, "*", body).await
}

async fn data_key(world: &World) -> Answer {
    world.client.post("/v1/keys/orders/data-keys", &json!({})).await
}

async fn unwraps(world: &World, made: &Value) {
    let body = json!({"wrapped": made["wrapped"]});
    let opened = world.client.post("/v1/unwrap", &body).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
}

/// SHA-256 of network settings, by another program.
fn fingerprint(settings: &Value) -> String {
    let mut command = std::process::Command::new("sha256sum");
    command.arg("-");
    // serde_json orders the names, as RFC 8785 does.
    let network = json!({"address": settings["address"], "ca": settings["ca"]});
    let out = crate::world::good(command, &network.to_string());
    out.split_whitespace().next().unwrap().to_owned()
}

async fn renewed() {
    let mut front = Front::start(Manner::Honest).await;
    let world = world(&front).await;
    let made = data_key(&world).await.expect_status(200);
    let before = world.client.get(PATH).await.expect_status(200);
    front.renew();
    let refused = data_key(&world).await;
    assert_eq!(refused.body["code"], "connection_misconfigured", "{}", refused.text);

    // By the command line, with the files that an administrator has.
    let (settings, secrets) = (world.folder().join("settings.json"), world.folder().join("secrets.json"));
    std::fs::write(&settings, json!({"ca": front.ca}).to_string()).unwrap();
    std::fs::write(&secrets, token().to_string()).unwrap();
    let files = [settings.to_str().unwrap(), secrets.to_str().unwrap()];
    world.claviger(&["connections", "update", CONNECTION, "--settings", files[0], "--secrets", files[1]]);
    let after = world.client.get(PATH).await.expect_status(200);
    assert_eq!((&after["settings"]["ca"], &after["id"]), (&json!(front.ca), &before["id"]));
    assert_ne!(after["etag"], before["etag"]);
    // The next call uses it, and what was wrapped before opens.
    let again = data_key(&world).await.expect_status(200);
    unwraps(&world, &made).await;

    // The intent and its outcome have both fingerprints.
    let records = claviger_test_support::records(&world.gateway.data());
    let changes: Vec<&Value> = records.iter().filter(|record| record.get("network").is_some()).collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    for record in changes {
        assert_eq!(
            record["network"],
            json!({"after": fingerprint(&after["settings"]), "before": fingerprint(&before["settings"])}),
        );
        assert_eq!(record["operation"], "UpdateConnection");
    }

    // It outlives the process.
    let World { gateway, started, .. } = world;
    assert!(started.terminate());
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
    let started = gateway.serve(&tune);
    let client = started.tenant(crate::world::TENANT);
    for made in [&made, &again] {
        let body = json!({"wrapped": made["wrapped"]});
        let opened = client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
    assert!(started.terminate());
}

/// A proxy that inspects TLS stands between the gateway and AWS, and gets a certificate of another authority.
async fn renewed_before_aws() {
    let certificate = || Tls::new(&[]).unwrap();
    let proxy = Setup::before(&variable(MOTO[0])).over_tls(certificate()).start();
    let tune = Tune::default().set("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", proxy.url());
    let world = World::new(tune).await;
    let key = json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"});
    let settings = json!({"region": "eu-central-1", "auth": {"static": key}, "ca": proxy.ca_pem()});
    world.connect("aws", &settings).await;
    world.key("orders", json!({})).await;
    let made = data_key(&world).await.expect_status(200);
    proxy.swap_certificate(certificate());
    proxy.reset_open();
    let refused = data_key(&world).await;
    let advice = refused.expect_problem(424, "connection_misconfigured")["what_to_do"].clone();
    assert!(advice.as_str().unwrap().contains("`ca`"), "{advice}");

    let strange = json!({"settings": {"ca": certificate().ca_pem()}, "secrets": key});
    patch(&world, &strange).await.expect_problem(400, "connection_refused_at_check");
    let body = json!({"settings": {"ca": proxy.ca_pem()}, "secrets": key});
    let after = patch(&world, &body).await.expect_status(200);
    assert_eq!(after["settings"]["ca"], json!(proxy.ca_pem()));
    unwraps(&world, &made).await;
    data_key(&world).await.expect_status(200);
}

async fn secrets_again() {
    let honest = Front::start(Manner::Honest).await;
    let evil = Front::start(Manner::Stranger(unique("nowhere"))).await;
    let world = world(&honest).await;
    let before = world.client.get(PATH).await.expect_status(200);
    let elsewhere = json!({"address": evil.address(), "ca": evil.ca});
    for (body, pointer) in [
        (json!({"settings": elsewhere}), "/secrets"),
        (json!({"settings": elsewhere, "secrets": {}}), "/secrets"),
        (json!({"settings": {"mount": "kms"}, "secrets": token()}), "/settings"),
        (json!({"settings": {"ca": "no certificate"}, "secrets": token()}), "/settings/ca"),
        (
            json!({"settings": {"address": "https://127.0.0.1:1/?x"}, "secrets": token()}),
            "/settings/address",
        ),
    ] {
        let problem = patch(&world, &body).await.expect_problem(400, "invalid_request");
        assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with(pointer), "{problem}");
    }
    // Another secret is sent in place of the stored one.
    let body = json!({"settings": elsewhere, "secrets": {"token": "a-token-of-the-attacker"}});
    patch(&world, &body).await.expect_problem(400, "connection_refused_at_check");
    assert!(
        evil.tokens().iter().all(|token| token == "a-token-of-the-attacker"),
        "{:?}",
        evil.tokens()
    );
    assert_eq!(world.client.get(PATH).await.expect_status(200), before);
}

async fn rights() {
    let (honest, evil) = (Front::start(Manner::Honest).await, Front::start(Manner::Honest).await);
    let world = world(&honest).await;
    world
        .client
        .post("/v1/principals", &json!({"name": "thief"}))
        .await
        .expect_status(201);
    let body = json!({"settings": {"address": evil.address(), "ca": evil.ca}, "secrets": token()});
    let all = ["UpdateConnection", "CreateConnection", "Wrap", "Unwrap", "UpdateKey"];
    for (operations, keys, operation) in [
        (&all[..1], None, "CreateConnection"),
        (&all[..], Some(["orders"]), "UpdateConnection"),
    ] {
        let mut wanted = json!({"operations": operations});
        if let Some(keys) = keys {
            wanted["keys"] = json!(keys);
        }
        let issued = world.client.post("/v1/principals/thief/tokens", &wanted).await.expect_status(201);
        let thief = world
            .client
            .with_token(issued["token"].as_str().unwrap())
            .without_header("claviger-tenant");
        let denied = thief.patch(PATH, "*", &body).await;
        let request = denied.header("x-request-id").to_owned();
        denied.expect_problem(403, "permission_denied");
        let records = records_of(&world.gateway.data(), &request);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(
            (&records[0]["operation"], &records[0]["decision"]),
            (&json!(operation), &json!("deny"))
        );
        // What it may change otherwise, it still may.
        let labels = thief.patch(PATH, "*", &json!({"labels": {"a": "b"}})).await;
        assert_eq!(labels.status, if keys.is_none() { 200 } else { 403 }, "{}", labels.text);
    }
    assert!(evil.calls().is_empty(), "a denied change asks nobody");
}

/// An engine of the attacker's, with a key of the same name as the gateway's and other material.
async fn other_engine(world: &World) -> String {
    let mount = unique("evil");
    Server::Dev.bao(&["secrets", "enable", &format!("-path={mount}"), "transit"], "");
    let key = world.client.get("/v1/keys/orders").await.expect_status(200);
    let name = key["provider_key"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    Server::Dev.bao(&["write", "-f", &format!("{mount}/keys/{name}")], "");
    mount
}

async fn stranger() {
    let honest = Front::start(Manner::Honest).await;
    let world = world(&honest).await;
    let before = world.client.get(PATH).await.expect_status(200);
    let evil = Front::start(Manner::Stranger(other_engine(&world).await)).await;
    let redirecting = Front::start(Manner::Redirect(evil.address())).await;
    let away = json!({"address": "https://127.0.0.1:1", "ca": evil.ca});
    let own = json!({"address": evil.address(), "ca": evil.ca});
    let strange_ca = json!({"ca": evil.ca});
    let redirect = json!({"address": redirecting.address(), "ca": redirecting.ca});
    for (settings, asked) in [(&own, true), (&redirect, false), (&away, false), (&strange_ca, false)] {
        let body = json!({"settings": settings, "secrets": token()});
        let problem = patch(&world, &body).await.expect_problem(400, "connection_refused_at_check");
        assert!(problem["detail"].as_str().unwrap().contains("`orders`"), "{problem}");
        assert!(problem["what_to_do"].is_string(), "{problem}");
        assert_eq!(world.client.get(PATH).await.expect_status(200), before, "nothing was changed");
        let calls = evil.calls();
        assert_eq!(calls.iter().any(|path| path.contains("/decrypt/")), asked, "{settings}: {calls:?}");
        assert!(
            !calls.iter().any(|path| path.contains("/encrypt/")),
            "no data key is sent: {calls:?}"
        );
    }
    // The connection is as it was, and its next data key goes where the others went.
    data_key(&world).await.expect_status(200);
    assert!(honest.calls().iter().any(|path| path.contains("/encrypt/")));
    assert!(evil.calls().is_empty());
}

/// A detached key takes no part in a change of network settings. Its name and time are copied to a server that has another
/// key of the connection.
async fn detached() {
    let honest = Front::start(Manner::Honest).await;
    let world = World::new(Tune::default()).await;
    world.connect("vault", &honest.settings(&token())).await;
    let (mount, name, own) = (unique("evil"), unique("theirs"), unique("own"));
    let bao = |arguments: &[&str]| Server::Dev.bao(arguments, "");
    bao(&["secrets", "enable", &format!("-path={mount}"), "transit"]);
    let paths = ["transit", &mount].map(|engine| format!("{engine}/keys/{name}"));
    let created = |path: &String| {
        bao(&["write", "-f", path]);
        let key: Value = serde_json::from_str(&bao(&["read", "-format=json", path])).unwrap();
        key["data"]["keys"]["1"].clone()
    };
    while created(&paths[0]) != created(&paths[1]) {
        for path in &paths {
            bao(&["write", &format!("{path}/config"), "deletion_allowed=true"]);
            bao(&["delete", path]);
        }
    }
    let may_leave = ["exportable=true", "allow_plaintext_backup=true"];
    bao(&[&["write", "-f", &format!("transit/keys/{own}")][..], &may_leave].concat());
    let backup = bao(&["read", "-field=backup", &format!("transit/backup/{own}")]);
    bao(&["write", &format!("{mount}/restore/{own}"), &format!("backup={}", backup.trim())]);
    for (key, provider_key) in [("orders", &name), ("own", &own)] {
        world.key(key, json!({"provider_key": provider_key})).await;
    }
    let made = data_key(&world).await.expect_status(200);
    world.client.delete("/v1/keys/orders").await;

    let evil = Front::start(Manner::Stranger(mount)).await;
    let lead_to = |front: &Front| json!({"settings": {"address": front.address(), "ca": front.ca}, "secrets": token()});
    patch(&world, &lead_to(&evil)).await.expect_status(200);
    let body = json!({"name": "orders", "connection": CONNECTION, "provider_key": name});
    let refused = world.client.post("/v1/keys", &body).await.expect_problem(409, "key_state");
    assert!(refused["detail"].as_str().unwrap().contains("canary"), "{refused}");
    patch(&world, &lead_to(&honest)).await.expect_status(200);
    world.client.post("/v1/keys", &body).await.expect_status(201);
    unwraps(&world, &made).await;
}

/// Whoever has the connection's secrets can have the real server open the canaries: `docs/threat-model.md` says
/// what follows. That it was done is in the record.
async fn liar() {
    let honest = Front::start(Manner::Honest).await;
    let world = world(&honest).await;
    let liar = Front::start(Manner::Liar(other_engine(&world).await)).await;
    let made = data_key(&world).await.expect_status(200);
    let body = json!({"settings": {"address": liar.address(), "ca": liar.ca}, "secrets": token()});
    let changed = patch(&world, &body).await;
    let request = changed.header("x-request-id").to_owned();
    let after = changed.expect_status(200);
    let records = records_of(&world.gateway.data(), &request);
    assert!(
        records
            .iter()
            .all(|record| record["network"]["after"] == fingerprint(&after["settings"]))
    );
    unwraps(&world, &made).await;
    // What it wraps under its own key, it does not open: the loss is noticed at the first unwrap of it.
    let lost = data_key(&world).await.expect_status(200);
    let body = json!({"wrapped": lost["wrapped"]});
    world
        .client
        .post("/v1/unwrap", &body)
        .await
        .expect_problem(422, "ciphertext_rejected");
}

/// A token of OpenBao that may create keys. As long as it may not wrap, they have no canaries.
struct Limited {
    policy: String,
    token: String,
}

impl Limited {
    fn new() -> Self {
        let policy = unique("policy");
        let mut limited = Self {
            policy,
            token: String::new(),
        };
        limited.may_wrap(false);
        let create = ["token", "create", "-orphan", "-no-default-policy", "-field=token"];
        let made = Server::Dev.bao(&[&create[..], &[&format!("-policy={}", limited.policy)]].concat(), "");
        made.trim().clone_into(&mut limited.token);
        limited
    }

    fn may_wrap(&self, may: bool) {
        let encrypt = if may { "update" } else { "deny" };
        let policy = format!(
            "path \"transit/keys/*\" {{ capabilities = [\"create\", \"read\", \"update\"] }}\n\
             path \"transit/decrypt/*\" {{ capabilities = [\"update\"] }}\n\
             path \"transit/encrypt/*\" {{ capabilities = [\"{encrypt}\"] }}\n\
             path \"auth/token/lookup-self\" {{ capabilities = [\"read\"] }}\n\
             path \"sys/capabilities-self\" {{ capabilities = [\"update\"] }}\n"
        );
        Server::Dev.bao(&["policy", "write", &self.policy, "-"], &policy);
    }
}

async fn no_canary() {
    let (honest, other) = (Front::start(Manner::Honest).await, Front::start(Manner::Honest).await);
    let limited = Limited::new();
    let secrets = json!({"token": limited.token});
    let world = World::new(Tune::default()).await;
    world.connect("vault", &honest.settings(&secrets)).await;
    let change = json!({"settings": {"address": other.address(), "ca": other.ca}, "secrets": secrets});
    let refused = patch(&world, &change).await.expect_problem(400, "connection_refused_at_check");
    assert!(
        refused["detail"].as_str().unwrap().contains("No key uses the connection"),
        "{refused}"
    );

    // It is made without a canary: the token may not wrap.
    world.key("orders", json!({})).await;
    let refused = patch(&world, &change).await.expect_problem(400, "connection_refused_at_check");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("no canary") && detail.contains("`orders`"), "{refused}");
    assert!(refused["what_to_do"].as_str().unwrap().contains("connections check"), "{refused}");
    assert!(other.calls().is_empty());

    // The change makes it through the old settings, as a check does.
    limited.may_wrap(true);
    honest.calls();
    patch(&world, &change).await.expect_status(200);
    assert!(honest.calls().iter().any(|path| path.contains("/encrypt/")));
    data_key(&world).await.expect_status(200);
    assert!(other.calls().iter().any(|path| path.contains("/encrypt/")));

    // A rotation brings a version with a canary of its own.
    world.client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
    let back = json!({"settings": {"address": honest.address(), "ca": honest.ca}, "secrets": secrets});
    honest.calls();
    patch(&world, &back).await.expect_status(200);
    let opened = honest.calls().iter().filter(|path| path.contains("/decrypt/")).count();
    assert_eq!(opened, 2, "the canary of each version");
}

async fn severed() {
    let (honest, other) = (Front::start(Manner::Honest).await, Front::start(Manner::Honest).await);
    let world = world(&honest).await;
    world.client.post_empty(&format!("{PATH}/sever")).await.expect_status(200);
    let body = json!({"settings": {"address": other.address(), "ca": other.ca}, "secrets": token()});
    patch(&world, &body).await.expect_problem(409, "connection_severed");
    assert!(other.calls().is_empty());
}
