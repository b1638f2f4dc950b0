//! How long the sever of a connection to an external key manager takes while many connections unwrap through it. The key
//! manager is the fake XKS proxy, in this process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_test_support::{Client, Gateway, Started, Tune, p99, percentile, text_of, token};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Plan;
use crate::certs::Certs;

/// Connections that unwrap.
const CONNECTIONS: usize = 64;
/// Unwraps that succeed between two severs.
const BETWEEN: usize = 4 * CONNECTIONS;
/// The bound for a sever, at the 99th percentile.
const BOUND: Duration = Duration::from_millis(300);
/// Longer than the load takes to get on; a run that reaches it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Severs under load as long as the plan says, prints the figures, and returns whether the bound holds.
pub async fn run(plan: &Plan, certs: &Arc<Certs>) -> bool {
    let folder = tempfile::tempdir_in(&plan.disk).expect("a folder on the disk");
    let tune = Tune::default()
        .over_tls(&certs.server, &certs.server_key, certs.client_config())
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8");
    let gateway = gateway_in(&plan.claviger, folder.path(), &tune);
    let started = gateway.serve(&tune);
    let fake = FakeXks::start(Transport::Tls, "").await.expect("a fake XKS proxy");
    let (owner, unwraps, body) = tenant(&started, &fake).await;
    let opened = Arc::new(AtomicUsize::new(0));
    let mut load: JoinSet<()> = JoinSet::new();
    for _ in 0..CONNECTIONS {
        // A connection of its own.
        let (caller, body, opened) = (unwraps.at(&started.endpoint()), body.clone(), Arc::clone(&opened));
        load.spawn(async move {
            loop {
                let answer = caller.post("/v1/unwrap", &body).await;
                match answer.status {
                    200 => _ = opened.fetch_add(1, Ordering::Relaxed),
                    // Severed: the load goes on when it is restored.
                    _ => _ = answer.expect_problem(409, "connection_severed"),
                }
            }
        });
    }
    let mut took = Vec::new();
    let until = Instant::now() + Duration::from_secs(plan.seconds) * plan.rounds;
    while Instant::now() < until {
        let (before, patience) = (opened.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while opened.load(Ordering::Relaxed) < before + BETWEEN {
            assert!(Instant::now() < patience && load.try_join_next().is_none(), "the load stopped");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begun = Instant::now();
        let severed = owner.post_empty("/v1/connections/theirs/sever").await;
        took.push(begun.elapsed());
        severed.expect_status(200);
        owner.post_empty("/v1/connections/theirs/restore").await.expect_status(200);
    }
    load.shutdown().await;
    report(took, opened.load(Ordering::Relaxed))
}

fn gateway_in(binary: &Path, folder: &Path, tune: &Tune) -> Gateway {
    Gateway::new_in(binary.to_str().expect("a path in UTF-8"), folder, tune)
}

/// A tenant's owner who severs and restores, who unwraps, and what they unwrap.
async fn tenant(started: &Started, fake: &FakeXks) -> (Client, Client, Value) {
    let operator = started.with_tenant("bank").await;
    let key = AccessKey::first();
    let settings = json!({
        // What is measured is the sever, not whether calls keep to their budget beside the load generator.
        "address": fake.url(), "ca": fake.tls().expect("TLS").ca_pem(), "region": "eu-central-1", "budget_ms": 10_000,
        "auth": {"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}},
    });
    let connection = json!({"name": "theirs", "provider": "xks", "settings": settings});
    operator.post("/v1/connections", &connection).await.expect_status(201);
    let body = json!({"name": "held", "connection": "theirs", "provider_key": fake.keys().make_another()});
    operator.post("/v1/keys", &body).await.expect_status(201);
    let made = operator.post("/v1/keys/held/data-keys", &json!({})).await.expect_status(200);
    let owner = token(&operator, "owner", &["Sever", "Restore"], None).await;
    let unwraps = token(&operator, "application", &["Unwrap"], None).await;
    (
        operator.with_token(text_of(&owner)),
        operator.with_token(text_of(&unwraps)),
        json!({"wrapped": made["wrapped"]}),
    )
}

fn report(took: Vec<Duration>, opened: usize) -> bool {
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    println!("\n### Sever of a connection to an external key manager\n");
    println!("Over TLS, with {CONNECTIONS} connections that unwrap through a fake XKS proxy; times in ms.\n");
    println!("| severs | p50 | p99 | longest | unwraps meanwhile |\n|---|---|---|---|---|");
    println!(
        "| {} | {} | {} | {} | {opened} |",
        took.len(),
        ms(percentile(took.clone(), 50)),
        ms(p99(took.clone())),
        ms(percentile(took.clone(), 100)),
    );
    let holds = p99(took.clone()) <= BOUND;
    if !holds {
        println!("\n**Missed**: a sever took {:?} at p99, {BOUND:?} at most", p99(took));
    }
    println!("\n{} passed, {} failed", u8::from(holds), u8::from(!holds));
    holds
}
