//! A tenant with more tokens than the gateway keeps in memory.

use claviger_test_support::{Client, Tune, text_of, token};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::world::{World, make_key};

/// As many as the setting takes at least.
const IN_MEMORY: usize = 10_000;
/// Those of the attack.
const TOKENS: usize = IN_MEMORY + 500;
/// Those of a tenant that uses each of them once in a while.
const QUIET: usize = 20;
/// Requests at once.
const AT_ONCE: usize = 32;

/// Issues the tokens of an attack.
async fn many(evil: &Client) -> Vec<String> {
    token(evil, "crowd", &["ReadKey"], None).await;
    let body = json!({"operations": ["ReadKey"], "expires_in": "1h"});
    let issued = futures::stream::iter(0..TOKENS).map(async |_| {
        let issued = evil.post("/v1/principals/crowd/tokens", &body).await.expect_status(201);
        text_of(&issued).to_owned()
    });
    issued.buffer_unordered(AT_ONCE).collect().await
}

/// Uses each of these tokens once.
async fn use_each(evil: &Client, tokens: &[String]) {
    // All on the same connections.
    let client = evil.clone().without_header("claviger-tenant");
    let used = futures::stream::iter(tokens).map(async |token| {
        let client = client.clone().with_header("authorization", &format!("Bearer {token}"));
        client.get("/v1/whoami").await.expect_status(200);
    });
    used.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// How many lookups did not find their token in memory.
async fn misses(world: &World) -> u64 {
    let metrics = world.started.operator().get("/metrics").await.text;
    let line = "claviger_memory_lookups_total{cache=\"tokens\",result=\"miss\"} ";
    let misses = metrics.lines().find_map(|text| text.strip_prefix(line));
    misses.expect("the lookups of tokens").parse().unwrap()
}

#[tokio::test]
async fn more_tokens_than_fit_push_out_no_other_tenants() {
    let world = World::tuned(&Tune::default().set("CLAVIGER_MEMORY__TOKENS", IN_MEMORY.to_string())).await;
    let quiet = world.started.with_tenant("quiet").await;
    make_key(&quiet, "orders").await;
    let mut callers = Vec::new();
    for number in 0..QUIET {
        let issued = token(&quiet, &format!("caller-{number}"), &["Wrap", "Unwrap"], None).await;
        callers.push(quiet.with_token(text_of(&issued)));
    }
    let data_key: Value = quiet.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let unwraps = async || {
        for caller in &callers {
            let opened = caller.post("/v1/unwrap", &json!({"wrapped": data_key["wrapped"]})).await;
            assert_eq!(opened.expect_status(200)["plaintext"], data_key["plaintext"]);
        }
    };
    unwraps().await;
    let honest = world.honest().await;
    let tokens = many(&world.evil).await;
    let before = misses(&world).await;
    use_each(&world.evil, &tokens).await;
    let after = misses(&world).await;
    assert!(after - before >= TOKENS as u64, "each of them was read: {before} {after}");
    unwraps().await;
    assert_eq!(misses(&world).await, after, "no token of another tenant is read again");
    honest.end().await;
}
