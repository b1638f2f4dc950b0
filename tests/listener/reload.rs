//! A certificate that is exchanged under a gateway at work: the real binary, over HTTPS.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use claviger::config::server::TlsFiles;
use claviger_test_support::{Gateway, Started, Tune};
use rustix::process::Signal;
use serde_json::Value;

use crate::setup::{Certificate, PATIENCE, Speaks, certificate_until, client};

fn serve(gateway: &Gateway, files: &TlsFiles) -> Started {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let tune = Tune::default()
        .set("CLAVIGER_SERVER__TLS__CERTIFICATE", text(&files.certificate))
        .set("CLAVIGER_SERVER__TLS__KEY", text(&files.key));
    gateway.serve(&tune)
}

fn gateway() -> Gateway {
    Gateway::new(env!("CARGO_BIN_EXE_claviger"))
}

/// A service endpoint's answer; `None` where the handshake failed.
async fn get(client: &reqwest::Client, started: &Started, path: &str) -> Option<String> {
    let url = format!("https://localhost:{}{path}", started.address().port());
    client.get(url).bearer_auth(started.token()).send().await.ok()?.text().await.ok()
}

/// Whether a new connection is met with this certificate.
async fn presents(started: &Started, certificate: &Certificate) -> bool {
    let stranger = client(Some(certificate), Speaks::Both);
    get(&stranger, started, "/healthz").await.is_some()
}

/// Waits until a new connection is met with this certificate.
async fn until_presented(started: &Started, certificate: &Certificate) {
    until(|| presents(started, certificate), started).await;
}

async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F, started: &Started) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "it does not come to that:\n{}", started.output());
    }
}

/// The state of the part `certificate` in `/readyz`.
async fn state(client: &reqwest::Client, started: &Started) -> String {
    let ready: Value = serde_json::from_str(&get(client, started, "/readyz").await.unwrap()).unwrap();
    assert_eq!(ready["ready"], true, "{ready}");
    let parts = ready["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "certificate").unwrap();
    part["state"].as_str().unwrap().to_owned()
}

fn copy(from: &Certificate, to: &TlsFiles) {
    fs::copy(&from.files.certificate, &to.certificate).unwrap();
    fs::copy(&from.files.key, &to.key).unwrap();
}

#[tokio::test]
async fn a_hang_up_signal_has_the_new_certificate_presented_and_cuts_nobody() {
    let (gateway, first, second) = (gateway(), certificate_until(2041), certificate_until(2042));
    let started = serve(&gateway, &first.files);
    let early = client(Some(&first), Speaks::Http1);
    assert_eq!(state(&early, &started).await, "expires 2041-01-01T00:00:00Z");
    let gauge = "claviger_tls_certificate_expires_seconds{listener=\"api\"} ";
    assert!(
        get(&early, &started, "/metrics")
            .await
            .unwrap()
            .contains(&format!("{gauge}2240611200"))
    );

    copy(&second, &first.files);
    started.signal(Signal::HUP);
    until_presented(&started, &second).await;
    assert!(!presents(&started, &first).await, "the first one is presented still");
    // This client takes the first certificate alone: its connection is the old one.
    assert_eq!(state(&early, &started).await, "expires 2042-01-01T00:00:00Z");
    let metrics = get(&early, &started, "/metrics").await.unwrap();
    for line in [
        format!("{gauge}2272147200"),
        "claviger_tls_certificate_reads_total{listener=\"api\",result=\"taken\"} ".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(started.terminate());
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_seen_without_a_signal() {
    let (gateway, first, second) = (gateway(), certificate_until(2041), certificate_until(2042));
    // As Kubernetes lays a secret out: the names stay, the folder behind them is exchanged whole.
    let mount = tempfile::tempdir().unwrap();
    let at = |name: &str| mount.path().join(name);
    symlink(first.folder(), at("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), at(name)).unwrap();
    }
    let files = TlsFiles {
        certificate: at("tls.crt"),
        key: at("tls.key"),
    };
    let started = serve(&gateway, &files);
    assert!(presents(&started, &first).await);
    symlink(second.folder(), at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    until_presented(&started, &second).await;
    assert!(started.terminate());
}

#[tokio::test]
async fn a_pair_that_does_not_fit_is_told_and_leaves_the_one_before_it() {
    let (gateway, first, second) = (gateway(), certificate_until(2041), certificate_until(2042));
    let started = serve(&gateway, &first.files);
    let operator = client(Some(&first), Speaks::Both);
    let refused = "expires 2041-01-01T00:00:00Z; the changed files cannot be used, see the log";
    let kept = fs::read(&first.files.key).unwrap();
    for (key, told) in [
        (&b"not a key"[..], "holds no usable private key as PEM"),
        (&fs::read(&second.files.key).unwrap(), "certificate and key cannot be used together"),
    ] {
        fs::write(&first.files.key, key).unwrap();
        started.signal(Signal::HUP);
        until(|| async { started.output().contains(told) }, &started).await;
        assert_eq!(state(&operator, &started).await, refused);
        assert!(presents(&started, &first).await);
    }
    fs::remove_file(&first.files.key).unwrap();
    started.signal(Signal::HUP);
    until(|| async { started.output().contains("cannot be read (no such file)") }, &started).await;
    assert!(presents(&started, &first).await);
    let said = started.output();
    assert!(said.contains("what_to_do") && said.contains("tls.crt"), "{said}");
    assert!(!said.contains("not a key") && !said.contains("PRIVATE"), "{said}");
    let metrics = get(&operator, &started, "/metrics").await.unwrap();
    assert!(!metrics.contains("result=\"taken\""), "{metrics}");

    // The same pair again is as good as before, and no signal is needed for it.
    fs::write(&first.files.key, kept).unwrap();
    let operator = &operator;
    until(
        || async { state(operator, &started).await == "expires 2041-01-01T00:00:00Z" },
        &started,
    )
    .await;
    copy(&second, &first.files);
    until_presented(&started, &second).await;
    assert!(started.terminate());
}
