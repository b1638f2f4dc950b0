//! Rights and tokens.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{ErrorKind, Finding, KeySpec, Probe, Provider, RightReport, Secret};
use claviger_testkit::battery::{self, Factory};
use serde_json::{Value, json};

use crate::server::{Server, context, cx, new_key, primary, unique};

/// The printed policy.
pub async fn printed(server: &Server) -> String {
    server.connect(&server.token).probe(&cx(), &[]).await.unwrap().policy.unwrap()
}

/// Runs the battery and a short-lived token with a policy; returns what failed.
async fn failures(server: &Server, policy: &str) -> Vec<String> {
    let name = unique("least");
    server.policy(&name, policy).await;
    let token = server.token(&[&name], json!({})).await;
    let provider: Arc<dyn Provider> = Arc::new(server.connect(&token));
    let shared = Arc::clone(&provider);
    let factory: Factory = Arc::new(move || {
        let provider = Arc::clone(&shared);
        Box::pin(async { provider })
    });
    let mut failed: Vec<String> = match battery::run(&factory, KeySpec::Aes256).await {
        Ok(()) => Vec::new(),
        Err(cases) => cases.into_iter().map(|(name, why)| format!("{name}: {why}")).collect(),
    };
    let rights = provider.probe(&cx(), &[]).await.map(|probe| probe.rights).unwrap_or_default();
    let lacking = rights.iter().filter(|right| right.finding != Finding::Granted);
    failed.extend(lacking.map(|right| format!("check: {}: {:?}", right.operation, right.finding)));
    if !renewed(server, &name).await {
        failed.push("a token was not renewed".to_owned());
    }
    failed
}

/// Whether a token of a few seconds stays alive beyond its time with a policy, without being used.
async fn renewed(server: &Server, policy: &str) -> bool {
    let token = server.token(&[policy], json!({"ttl": "3s", "renewable": true})).await;
    let provider = server.connect(&token);
    // The first use starts the renewals; its result does not matter.
    let _ = provider.create_key(&cx(), &new_key(None)).await;
    let first = server.done("POST", "auth/token/lookup", json!({"token": token})).await;
    let first = first["data"]["expire_time"].as_str().unwrap().to_owned();
    loop {
        let (status, now) = server.admin("POST", "auth/token/lookup", json!({"token": token})).await;
        if !status.is_success() {
            return false;
        }
        if now["data"]["expire_time"] != first.as_str() {
            return true;
        }
        // The server's clock decides; this wait only saves requests.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn everything_works_under_the_printed_policy_and_fails_without_any_line(server: &Server) {
    let policy = printed(server).await;
    assert_eq!(policy, include_str!("../../policy.hcl"));
    assert_eq!(failures(server, &policy).await, [""; 0]);
    let lines: Vec<&str> = policy.lines().collect();
    let paths = lines.iter().filter(|line| line.starts_with("path "));
    assert_eq!(paths.clone().count(), 7);
    for gone in paths {
        let rest: Vec<&str> = lines.iter().filter(|line| *line != gone).copied().collect();
        assert_ne!(failures(server, &rest.join("\n")).await, [""; 0], "not needed: {gone}");
    }
}

pub async fn a_check_names_what_is_missing_and_what_is_too_much(server: &Server) {
    let policy = printed(server).await;
    let name = unique("odd");
    let lines = policy.lines().filter(|line| !line.contains("/rotate\""));
    let odd: Vec<&str> = lines.chain(["path \"transit/export/+/+\" { capabilities = [\"read\"] }"]).collect();
    server.policy(&name, &odd.join("\n")).await;
    let probe = server
        .connect(&server.token(&[&name], json!({})).await)
        .probe(&cx(), &[])
        .await
        .unwrap();
    let found = |operation: &str| probe.rights.iter().find(|right| right.operation == operation).unwrap();
    let rotate = found("rotate");
    assert_eq!(rotate.finding, Finding::Denied);
    assert!(rotate.advice.as_ref().unwrap().contains("transit/keys/claviger-") && rotate.advice.as_ref().unwrap().contains("/rotate"));
    let export = found("export_key");
    assert_eq!(export.finding, Finding::Excessive);
    assert!(export.advice.as_ref().unwrap().contains("transit/export/"));
    assert_eq!(found("wrap_key").finding, Finding::Granted);

    let root = server.connect(&server.token).probe(&cx(), &[]).await.unwrap();
    assert!(
        root.rights
            .iter()
            .any(|right| right.operation == "root" && right.finding == Finding::Excessive)
    );

    let blind = unique("blind");
    let lines: Vec<&str> = policy.lines().filter(|line| !line.contains("capabilities-self")).collect();
    server.policy(&blind, &lines.join("\n")).await;
    let probe = server
        .connect(&server.token(&[&blind], json!({})).await)
        .probe(&cx(), &[])
        .await
        .unwrap();
    assert!(
        probe
            .rights
            .iter()
            .all(|right| right.finding == Finding::NotTestable && right.advice.is_some())
    );
}

pub async fn a_mount_that_is_no_transit_is_named(server: &Server) {
    let settings = json!({"mount": "secret", "auth": {"token": server.token}});
    let error = server.connect_with(settings).probe(&cx(), &[]).await.unwrap().problem.unwrap();
    assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
    // Every path below a mount that does not exist is granted to a root token.
    let settings = json!({"mount": unique("nowhere"), "auth": {"token": server.token}});
    let probe = server.connect_with(settings.clone()).probe(&cx(), &[]).await.unwrap();
    let mount = probe.rights.iter().find(|right| right.operation == "mount").unwrap();
    assert!(mount.finding == Finding::Failed && mount.how.contains("404"), "{mount:?}");
    assert!(probe.policy.is_some() && probe.rights.iter().any(|right| right.operation == "wrap_key"));
    let error = probe.problem.unwrap();
    assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
    let error = server.connect_with(settings).create_key(&cx(), &new_key(None)).await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
}

pub async fn a_login_is_repeated_when_the_server_drops_the_token(server: &Server) {
    let (mount, policy) = (approle(server).await, unique("least"));
    server.policy(&policy, &printed(server).await).await;
    let role = format!("auth/{mount}/role/claviger");
    server
        .done(
            "POST",
            &role,
            json!({"token_policies": [policy], "token_no_default_policy": true, "token_ttl": "1h"}),
        )
        .await;
    let role_id = server.done("GET", &format!("{role}/role-id"), Value::Null).await["data"]["role_id"].clone();
    let secret_id = server.done("POST", &format!("{role}/secret-id"), json!({})).await["data"]["secret_id"].clone();
    let auth = json!({"approle": {"role_id": role_id, "secret_id": secret_id, "mount": mount}});
    let provider = server.connect_with(json!({"auth": auth}));
    let key = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &key, &dek, &context()).await.unwrap();
    for _ in 0..2 {
        server
            .done("POST", &format!("sys/leases/revoke-prefix/auth/{mount}"), json!({}))
            .await;
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    }
}

