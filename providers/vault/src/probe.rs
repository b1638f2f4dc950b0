//! The check of a connection. It changes no key: it asks for the rights, looks at the token, and
//! wraps and unwraps a canary with each key that the connection has.

use std::collections::{BTreeMap, BTreeSet};

use claviger_provider::kit::probe;
use claviger_provider::{BoundContext, CallSink, Error, ErrorKind, Finding, Kek, OpContext, Probe, ProviderKind, RightReport};
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::json;

use crate::client::{ApiResponse, Request};
use crate::errors::{CallError, denied, fault};
use crate::health::{self, Health};
use crate::names::KeyName;
use crate::policy;
use crate::rights::{not_testable, reports, rights};
use crate::transit::Transit;

const CAPABILITIES: &str = "sys/capabilities-self";

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
}

/// Checks a connection with some of its keys.
///
/// # Errors
/// When the server is not reached, the mount is no Transit engine, or the server rejects the
/// credential.
pub(crate) async fn probe(transit: &Transit, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let detail = health(transit, cx).await?;
    // Keys of another engine are left out. A set, since one key may serve several versions.
    let keys: BTreeSet<KeyName> = keks.iter().filter_map(|kek| transit.name(&kek.key).ok()).collect();
    let keys: Vec<KeyName> = keys.into_iter().collect();
    let rights = rights(&transit.engine, &keys);
    let paths: Vec<&str> = rights.iter().map(|right| right.path.as_str()).collect();
    let request = Request::post(CAPABILITIES, &["sys", "capabilities-self"], &json!({"paths": paths}));
    let request = request.map_err(|error| error.into_error(CAPABILITIES))?;
    let mut found = match transit.session.call::<BTreeMap<String, Vec<String>>>(cx, request).await {
        Ok(response) => reports(&rights, &response.data().map_err(|error| error.into_error(CAPABILITIES))?),
        Err(error) => match credential_fault(transit, cx, error).await? {
            Some(error) => return Err(error),
            None => not_testable(&rights),
        },
    };
    check_mount(transit, cx).await?;
    found.extend(final_token(transit, cx).await?);
    found.extend(try_join_all(keks.iter().map(|kek| canary(transit, cx, kek))).await?);
    Ok(Probe {
        detail,
        rights: found,
        policy: Some(policy::printed(&transit.engine, &keys)),
    })
}

/// The error if the credential itself is invalid; `None` if it only lacks the right to read its rights.
async fn credential_fault(transit: &Transit, cx: &OpContext, error: CallError) -> Result<Option<Error>, Error> {
    if !denied(&error) {
        return Err(error.into_error(CAPABILITIES));
    }
    if transit.session.alive(cx).await.map_err(|error| error.into_error(CAPABILITIES))? {
        return Ok(None);
    }
    Ok(Some(error.into_error(CAPABILITIES).advice(
        "The server does not know the connection's token: it has expired or was revoked. Give the connection another one.",
    )))
}

/// The report on a token that ends and can be neither renewed nor replaced.
async fn final_token(transit: &Transit, cx: &OpContext) -> Result<Option<RightReport>, Error> {
    let operation = "auth/token/lookup-self";
    let seconds = transit.session.final_seconds(cx).await;
    let seconds = seconds.map_err(|error| error.into_error(operation))?;
    Ok(seconds.map(|seconds| {
        RightReport::new("keep_token", Finding::Denied, operation).advise(format!(
            "The token ends in {seconds} s and cannot be renewed for longer: give the connection a periodic token, or a login."
        ))
    }))
}

/// Wraps and unwraps random bytes with a key of the connection. Never creates one.
async fn canary(transit: &Transit, cx: &OpContext, kek: &Kek) -> Result<RightReport, Error> {
    // The empty map: no context of the gateway's is empty.
    let context = BoundContext::new(BTreeMap::new(), vec![0xa0]);
    let round_trip = async {
        let kind = transit.type_of(kek.spec);
        transit.existing(cx, &transit.name(&kek.key)?).await?.usable(kind)?;
        probe::canary(ProviderKind::Vault, async |canary| {
            let wrapped = transit.wrap(cx, &kek.key, kind, canary, &context).await?;
            transit.unwrap(cx, &wrapped, &context).await
        })
        .await
    };
    RightReport::canary(kek, round_trip.await)
}

/// Describes the server in one line. Refuses one that would ignore the connection's namespace.
async fn health(transit: &Transit, cx: &OpContext) -> Result<String, Error> {
    let operation = health::OPERATION;
    let asked = Health::ask(transit.session.api(), CallSink::from(cx)).await;
    let health = asked.map_err(|error| error.into_error(operation))?;
    if transit.engine.namespace.is_some() {
        health.require_namespaces().map_err(|error| error.into_error(operation))?;
    }
    if health.sealed || !health.initialized {
        return Err(fault(ErrorKind::UpstreamUnavailable, operation).advice("The server is sealed or not initialised."));
    }
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let version: String = health.version.chars().filter(plain).take(64).collect();
    Ok(format!("Vault or OpenBao {version}").trim_end().to_owned())
}

/// Checks that the mount is a Transit engine. A token with any right below a mount may ask for its
/// type.
async fn check_mount(transit: &Transit, cx: &OpContext) -> Result<(), Error> {
    let operation = "sys/internal/ui/mounts";
    let mut path = vec!["sys", "internal", "ui", "mounts"];
    path.extend(transit.engine.mount.segments());
    let mount = transit.session.call::<Mount>(cx, Request::get(operation, &path)).await;
    match mount.and_then(ApiResponse::data) {
        Ok(mount) if mount.kind == "transit" => Ok(()),
        Ok(_) => Err(fault(ErrorKind::Misconfigured, operation)
            .advice("The engine at the connection's mount is not Transit: make a connection with the mount of the Transit engine.")),
        // No such mount, or no right below it: the report on the rights shows which.
        Err(CallError::Refused(_)) => Ok(()),
        Err(other) => Err(other.into_error(operation)),
    }
}
