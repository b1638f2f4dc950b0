//! The versions of the protocol, and servers that speak another one.

use claviger_provider::{ErrorKind, Provider, Secret};
use serde_json::json;

use crate::responses::{DISCOVER, ENCRYPT};
use crate::server::{Fault, Server, context, cx, kek};

#[tokio::test]
async fn the_newest_common_version_is_spoken() {
    for (server_speaks, setting, spoken) in [
        (&[(2, 0), (1, 4)][..], json!({}), Ok("KMIP 2.0")),
        (&[(1, 0), (1, 4)], json!({}), Ok("KMIP 1.4")),
        (&[(2, 1), (2, 0)], json!({}), Ok("KMIP 2.0")),
        (&[(2, 0), (1, 4)], json!({"protocol_version": "1.4"}), Ok("KMIP 1.4")),
        (&[(1, 4)], json!({"protocol_version": "2.0"}), Err(None)),
        (&[(1, 0)], json!({}), Err(None)),
        (&[(1, 0), (1, 1), (1, 2)], json!({}), Err(Some("speaks 1.0, 1.1, 1.2"))),
    ] {
        let server = Server::start().await;
        server.speak(server_speaks);
        let provider = server.connect(&setting);
        let probe = provider.probe(&cx(), &[]).await.unwrap();
        let wrapped = provider.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await;
        match spoken {
            Ok(detail) => {
                assert_eq!(probe.detail, detail);
                wrapped.unwrap();
            }
            // Nothing but versions was ever sent to it.
            Err(code) => {
                let problem = probe.problem.unwrap();
                assert!(
                    problem.kind == ErrorKind::Misconfigured && problem.advice.unwrap().contains("1.4"),
                    "{problem}"
                );
                assert_eq!(problem.upstream_code.as_deref(), code);
                assert_eq!(wrapped.unwrap_err().kind, ErrorKind::Misconfigured);
                assert!(server.connections_of(ENCRYPT).is_empty());
            }
        }
    }
}

#[tokio::test]
async fn each_connection_finds_out_the_version_anew() {
    let server = Server::start().await;
    let (provider, cx, context, dek) = (server.connect(&json!({})), cx(), context(), Secret::random(32));
    let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    server.speak(&[(1, 4)]);
    // The server refuses the version that the open connection speaks, and so ends it.
    provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
    assert_eq!(provider.unwrap_key(&cx, &wrapped, &context).await.unwrap(), dek);
}

#[tokio::test]
async fn what_is_no_kmip_is_named() {
    let server = Server::start().await;
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0; 64]] {
        server.plan(DISCOVER, Fault::Raw(bytes.to_vec()), 1);
        let error = server
            .connect(&json!({}))
            .wrap_key(&cx(), &kek(), &Secret::random(32), &context())
            .await
            .unwrap_err();
        assert!(
            error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("KMIP port"),
            "{error}"
        );
    }
}
