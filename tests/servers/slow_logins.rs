//! Logins that are slow, or get no answer: the server may have counted them, and OpenBao locks a role after five that it
//! refused.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use claviger_test_support::proxy::{Act, Fault, FaultProxy, Kind, Which};
use claviger_test_support::{Client, Tune};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Case;
use crate::logins::{Role, login, new_key};
use crate::openbao::{DEV, Server};
use crate::shared_logins::{checked, declared, is_locked, own_connection};
use crate::world::{CONNECTION, World};

/// How long the end of some logins is waited for, each of which takes up to 10 s.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("slow_logins::without_answers_they_lock_no_role", DEV, || {
            Box::pin(without_answers_they_lock_no_role())
        }),
        Case::new("slow_logins::a_refusal_counts_whatever_follows_it", DEV, || {
            Box::pin(a_refusal_counts_whatever_follows_it())
        }),
        Case::new("slow_logins::a_server_that_takes_no_logins_is_sent_none", DEV, || {
            Box::pin(a_server_that_takes_no_logins_is_sent_none())
        }),
        Case::new("slow_logins::connections_wait_for_their_turn", DEV, || {
            Box::pin(connections_wait_for_their_turn())
        }),
        Case::new("slow_logins::a_tenant_cannot_lock_a_declared_role_without_answers", DEV, || {
            Box::pin(a_tenant_cannot_lock_a_declared_role_without_answers())
        }),
        Case::new("slow_logins::a_tenant_cannot_lock_a_declared_role_that_nobody_uses", DEV, || {
            Box::pin(a_tenant_cannot_lock_a_declared_role_that_nobody_uses())
        }),
        Case::new("slow_logins::a_tenants_own_server_at_the_same_address_proves_nothing", DEV, || {
            Box::pin(a_tenants_own_server_at_the_same_address_proves_nothing())
        }),
    ]
}

fn logins(act: Act) -> Fault {
    Fault::on(Which::Of(Kind::Login), act)
}

/// A role behind a proxy that the configuration declares a connection of, and the tenants' clients. The folder has the
/// secret id, which each login reads.
fn declared_role(tune: Tune, tenants: &[&str]) -> (Role, FaultProxy, TempDir, World, Vec<Client>) {
    let role = Role::new(Server::Dev);
    let proxy = FaultProxy::before(&role.server.address());
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret-id");
    std::fs::write(&secret, role.secret_id()).unwrap();
    let (world, clients) = declared(tune, tenants, &role, &proxy.url(), &secret);
    (role, proxy, folder, world, clients)
}

