//! The faults of the field, through the pipeline.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::KeySpec;
use claviger_provider::layers::{BreakerConfig, BreakerState, Pipeline, PipelineConfig, RetryConfig};
use claviger_provider::{Call, ErrorKind, OpContext, Provider, Secret, SeverSwitch, TenantId, Wrapped};
use claviger_testkit::connection::new_key;
use futures::future::join_all;
use serde_json::json;

use crate::responses::{ATTRIBUTES, CREATE, DECRYPT};
use crate::server::{CertificateFiles, Certificates, Fault, PAST, Server, context, cx, kek, localhost_v6, with_ciphertext};

fn config() -> PipelineConfig {
    PipelineConfig {
        attempt_timeout: Duration::from_secs(1),
        retry: RetryConfig {
            base: Duration::from_millis(1),
            ..RetryConfig::default()
        },
        // No circuit opens: what it does is not asked here.
        breaker: BreakerConfig {
            consecutive_failures: u32::MAX,
            least_calls: u32::MAX,
            ..BreakerConfig::default()
        },
        ..PipelineConfig::default()
    }
}

/// A pipeline to the server, a data key, and the same wrapped.
pub async fn bench(server: &Server, config: &PipelineConfig) -> (Pipeline, Secret, Wrapped) {
    let provider: Arc<dyn Call> = Arc::new(server.connect(&json!({})));
    let pipeline = Pipeline::new(provider, config, SeverSwitch::default());
    let dek = Secret::random(32);
    let wrapped = pipeline.wrap_key(&cx(), &kek(), &dek, &context()).await.unwrap();
    (pipeline, dek, wrapped)
}

/// Opens as many connections as this many calls at once need.
async fn warm_up(pipeline: &Pipeline, wrapped: &Wrapped, callers: usize) {
    let calls = (0..callers).map(|_| async { pipeline.unwrap_key(&cx(), wrapped, &context()).await.unwrap() });
    join_all(calls).await;
}

