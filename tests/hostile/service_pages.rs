//! The service endpoints, which need no credential, asked without end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger_test_support::{Client, Tune, p99};
use http::Request;
use tokio::task::JoinSet;

use crate::crowd::from;
use crate::world::World;

/// Longer than a call takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);
/// Requests that an attacker's connection has under way at once.
const STREAMS: usize = 100;
/// Probes that the operator sends meanwhile.
const PROBES: usize = 50;

#[tokio::test]
async fn one_source_that_asks_without_end_is_refused_and_others_probe() {
    let world = World::tuned(&Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0")).await;
    let honest = world.honest().await;
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut attack = JoinSet::new();
    for _ in 0..4 {
        let stream = from(Ipv4Addr::new(127, 0, 0, 2), world.started.address()).await;
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        attack.spawn(async move { drop(connection.await) });
        for path in ["/readyz", "/metrics"].into_iter().cycle().take(STREAMS) {
            let (send, stop, refused) = (send.clone(), Arc::clone(&stop), Arc::clone(&refused));
            attack.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut ready) = send.clone().ready().await else { break };
                    let request = Request::get(format!("http://gateway{path}")).body(()).unwrap();
                    let Ok((response, _)) = ready.send_request(request, true) else {
                        break;
                    };
                    let Ok(response) = response.await else { break };
                    if response.status() == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    let mut body = response.into_body();
                    while let Some(Ok(chunk)) = body.data().await {
                        let _ = body.flow_control().release_capacity(chunk.len());
                    }
                }
            });
        }
    }
    let operator = Client::new(world.started.operator_address(), world.started.token(), None);
    let mut took = Vec::new();
    for _ in 0..PROBES {
        let begun = Instant::now();
        operator.get("/readyz").await.expect_status(200);
        took.push(begun.elapsed());
        // A probe from another source on the listener that is attacked.
        world.started.watcher().get("/readyz").await.expect_status(200);
    }
    stop.store(true, Ordering::Relaxed);
    let probes = p99(took);
    assert!(probes < LIMIT, "{probes:?}");
    assert!(refused.load(Ordering::Relaxed) > 0, "more than its share is refused");
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}
