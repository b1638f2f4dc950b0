//! The check of a connection. It changes no key: it asks for the rights, looks at the token, and
//! wraps and unwraps a canary with each key that the connection has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_provider::kit::probe::{self, Calls};
use claviger_provider::{CallSink, Concerns, Error, ErrorKind, Finding, Kek, KeyId, OpContext, Probe, RightReport};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;

use crate::client::{ApiResponse, Request};
use crate::errors::{CallError, fault};
use crate::health::{self, Health};
use crate::names::KeyName;
use crate::policy;
use crate::rights::{Right, failed, not_testable, reports, rights};
use crate::transit::Transit;

const CAPABILITIES: &str = "sys/capabilities-self";

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
}

/// Checks a connection with some of its keys. Each call is made by itself, so that one that fails or
/// hangs takes nothing from the others.
pub(crate) async fn probe(transit: &Transit, cx: &OpContext, keks: &[Kek]) -> Probe {
    let calls = Calls::default();
    // Keys of another engine are left out. A set, since one key may serve several versions.
    let keys: BTreeSet<KeyName> = keks.iter().filter_map(|kek| transit.name(&kek.key).ok()).collect();
    let keys: Vec<KeyName> = keys.into_iter().collect();
    let rights = rights(&transit.engine, &keys);
    let (health, capabilities, mount, token, canaries) = tokio::join!(
        // It takes no token, so its response says nothing about the connection's.
        async { Calls::default().make(cx, health(transit, cx)).await },
        calls.make(cx, capabilities(transit, cx, &rights)),
        mount(transit, &calls, cx),
        // Where a login replaces the token, no call is made: that says nothing about the connection's, either.
        async { Calls::default().make(cx, final_token(transit, cx)).await },
        join_all(keks.iter().map(|kek| canary(transit, &calls, cx, kek)))
    );
    let throttled = matches!(&capabilities, Err(error) if error.kind == ErrorKind::RateLimited);
    let mut problem = None;
    let mut found = Vec::new();
    if let Some(error) = mount {
        found.push(RightReport::failed(
            "mount",
            &format!("the engine at {}", transit.engine.mount.as_str()),
            &error,
        ));
        problem = Some(error).filter(|error| error.kind == ErrorKind::Misconfigured);
    }
    match capabilities {
        Ok(capabilities) => found.extend(reports(&rights, &capabilities)),
        // A token that is alive only lacks the right to read its rights.
        Err(error) if lacks_the_right(&error) && error.advice != Some(UNKNOWN_TOKEN) => found.extend(not_testable(&rights)),
        Err(error) => {
            found.extend(failed(&rights, &error));
            problem = problem.or_else(|| Some(error).filter(|error| error.advice == Some(UNKNOWN_TOKEN)));
        }
    }
    match token {
        Ok(report) => found.extend(report),
        Err(error) => found.push(RightReport::failed("keep_token", LOOK_UP, &error)),
    }
    for (canary, exposed) in canaries {
        found.extend(exposed);
        found.push(canary);
    }
    let sealed = health.as_ref().err().filter(|error| error.advice.is_some());
    Probe {
        problem: sealed.map(Arc::clone).or_else(|| calls.problem()).or(problem),
        detail: health.unwrap_or_else(|error| match throttled {
            // Its description has 429 for a standby, and then no body of the kind.
            true => "a server that throttles the gateway".to_owned(),
            false => format!("a server that does not describe itself: {}", probe::word(&error)),
        }),
        rights: found,
        policy: Some(policy::printed(&transit.engine, &keys)),
    }
}

const UNKNOWN_TOKEN: &str =
    "The server does not know the connection's token: it has expired or was revoked. Give the connection another one.";
const LOOK_UP: &str = "auth/token/lookup-self";

/// The capabilities on each path of these rights.
async fn capabilities(transit: &Transit, cx: &OpContext, rights: &[Right]) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let paths: Vec<&str> = rights.iter().map(|right| right.path.as_str()).collect();
    let request = Request::post(CAPABILITIES, &["sys", "capabilities-self"], &json!({"paths": paths}));
    let request = request.map_err(|error| error.into_error(CAPABILITIES))?;
    let error = match transit.session.call(cx, request).await.and_then(ApiResponse::data) {
        Ok(capabilities) => return Ok(capabilities),
        Err(error) => error.into_error(CAPABILITIES),
    };
    if lacks_the_right(&error) && matches!(transit.session.alive(cx).await, Ok(false)) {
        return Err(error.advice(UNKNOWN_TOKEN));
    }
    Err(error)
}

