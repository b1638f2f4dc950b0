//! What a connection takes of its tenant's sockets.

use std::time::Duration;

use claviger_provider::{ErrorKind, Provider, Secret, SeverSwitch, Shares, TenantId};
use serde_json::json;

use crate::server::{Server, context, cx, kek};

#[tokio::test]
async fn an_idle_connection_takes_no_place_of_a_call() {
    let server = Server::start().await;
    // Two of these sockets are for calls, and one is for idle connections.
    let share = Shares::new(64, 4).of(TenantId::random());
    let provider = server.connect_with(&json!({}), SeverSwitch::default().with_share(share.clone()), None);
    let (cx, kek, dek, context) = (cx(), kek(), Secret::random(32), context());
    let wrap = || provider.wrap_key(&cx, &kek, &dek, &context);
    let (one, other) = tokio::join!(wrap(), wrap());
    assert!(one.is_ok() && other.is_ok());
    let calls = [share.call(), share.call()];
    assert!(calls.iter().all(Option::is_some), "both places are free");
    while server.open() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(share.idle(1).is_none(), "one connection is kept");
    assert_eq!(wrap().await.unwrap_err().kind, ErrorKind::Crowded);
    drop(calls);
    wrap().await.unwrap();
    assert_eq!(server.opened(), 2, "the call used the idle connection");
}