#[tokio::test]
async fn each_fault_has_the_kind_that_it_has_on_every_provider() {
    let server = Server::start().await;
    let (pipeline, dek, wrapped) = bench(&server, &config()).await;
    let too_long = [&[0x42, 0, 0x7B, 1][..], &0x7FFF_FFF8_u32.to_be_bytes()].concat();
    for (fault, kind, attempts) in [
        (Fault::Half, ErrorKind::UpstreamUnavailable, 3),
        (Fault::Close, ErrorKind::UpstreamUnavailable, 3),
        (Fault::Hang, ErrorKind::UpstreamTimeout, 3),
        (Fault::Refuse(0x2A), ErrorKind::UpstreamUnavailable, 3),
        (Fault::Refuse(0x3A), ErrorKind::RateLimited, 3),
        (Fault::Raw(too_long), ErrorKind::UpstreamProtocol, 1),
        (
            Fault::Raw(vec![0x42, 0, 0x7B, 1, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
            ErrorKind::UpstreamProtocol,
            1,
        ),
        (Fault::OtherId, ErrorKind::UpstreamProtocol, 1),
    ] {
        let before = server.connections_of(DECRYPT).len();
        server.plan(DECRYPT, fault.clone(), attempts);
        let error = pipeline.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert_eq!(server.connections_of(DECRYPT).len() - before, attempts, "{fault:?}");
        assert_eq!(pipeline.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek, "{fault:?}");
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again() {
    let server = Server::start().await;
    let (pipeline, dek, wrapped) = bench(&server, &config()).await;
    server.plan(DECRYPT, Fault::Half, 1);
    assert_eq!(pipeline.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    assert_eq!(server.connections_of(DECRYPT).len(), 2);
}

#[tokio::test]
async fn no_response_comes_after_the_deadline() {
    let server = Server::start().await;
    let (pipeline, _, wrapped) = bench(&server, &config()).await;
    server.plan(DECRYPT, Fault::Hang, usize::MAX);
    let cx = OpContext::for_system("test", TenantId::random(), Duration::from_millis(300));
    let error = pipeline.unwrap_key(&cx, &wrapped, &context()).await.unwrap_err();
    assert!(error.kind == ErrorKind::UpstreamTimeout && cx.remaining().is_zero(), "{error}");
}

#[tokio::test]
async fn swallowed_sockets_cost_one_timeout() {
    let server = Server::start().await;
    let (pipeline, dek, wrapped) = bench(&server, &config()).await;
    warm_up(&pipeline, &wrapped, 16).await;
    let opened = server.opened();
    server.swallow_open();
    // One call after another: the first times out, and gives up all that was open.
    for _ in 0..4 {
        assert_eq!(pipeline.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    }
    assert_eq!(server.opened(), opened + 1);
}

#[tokio::test]
async fn many_callers_survive_a_failover() {
    let server = Server::start().await;
    let (pipeline, dek, wrapped) = bench(&server, &PipelineConfig::default()).await;
    warm_up(&pipeline, &wrapped, 32).await;
    server.swallow_open();
    let calls = (0..32).map(|_| async { pipeline.unwrap_key(&cx(), &wrapped, &context()).await });
    for opened in join_all(calls).await {
        assert_eq!(opened.unwrap(), dek);
    }
    assert_eq!(pipeline.breaker(), BreakerState::Closed);
}

#[tokio::test]
async fn a_server_that_was_restarted_is_called_again() {
    let server = Server::start().await;
    let (pipeline, dek, wrapped) = bench(&server, &config()).await;
    warm_up(&pipeline, &wrapped, 8).await;
    let (address, certificates) = server.stop().await;
    let error = pipeline.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamUnavailable);
    let _server = Server::start_on(address, certificates).await;
    assert_eq!(pipeline.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}

#[tokio::test]
async fn a_server_with_ipv6_alone_is_reached() {
    let server = Server::start_on((localhost_v6(), 0).into(), Arc::new(Certificates::new())).await;
    bench(&server, &config()).await;
}

#[tokio::test]
async fn a_change_has_a_connection_for_itself() {
    let server = Server::start().await;
    let (pipeline, ..) = bench(&server, &config()).await;
    pipeline.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let made = server.connections_of(CREATE);
    assert!(
        !server.connections_of(DECRYPT).is_empty() && made.len() == 1 && made[0] > 1,
        "{made:?}"
    );
    assert!(!server.connections_of(ATTRIBUTES).contains(&made[0]));
}

#[tokio::test]
async fn a_renewed_authority_is_named() {
    let server = Server::start().await;
    let provider = server.connect(&json!({}));
    provider.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await.unwrap();
    let (address, _) = server.stop().await;
    let _server = Server::start_on(address, Arc::new(Certificates::new())).await;
    let error = provider.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("`ca`"),
        "{error}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_named() {
    let server = Server::start().await;
    let wrap = async |settings| {
        let provider = server.connect(&settings);
        provider.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await
    };
    let auth = |(certificate, key)| json!({"auth": {"cert": {"certificate": certificate, "key": key}}});
    let error = wrap(auth(server.certificates.client_until(PAST))).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("client certificate"),
        "{error}"
    );
    wrap(auth(server.certificates.client())).await.unwrap();

    let mut certificates = Certificates::new();
    certificates.server_until = PAST;
    let expired = Server::start_on(([127, 0, 0, 1], 0).into(), Arc::new(certificates)).await;
    let provider = expired.connect(&json!({}));
    let error = provider.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("expired"),
        "{error}"
    );
    assert_eq!(expired.opened(), 0, "no request under an expired certificate");
}

#[tokio::test]
async fn a_replaced_certificate_file_is_read_at_the_next_connection() {
    let (server, strangers) = (Server::start().await, Certificates::new());
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(CertificateFiles(folder.path().to_owned()));
    let write = |(certificate, key): (String, String)| files.write(&certificate, &key).unwrap();
    write(server.certificates.client());
    let provider = server.connect_with(&json!({}), SeverSwitch::default(), Some(Arc::clone(&files) as Arc<_>));
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &kek(), &dek, &context()).await.unwrap();
    // The server ends the open connection, so that the next call opens one.
    let end = async || {
        server.plan(DECRYPT, Fault::Close, 1);
        provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    };
    end().await;
    write(strangers.client());
    let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), "{error}");
    std::fs::remove_file(folder.path().join("key")).unwrap();
    let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("file"),
        "{error}"
    );
    write(server.certificates.client());
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}

#[tokio::test]
async fn a_malformed_ciphertext_is_refused_without_a_call() {
    let server = Server::start().await;
    let provider = server.connect(&json!({}));
    for ciphertext in [
        vec![],
        vec![0x84],
        vec![0; 64],
        [&[0x84, 0x4c][..], &[1; 12], &[0x41, 2, 0x50], &[3; 16], &[0x41, 9]].concat(),
    ] {
        let error = provider
            .unwrap_key(&cx(), &with_ciphertext(ciphertext), &context())
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::CiphertextRejected);
    }
    // The gateway matches a key without versions by its id alone, so a forged version gets here.
    let sound = [&[0x84, 0x4c][..], &[1; 12], &[0x41, 2, 0x50], &[3; 16], &[0x40]].concat();
    let mut forged = with_ciphertext(sound);
    forged.key.version = "7".to_owned();
    let error = provider.unwrap_key(&cx(), &forged, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CiphertextRejected);
    assert_eq!(server.opened(), 0);
}
