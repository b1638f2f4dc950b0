//! Each attack through a trusted proxy, whose connections are bounded by no source: the honest tenants
//! come through the same one.
#![allow(clippy::print_stderr, reason = "the figures are worth reading")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use claviger_test_support::attack::{Attack, Way, machines};
use claviger_test_support::{Client, Guard, HONEST, Honest, Version, p99};

use crate::world::{PATIENCE, PEAK, World, key_service_on_loopback};

/// Where the proxy is.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Longer than a revocation takes at the 99th percentile on a busy machine.
const LIMIT: Duration = Duration::from_secs(8);
/// How long each attack lasts at least.
const LASTS: Duration = Duration::from_secs(2);
/// Rounds of revocations while it lasts, at least.
const ROUNDS: usize = 2;

async fn attacked_through_a_proxy(attack: Attack, version: Version) {
    let tune = key_service_on_loopback().set("CLAVIGER_SERVER__TRUSTED_PROXIES", PROXY.to_string());
    let world = World::tuned(&tune).await;
    let proxy = world.started.endpoint().from_source(PROXY);
    let through = |client: &Client, address: &str| client.at(&proxy.clone().forwarded_for(address));
    let guards = [
        Guard::of(&through(&world.evil, "192.0.2.9")).await,
        Guard::of(&through(&world.started.with_tenant("victim").await, "192.0.2.10")).await,
    ];
    let machines = machines();
    let (evil, way) = (world.evil.clone(), Way::proxied(proxy.clone()));
    let attacker = machines.spawn(async move { attack.prepare(&evil, way).await }).await.unwrap();
    let honest = Honest::of(HONEST.map(|name| through(&world.started.tenant(name), "192.0.2.11"))).await;
    let probes = Client::new(proxy.clone().forwarded_for("192.0.2.12"), "", None).without_header("authorization");

    let under_way = {
        let _machines = machines.enter();
        attack.begin(&attacker, version)
    };
    let (begun, mut revocations, mut readiness) = (Instant::now(), Vec::new(), Vec::new());
    while begun.elapsed() < LASTS || readiness.len() < ROUNDS || !under_way.answers().show(attack) {
        assert!(
            begun.elapsed() < PATIENCE,
            "the attack does not take place: {}",
            under_way.answers()
        );
        for guard in &guards {
            guard.round(&mut revocations).await;
        }
        let asked = Instant::now();
        probes.get("/readyz").await.expect_status(200);
        readiness.push(asked.elapsed());
    }
    let answers = under_way.end().await;
    machines.shutdown_background();
    let (revocations, readiness, honest) = (p99(revocations), p99(readiness), p99(honest.end().await));
    eprintln!("{answers}; revocations {revocations:?}, /readyz {readiness:?}, honest calls {honest:?} at p99");
    answers.are_of(attack);
    assert!(revocations < LIMIT && readiness < LIMIT, "{revocations:?}, {readiness:?}");
    world.holds(PEAK);
}

/// One test for each attack over each version of HTTP, and one that none is missing.
macro_rules! through_a_proxy {
    ($($test:ident: $attack:ident, $version:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                attacked_through_a_proxy(Attack::$attack, Version::$version).await;
            }
        )*

        #[test]
        fn every_attack_is_made_through_a_proxy() {
            let made = [$((Attack::$attack, Version::$version)),*];
            assert_eq!(made.to_vec(), Attack::cases().collect::<Vec<_>>());
        }
    };
}

through_a_proxy! {
    unread_files_of_http1_through_a_proxy_hold_up_nobody: UnreadFiles, Http1;
    unread_files_of_http2_through_a_proxy_hold_up_nobody: UnreadFiles, Http2;
    unread_pages_of_http1_through_a_proxy_hold_up_nobody: UnreadPages, Http1;
    unread_pages_of_http2_through_a_proxy_hold_up_nobody: UnreadPages, Http2;
    tiny_items_of_http1_through_a_proxy_hold_up_nobody: TinyItems, Http1;
    tiny_items_of_http2_through_a_proxy_hold_up_nobody: TinyItems, Http2;
    half_sent_batches_of_http1_through_a_proxy_hold_up_nobody: HalfSent, Http1;
    half_sent_batches_of_http2_through_a_proxy_hold_up_nobody: HalfSent, Http2;
    lists_of_http1_through_a_proxy_hold_up_nobody: Lists, Http1;
    lists_of_http2_through_a_proxy_hold_up_nobody: Lists, Http2;
    a_key_service_of_many_versions_over_http1_through_a_proxy_holds_up_nobody: ManyVersions, Http1;
    a_key_service_of_many_versions_over_http2_through_a_proxy_holds_up_nobody: ManyVersions, Http2;
    revocations_of_http1_through_a_proxy_hold_up_nobody: Revocations, Http1;
    revocations_of_http2_through_a_proxy_hold_up_nobody: Revocations, Http2;
    made_up_tokens_of_http1_through_a_proxy_hold_up_nobody: MadeUpTokens, Http1;
    made_up_tokens_of_http2_through_a_proxy_hold_up_nobody: MadeUpTokens, Http2;
    idle_sockets_through_a_proxy_hold_up_nobody: IdleSockets, Http1;
    idle_connections_of_http1_through_a_proxy_hold_up_nobody: IdleConnections, Http1;
    idle_connections_of_http2_through_a_proxy_hold_up_nobody: IdleConnections, Http2;
}
