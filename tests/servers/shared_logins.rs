//! Refused logins of an identity that several connections log in with: OpenBao locks a role after five, for all.

use claviger_test_support::proxy::{FaultProxy, Kind};
use claviger_test_support::{Client, Tune, text_of, token};
use serde_json::{Value, json};
use std::path::Path;

use crate::Case;
use crate::logins::{Role, login, new_key, until};
use crate::openbao::{DEV, Server};
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("shared_logins::one_refusal_is_that_of_all_tenants", DEV, || {
            Box::pin(one_refusal_is_that_of_all_tenants())
        }),
        Case::new("shared_logins::a_tenant_cannot_lock_a_declared_role", DEV, || {
            Box::pin(a_tenant_cannot_lock_a_declared_role())
        }),
        Case::new("shared_logins::a_wrong_token_is_refused_and_not_ok", DEV, || {
            Box::pin(a_wrong_token_is_refused_and_not_ok())
        }),
        Case::new("shared_logins::a_check_names_a_lost_secret_file_to_the_operator", DEV, || {
            Box::pin(a_check_names_a_lost_secret_file_to_the_operator())
        }),
    ]
}

/// A gateway whose configuration declares one connection for these tenants, and their clients.
pub fn declared(tune: Tune, tenants: &[&str], role: &Role, address: &str, secret: &Path) -> (World, Vec<Client>) {
    let names: String = tenants.iter().map(|tenant| format!("[[tenants]]\nname = \"{tenant}\"\n")).collect();
    let config = format!(
        "{names}[[connections]]\ntenants = {}\nname = \"{CONNECTION}\"\nprovider = \"vault\"\n\
         [connections.settings]\naddress = \"{address}\"\n[connections.settings.auth.approle]\nrole_id = \"{}\"\n\
         mount = \"{}\"\nsecret_id = {{ file = \"{}\" }}\n",
        json!(tenants),
        role.role_id,
        role.mount,
        secret.display()
    );
    let path = secret.with_extension("toml");
    std::fs::write(&path, config).unwrap();
    let tune = Tune {
        arguments: vec!["--config".to_owned(), path.display().to_string()],
        ..tune
    };
    let world = World::of(tune);
    let clients = tenants.iter().map(|tenant| world.started.tenant(tenant)).collect();
    (world, clients)
}

pub async fn checked(client: &Client, connection: &str) -> Value {
    let path = format!("/v1/connections/{connection}/check");
    client.post_empty(&path).await.expect_status(200)
}

/// Makes a tenant's own connection of this role, with a secret id that the server does not know.
pub async fn own_connection(client: &Client, name: &str, role: &Role, more: Value) {
    let auth = role.auth(&json!(format!("wrong-{name}")));
    let mut settings = json!({"auth": auth});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({"name": name, "provider": "vault", "settings": settings});
    client.post("/v1/connections", &body).await.expect_status(201);
}

/// Whether the server accepts a new secret id of the role: it refuses every one of a role that it has locked.
pub fn is_locked(role: &Role) -> bool {
    let mounts = role.server.bao(&["read", "-format=json", "sys/auth"], "");
    let mounts: Value = serde_json::from_str(&mounts).unwrap();
    let accessor = mounts["data"][format!("{}/", role.mount)]["accessor"].as_str().unwrap().to_owned();
    let locked = role.server.bao(&["read", "-format=json", "sys/locked-users"], "");
    locked.contains(&accessor)
}

async fn one_refusal_is_that_of_all_tenants() {
    const TENANTS: [&str; 8] = ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8"];
    let role = Role::new(Server::Dev);
    let proxy = FaultProxy::before(&role.server.address());
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret-id");
    std::fs::write(&secret, "a-secret-id-of-nobody").unwrap();
    let (_world, clients) = declared(Tune::default(), &TENANTS, &role, &proxy.url(), &secret);

    let at_once: Vec<_> = clients
        .iter()
        .flat_map(|client| (0..4).map(move |number| (client.clone(), format!("at-once-{number}"))))
        .map(|(client, name)| tokio::spawn(async move { new_key(&client, &name).await }))
        .collect();
    for answer in at_once {
        answer.await.unwrap().expect_problem(424, "provider_denied");
    }
    assert_eq!(proxy.count(Kind::Login), 1, "8 tenants of one connection");

    // Checks count, too.
    let mut said = Vec::new();
    for client in clients.iter().chain(&clients) {
        let report = checked(client, CONNECTION).await;
        assert_eq!(
            (&report["reachable"], &report["code"]),
            (&json!(false), &json!("provider_denied")),
            "{report}"
        );
        said.push(report["detail"].as_str().unwrap().contains("The check made no login"));
    }
    let logins = proxy.count(Kind::Login);
    assert!((2..=3).contains(&logins), "{logins} refused logins");
    assert!(!said[0] && said.last() == Some(&true), "{said:?}");
    assert!(!is_locked(&role));
    for client in &clients {
        let login = login(client).await;
        assert!(login["state"] == "refused" && login["next_attempt"].is_string(), "{login}");
    }

    std::fs::write(&secret, role.secret_id()).unwrap();
    for client in &clients {
        until("a login with the mended file", async || {
            new_key(client, "orders").await.status == 201
        })
        .await;
    }
}

