//! No credential of a connection gets into a log, a record, the store or an answer.

use std::path::Path;

use claviger_test_support::Tune;
use serde_json::{Value, json};

use crate::Case;
use crate::openbao::{DEV, Server, TLS, unique};
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("secrets::a_token_is_seen_nowhere", DEV, || Box::pin(token(Server::Dev))),
        Case::new("secrets::a_token_is_seen_nowhere_over_tls", TLS, || Box::pin(token(Server::Tls))),
        Case::new(
            "secrets::a_client_certificates_key_is_seen_nowhere",
            TLS,
            || Box::pin(certificate()),
        ),
        Case::new("secrets::a_secret_id_is_seen_nowhere", DEV, || Box::pin(secret_id())),
    ]
}

/// Uses a connection in every way, the wrong ones included, with everything logged; then
/// looks for parts of the secret in all that the gateway has written.
async fn search(server: Server, auth: Value, parts: &[&str]) {
    let world = World::new(Tune::default().set("CLAVIGER_TELEMETRY__LOG_LEVEL", "trace")).await;
    world.connect("vault", &server.settings(&auth)).await;
    let mut answers = Vec::new();
    let call = |path: String, body: Value| {
        let client = world.client.clone();
        async move { client.post(&path, &body).await.text }
    };
    world.key("orders", json!({})).await;
    answers.push(call("/v1/keys/orders/data-keys".to_owned(), json!({})).await);
    answers.push(call("/v1/keys/orders/rotate".to_owned(), json!({})).await);
    answers.push(call(format!("/v1/connections/{CONNECTION}/check"), json!({})).await);
    let missing = json!({"name": "k", "connection": CONNECTION, "provider_key": "nobody's"});
    answers.push(call("/v1/keys".to_owned(), missing).await);
    answers.push(world.client.get(&format!("/v1/connections/{CONNECTION}")).await.text);
    // A host that is away, a mount that is none, a login elsewhere.
    for (name, change) in [
        ("away", json!({"address": "https://127.0.0.1:1"})),
        ("nowhere", json!({"mount": unique("nowhere")})),
        ("untrusted", json!({"ca": null})),
    ] {
        let mut settings = server.settings(&auth);
        for (member, value) in change.as_object().unwrap() {
            settings[member] = value.clone();
        }
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let body = json!({"name": name, "provider": "vault", "settings": settings});
        answers.push(world.client.post("/v1/connections", &body).await.text);
        answers.push(call(format!("/v1/connections/{name}/check"), json!({})).await);
        answers.push(call("/v1/keys".to_owned(), json!({"name": name, "connection": name})).await);
    }
    let data = world.gateway.data();
    let log = world.started.output();
    assert!(
        log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""),
        "nothing but the usual is logged"
    );
    assert!(world.started.terminate());
    let mut places: Vec<(String, Vec<u8>)> = vec![("the log".to_owned(), log.into_bytes())];
    places.extend(answers.into_iter().map(|text| ("an answer".to_owned(), text.into_bytes())));
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    assert!(places.iter().any(|(name, _)| Path::new(name).ends_with("claviger.db")));
    for (name, bytes) in places {
        for part in parts {
            assert!(part.len() >= 20);
            let found = bytes.windows(part.len()).any(|window| window == part.as_bytes());
            assert!(!found, "{name} holds a part of the credential");
        }
    }
}

async fn token(server: Server) {
    let policy = "path \"transit/*\" { capabilities = [\"read\", \"update\"] }\n\
                  path \"sys/capabilities-self\" { capabilities = [\"update\"] }\n\
                  path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }\n";
    let token = server.limited(policy, &[]);
    search(server, json!({"token": token}), &[&token]).await;
}

async fn certificate() {
    let server = Server::Tls;
    let mount = unique("cert");
    server.bao(&["auth", "enable", &format!("-path={mount}"), "cert"], "");
    let policy = unique("all");
    server.bao(
        &["policy", "write", &policy, "-"],
        "path \"transit/*\" { capabilities = [\"read\", \"update\"] }",
    );
    let role = format!("auth/{mount}/certs/gateway");
    let policies = format!("token_policies={policy}");
    server.bao(&["write", &role, "certificate=-", &policies], &server.file("ca.pem"));
    let key = server.file("client.key");
    let auth = json!({"cert": {"certificate": server.file("client.pem"), "key": key, "mount": mount}});
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-') && line.len() >= 20).collect();
    assert!(!lines.is_empty());
    search(server, auth, &lines).await;
}

async fn secret_id() {
    let server = Server::Dev;
    let mount = unique("approle");
    server.bao(&["auth", "enable", &format!("-path={mount}"), "approle"], "");
    let policy = unique("all");
    server.bao(
        &["policy", "write", &policy, "-"],
        "path \"transit/*\" { capabilities = [\"read\", \"update\"] }",
    );
    let role = format!("auth/{mount}/role/gateway");
    server.bao(&["write", &role, &format!("token_policies={policy}")], "");
    let role_id = server.bao(&["read", "-field=role_id", &format!("{role}/role-id")], "");
    let secret_id = server.bao(&["write", "-f", "-field=secret_id", &format!("{role}/secret-id")], "");
    let (role_id, secret_id) = (role_id.trim(), secret_id.trim());
    let auth = json!({"approle": {"role_id": role_id, "secret_id": secret_id, "mount": mount}});
    search(server, auth, &[secret_id]).await;
}
