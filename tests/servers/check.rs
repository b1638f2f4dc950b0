//! `POST /v1/connections/{connection}/check` against OpenBao.

use claviger_fake::Tls;
use claviger_test_support::Tune;
use claviger_test_support::proxy::{Act, Fault, FaultProxy, Setup};
use serde_json::{Value, json};

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("check::a_token_with_too_little_learns_the_missing_path", DEV, || {
            Box::pin(too_little())
        }),
        Case::new(
            "check::a_token_with_too_much_learns_what_to_take_away",
            DEV,
            || Box::pin(too_much()),
        ),
        Case::new("check::the_printed_policy_suffices_for_adopted_keys_too", DEV, || {
            Box::pin(suffices())
        }),
        Case::new("check::the_canary_names_no_version_as_a_wrap_names_none", DEV, || {
            Box::pin(current())
        }),
        Case::new("check::a_key_that_is_off_at_its_provider_fails_it", DEV, || Box::pin(off())),
        Case::new("check::a_wrapping_or_dead_token_is_named", DEV, || Box::pin(no_token())),
        Case::new("check::a_derived_key_is_refused_when_adopted_and_when_checked", DEV, || {
            Box::pin(derived())
        }),
        Case::new("check::a_mount_that_is_no_transit_is_named", DEV, || Box::pin(no_transit())),
        Case::new("check::a_server_that_serves_nothing_is_not_called_reachable", DEV, || {
            Box::pin(sealed())
        }),
        Case::new("check::a_sealed_server_is_named_before_a_login_too", DEV, || {
            Box::pin(sealed_before_login())
        }),
        Case::new("check::a_certificate_that_is_not_trusted_any_more_fails_it", DEV, || {
            Box::pin(untrusted())
        }),
        Case::new("check::a_connection_without_keys_is_to_be_made_again", DEV, || Box::pin(unused())),
    ]
}

async fn world(auth: Value) -> World {
    let world = World::new(Tune::default()).await;
    world.connect("vault", &Server::Dev.settings(&auth)).await;
    world
}

async fn checked(world: &World) -> Value {
    let path = format!("/v1/connections/{CONNECTION}/check");
    world.client.post_empty(&path).await.expect_status(200)
}

/// What the check prints for a connection without keys.
async fn printed() -> String {
    let world = world(json!({"token": Server::Dev.token()})).await;
    let report = checked(&world).await;
    report["policy"].as_str().unwrap().to_owned()
}