async fn a_tenant_cannot_lock_a_declared_role() {
    let role = Role::new(Server::Dev);
    let proxy = FaultProxy::before(&role.server.address());
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret-id");
    std::fs::write(&secret, role.secret_id()).unwrap();
    let (_world, clients) = declared(Tune::default(), &["honest", "hostile"], &role, &proxy.url(), &secret);
    let (honest, hostile) = (&clients[0], &clients[1]);
    new_key(honest, "orders").await.expect_status(201);
    assert_eq!(proxy.count(Kind::Login), 1);

    // What it reads of the declared connection is enough for one of its own.
    let path = format!("/v1/connections/{CONNECTION}");
    let settings = hostile.get(&path).await.expect_status(200)["settings"].clone();
    let mut reports = Vec::new();
    for number in 0..8 {
        let name = format!("own-{number}");
        let auth = json!({"approle": {
            "role_id": settings["auth"]["approle"]["role_id"], "mount": role.mount, "secret_id": format!("wrong-{number}")
        }});
        let body = json!({"name": name, "provider": "vault", "settings": {"address": settings["address"], "auth": auth}});
        hostile.post("/v1/connections", &body).await.expect_status(201);
        reports.push(checked(hostile, &name).await);
        reports.push(checked(hostile, &name).await);
    }
    assert_eq!(proxy.count(Kind::Login), 2, "{reports:#?}");
    assert!(!is_locked(&role));
    let last = reports.last().unwrap();
    assert_eq!(last["code"], "connection_misconfigured", "{last}");
    assert!(
        last["what_to_do"].as_str().unwrap().contains("Use the declared connection"),
        "{last}"
    );

    // The declared one logs in as before.
    let revoke = format!("auth/{}/login", role.mount);
    role.server.bao(&["lease", "revoke", "-prefix", &revoke], "");
    new_key(honest, "more").await.expect_status(201);
    new_key(hostile, "theirs").await.expect_status(201);
}

async fn a_wrong_token_is_refused_and_not_ok() {
    let world = World::new(Tune::default()).await;
    let wrong = Server::Dev.settings(&json!({"token": "s.a-token-of-nobody"}));
    world.connect("vault", &wrong).await;
    assert_eq!(login(&world.client).await["state"], "none");
    new_key(&world.client, "orders").await.expect_problem(424, "provider_denied");
    let shown = login(&world.client).await;
    assert_eq!(
        (&shown["state"], &shown["code"]),
        (&json!("refused"), &json!("provider_denied")),
        "{shown}"
    );
    assert!(shown["what_to_do"].as_str().unwrap().contains("another one"), "{shown}");
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(metrics.contains("claviger_connection_logins{state=\"refused\"} 1"), "{metrics}");
    assert!(metrics.contains("claviger_connection_logins{state=\"not_tried\"} 0"), "{metrics}");
    assert_eq!(checked(&world.client, CONNECTION).await["reachable"], false);

    // A good one that may not look itself up is proven by what it is used for.
    let policy = "path \"transit/*\" { capabilities = [\"create\", \"read\", \"update\", \"list\"] }";
    let good = json!({"secrets": {"token": Server::Dev.limited(policy, &[])}});
    let path = format!("/v1/connections/{CONNECTION}");
    world.client.patch(&path, "*", &good).await.expect_status(200);
    assert_eq!(login(&world.client).await["state"], "none");
    new_key(&world.client, "orders").await.expect_status(201);
    assert_eq!(login(&world.client).await["state"], "ok");

    // And one that is revoked later is told, too.
    let known = Server::Dev.limited(
        &format!("{policy}\npath \"auth/token/lookup-self\" {{ capabilities = [\"read\"] }}"),
        &[],
    );
    let secrets = json!({"secrets": {"token": known}});
    world.client.patch(&path, "*", &secrets).await.expect_status(200);
    new_key(&world.client, "more").await.expect_status(201);
    assert_eq!(login(&world.client).await["state"], "ok");
    Server::Dev.bao(&["token", "revoke", &known], "");
    new_key(&world.client, "others").await.expect_problem(424, "provider_denied");
    assert_eq!(login(&world.client).await["state"], "refused");
}

async fn a_check_names_a_lost_secret_file_to_the_operator() {
    let role = Role::new(Server::Dev);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret-id");
    std::fs::write(&secret, role.secret_id()).unwrap();
    let (world, clients) = declared(Tune::default(), &["acme"], &role, &role.server.address(), &secret);
    let operator = &clients[0];
    let issued = token(operator, "reader", &["CheckConnection", "ReadConnection"], None).await;
    let tenant = operator.with_token(text_of(&issued));
    new_key(operator, "orders").await.expect_status(201);
    std::fs::remove_file(&secret).unwrap();
    until("the lost file is noticed", async || {
        login(operator).await["state"] == "renewal_failing"
    })
    .await;

    let file = secret.display().to_string();
    for (client, named) in [(operator, true), (&tenant, false)] {
        let report = checked(client, CONNECTION).await;
        assert_eq!(report["reachable"], true, "{report}");
        let rights = report["rights"].as_array().unwrap();
        let lost = rights.iter().find(|right| right["operation"] == "secret_file");
        let lost = lost.unwrap_or_else(|| panic!("no word of the file in {report}"));
        assert_eq!(lost["finding"], "failed");
        assert_eq!(report.to_string().contains(&file), named, "{report}");
    }
    // Without a credential, too.
    let revoke = format!("auth/{}/login", role.mount);
    role.server.bao(&["lease", "revoke", "-prefix", &revoke], "");
    for (client, named) in [(operator, true), (&tenant, false)] {
        let report = checked(client, CONNECTION).await;
        assert_eq!(
            (&report["reachable"], &report["code"]),
            (&json!(false), &json!("connection_misconfigured")),
            "{report}"
        );
        assert_eq!(report.to_string().contains(&file), named, "{report}");
    }
    drop(world);
}
