//! Crowds of connections: idle ones, ones with a request now and then, and ones that are all at work.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use claviger_test_support::attack::is_probed;
use claviger_test_support::raw::Http1;
use claviger_test_support::{Client, Endpoint, Gateway, Honest, Stream, Tune, Version, p99};

use crate::world::{HONEST, PATIENCE, World};

/// Sockets of the attack, as many as the listener takes by default.
const SOCKETS: usize = 1024;
/// Longer than a call takes on a busy machine, and far shorter than an idle connection lives.
const LIMIT: Duration = Duration::from_secs(5);
/// Calls of which the slowest are looked at.
const CALLS: usize = 50;

/// A connection from this address.
pub async fn from(source: Ipv4Addr, to: SocketAddr) -> Stream {
    let endpoint = Endpoint::from(to).from_source(source);
    tokio::time::timeout(PATIENCE, endpoint.connect(Version::Http1))
        .await
        .unwrap()
        .unwrap()
}

/// Sends one probe, and says whether it was answered.
async fn probe(stream: &mut Stream) -> bool {
    tokio::time::timeout(PATIENCE, is_probed(stream, "/healthz"))
        .await
        .expect("an answer or a close")
}

/// A gateway with a listener of the operator's own, and with these settings.
async fn with_operator(settings: &[(&str, &str)]) -> World {
    let tune = Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0");
    let tune = settings
        .iter()
        .fold(tune, |tune, (name, value)| tune.set(&format!("CLAVIGER_SERVER__{name}"), *value));
    World::tuned(&tune).await
}

/// New connections of honest callers and probes are served within the limit.
async fn is_open_to_new_connections(world: &World, sources: u8) {
    let address = world.started.address();
    for new in 0..sources {
        let begun = Instant::now();
        assert!(
            probe(&mut from(Ipv4Addr::new(127, 0, 9, new + 1), address).await).await,
            "a probe is answered"
        );
        assert!(begun.elapsed() < LIMIT, "a probe waited {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    world.started.tenant(HONEST[0]).get("/v1/keys/orders").await.expect_status(200);
    assert!(begun.elapsed() < LIMIT, "a new connection waited {:?}", begun.elapsed());
}

/// How long each of some calls takes, each on a connection of its own.
async fn timed<F: Future>(mut call: impl FnMut(usize) -> F) -> Duration {
    let mut took = Vec::new();
    for number in 0..CALLS {
        let begun = Instant::now();
        call(number).await;
        took.push(begun.elapsed());
    }
    p99(took)
}

/// Disable, enable and `/readyz` on the operator's listener.
async fn the_operator_is_served(world: &World) {
    let address = world.started.operator_address();
    let acting = |tenant| Client::new(address, world.started.token(), Some(tenant));
    let disables = timed(async |number: usize| {
        let state = if number.is_multiple_of(2) { "disable" } else { "enable" };
        let path = format!("/v1/keys/extra/{state}");
        acting(HONEST[1]).post_empty(&path).await.expect_status(200);
    })
    .await;
    let probes = timed(async |_| {
        acting(HONEST[1]).get("/readyz").await.expect_status(200);
    })
    .await;
    assert!(disables < LIMIT && probes < LIMIT, "{disables:?} {probes:?}");
}

async fn ended(world: &World, cause: &str) -> u64 {
    let metrics = Client::new(world.started.operator_address(), world.started.token(), None);
    let metrics = metrics.get("/metrics").await.text;
    let line = format!("claviger_http_connections_total{{cause=\"{cause}\"}} ");
    metrics
        .lines()
        .find_map(|text| text.strip_prefix(&line))
        .map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn idle_sockets_of_one_address_lock_nobody_out() {
    let world = with_operator(&[]).await;
    crate::world::make_key(&world.started.tenant(HONEST[1]), "extra").await;
    let honest = world.honest().await;
    let address = world.started.address();
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let mut socket = from(Ipv4Addr::new(127, 0, 0, 2), address).await;
        if number % 4 == 0 {
            probe(&mut socket).await;
        }
        sockets.push(socket);
    }
    is_open_to_new_connections(&world, 8).await;
    the_operator_is_served(&world).await;
    // The first ones were taken and are kept, the others were closed at once.
    assert!(probe(&mut sockets[0]).await);
    assert!(!probe(&mut sockets[SOCKETS - 1]).await);
    assert_eq!(ended(&world, "source_limit").await, SOCKETS as u64 - 256);
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}

#[tokio::test]
async fn idle_sockets_of_many_addresses_with_a_probe_each_lock_nobody_out() {
    let world = with_operator(&[]).await;
    crate::world::make_key(&world.started.tenant(HONEST[1]), "extra").await;
    let honest = world.honest().await;
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(number % 16).unwrap() + 1);
        let mut socket = from(source, world.started.address()).await;
        assert!(probe(&mut socket).await);
        sockets.push(socket);
    }
    is_open_to_new_connections(&world, 8).await;
    the_operator_is_served(&world).await;
    assert!(!probe(&mut sockets[0]).await, "the first stranger made room");
    assert!(probe(&mut sockets[SOCKETS - 1]).await, "the last one did not have to");
    assert_eq!(ended(&world, "source_limit").await, 0);
    assert!(ended(&world, "evicted").await > 0);
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}