/// The rights of one finding: operation and what to do.
fn found<'r>(report: &'r Value, finding: &str) -> Vec<(&'r str, &'r str)> {
    let rights = report["rights"].as_array().unwrap().iter();
    rights
        .filter(|right| right["finding"] == finding)
        .map(|right| {
            (
                right["operation"].as_str().unwrap(),
                right["what_to_do"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

async fn too_little() {
    let policy = printed().await;
    for (line, operation, path) in [
        ("/encrypt/", "wrap_key", "transit/encrypt/claviger-"),
        ("/decrypt/", "unwrap_key", "transit/decrypt/claviger-"),
        ("/rotate\"", "rotate", "/rotate"),
        ("renew-self", "renew_token", "auth/token/renew-self"),
    ] {
        let rest: Vec<&str> = policy.lines().filter(|given| !given.contains(line)).collect();
        let world = world(json!({"token": Server::Dev.limited(&rest.join("\n"), &[])})).await;
        let report = checked(&world).await;
        assert_eq!(report["reachable"], true);
        let denied = found(&report, "denied");
        assert!(
            denied.len() == 1 && denied[0].0 == operation && denied[0].1.contains(path),
            "{line}: {report}"
        );
        assert!(found(&report, "excessive").is_empty(), "{report}");
    }
}

async fn too_much() {
    let policy = printed().await;
    for (line, path) in [
        ("path \"transit/export/+/+\" { capabilities = [\"read\"] }", "transit/export/"),
        ("path \"transit/keys/+/config\" { capabilities = [\"update\"] }", "/config"),
        ("path \"transit/datakey/+/+\" { capabilities = [\"update\"] }", "transit/datakey/"),
        ("path \"auth/token/create\" { capabilities = [\"update\"] }", "auth/token/create"),
    ] {
        let world = world(json!({"token": Server::Dev.limited(&format!("{policy}{line}\n"), &[])})).await;
        let report = checked(&world).await;
        let excessive = found(&report, "excessive");
        assert!(excessive.len() == 1 && excessive[0].1.contains(path), "{line}: {report}");
        assert!(found(&report, "denied").is_empty(), "{report}");
    }
    let world = world(json!({"token": Server::Dev.token()})).await;
    let report = checked(&world).await;
    let excessive = found(&report, "excessive");
    assert!(excessive.len() == 1 && excessive[0].1.contains("root token"), "{report}");
}

async fn suffices() {
    let name = unique("theirs");
    Server::Dev.bao(&["write", "-f", &format!("transit/keys/{name}")], "");
    // The rights on the adopted key are in a policy of their own, and taken away again.
    let theirs = unique("theirs");
    let write = |granted: &str| {
        let path = |verb: &str| format!("path \"transit/{verb}/{name}\" {{ capabilities = [\"{granted}\"] }}\n");
        Server::Dev.bao(&["policy", "write", &theirs, "-"], &(path("encrypt") + &path("decrypt")));
    };
    write("update");
    let token = Server::Dev.limited(&printed().await, &[&format!("-policy={theirs}")]);
    let world = world(json!({"token": token})).await;
    world.key("own", json!({})).await;
    world.key("theirs", json!({"provider_key": name})).await;
    write("deny");
    let report = checked(&world).await;
    let denied = found(&report, "denied");
    assert!(
        denied.iter().any(|(_, advice)| advice.contains(&format!("transit/encrypt/{name}"))),
        "{report}"
    );
    let canaries = |report: &Value| {
        let granted = found(report, "granted");
        granted.iter().filter(|(operation, _)| *operation == "canary").count()
    };
    assert_eq!(canaries(&report), 1, "{report}");

    let second = self::world(json!({"token": Server::Dev.limited(report["policy"].as_str().unwrap(), &[])})).await;
    // The first gateway knows nothing of this one: each has its own installation.
    second.key("theirs", json!({"provider_key": name})).await;
    let report = checked(&second).await;
    assert!(
        found(&report, "denied").is_empty() && found(&report, "excessive").is_empty(),
        "{report}"
    );
    assert_eq!(canaries(&report), 1, "{report}");
    // A check changes nothing.
    let key = Server::Dev.bao(&["read", "-format=json", &format!("transit/keys/{name}")], "");
    let key: Value = serde_json::from_str(&key).unwrap();
    assert_eq!(key["data"]["latest_version"], 1);
}

async fn current() {
    let name = unique("theirs");
    let key = format!("transit/keys/{name}");
    Server::Dev.bao(&["write", "-f", &key], "");
    let world = world(json!({"token": Server::Dev.token()})).await;
    world.key("orders", json!({"provider_key": name})).await;
    // The version that the gateway knows may not encrypt any more.
    Server::Dev.bao(&["write", "-f", &format!("{key}/rotate")], "");
    Server::Dev.bao(&["write", &format!("{key}/config"), "min_encryption_version=2"], "");
    let report = checked(&world).await;
    assert!(
        found(&report, "granted").iter().any(|(operation, _)| *operation == "canary"),
        "{report}"
    );
    assert!(found(&report, "not_testable").is_empty(), "{report}");
    let made = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    assert_eq!(made["version"], 2);
}

async fn off() {
    let name = unique("theirs");
    let key = format!("transit/keys/{name}");
    Server::Dev.bao(&["write", "-f", &key], "");
    Server::Dev.bao(&["write", "-f", &format!("{key}/rotate")], "");
    let policy = printed().await;
    let world = world(json!({"token": Server::Dev.limited(&policy.replace("claviger-*", "*"), &[])})).await;
    world.key("orders", json!({"provider_key": name})).await;
    let ends_well = || {
        let ran = world.command(&["connections", "check", CONNECTION]).output().unwrap();
        ran.status.success()
    };
    let of_versions = |report: &Value| -> Vec<(String, String)> {
        let rows = report["rights"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["operation"] == "key_version");
        let shown = |value: &Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (shown(&row["finding"]), shown(&row["how"]))).collect()
    };
    let row = |finding: &str, how: &str| vec![(finding.to_owned(), format!("{how} at the provider"))];
    assert!(ends_well());
    // An owner may end the use of an old version on purpose.
    Server::Dev.bao(&["write", &format!("{key}/config"), "min_decryption_version=2"], "");
    let report = checked(&world).await;
    assert_eq!(
        of_versions(&report),
        row("not_testable", "version 1 of the key `orders` is `disabled`")
    );
    assert!(ends_well(), "{report}");
    Server::Dev.bao(&["delete", &format!("{key}/soft-delete")], "");
    let report = checked(&world).await;
    assert_eq!(
        of_versions(&report),
        row("failed", "the versions 1, 2 of the key `orders` are `disabled`")
    );
    assert!(!ends_well(), "{report}");
    // Whoever disabled a key here knows it.
    world.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    assert!(of_versions(&checked(&world).await).is_empty());
}

async fn no_token() {
    let wrapped = Server::Dev.bao(&["token", "create", "-wrap-ttl=60s", "-field=wrapping_token"], "");
    let dead = Server::Dev.limited("path \"transit/keys/+\" { capabilities = [\"read\"] }", &[]);
    Server::Dev.bao(&["token", "revoke", &dead], "");
    for (token, word) in [(wrapped.trim(), "wrapping token"), (dead.as_str(), "expired or was revoked")] {
        let world = world(json!({"token": token})).await;
        let report = checked(&world).await;
        assert_eq!(report["reachable"], false);
        assert!(report["what_to_do"].as_str().unwrap().contains(word), "{report}");
        assert!(!report.to_string().contains(token));
    }
    // A call says the same as the login's state, and not that a right is missing.
    let token = Server::Dev.limited(&printed().await, &[]);
    let world = world(json!({"token": token})).await;
    world.key("orders", json!({})).await;
    Server::Dev.bao(&["token", "revoke", &token], "");
    for _ in 0..2 {
        let denied = world.client.post("/v1/keys/orders/data-keys", &json!({})).await;
        let problem = denied.expect_problem(424, "provider_denied");
        let advice = problem["what_to_do"].as_str().unwrap();
        assert!(advice.contains("claviger connections update --secrets"), "{problem}");
    }
    let shown = world.client.get(&format!("/v1/connections/{CONNECTION}")).await.expect_status(200);
    assert_eq!(shown["login"]["state"], "refused", "{shown}");
}

async fn derived() {
    let world = world(json!({"token": Server::Dev.token()})).await;
    for kind in [&["derived=true"][..], &["derived=true", "convergent_encryption=true"]] {
        let name = unique("derived");
        Server::Dev.bao(&[&["write", &format!("transit/keys/{name}")], kind].concat(), "");
        let body = json!({"name": "k", "connection": CONNECTION, "provider_key": name});
        let refused = world.client.post("/v1/keys", &body).await;
        let problem = refused.expect_problem(400, "invalid_request");
        assert!(problem["what_to_do"].as_str().unwrap().contains("derived=false"), "{problem}");
    }
    // Behind a key's back: its owner puts a derived one in its place.
    let name = unique("replaced");
    let path = format!("transit/keys/{name}");
    Server::Dev.bao(&["write", "-f", &path], "");
    world.key("k", json!({"provider_key": name})).await;
    Server::Dev.bao(&["write", &format!("{path}/config"), "deletion_allowed=true"], "");
    Server::Dev.bao(&["delete", &path], "");
    Server::Dev.bao(&["write", &path, "derived=true"], "");
    let report = checked(&world).await;
    let failed = found(&report, "failed");
    let rows: Vec<&str> = failed.iter().map(|(operation, _)| *operation).collect();
    assert_eq!(rows, ["canary", "key_version"], "{report}");
    assert!(failed[0].1.contains("derived=false"), "{report}");
}

async fn no_transit() {
    let world = World::new(Tune::default()).await;
    let mut settings = Server::Dev.settings(&json!({"token": Server::Dev.token()}));
    settings["mount"] = json!("secret");
    world.connect("vault", &settings).await;
    let report = checked(&world).await;
    assert!(report["what_to_do"].as_str().unwrap().contains("not Transit"), "{report}");
}

async fn sealed() {
    let proxy = FaultProxy::before(&Server::Dev.address());
    let world = World::new(Tune::default()).await;
    let settings = json!({"address": proxy.url(), "auth": {"token": Server::Dev.token()}});
    world.connect("vault", &settings).await;
    world.key("orders", json!({})).await;
    for (status, body, says) in [
        (503, "{\"errors\":[\"Vault is sealed\"]}", "sealed"),
        (500, "{\"errors\":[\"boom\"]}", "500"),
        // As a server that is sealed describes itself.
        (503, "{\"initialized\":true,\"sealed\":true,\"standby\":true}", "sealed"),
    ] {
        proxy.set([Fault::always(Act::respond(status, body))]);
        let report = checked(&world).await;
        assert_eq!(
            (&report["reachable"], &report["code"]),
            (&json!(false), &json!("provider_unavailable")),
            "{report}"
        );
        let detail = report["detail"].as_str().unwrap();
        assert!(detail.starts_with("The provider responds") && detail.contains(says), "{report}");
        assert!(
            report["policy"].is_string() && !report["rights"].as_array().unwrap().is_empty(),
            "{report}"
        );
    }
    proxy.go_down();
    let report = checked(&world).await;
    assert!(report["detail"].as_str().unwrap().contains("unreachable"), "{report}");
}

async fn sealed_before_login() {
    let proxy = FaultProxy::before(&Server::Dev.address());
    let world = World::new(Tune::default()).await;
    let auth = json!({"approle": {"role_id": "role", "secret_id": "secret"}});
    world.connect("vault", &json!({"address": proxy.url(), "auth": auth})).await;
    let sealed = "{\"initialized\":true,\"sealed\":true,\"standby\":true}";
    proxy.set([Fault::always(Act::respond(503, sealed))]);
    let report = checked(&world).await;
    let failed = report["rights"].as_array().unwrap().iter().find(|row| row["finding"] == "failed");
    assert!(failed.unwrap()["how"].as_str().unwrap().contains("sealed"), "{report}");
    let output = world.started.output();
    let mut logins = output.lines().filter(|line| line.contains("the connection's login failed"));
    assert!(logins.any(|line| line.contains("sealed")), "{output}");
}

async fn untrusted() {
    let certificate = || Tls::new(&[]).unwrap();
    let proxy = Setup::before(&Server::Dev.address()).over_tls(certificate()).start();
    let world = World::new(Tune::default()).await;
    let settings = json!({"address": proxy.url(), "ca": proxy.ca_pem(), "auth": {"token": Server::Dev.token()}});
    world.connect("vault", &settings).await;
    world.key("orders", json!({})).await;
    assert_eq!(checked(&world).await["reachable"], true);
    // What is open stays open.
    proxy.swap_certificate(certificate());
    let report = checked(&world).await;
    assert_eq!(
        (&report["reachable"], &report["code"]),
        (&json!(false), &json!("connection_misconfigured")),
        "{report}"
    );
    let advice = report["what_to_do"].as_str().unwrap();
    assert!(advice.contains("`ca`") && !advice.contains("delete"), "{report}");
}

async fn unused() {
    let proxy = Setup::before(&Server::Dev.address()).over_tls(Tls::new(&[]).unwrap()).start();
    let world = World::new(Tune::default()).await;
    let settings = json!({"address": proxy.url(), "auth": {"token": Server::Dev.token()}});
    world.connect("vault", &settings).await;
    let report = checked(&world).await;
    let advice = report["what_to_do"].as_str().unwrap();
    assert!(
        advice.contains("`ca`") && advice.contains("claviger connections delete") && advice.contains("create it again"),
        "{report}"
    );
    world
        .client
        .delete(&format!("/v1/connections/{CONNECTION}"))
        .await
        .expect_status(204);
    let settings = json!({"address": proxy.url(), "ca": proxy.ca_pem(), "auth": {"token": Server::Dev.token()}});
    world.connect("vault", &settings).await;
    assert_eq!(checked(&world).await["reachable"], true);
}