/// Whether the next login comes after the server has forgotten the last ones.
fn is_paused(login: &Value) -> bool {
    let next = login["next_attempt"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    next.is_some_and(|next| next - Utc::now() > TimeDelta::minutes(14))
}

async fn without_answers_they_lock_no_role() {
    let role = Role::new(Server::Dev);
    let proxy = FaultProxy::before(&role.server.address());
    proxy.set([logins(Act::Lose)]);
    let world = World::new(Tune::default()).await;
    let auth = role.auth(&json!("a-secret-id-of-nobody"));
    world.connect("vault", &json!({"address": proxy.url(), "auth": auth})).await;

    let begin = Instant::now();
    let mut last = new_key(&world.client, "orders").await;
    while !is_paused(&login(&world.client).await) {
        let sent = proxy.count(Kind::Login);
        assert!(sent <= 3 && begin.elapsed() < PATIENCE, "{sent} logins");
        // It tries at once.
        checked(&world.client, CONNECTION).await;
        last = new_key(&world.client, "orders").await;
    }
    assert!(matches!(last.status, 503 | 504), "{last:?}");
    for _ in 0..4 {
        checked(&world.client, CONNECTION).await;
        let problem = new_key(&world.client, "orders").await.expect_problem(504, "deadline_exceeded");
        let what_to_do = problem["what_to_do"].as_str().unwrap_or_default();
        assert!(what_to_do.contains("did not answer the connection's logins"), "{problem}");
    }
    assert_eq!(proxy.count(Kind::Login), 3);
    assert!(!is_locked(&role));
    let login = login(&world.client).await;
    assert_eq!(login["state"], "failing", "{login}");

    // Another secret is tried at once, and the server has not locked its role.
    proxy.clear();
    let secrets = json!({"secrets": {"secret_id": role.secret_id()}});
    let path = format!("/v1/connections/{CONNECTION}");
    world.client.patch(&path, "*", &secrets).await.expect_status(200);
    new_key(&world.client, "orders").await.expect_status(201);
    assert_eq!(proxy.count(Kind::Login), 4);
}

/// The question whether the secret is a wrapping token comes after the refusal.
async fn a_refusal_counts_whatever_follows_it() {
    let role = Role::new(Server::Dev);
    let proxy = FaultProxy::before(&role.server.address());
    proxy.set([Fault::on(Which::At("sys/wrapping/lookup".to_owned()), Act::Reset)]);
    let world = World::new(Tune::default()).await;
    let auth = role.auth(&json!("a-secret-id-of-nobody"));
    world.connect("vault", &json!({"address": proxy.url(), "auth": auth})).await;
    for _ in 0..6 {
        new_key(&world.client, "orders").await.expect_problem(424, "provider_denied");
    }
    assert_eq!(proxy.count(Kind::Login), 1);
    assert!(!is_locked(&role));
}

async fn a_server_that_takes_no_logins_is_sent_none() {
    let role = Role::new(Server::Dev);
    let proxy = FaultProxy::before(&role.server.address());
    let world = World::new(Tune::default()).await;
    let auth = role.auth(&json!(role.secret_id()));
    world.connect("vault", &json!({"address": proxy.url(), "auth": auth})).await;
    let health = |act| Fault::on(Which::Named("health".to_owned()), act);
    let sealed = json!({"initialized": true, "sealed": true, "standby": true, "version": "2.4.0"});
    for (act, status, code) in [
        (Act::respond(503, sealed.to_string()), 503, "provider_unavailable"),
        (Act::respond(502, "<html>Bad gateway</html>"), 503, "provider_unavailable"),
        (Act::Hang, 504, "deadline_exceeded"),
    ] {
        proxy.set([health(act)]);
        new_key(&world.client, "orders").await.expect_problem(status, code);
        assert_eq!(login(&world.client).await["next_attempt"], Value::Null);
    }
    assert_eq!(proxy.count(Kind::Login), 0);
    // No pause follows from it. A proxy may also hide that call.
    for act in [Act::respond(403, "<html>Forbidden</html>"), Act::respond(404, "{\"errors\": []}")] {
        proxy.set([health(act)]);
        role.server
            .bao(&["lease", "revoke", "-prefix", &format!("auth/{}/login", role.mount)], "");
        let name = format!("key-{}", proxy.count(Kind::Login));
        let begin = Instant::now();
        // The login that hangs is still under way.
        while new_key(&world.client, &name).await.status != 201 {
            assert!(begin.elapsed() < PATIENCE);
        }
    }
    assert_eq!(proxy.count(Kind::Login), 2);
}

/// Those that wait longest wait for longer than all attempts of a login take.
async fn connections_wait_for_their_turn() {
    const TENANTS: [&str; 14] = [
        "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10", "t11", "t12", "t13", "t14",
    ];
    let tune = Tune::default().set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s");
    let (_role, proxy, _folder, _world, clients) = declared_role(tune, &TENANTS);
    proxy.set([logins(Act::Delay(Duration::from_millis(2500)))]);
    let keys: Vec<_> = clients
        .iter()
        .map(|client| {
            let client = client.clone().with_header("claviger-timeout", "60s");
            tokio::spawn(async move { new_key(&client, "orders").await })
        })
        .collect();
    for key in keys {
        key.await.unwrap().expect_status(201);
    }
    assert_eq!(proxy.count(Kind::Login), TENANTS.len());
}

/// Also before anybody has used the connection that the operator declares.
async fn a_tenant_cannot_lock_a_declared_role_without_answers() {
    let (role, proxy, _folder, world, _) = declared_role(Tune::default(), &["honest", "hostile"]);
    let world = world.restarted();
    let hostile = world.started.tenant("hostile");
    proxy.set([logins(Act::Lose)]);
    for number in 0..6 {
        let name = format!("own-{number}");
        own_connection(&hostile, &name, &role, json!({"address": proxy.url()})).await;
        checked(&hostile, &name).await;
    }
    assert_eq!(proxy.count(Kind::Login), 1);
    assert!(!is_locked(&role));
    proxy.clear();
    new_key(&world.started.tenant("honest"), "orders").await.expect_status(201);
}

async fn a_tenant_cannot_lock_a_declared_role_that_nobody_uses() {
    let (role, proxy, _folder, world, _) = declared_role(Tune::default(), &["honest", "hostile"]);
    let world = world.restarted();
    let hostile = world.started.tenant("hostile");
    // The same server has other addresses, too.
    let port = proxy.address().port();
    for number in 0..8 {
        let name = format!("own-{number}");
        let address = format!("http://{}:{port}", ["127.0.0.1", "localhost"][number % 2]);
        own_connection(&hostile, &name, &role, json!({"address": address})).await;
        checked(&hostile, &name).await;
    }
    assert_eq!(proxy.count(Kind::Login), 1);
    assert!(!is_locked(&role));
    new_key(&world.started.tenant("honest"), "orders").await.expect_status(201);
}

/// A server of the tenant's own, at the address of the operator's: a proxy decides who answers.
async fn a_tenants_own_server_at_the_same_address_proves_nothing() {
    let (role, proxy, _folder, _world, clients) = declared_role(Tune::default(), &["honest", "hostile"]);
    let (honest, hostile) = (&clients[0], &clients[1]);
    let its_own = FaultProxy::before(&role.server.address());
    let token = json!({"auth": {"client_token": "hvs.its-own", "lease_duration": 3600, "renewable": true}});
    its_own.set([logins(Act::respond(200, token.to_string()))]);
    // Each secret is accepted there first.
    for (kind, more) in [
        ("fake", json!({"address": proxy.url(), "proxy": its_own.url()})),
        ("real", json!({"address": proxy.url()})),
    ] {
        for number in 0..8 {
            let mut settings = more.clone();
            settings["auth"] = role.auth(&json!(format!("the-secret-{number}")));
            let name = format!("{kind}-{number}");
            let body = json!({"name": name, "provider": "vault", "settings": settings});
            hostile.post("/v1/connections", &body).await.expect_status(201);
            checked(hostile, &name).await;
        }
    }
    assert!(its_own.count(Kind::Login) >= 8);
    assert_eq!(proxy.count(Kind::Login), 1);
    assert!(!is_locked(&role));
    new_key(honest, "orders").await.expect_status(201);
}
