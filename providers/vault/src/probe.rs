//! What a check finds out without changing any key: rights, the state of the token, and a
//! canary through each key that the connection has.

use std::collections::{BTreeMap, BTreeSet};

use claviger_provider::{BoundContext, Error, ErrorKind, Finding, Kek, OpContext, Probe, Provider, RightReport, Secret};
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::json;

use crate::api::{Reply, Request};
use crate::errors::{CallError, fault};
use crate::names::KeyName;
use crate::provider::VaultProvider;
use crate::rights::{judged, policy, rights, untold};

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    version: String,
    #[serde(default)]
    sealed: bool,
    initialized: bool,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
}

/// # Errors
/// When the server is not reached, is no Transit engine, or does not take the credential.
pub(crate) async fn probe(provider: &VaultProvider, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let detail = health(provider).await?;
    // A key id of another place is none of ours; two logical keys never stand on one.
    let keys: BTreeSet<KeyName> = keks.iter().filter_map(|kek| provider.name(&kek.key).ok()).collect();
    let keys: Vec<KeyName> = keys.into_iter().collect();
    let asked = rights(&provider.place, &keys);
    let paths: Vec<&str> = asked.iter().map(|right| right.path.as_str()).collect();
    let operation = "ask for the rights";
    let request = Request::post(&["sys", "capabilities-self"], &json!({"paths": paths})).map_err(|failed| failed.into_error(operation))?;
    let mut reports = match provider.session.call::<BTreeMap<String, Vec<String>>>(request).await {
        Ok(reply) => judged(&asked, &reply.data().map_err(|failed| failed.into_error(operation))?),
        Err(failed) => match credential_fault(provider, failed).await? {
            Some(error) => return Err(error),
            None => untold(&asked),
        },
    };
    mount_is_transit(provider).await?;
    reports.extend(ending(provider).await?);
    reports.extend(try_join_all(keks.iter().map(|kek| canary(provider, cx, kek))).await?);
    Ok(Probe {
        detail,
        rights: reports,
        policy: Some(policy(&provider.place, &keys)),
    })
}

/// What is wrong with the credential itself, `None` if it is only not allowed to ask.
async fn credential_fault(provider: &VaultProvider, failed: CallError) -> Result<Option<Error>, Error> {
    let operation = "ask for the rights";
    if !failed.denied() {
        return Err(failed.into_error(operation));
    }
    if provider.session.alive().await.map_err(|failed| failed.into_error(operation))? {
        return Ok(None);
    }
    Ok(Some(failed.into_error(operation).advice(
        "The server does not know the connection's token: it has expired or was revoked. Give the connection another one.",
    )))
}

/// What is to be said of a token that nothing can keep alive.
async fn ending(provider: &VaultProvider) -> Result<Option<RightReport>, Error> {
    let ending = provider.session.ending().await;
    let ending = ending.map_err(|failed| failed.into_error("look up the token"))?;
    Ok(ending.map(|seconds| RightReport {
        operation: "keep_token",
        finding: Finding::Denied,
        how: "auth/token/lookup-self".to_owned(),
        advice: Some(format!(
            "The token ends in {seconds} s and cannot be renewed for longer: give the connection a periodic token, or a login."
        )),
    }))
}

/// Wraps and unwraps random bytes with a key of the connection. Never makes one.
async fn canary(provider: &VaultProvider, cx: &OpContext, kek: &Kek) -> Result<RightReport, Error> {
    // The empty map: what the gateway writes as context always has members.
    let context = BoundContext::new(BTreeMap::new(), vec![0xa0]);
    let tried = async {
        provider
            .existing(&provider.name(&kek.key)?, "describe")
            .await?
            .usable(provider.type_of(kek.spec))?;
        let dek = Secret::random(32);
        let wrapped = provider.wrap_key(cx, kek, &dek, &context).await?;
        let opened = provider.unwrap_key(cx, &wrapped, &context).await?;
        if opened == dek {
            Ok(())
        } else {
            Err(fault(ErrorKind::UpstreamProtocol, "another key came back"))
        }
    };
    RightReport::canary(kek, tried.await)
}

/// One line about the server.
async fn health(provider: &VaultProvider) -> Result<String, Error> {
    let operation = "ask for the health";
    let request = Request {
        query: &[("standbyok", "true"), ("perfstandbyok", "true")],
        ..Request::get(&["sys", "health"])
    };
    let health: Health = provider
        .session
        .api()
        .bare(request)
        .await
        .map_err(|failed| failed.into_error(operation))?;
    if health.sealed || !health.initialized {
        return Err(fault(ErrorKind::UpstreamUnavailable, operation).advice("The server is sealed or not initialised."));
    }
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let version: String = health.version.chars().filter(plain).take(64).collect();
    Ok(format!("Vault or OpenBao {version}").trim_end().to_owned())
}

/// A token with any right below a mount may ask of which kind it is.
async fn mount_is_transit(provider: &VaultProvider) -> Result<(), Error> {
    let operation = "ask for the mount";
    let mut path = vec!["sys", "internal", "ui", "mounts"];
    path.extend(provider.place.mount.segments());
    match provider.session.call::<Mount>(Request::get(&path)).await.and_then(Reply::data) {
        Ok(mount) if mount.kind == "transit" => Ok(()),
        Ok(_) => Err(fault(ErrorKind::Misconfigured, operation)
            .advice("The engine at the connection's mount is no Transit: make a connection that names the Transit engine's mount.")),
        // No such mount or no right below it; the rights will tell.
        Err(CallError::Refused(_)) => Ok(()),
        Err(other) => Err(other.into_error(operation)),
    }
}