/// Whether the server refused the call itself, and not the login before it.
fn lacks_the_right(error: &Error) -> bool {
    error.kind == ErrorKind::ProviderDenied && error.concerns == Concerns::Call
}

/// The report on a token that ends and can be neither renewed nor replaced.
async fn final_token(transit: &Transit, cx: &OpContext) -> Result<Option<RightReport>, Error> {
    let seconds = transit.session.final_seconds(cx).await;
    let seconds = seconds.map_err(|error| error.into_error(LOOK_UP))?;
    Ok(seconds.map(|seconds| {
        RightReport::new("keep_token", Finding::Denied, LOOK_UP).advise(format!(
            "The token ends in {seconds} s and cannot be renewed for longer: give the connection a periodic token, or a login."
        ))
    }))
}

/// Wraps and unwraps random bytes with a key of the connection. Never creates one. Also reports how the
/// key's material can leave the server, if it can.
async fn canary(transit: &Transit, calls: &Calls, cx: &OpContext, kek: &Kek) -> (RightReport, Option<RightReport>) {
    let mut exposed = None;
    let round_trip = async {
        let kind = transit.type_of(kek.spec);
        let key = transit.existing(cx, &transit.name(&kek.key)?).await?;
        exposed = RightReport::exposed(kek, key.exposure());
        key.usable(kind)?;
        transit.canary(cx, &kek.key.id, kind).await
    };
    let result = calls.make(cx, round_trip).await;
    (RightReport::canary(kek, result), exposed)
}

/// Describes the server in one line. Refuses one that would ignore the connection's namespace.
async fn health(transit: &Transit, cx: &OpContext) -> Result<String, Error> {
    let operation = health::OPERATION;
    let asked = Health::ask(&transit.session.api(), CallSink::from(cx)).await;
    let health = asked.map_err(|error| error.into_error(operation))?;
    if transit.engine.namespace.is_some() {
        health.require_namespaces().map_err(|error| error.into_error(operation))?;
    }
    health.serves().map_err(|error| error.into_error(operation))?;
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let version: String = health.version.chars().filter(plain).take(64).collect();
    Ok(format!("Vault or OpenBao {version}").trim_end().to_owned())
}

/// Why there is no Transit engine at the mount, if so. `sys/capabilities-self` cannot tell: a policy
/// grants paths, whether or not something is mounted there.
async fn mount(transit: &Transit, calls: &Calls, cx: &OpContext) -> Option<Arc<Error>> {
    let no_key = KeyName::made(KeyId::from_bytes([0; 16]));
    let read = calls.make(cx, transit.existing(cx, &no_key)).await;
    match read {
        Err(error) if error.kind == ErrorKind::Misconfigured => return Some(error),
        // Another kind of engine may say that it has no such key.
        Ok(_) | Err(_) => {}
    }
    calls.make(cx, kind_of_engine(transit, cx)).await.err()
}

/// Checks the kind of the engine. A token with any right below a mount may ask for it.
async fn kind_of_engine(transit: &Transit, cx: &OpContext) -> Result<(), Error> {
    let operation = "sys/internal/ui/mounts";
    let mut path = vec!["sys", "internal", "ui", "mounts"];
    path.extend(transit.engine.mount.segments());
    let mount = transit.session.call::<Mount>(cx, Request::get(operation, &path)).await;
    match mount.and_then(ApiResponse::data) {
        Ok(mount) if mount.kind == "transit" => Ok(()),
        Ok(_) => Err(fault(ErrorKind::Misconfigured, operation)
            .advice("The engine at the connection's mount is not Transit: make a connection with the mount of the Transit engine.")),
        // No right below it: the report on the rights shows that.
        Err(refused @ CallError::Refused(_)) if refused.kind() != ErrorKind::UpstreamUnavailable => Ok(()),
        Err(other) => Err(other.into_error(operation)),
    }
}
