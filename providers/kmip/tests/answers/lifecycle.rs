//! Keys that are made and adopted, on a server that is not quite right.

use std::time::Instant;

use claviger_provider::KeySpec;
use claviger_provider::{ErrorKind, Exposure, GcmParts, KeyRequest, KeyState, Provider, Secret};
use claviger_testkit::connection::new_key;
use serde_json::json;

use crate::responses::{ACTIVATE, ATTRIBUTES, CREATE, DECRYPT, ENCRYPT, KEY, LOCATE};
use crate::server::{Fault, Server, context, cx, kek};

const SENSITIVE: u32 = 0x42_0120;
const EXTRACTABLE: u32 = 0x42_0122;

#[tokio::test]
async fn a_key_that_opens_no_canary_is_not_used() {
    for (operation, fault, kind) in [
        // The server encrypts with another initialization vector than it says, or returns a wrong tag.
        (ENCRYPT, Fault::OwnIv { told: false }, ErrorKind::UpstreamUnavailable),
        (ENCRYPT, Fault::Flip, ErrorKind::UpstreamUnavailable),
        (DECRYPT, Fault::Flip, ErrorKind::UpstreamProtocol),
        (DECRYPT, Fault::Refuse(0x0C), ErrorKind::ExternalDenied),
        (ENCRYPT, Fault::Refuse(0x0C), ErrorKind::ExternalDenied),
    ] {
        let server = Server::start().await;
        let provider = server.connect(&json!({}));
        for adopt in [None, Some(KEY)] {
            server.plan(operation, fault.clone(), 1);
            let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, adopt)).await.unwrap_err();
            assert_eq!(error.kind, kind, "{fault:?} {adopt:?}: {error}");
            provider.create_key(&cx(), &new_key(KeySpec::Aes256, adopt)).await.unwrap();
        }
        // And the check says so.
        server.plan(operation, fault.clone(), 1);
        let probe = provider.probe(&cx(), &[kek()]).await.unwrap();
        let canary = probe.rights.iter().find(|right| right.operation == "canary").unwrap();
        assert_ne!(canary.finding, claviger_provider::Finding::Granted, "{fault:?}");
    }
}

/// A key of another owner's may have the name that is the Unique Identifier of a key that is denied.
#[tokio::test]
async fn only_what_does_not_exist_as_an_id_is_looked_for_as_a_name() {
    for (reason, kind, looked) in [
        (0x01, ErrorKind::KeyNotFound, 1),
        (0x37, ErrorKind::KeyNotFound, 1),
        (0x07, ErrorKind::InvalidInput, 0),
        (0x0C, ErrorKind::ExternalDenied, 0),
        (0x39, ErrorKind::ExternalDenied, 0),
        (0x100, ErrorKind::UpstreamUnavailable, 0),
    ] {
        let server = Server::start().await;
        server.plan(ATTRIBUTES, Fault::Refuse(reason), 1);
        let adopted = server
            .connect(&json!({}))
            .create_key(&cx(), &new_key(KeySpec::Aes256, Some(KEY)))
            .await;
        assert_eq!(
            (adopted.unwrap_err().kind, server.connections_of(LOCATE).len()),
            (kind, looked),
            "{reason:#x}"
        );
    }
}

#[tokio::test]
async fn a_vector_that_the_server_overwrites_is_the_one_that_is_kept() {
    let server = Server::start().await;
    let (provider, cx, context, dek) = (server.connect(&json!({})), cx(), context(), Secret::random(32));
    server.plan(ENCRYPT, Fault::OwnIv { told: true }, 1);
    let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    assert_eq!(GcmParts::parse(&wrapped.ciphertext).unwrap().iv, [9; 12]);
    assert_eq!(provider.unwrap_key(&cx, &wrapped, &context).await.unwrap(), dek);
}

#[tokio::test]
async fn a_key_is_confined_as_far_as_the_server_knows_how() {
    for (refusals, confined) in [(0, &[SENSITIVE, EXTRACTABLE][..]), (1, &[SENSITIVE]), (2, &[])] {
        for refusal in [Fault::Refuse(0x07), Fault::Refuse(0x1F), Fault::RefuseMessage(4)] {
            let server = Server::start().await;
            server.plan(CREATE, refusal, refusals);
            let made = server
                .connect(&json!({}))
                .create_key(&cx(), &new_key(KeySpec::Aes256, None))
                .await
                .unwrap();
            let created = server.created().unwrap();
            let found: Vec<u32> = created.into_iter().filter(|tag| [SENSITIVE, EXTRACTABLE].contains(tag)).collect();
            assert_eq!(found, confined);
            assert_eq!(made.versions[0].exposure, None::<Exposure>, "this server does not say");
        }
    }
    // Another refusal, no response, or none of KMIP's, is not tried again.
    for (fault, kind) in [
        (Fault::Refuse(0x0C), ErrorKind::ExternalDenied),
        (Fault::Refuse(0x100), ErrorKind::UpstreamUnavailable),
        (Fault::Close, ErrorKind::UpstreamUnavailable),
        (
            Fault::Raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec()),
            ErrorKind::UpstreamProtocol,
        ),
        (Fault::Raw(vec![0; 64]), ErrorKind::UpstreamProtocol),
    ] {
        let (server, cx) = (Server::start().await, cx());
        server.plan(CREATE, fault.clone(), 1);
        let error = server
            .connect(&json!({}))
            .create_key(&cx, &new_key(KeySpec::Aes256, None))
            .await
            .unwrap_err();
        assert_eq!((error.kind, server.connections_of(CREATE).len()), (kind, 1), "{fault:?}");
        let denied = matches!(fault, Fault::Refuse(0x0C));
        assert_eq!(cx.trace().is_unclear(), !denied, "{fault:?}: whether the key was made");
    }
}

