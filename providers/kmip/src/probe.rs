//! The check of a connection. It changes nothing: it asks what the server offers, and describes and tries each key
//! that the connection has.

use std::sync::Arc;

use claviger_provider::kit::probe::{self, Calls};
use claviger_provider::{Error, Finding, Kek, OpContext, Probe, RightReport};
use futures::future::join_all;

use crate::api::About;
use crate::client::Called;
use crate::key_manager::{KeyManager, id};
use crate::tags::Operation;

/// The operations that the gateway uses: its own, that of the protocol, and whether a check tries it.
const USED: [(&str, Operation); 6] = [
    ("create_key", Operation::Create),
    ("create_key", Operation::Activate),
    ("find_made", Operation::Locate),
    ("describe", Operation::GetAttributes),
    ("wrap_key", Operation::Encrypt),
    ("unwrap_key", Operation::Decrypt),
];

/// Checks a connection with some of its keys. Each call is made by itself, so that one that fails or hangs takes
/// nothing from the others.
pub(crate) async fn probe(manager: &KeyManager, cx: &OpContext, keks: &[Kek]) -> Probe {
    let calls = Calls::default();
    let (about, keys) = tokio::join!(
        calls.make(cx, async {
            manager
                .client
                .about(cx)
                .await
                .map_err(|error| error.into_error(Operation::Query.as_str()))
        }),
        join_all(keks.iter().map(|kek| key(manager, &calls, cx, kek)))
    );
    let mut rights = offered(&about);
    rights.extend(keys.into_iter().flatten());
    Probe {
        detail: match &about {
            Ok(called) => detail(called),
            Err(error) => format!("a server that does not describe itself: {}", probe::word(error)),
        },
        problem: calls.problem(),
        rights,
        // KMIP has no language for rights.
        policy: None,
    }
}

fn detail(called: &Called<About>) -> String {
    let version = called.version.as_str();
    match &called.value.vendor {
        Some(vendor) => format!("KMIP {version}: {vendor}"),
        None => format!("KMIP {version}"),
    }
}

/// What the server offers. Whether this client may use it, only a call shows.
fn offered(about: &Result<Called<About>, Arc<Error>>) -> Vec<RightReport> {
    let about = match about {
        Ok(called) => &called.value,
        Err(error) => return vec![named(RightReport::failed("query", "Query", error), error.advice)],
    };
    // A server may not tell.
    if about.operations.is_empty() {
        let how = "Query: the server does not list its operations";
        return vec![RightReport::new("query", Finding::NotTestable, how)];
    }
    let report = |(right, operation): (&'static str, Operation)| {
        let name = operation.as_str();
        match about.offers(operation) {
            true => RightReport::new(
                right,
                Finding::NotTestable,
                format!("Query: the server offers {name}; only a call shows whether this client may"),
            ),
            false => RightReport::new(right, Finding::Denied, format!("Query: the server does not offer {name}"))
                .advise(format!("Enable the operation {name} at the key manager, or use one that has it.")),
        }
    };
    USED.into_iter().map(report).collect()
}

/// Describes one key, and wraps and unwraps random bytes with it.
async fn key(manager: &KeyManager, calls: &Calls, cx: &OpContext, kek: &Kek) -> Vec<RightReport> {
    let mut reports = Vec::new();
    let mut exposed = None;
    let tried = async {
        let id = id(&kek.key)?;
        let key = manager.client.attributes(cx, id).await;
        let key = key.map_err(|error| error.into_error(Operation::GetAttributes.as_str()))?;
        exposed = key.exposure().and_then(|exposure| RightReport::exposed(kek, exposure));
        key.usable()?;
        manager.canary(cx, &kek.key).await
    };
    let result = calls.make(cx, tried).await;
    let advice = result.as_ref().err().and_then(|error| error.advice);
    reports.extend(exposed);
    reports.push(named(RightReport::canary(kek, result), advice));
    reports
}

/// The report on a call with what to do about its denial: there is no printed policy that would grant it.
fn named(report: RightReport, advice: Option<&'static str>) -> RightReport {
    match (report.finding, advice) {
        (Finding::Denied, Some(advice)) => report.advise(advice),
        (Finding::Denied | Finding::Granted | Finding::Excessive | Finding::NotTestable | Finding::Failed, _) => report,
    }
}