#[tokio::test]
async fn a_low_limit_of_open_files_is_raised_to_what_the_listeners_take() {
    let folder = tempfile::tempdir().unwrap();
    let limited = folder.path().join("limited");
    let script = format!("#!/bin/sh\nulimit -S -n 256\nexec {} \"$@\"\n", crate::BINARY);
    std::fs::write(&limited, script).unwrap();
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o700)).unwrap();
    let gateway = Gateway::new(limited.to_str().unwrap());
    let started = gateway.serve(&Tune::default().set("CLAVIGER_SERVER__OPERATOR__LISTEN", "127.0.0.1:0"));
    let mut sockets = Vec::new();
    for number in 0..512 {
        let source = Ipv4Addr::new(127, 0, 3, u8::try_from(number % 4).unwrap() + 1);
        let mut socket = from(source, started.address()).await;
        assert!(probe(&mut socket).await, "socket {number}");
        sockets.push(socket);
    }
    let operator = Client::new(started.operator_address(), started.token(), None);
    operator.get("/readyz").await.expect_status(200);
    assert!(probe(&mut sockets[0]).await);
}

#[tokio::test]
async fn idle_connections_of_http_2_lock_nobody_out() {
    let world = with_operator(&[("LIMITS__MAX_CONNECTIONS", "32")]).await;
    let honest = world.honest().await;
    let mut connections = Vec::new();
    for number in 0..64 {
        let stream = from(Ipv4Addr::new(127, 0, 2, number % 4 + 1), world.started.address()).await;
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut ready = send.ready().await.unwrap();
        let request = http::Request::get("http://gateway/healthz").body(()).unwrap();
        let (response, _) = ready.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        connections.push((ready, connection));
    }
    is_open_to_new_connections(&world, 8).await;
    assert!(ended(&world, "evicted").await >= 32);
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}

#[tokio::test]
async fn a_trusted_proxy_opens_as_many_as_it_needs() {
    let world = with_operator(&[("TRUSTED_PROXIES", "127.0.0.2"), ("LIMITS__MAX_CONNECTIONS_PER_SOURCE", "4")]).await;
    let address = world.started.address();
    // They come through the proxy, too.
    let proxy = world.started.endpoint().from_source(Ipv4Addr::new(127, 0, 0, 2));
    let honest = Honest::of(HONEST.map(|name| world.started.tenant(name).at(&proxy.clone().forwarded_for("192.0.2.11")))).await;
    let mut proxied = Vec::new();
    for _ in 0..64 {
        let mut socket = from(Ipv4Addr::new(127, 0, 0, 2), address).await;
        assert!(probe(&mut socket).await);
        proxied.push(socket);
    }
    let mut direct = Vec::new();
    for _ in 0..8 {
        direct.push(from(Ipv4Addr::new(127, 0, 0, 3), address).await);
    }
    assert!(!probe(&mut direct[7]).await, "another source has its bound");
    for socket in &mut proxied {
        assert!(probe(socket).await);
    }
    honest.end().await;
}

#[tokio::test]
async fn the_operators_listener_works_while_every_other_connection_is_at_work() {
    let few = [
        ("LIMITS__MAX_CONNECTIONS", "64"),
        ("LIMITS__MAX_IN_FLIGHT", "64"),
        ("REQUEST_DEADLINE", "60s"),
    ];
    let world = with_operator(&few).await;
    crate::world::make_key(&world.started.tenant(HONEST[1]), "extra").await;
    let issued = world.evil_token("attacker", &["Unwrap"], None).await;
    let token = issued["token"].as_str().unwrap();
    let address = world.started.address();
    // On the API's listener they would lose their connections, which are idle between two calls.
    let at_operator = |name| Client::new(world.started.operator_address(), world.started.token(), Some(name));
    let honest = Honest::of(HONEST.map(at_operator)).await;
    let mut half_sent = Vec::new();
    // Until a new connection gets no answer, because all of them are at work.
    let all_at_work = async {
        loop {
            let mut request = Http1::post(address, token, "/v1/unwrap", 4096).await;
            request.send(b"{\"wra").await;
            half_sent.push(request);
            let mut new = from(Ipv4Addr::LOCALHOST, address).await;
            let answered = tokio::time::timeout(Duration::from_secs(1), probe(&mut new)).await;
            if answered.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, all_at_work)
        .await
        .expect("every connection is at work");
    the_operator_is_served(&world).await;
    // A cut of the attacker works there, too.
    let operator = Client::new(world.started.operator_address(), world.started.token(), Some("evil"));
    let path = format!("/v1/principals/attacker/tokens/{}", issued["id"].as_str().unwrap());
    let begun = Instant::now();
    let revoked = operator.delete(&path).await;
    assert_eq!(revoked.status, 204, "{}", revoked.text);
    assert!(begun.elapsed() < LIMIT, "the revocation took {:?}", begun.elapsed());
    honest.end().await;
}