/// Another server of a cluster may have a new key a moment later.
#[tokio::test]
async fn a_new_key_is_waited_for_until_it_is_found() {
    const NOT_FOUND: u32 = 0x01;
    let server = Server::start().await;
    server.plan(ATTRIBUTES, Fault::Refuse(NOT_FOUND), 3);
    let provider = server.connect(&json!({}));
    let made = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    assert_eq!((made.id.as_str(), made.state), (KEY, KeyState::Enabled));
    assert!(server.connections_of(ATTRIBUTES).len() > 3, "it was asked for again");
    assert_eq!(server.connections_of(CREATE).len(), 1);
}

/// The gateway may be killed between the two calls.
#[tokio::test]
async fn a_key_that_was_made_and_not_activated_is_found_and_finished() {
    let server = Server::start().await;
    let (provider, request) = (server.connect(&json!({})), new_key(KeySpec::Aes256, None));
    server.plan(ACTIVATE, Fault::Refuse(0x2A), 1);
    provider.create_key(&cx(), &request).await.unwrap_err();
    let repeated = KeyRequest { repeated: true, ..request };
    for _ in 0..2 {
        let found = provider.find_made(&cx(), &repeated).await.unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.state), (KEY, KeyState::Enabled));
    }
    assert_eq!(server.connections_of(ACTIVATE).len(), 2, "the refused one, and one more");
    assert_eq!(server.connections_of(CREATE).len(), 1);
}

#[tokio::test]
async fn wrong_wrapped_keys_cost_one_wrap_in_ten_seconds() {
    let server = Server::start().await;
    let (provider, cx, context, dek) = (server.connect(&json!({})), cx(), context(), Secret::random(32));
    let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    let begin = Instant::now();
    for _ in 0..8 {
        server.plan(DECRYPT, Fault::Refuse(0x100), 1);
        let error = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CiphertextRejected, "{error}");
    }
    // The data key's wrap, and a canary's in each ten seconds: a slow machine may need more than that.
    let most = 2 + begin.elapsed().as_secs() / 10;
    let wraps = server.connections_of(ENCRYPT).len();
    assert!(u64::try_from(wraps).unwrap() <= most, "{wraps}");
}

#[tokio::test]
async fn a_refusal_is_told_apart_from_a_fault_of_the_key() {
    let server = Server::start().await;
    let (provider, cx, context, dek) = (server.connect(&json!({})), cx(), context(), Secret::random(32));
    let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    for (reason, kind) in [
        (0x01, ErrorKind::KeyNotFound),
        (0x03, ErrorKind::ProviderDenied),
        (0x05, ErrorKind::Unsupported),
        (0x0C, ErrorKind::ExternalDenied),
        (0x1A, ErrorKind::ExternalDenied),
        (0x29, ErrorKind::KeyState),
        (0x2A, ErrorKind::UpstreamUnavailable),
        (0x36, ErrorKind::KeyState),
        (0x39, ErrorKind::ExternalDenied),
        (0x3A, ErrorKind::RateLimited),
        (0x43, ErrorKind::KeyState),
        // One that the specification does not have.
        (0x7FFF, ErrorKind::InvalidInput),
        // The key works, so it is the ciphertext.
        (0x0A, ErrorKind::CiphertextRejected),
        (0x100, ErrorKind::CiphertextRejected),
    ] {
        server.plan(DECRYPT, Fault::Refuse(reason), 1);
        let error = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
        assert_eq!(error.kind, kind, "{reason:#x}: {error}");
        assert!(error.upstream_code.is_some());
    }
    // The key does not work either, so nobody knows: the server is out of order.
    for reason in [0x0A, 0x100] {
        // One that knows of no canary that passed.
        let provider = server.connect(&json!({}));
        server.plan(DECRYPT, Fault::Refuse(reason), 2);
        let error = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamUnavailable, "{reason:#x}: {error}");
    }
    // A denial that the key's attributes do not explain stays one, also where they cannot be read.
    server.plan(DECRYPT, Fault::Refuse(0x0C), 1);
    server.plan(ATTRIBUTES, Fault::Refuse(0x0C), 1);
    let error = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ExternalDenied);
}