pub async fn a_token_is_renewed_while_nobody_calls(server: &Server) {
    let policy = unique("least");
    server.policy(&policy, &printed(server).await).await;
    assert!(renewed(server, &policy).await);
}

/// The findings of a check on a key: operation, finding, advice.
fn about<'p>(probe: &'p Probe, key: &str) -> Vec<(&'static str, Finding, &'p str)> {
    let of_key = |right: &&'p RightReport| right.how.contains(key);
    let found = probe.rights.iter().filter(of_key);
    found
        .map(|right| (right.operation, right.finding, right.advice.as_deref().unwrap_or_default()))
        .collect()
}

pub async fn a_check_tries_the_keys_that_the_connection_has(server: &Server) {
    let root = server.connect(&server.token);
    let name = unique("theirs");
    server.done("POST", &format!("transit/keys/{name}"), json!({})).await;
    let kek = primary(&root.create_key(&cx(), &new_key(Some(&name))).await.unwrap());
    let own = primary(&root.create_key(&cx(), &new_key(None)).await.unwrap());

    // The policy of an empty connection does not cover an adopted key.
    let policy = unique("least");
    server.policy(&policy, &printed(server).await).await;
    let provider = server.connect(&server.token(&[&policy], json!({})).await);
    let probe = provider.probe(&cx(), &[kek.clone(), own.clone()]).await.unwrap();
    let denied: Vec<_> = about(&probe, &name)
        .into_iter()
        .filter(|(_, finding, _)| *finding == Finding::Denied)
        .collect();
    let operations: Vec<&str> = denied.iter().map(|(operation, ..)| *operation).collect();
    assert_eq!(operations, ["wrap_key", "unwrap_key", "canary"], "{denied:?}");
    assert!(denied[0].2.contains(&format!("transit/encrypt/{name}")) && denied[1].2.contains(&format!("transit/decrypt/{name}")));
    assert!(
        about(&probe, &own.key.id)
            .iter()
            .all(|(_, finding, _)| *finding == Finding::Granted)
    );

    // The printed policy does, and names the key.
    let printed = probe.policy.unwrap();
    server.policy(&policy, &printed).await;
    let probe = provider.probe(&cx(), &[kek.clone(), own.clone()]).await.unwrap();
    assert!(
        probe.rights.iter().all(|right| right.finding == Finding::Granted),
        "{:?}",
        probe.rights
    );
    assert!(about(&probe, &name).iter().any(|(operation, ..)| *operation == "canary"));
    assert_eq!(probe.policy.as_ref(), Some(&printed));

    // Excessive rights on this key only.
    server
        .policy(
            &policy,
            &format!("{printed}path \"transit/keys/{name}/config\" {{ capabilities = [\"update\"] }}\n"),
        )
        .await;
    let probe = provider.probe(&cx(), std::slice::from_ref(&kek)).await.unwrap();
    let excessive: Vec<_> = probe.rights.iter().filter(|right| right.finding == Finding::Excessive).collect();
    assert!(
        excessive.len() == 1
            && excessive[0]
                .advice
                .as_ref()
                .unwrap()
                .contains(&format!("transit/keys/{name}/config")),
        "{excessive:?}"
    );

    // A key that its owner replaced by one that does not fit, and one that is disabled.
    server
        .done("POST", &format!("transit/keys/{name}/config"), json!({"deletion_allowed": true}))
        .await;
    server.done("DELETE", &format!("transit/keys/{name}"), Value::Null).await;
    server
        .done(
            "POST",
            &format!("transit/keys/{name}"),
            json!({"derived": true, "convergent_encryption": true}),
        )
        .await;
    server
        .done(
            "DELETE",
            &format!("transit/keys/{}/soft-delete", own.key.id.trim_start_matches("transit/")),
            Value::Null,
        )
        .await;
    let probe = root.probe(&cx(), &[kek, own.clone()]).await.unwrap();
    let canary = |key: &str| {
        about(&probe, key)
            .into_iter()
            .find(|(operation, ..)| *operation == "canary")
            .unwrap()
    };
    let (_, finding, advice) = canary(&name);
    assert!(finding == Finding::Failed && advice.contains("derived=false"), "{advice}");
    let (_, finding, advice) = canary(&own.key.id);
    assert!(finding == Finding::NotTestable && advice.contains("soft-deleted"), "{advice}");
}

