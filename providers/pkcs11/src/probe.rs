//! The check of a connection, which changes nothing on the token: a description of each key, and a canary.

use claviger_provider::kit::probe::{Calls, NO_KEY_YET};
use claviger_provider::{Finding, Kek, OpContext, Probe, RightReport};
use futures::future::join_all;

use crate::client::Client;

/// Checks a connection. Each key is tried by itself, so that one that fails takes nothing from the others.
pub(crate) async fn probe(client: &Client, cx: &OpContext, keks: &[Kek]) -> Probe {
    let calls = Calls::default();
    let token = calls
        .make(cx, async {
            client.token(cx).await.map_err(|error| error.into_error("find the token"))
        })
        .await;
    let detail = match &token {
        Ok(token) => format!(
            "token {} (serial {}), {}, by {}",
            token.label, token.serial, token.model, token.library
        ),
        Err(_) => "the token is not reached".to_owned(),
    };
    let detail: String = detail
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .take(512)
        .collect();
    let mut rights = Vec::new();
    if keks.is_empty() {
        rights.extend(["wrap_key", "unwrap_key"].map(|operation| RightReport::new(operation, Finding::NotTestable, NO_KEY_YET)));
    }
    let checked = join_all(keks.iter().map(|kek| check_key(client, &calls, cx, kek))).await;
    rights.extend(checked.into_iter().flatten());
    let create = "a trial would leave a key on the token";
    rights.push(RightReport::new("create_key", Finding::NotTestable, create));
    Probe {
        detail,
        problem: calls.problem(),
        rights,
        policy: None,
    }
}

/// Describes a key, and wraps and unwraps random bytes with it.
async fn check_key(client: &Client, calls: &Calls, cx: &OpContext, kek: &Kek) -> Vec<RightReport> {
    let described = async {
        let name = client.name(cx, &kek.key).await?;
        client.key(cx, &name).await.map(|key| (name, key))
    };
    let (name, key) = match calls.make(cx, described).await {
        Ok(described) => described,
        Err(error) => {
            return vec![RightReport::failed(
                "describe",
                &format!("the attributes of {}", kek.key.id),
                &error,
            )];
        }
    };
    let canary = calls.make(cx, client.canary(cx, &name, key.spec)).await;
    let canary = RightReport::canary(kek, canary);
    [canary].into_iter().chain(RightReport::exposed(kek, key.exposure())).collect()
}
