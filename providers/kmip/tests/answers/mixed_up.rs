//! No caller gets the response to another one's request.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{ErrorKind, Provider, Secret};
use futures::future::join_all;
use serde_json::json;

use crate::responses::{DECRYPT, ENCRYPT};
use crate::server::{Fault, Server, context, cx, kek};

#[tokio::test]
async fn a_response_to_another_request_is_refused_and_ends_its_connection() {
    let server = Server::start().await;
    let (provider, cx, context, dek) = (server.connect(&json!({})), cx(), context(), Secret::random(32));
    let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    for fault in [Fault::OtherId, Fault::OtherKey, Fault::Pending] {
        server.plan(DECRYPT, fault.clone(), 1);
        let error = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{fault:?}: {error}");
        assert_eq!(provider.unwrap_key(&cx, &wrapped, &context).await.unwrap(), dek);
    }
    // Another key is an error of the server's, and not of the connection's.
    let connections = server.connections_of(DECRYPT);
    assert!(
        connections[0] != connections[1] && connections[4] != connections[5],
        "{connections:?}"
    );
}

#[tokio::test]
async fn a_late_response_meets_nobody() {
    let server = Server::start().await;
    let (provider, cx, context) = (server.connect(&json!({})), cx(), context());
    let (one, other) = (Secret::random(32), Secret::random(32));
    let first = provider.wrap_key(&cx, &kek(), &one, &context).await.unwrap();
    let second = provider.wrap_key(&cx, &kek(), &other, &context).await.unwrap();
    server.plan(DECRYPT, Fault::Hang, 1);
    let hanging = provider.unwrap_key(&cx, &first, &context);
    // The caller goes away once the server has the request.
    let sent = async {
        while server.connections_of(DECRYPT).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _hung = hanging => panic!("a call that hangs has ended"),
        () = sent => {}
    }
    assert_eq!(provider.unwrap_key(&cx, &second, &context).await.unwrap(), other);
    let connections = server.connections_of(DECRYPT);
    assert_ne!(connections[0], connections[1]);
}

#[tokio::test]
async fn what_nobody_asked_for_is_not_read_as_a_response() {
    let server = Server::start().await;
    let (provider, cx, context) = (server.connect(&json!({})), cx(), context());
    server.plan(DECRYPT, Fault::Twice, 20);
    let deks: Vec<Secret> = (0..20).map(|_| Secret::random(32)).collect();
    for dek in &deks {
        let wrapped = provider.wrap_key(&cx, &kek(), dek, &context).await;
        // The second copy may arrive after the connection was looked at: then the next call fails, and no more.
        let wrapped = match wrapped {
            Ok(wrapped) => wrapped,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
                provider.wrap_key(&cx, &kek(), dek, &context).await.unwrap()
            }
        };
        let opened = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap();
        assert_eq!(opened, *dek);
    }
}

#[tokio::test]
async fn many_callers_share_a_bounded_number_of_connections() {
    let server = Server::start().await;
    let provider = Arc::new(server.connect(&json!({})));
    let calls = (0..200).map(|_| {
        let provider = Arc::clone(&provider);
        tokio::spawn(async move {
            let (cx, context, dek) = (cx(), context(), Secret::random(32));
            let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
            assert_eq!(provider.unwrap_key(&cx, &wrapped, &context).await.unwrap(), dek);
        })
    });
    join_all(calls).await.into_iter().for_each(|call| call.unwrap());
    assert_eq!(server.connections_of(ENCRYPT).len(), 200);
    assert!(server.most_open() <= 32, "{}", server.most_open());
}