pub async fn a_wrapping_token_is_named(server: &Server) {
    let (status, answer) = server.wrapped("POST", "auth/token/create", json!({"policies": ["default"]})).await;
    assert!(status.is_success(), "{status} {answer}");
    let token = answer["wrap_info"]["token"].as_str().unwrap();
    for auth in [
        json!({"token": token}),
        json!({"approle": {"role_id": "r", "secret_id": token, "mount": approle(server).await}}),
    ] {
        let probe = server.connect_with(json!({"auth": auth})).probe(&cx(), &[]).await.unwrap();
        let error = probe.problem.unwrap();
        assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
        assert!(error.advice.unwrap().contains("wrapping token"), "{error}");
    }
    // The lookup did not use it up.
    server.done("POST", "sys/wrapping/lookup", json!({"token": token})).await;
}

async fn approle(server: &Server) -> String {
    let mount = unique("approle");
    server.done("POST", &format!("sys/auth/{mount}"), json!({"type": "approle"})).await;
    mount
}

pub async fn a_token_that_ends_is_named(server: &Server) {
    let policy = unique("least");
    server.policy(&policy, &printed(server).await).await;
    for (more, ends) in [
        (json!({"ttl": "1h", "renewable": false}), true),
        (json!({"ttl": "1h", "explicit_max_ttl": "2h"}), true),
        (json!({"period": "1h"}), false),
        (json!({"ttl": "1h"}), false),
    ] {
        let token = server.token(&[&policy], more.clone()).await;
        let probe = server.connect(&token).probe(&cx(), &[]).await.unwrap();
        let found = probe.rights.iter().find(|right| right.operation == "keep_token");
        assert_eq!(found.is_some(), ends, "{more}");
        assert!(found.is_none_or(|right| right.finding == Finding::Denied && right.advice.is_some()));
    }
}

pub async fn a_dead_token_is_denied(server: &Server) {
    let policy = unique("least");
    server.policy(&policy, &printed(server).await).await;
    let token = server.token(&[&policy], json!({})).await;
    let provider = server.connect(&token);
    let key = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    server.done("POST", "auth/token/revoke", json!({"token": token})).await;
    for error in [
        Arc::new(provider.wrap_key(&cx(), &key, &Secret::random(32), &context()).await.unwrap_err()),
        provider.probe(&cx(), &[]).await.unwrap().problem.unwrap(),
    ] {
        assert!(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), "{error}");
        assert!(!format!("{error}").contains(&token));
    }
}
