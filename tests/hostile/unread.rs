//! Answers that nobody reads.

use std::time::{Duration, Instant};

use claviger_test_support::raw::Http2;
use claviger_test_support::{Tune, p99};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{PATIENCE, World};

/// A file that is larger than what the system buffers for a peer.
const LARGE: &str = "/docs/swagger-ui-bundle.js";
/// Longer than an honest tenant's call takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// A gateway that notices a slow reader soon.
async fn world() -> World {
    World::tuned(&Tune::default().set("CLAVIGER_SERVER__LIMITS__SLOW_READER_TIMEOUT", "2s")).await
}

#[tokio::test]
async fn a_window_of_nothing_is_closed_over_http_2() {
    let world = world().await;
    let honest = world.honest().await;
    let begun = Instant::now();
    let mut connections = Vec::new();
    for _ in 0..4 {
        let connection = Http2::connect(world.started.address(), 0).await;
        let mut streams = Vec::new();
        for _ in 0..4 {
            let (response, mut request) = connection.open(Method::GET, "", LARGE).await;
            let _ = request.send_data(bytes::Bytes::new(), true);
            streams.push(response.await.unwrap().into_body());
        }
        connections.push((connection, streams));
    }
    for (_, streams) in &mut connections {
        for body in streams {
            let ended = tokio::time::timeout(PATIENCE / 2, body.data()).await.expect("the connection ends");
            assert!(matches!(ended, None | Some(Err(_))));
        }
    }
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}

#[tokio::test]
async fn requests_whose_answers_are_never_read_are_closed_over_http_1() {
    let world = world().await;
    let honest = world.honest().await;
    let mut stream = TcpStream::connect(world.started.address()).await.unwrap();
    let request = format!("GET {LARGE} HTTP/1.1\r\nhost: x\r\n\r\n");
    let requests = 16;
    for _ in 0..requests {
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    // This is the time that must pass, not a wait for something to happen.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let mut read = 0;
    let reading = async {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            read += length;
        }
    };
    tokio::time::timeout(PATIENCE / 2, reading)
        .await
        .expect("the gateway closes the connection");
    assert!(read < requests * 1_400_000, "{read} bytes");
    let slowest = p99(honest.end().await);
    assert!(slowest < LIMIT, "an honest tenant waited {slowest:?}");
}
