//! The commands that unwrap a data key without the gateway, run by a shell against the fake.

use std::process::Command;

use claviger_fake_xks::{AccessKey, Transport};
use claviger_provider::{Factory, KeySpec, SettingsOrigin};

use crate::bench::factory;
use crate::fixture::{Fixture, context, dek};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_unwraps_a_data_key() {
    for transport in [Transport::Plain, Transport::Tls, Transport::MutualTls] {
        let fixture = Fixture::over(transport).await;
        let wrapped = fixture.wrap().await.unwrap();
        let mut settings = fixture.bench.settings();
        if transport == Transport::Tls {
            settings["auth"]["sigv4"].as_object_mut().unwrap().remove("client_certificate");
        }
        let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        let commands = factory().offline_decrypt(&parsed.public, KeySpec::Aes256, &wrapped, &context());
        let key = AccessKey::first();
        let script = commands
            .join("\n")
            .replace("ACCESS_KEY_ID:SECRET_ACCESS_KEY", &format!("{}:{}", key.id, key.secret));
        let folder = tempfile::tempdir().unwrap();
        if let Some(tls) = fixture.bench.fake.tls() {
            let (certificate, key) = tls.client_certificate("offline").unwrap();
            std::fs::write(folder.path().join("client.pem"), certificate).unwrap();
            std::fs::write(folder.path().join("client-key.pem"), key).unwrap();
        }
        let output = tokio::task::spawn_blocking(move || {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &script])
                .current_dir(folder.path())
                .env("NO_PROXY", "*")
                .output()
                .unwrap()
        })
        .await
        .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let expected = base64(dek().expose());
        assert_eq!(
            printed.trim_end(),
            expected,
            "{transport:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn what_another_provider_wrapped_has_no_commands() {
    let fixture = Fixture::new().await;
    let mut wrapped = fixture.wrap().await.unwrap();
    wrapped.algorithm = claviger_provider::Algorithm::ProviderOpaque;
    let parsed = factory()
        .parse(&fixture.bench.settings().to_string(), SettingsOrigin::Tenant)
        .unwrap();
    let commands = factory().offline_decrypt(&parsed.public, KeySpec::Aes256, &wrapped, &context());
    assert!(commands.is_empty());
}
