//! Credentials: each kind, tokens that are refused, and wrong challenges.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use claviger_fake::Act;
use claviger_fake_azure::{Application, DIRECTORY};
use claviger_provider::{Algorithm, BoundContext, ErrorKind, Factory, KeySpec, Provider, ProviderKeyRef, Secret, SettingsOrigin, Wrapped};
use claviger_provider_azure::{AzureFactory, AzureProvider, Installation};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use wiremock::matchers::{header, method, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::bench::{Bench, CLIENT, Place, client_secret, egress};
use crate::fixture::{context, cx, fault, made, requests, response};

fn connect(bench: &Bench, auth: Value) -> AzureProvider {
    bench.connect_as(&bench.installation(), &bench.settings(Place::Hsm, auth), SettingsOrigin::Tenant)
}

async fn works(provider: &AzureProvider) {
    made(provider, KeySpec::Aes256).await;
}

async fn fails(provider: &AzureProvider) -> claviger_provider::Error {
    let request = crate::fixture::request(KeySpec::Aes256, None);
    provider.create_key(&cx(), &request).await.unwrap_err()
}

/// An RSA certificate and its key, as PEM.
fn certificate() -> (String, String) {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate = CertificateParams::new(vec!["application".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn each_kind_of_credential_gets_its_token() {
    let bench = Bench::start().await;
    let (certificate, key) = certificate();
    let application = Application {
        certificates: vec![certificate.clone()],
        federated: vec!["another.issuers.token".to_owned()],
        ..Application::default()
    };
    bench.fake.access().register("cccccccc-bbbb-cccc-dddd-eeeeeeeeeeee", application);
    let client_id = "cccccccc-bbbb-cccc-dddd-eeeeeeeeeeee";
    works(&connect(&bench, client_secret())).await;
    let signed = json!({"directory": DIRECTORY, "client_id": client_id, "certificate": certificate, "key": key});
    works(&connect(&bench, json!({"client_certificate": signed}))).await;
    let federated = json!({"directory": DIRECTORY, "client_id": client_id, "token": "another.issuers.token"});
    works(&connect(&bench, json!({"workload_identity": federated}))).await;
    bench.fake.access().permit("a-token", crate::fixture::ALL);
    works(&connect(&bench, json!({"static": {"token": "a-token"}}))).await;
    assert_eq!(bench.fake.access().issued(), 3);
}

#[tokio::test]
async fn one_token_is_for_all_calls() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let calls = (0..16).map(|_| async {
        let dek = Secret::random(32);
        let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    });
    futures::future::join_all(calls).await;
    assert_eq!(bench.fake.access().issued(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_in_mid_flight_is_replaced_once() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let wrapped = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
    bench.fake.access().revoke_all();
    provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap();
    assert_eq!(bench.fake.access().issued(), 2);
    // A new token that is refused is not replaced again and again.
    for _ in 0..3 {
        bench.fake.access().revoke_all();
        let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    }
    assert_eq!(bench.fake.access().issued(), 2);
}

#[tokio::test]
async fn a_refused_right_is_no_refused_token() {
    let bench = Bench::start().await;
    let limited = Application {
        secrets: vec![crate::bench::SECRET.to_owned()],
        permissions: Some(vec!["get".to_owned()]),
        ..Application::default()
    };
    bench.fake.access().register(CLIENT, limited);
    let provider = bench.connect(Place::Vault);
    for _ in 0..2 {
        let error = provider
            .create_key(&cx(), &crate::fixture::request(KeySpec::Rsa3072, None))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
        assert_eq!(error.upstream_code.as_deref(), Some("ForbiddenByRbac"));
    }
    assert_eq!(bench.fake.access().issued(), 1);
}

#[tokio::test]
async fn a_login_that_is_refused_says_what_to_do() {
    let bench = Bench::start().await;
    let of = |directory: &str, client_id: &str, secret: &str| json!({"client_secret": {"directory": directory, "client_id": client_id, "secret": secret}});
    let unknown = "99999999-bbbb-cccc-dddd-eeeeeeeeeeee";
    let (certificate, key) = certificate();
    let cases = [
        (of(DIRECTORY, CLIENT, "wrong"), "AADSTS7000215", "secret"),
        (of(DIRECTORY, unknown, "any"), "AADSTS700016", "does not know the application"),
        (of(unknown, CLIENT, "any"), "AADSTS90002", "no directory of that id"),
        (
            json!({"client_certificate": {"directory": DIRECTORY, "client_id": CLIENT, "certificate": certificate, "key": key}}),
            "AADSTS700027",
            "certificate",
        ),
        (
            json!({"workload_identity": {"directory": DIRECTORY, "client_id": CLIENT, "token": "nobodys.token"}}),
            "AADSTS700213",
            "federated credential",
        ),
    ];
    for (auth, code, says) in cases {
        // The vault's own challenge names its directory; this case is about the authority's response.
        let challenge = response(401, &[("www-authenticate", "Bearer resource=\"https://managedhsm.azure.net\"")], "");
        fault(&bench, "/keys/", challenge);
        let error = fails(&connect(&bench, auth)).await;
        assert_eq!(
            (error.kind, error.upstream_code.as_deref()),
            (ErrorKind::ProviderDenied, Some(code)),
            "{error}"
        );
        assert!(error.advice.unwrap().contains(says), "{code}: {:?}", error.advice);
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

/// The gateway's clock, by which it signs.
#[tokio::test]
async fn a_clock_ten_minutes_fast_is_named() {
    let bench = Bench::start().await;
    let (certificate, key) = certificate();
    let application = Application {
        certificates: vec![certificate.clone()],
        ..Application::default()
    };
    bench.fake.access().register(CLIENT, application);
    let signed = json!({"directory": DIRECTORY, "client_id": CLIENT, "certificate": certificate, "key": key});
    let provider = connect(&bench, json!({"client_certificate": signed}));
    let clock = &bench.fake.switches().clock;
    clock.set_back(Duration::from_secs(600));
    let error = fails(&provider).await;
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::ProviderDenied, Some("AADSTS700024")),
        "{error}"
    );
    assert!(error.advice.unwrap().contains("clock"), "{:?}", error.advice);
    clock.advance(Duration::from_secs(600));
    let request = crate::fixture::request(KeySpec::Aes256, None);
    provider.create_key(&cx().checking(), &request).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_is_out_of_order_is_told_as_such() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    for (act, kind) in [
        (response(429, &[], r#"{"error": "throttled"}"#), ErrorKind::RateLimited),
        (
            response(503, &[], r#"{"error": "temporarily_unavailable", "error_codes": [90033]}"#),
            ErrorKind::UpstreamUnavailable,
        ),
        (response(502, &[], "<html>"), ErrorKind::UpstreamUnavailable),
        (
            response(302, &[("location", "https://evil.example/")], ""),
            ErrorKind::UpstreamProtocol,
        ),
        (response(200, &[], "<html>"), ErrorKind::UpstreamProtocol),
        (response(400, &[], "<html>"), ErrorKind::UpstreamProtocol),
        (Act::Hang, ErrorKind::UpstreamTimeout),
    ] {
        fault(&bench, "oauth2", act.clone());
        let begin = Instant::now();
        let error = fails(&provider).await;
        assert_eq!(error.kind, kind, "{act:?}: {error}");
        // Three attempts of a login that gets no response.
        assert!(begin.elapsed() < Duration::from_secs(10), "{act:?}");
    }
    bench.fake.switches().faults.set(Vec::new());
    works(&provider).await;
}

#[tokio::test]
async fn a_challenge_for_something_else_is_not_answered() {
    let bench = Bench::start().await;
    let url = bench.fake.url();
    let of = |authority: &str, resource: &str| format!("Bearer authorization=\"{authority}\", resource=\"{resource}\"");
    let own = format!("{url}/{DIRECTORY}");
    for (challenge, says) in [
        (
            of("https://login.evil.example/x", "https://managedhsm.azure.net"),
            "another authority",
        ),
        (of(&own, "https://graph.microsoft.com"), "another resource"),
        (of(&own, "https://vault.azure.net"), "another resource"),
        (
            format!("Bearer scope=\"https://graph.microsoft.com/.default\", authorization=\"{own}\""),
            "another resource",
        ),
        (
            of(
                &format!("{url}/22222222-2222-3333-4444-555555555555"),
                "https://managedhsm.azure.net",
            ),
            "another directory",
        ),
    ] {
        fault(&bench, "/keys/", response(401, &[("www-authenticate", &challenge)], ""));
        let error = fails(&bench.connect(Place::Hsm)).await;
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{challenge}: {error}");
        assert!(error.advice.unwrap().contains(says), "{challenge}: {:?}", error.advice);
    }
    assert_eq!((requests(&bench, "POST", "oauth2"), bench.fake.access().issued()), (0, 0));
}

#[tokio::test]
async fn a_private_clouds_resource_is_the_operators_to_say() {
    let bench = Bench::start().await;
    bench.fake.access().ask_for("https://vault.internal.example/9d9b2a3c");
    let places = [(Place::Vault, KeySpec::Rsa3072), (Place::Hsm, KeySpec::Aes256)];
    for (place, spec) in places {
        let request = crate::fixture::request(spec, None);
        let error = bench.connect(place).create_key(&cx(), &request).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
        assert!(error.advice.unwrap().contains("vault_resource"), "{:?}", error.advice);
        assert_eq!((requests(&bench, "POST", "oauth2"), bench.fake.access().issued()), (0, 0));
    }
    // A slash at its end makes no difference.
    let told = Some("https://vault.internal.example/9d9b2a3c/".to_owned());
    let installation = Installation {
        vault_resource: told.clone(),
        managed_hsm_resource: told,
        ..bench.installation()
    };
    for (place, spec) in places {
        let settings = bench.settings(place, client_secret());
        made(&bench.connect_as(&installation, &settings, SettingsOrigin::Tenant), spec).await;
    }
    assert!(bench.fake.access().issued() >= 2);
    // It is that of the operator's vaults alone.
    let factory = AzureFactory::new(installation, egress());
    let wrapped = Wrapped {
        key: ProviderKeyRef {
            id: "https://acme.vault.azure.net/keys/orders".to_owned(),
            version: "0123456789abcdef0123456789abcdef".to_owned(),
        },
        algorithm: Algorithm::RsaOaep256,
        ciphertext: vec![0xff; 384],
        key_material: None,
        upstream_request_id: None,
    };
    let settings = json!({"vault": "https://acme.vault.azure.net/", "auth": {"static": {}}}).to_string();
    let context = BoundContext::new(BTreeMap::new(), vec![0xa0]);
    let commands = factory.offline_decrypt(&settings, KeySpec::Rsa3072, &wrapped, &context).join("\n");
    assert!(commands.contains("--resource https://vault.azure.net "), "{commands}");
}

#[tokio::test]
async fn a_token_of_a_file_is_read_when_it_is_needed() {
    let bench = Bench::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let application = Application {
        federated: vec!["second.token".to_owned()],
        ..Application::default()
    };
    bench.fake.access().register(CLIENT, application);
    let auth = json!({"workload_identity": {"directory": DIRECTORY, "client_id": CLIENT, "token_file": file}});
    let provider = bench.connect_as(&bench.installation(), &bench.settings(Place::Hsm, auth), SettingsOrigin::Operator);
    let error = fails(&provider).await;
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("file"),
        "{error}"
    );
    std::fs::write(&file, "first.token\n").unwrap();
    assert_eq!(fails(&provider).await.kind, ErrorKind::ProviderDenied);
    std::fs::write(&file, "second.token\n").unwrap();
    works(&provider).await;
}

#[tokio::test]
async fn the_operators_application_adopts_and_makes_nothing() {
    let bench = Bench::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{}\n", crate::bench::SECRET)).unwrap();
    let installation = Installation {
        application: Some(claviger_provider_azure::Application {
            client_id: CLIENT.to_owned(),
            secret_file: file,
        }),
        ..bench.installation()
    };
    let settings = bench.settings(Place::Vault, json!({"application": {"directory": DIRECTORY}}));
    let provider = bench.connect_as(&installation, &settings, SettingsOrigin::Tenant);
    let error = provider
        .create_key(&cx(), &crate::fixture::request(KeySpec::Rsa3072, None))
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::InvalidInput && error.advice.unwrap().contains("adopt it"),
        "{error}"
    );
    let name = crate::fixture::owners_key(&bench, &bench.fake.url(), json!({})).await;
    provider
        .create_key(&cx(), &crate::fixture::request(KeySpec::Rsa3072, Some(&name)))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_operators_secret_file_is_read_at_each_login() {
    let bench = Bench::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let installation = Installation {
        application: Some(claviger_provider_azure::Application {
            client_id: CLIENT.to_owned(),
            secret_file: file.clone(),
        }),
        ..bench.installation()
    };
    let settings = bench.settings(Place::Vault, json!({"application": {"directory": DIRECTORY}}));
    let provider = bench.connect_as(&installation, &settings, SettingsOrigin::Tenant);
    let adopt = async || {
        let name = crate::fixture::owners_key(&bench, &bench.fake.url(), json!({})).await;
        let request = crate::fixture::request(KeySpec::Rsa3072, Some(&name));
        provider.create_key(&cx(), &request).await
    };
    let error = adopt().await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("file"),
        "{error}"
    );
    std::fs::write(&file, format!("{}\n", crate::bench::SECRET)).unwrap();
    adopt().await.unwrap();

    let next = Application {
        secrets: vec!["the-next-secret".to_owned()],
        ..Application::default()
    };
    bench.fake.access().register(CLIENT, next);
    bench.fake.access().revoke_all();
    std::fs::write(&file, "the-next-secret\n").unwrap();
    adopt().await.unwrap();
}

/// Runs in a process of its own, with variables that must not be used.
#[tokio::test]
#[ignore = "run by nothing_of_the_environment_is_used"]
async fn among_strange_variables() {
    let bench = Bench::start().await;
    works(&bench.connect(Place::Hsm)).await;
    let callers: Vec<_> = bench
        .fake
        .switches()
        .journal
        .all()
        .into_iter()
        .filter_map(|request| request.caller)
        .collect();
    assert!(!callers.is_empty() && callers.iter().all(|caller| caller == CLIENT), "{callers:?}");
}

/// Runs in a process of its own, with a managed identity in the form of App Service.
#[tokio::test]
#[ignore = "run by a_machines_identity_is_the_operators"]
async fn on_a_machine_with_an_identity() {
    let bench = Bench::start().await;
    bench.fake.access().permit("of-the-machine", crate::fixture::ALL);
    let settings = bench.settings(Place::Hsm, json!({"managed_identity": {}}));
    works(&bench.connect_as(&bench.installation(), &settings, SettingsOrigin::Operator)).await;
}

fn alone(test: &str, variables: &[(&str, String)]) {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_environment_is_used() {
    let trap = MockServer::builder().start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "a.federated.token").unwrap();
    let variables = [
        ("AZURE_AUTHORITY_HOST", trap.uri().replace("http", "https")),
        ("AZURE_TENANT_ID", "99999999-2222-3333-4444-555555555555".to_owned()),
        ("AZURE_CLIENT_ID", "99999999-bbbb-cccc-dddd-eeeeeeeeeeee".to_owned()),
        ("AZURE_CLIENT_SECRET", "another".to_owned()),
        ("AZURE_FEDERATED_TOKEN_FILE", folder.path().join("token").display().to_string()),
        ("IDENTITY_ENDPOINT", trap.uri()),
        ("IDENTITY_HEADER", "another".to_owned()),
        ("HTTP_PROXY", trap.uri()),
        ("http_proxy", trap.uri()),
        ("HTTPS_PROXY", trap.uri()),
        ("https_proxy", trap.uri()),
        ("ALL_PROXY", trap.uri()),
    ];
    alone("credentials::among_strange_variables", &variables);
    assert!(trap.received_requests().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_identity_is_the_operators() {
    let endpoint = MockServer::builder().start().await;
    let given = json!({"access_token": "of-the-machine", "expires_on": "4000000000", "resource": "r", "token_type": "Bearer"});
    Mock::given(method("GET"))
        .and(header("x-identity-header", "the-header"))
        .and(query_param("resource", "https://managedhsm.azure.net"))
        .respond_with(ResponseTemplate::new(200).set_body_json(given))
        .expect(1..)
        .mount(&endpoint)
        .await;
    let variables = [
        ("IDENTITY_ENDPOINT", format!("{}/msi/token", endpoint.uri())),
        ("IDENTITY_HEADER", "the-header".to_owned()),
    ];
    alone("credentials::on_a_machine_with_an_identity", &variables);
}
