//! The check of a connection.

use std::time::Duration;

use claviger_provider::{ErrorKind, Finding, OpContext, Probe, Provider, RightReport, TenantId};
use serde_json::json;

use crate::responses::{DECRYPT, DISCOVER, ENCRYPT, QUERY};
use crate::server::{Fault, Server, cx, kek};

#[tokio::test]
async fn a_check_says_what_is_wrong_with_the_server() {
    let server = Server::start().await;
    let provider = server.connect(&json!({}));
    // Of two keys, one that does not exist takes nothing from the other.
    let mut absent = kek();
    absent.key.id = "no-such-key".to_owned();
    let probe = provider.probe(&cx(), &[absent, kek()]).await.unwrap();
    let canaries: Vec<Finding> = probe
        .rights
        .iter()
        .filter(|right| right.operation == "canary")
        .map(|right| right.finding)
        .collect();
    assert!(
        probe.problem.is_none() && canaries == [Finding::Failed, Finding::Granted],
        "{canaries:?}"
    );
    server.plan(DISCOVER, Fault::Hang, usize::MAX);
    let fresh = server.connect(&json!({}));
    let cx = OpContext::for_system("test", TenantId::random(), Duration::from_secs(1));
    let problem = fresh.probe(&cx, &[kek()]).await.unwrap().problem.unwrap();
    assert_eq!(problem.kind, ErrorKind::UpstreamTimeout);
    server.stop().await;
    let problem = provider.probe(&cx_of_a_check(), &[kek()]).await.unwrap().problem.unwrap();
    assert_eq!(problem.kind, ErrorKind::UpstreamUnavailable);
}

fn cx_of_a_check() -> OpContext {
    cx().checking()
}

fn canary(probe: &Probe) -> &RightReport {
    probe.rights.iter().find(|right| right.operation == "canary").unwrap()
}

#[tokio::test]
async fn a_key_that_may_not_decrypt_any_more_is_told() {
    let server = Server::start().await;
    let provider = server.connect(&json!({}));
    assert_eq!(canary(&provider.probe(&cx(), &[kek()]).await.unwrap()).finding, Finding::Granted);
    server.permit(4);
    let encrypted = server.connections_of(ENCRYPT).len();
    let probe = provider.probe(&cx(), &[kek()]).await.unwrap();
    let canary = canary(&probe);
    assert!(
        canary.finding == Finding::Failed && canary.advice.as_ref().unwrap().contains("Usage Mask"),
        "{canary:?}"
    );
    assert_eq!(server.connections_of(ENCRYPT).len(), encrypted, "nothing is wrapped with it");
}

#[tokio::test]
async fn a_denial_names_what_the_key_manager_has_to_permit_and_no_policy() {
    for (operation, reason) in [(ENCRYPT, 0x0C), (DECRYPT, 0x39), (DECRYPT, 0x14), (DECRYPT, 0x1A)] {
        let server = Server::start().await;
        server.plan(operation, Fault::Refuse(reason), usize::MAX);
        let probe = server.connect(&json!({})).probe(&cx(), &[kek()]).await.unwrap();
        let canary = canary(&probe);
        let advice = canary.advice.as_ref().unwrap();
        assert_eq!((canary.finding, &probe.policy), (Finding::Denied, &None), "{canary:?}");
        assert!(advice.contains("key manager") && !advice.contains("policy"), "{canary:?}");
    }
}

/// Lengths of the whole response, and of a part of it, beyond what was sent.
#[tokio::test]
async fn lengths_that_overflow_are_told() {
    let message = |length: u32, rest: &[u8]| [&[0x42, 0, 0x7B, 1][..], &length.to_be_bytes(), rest].concat();
    let header = |length: u32| [&[0x42, 0, 0x7A, 1][..], &length.to_be_bytes(), &[0; 8]].concat();
    for (bytes, at_first) in [
        (message(0x7FFF_FFF8, &[]), ErrorKind::UpstreamProtocol),
        (message(0xFFFF_FFF8, &[]), ErrorKind::UpstreamProtocol),
        (message(16, &header(0xFFFF_FFF8)), ErrorKind::UpstreamProtocol),
        (message(16, &header(16)), ErrorKind::UpstreamProtocol),
        // No length of a structure.
        (message(0xFFFF_FFFF, &[]), ErrorKind::Misconfigured),
    ] {
        for (operation, kind) in [(DISCOVER, at_first), (QUERY, ErrorKind::UpstreamProtocol)] {
            let server = Server::start().await;
            server.plan(operation, Fault::Raw(bytes.clone()), 1);
            let problem = server.connect(&json!({})).probe(&cx(), &[]).await.unwrap().problem.unwrap();
            assert_eq!(problem.kind, kind, "{problem}");
        }
    }
}
