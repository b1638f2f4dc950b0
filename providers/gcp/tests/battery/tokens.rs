//! Every kind of credential, on a fake with accounts.

use std::collections::BTreeMap;
use std::time::Duration;

use claviger_fake_google::{Access, Account, Pool};
use claviger_provider::{ErrorKind, KeySpec, Provider, Secret};
use rcgen::{KeyPair, RsaKeySize};
use serde_json::{Value, json};

use crate::server::{RING, Server, context, cx, new_key, primary};

const KEYED: &str = "keyed@acme-1.iam.gserviceaccount.com";
const CUSTOMER: &str = "kms@customer-1.iam.gserviceaccount.com";
const WORKLOAD: &str = "principal://iam.googleapis.com/pool/subject/claviger";
const AUDIENCE: &str = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/own";

fn everything() -> BTreeMap<String, Vec<String>> {
    [("projects/acme-1".to_owned(), vec!["*".to_owned()])].into()
}

struct World {
    server: Server,
    key: KeyPair,
    access: Access,
}

async fn world() -> World {
    let server = Server::start().await;
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let accounts = [
        (
            KEYED.to_owned(),
            Account {
                public_key: Some(key.public_key_pem()),
                grants: everything(),
                ..Account::default()
            },
        ),
        (
            CUSTOMER.to_owned(),
            Account {
                grants: everything(),
                impersonators: vec![KEYED.to_owned(), WORKLOAD.to_owned()],
                ..Account::default()
            },
        ),
        (
            WORKLOAD.to_owned(),
            Account {
                tokens: vec!["ya29.static".to_owned()],
                grants: everything(),
                ..Account::default()
            },
        ),
    ];
    let pool = Pool {
        subjects: [("e30.e30.sig".to_owned(), WORKLOAD.to_owned())].into(),
    };
    let access = Access {
        accounts: accounts.into(),
        pools: [(AUDIENCE.to_owned(), pool)].into(),
    };
    server.fake.set_access(Some(access.clone()));
    World { server, key, access }
}

fn key_file(key: &KeyPair, account: &str) -> Value {
    // In the form of Google's key files, URLs included.
    json!({
        "type": "service_account", "project_id": "acme-1", "private_key_id": "0123", "private_key": key.serialize_pem(),
        "client_email": account, "client_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/keyed", "universe_domain": "googleapis.com",
    })
}

fn workload() -> Value {
    json!({"workload_identity": {"audience": AUDIENCE, "subject_token": "e30.e30.sig"}})
}

pub async fn each_credential_is_used_as_it_is() {
    let world = world().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "e30.e30.sig\n").unwrap();
    let from_file = json!({"workload_identity": {"audience": AUDIENCE, "token_file": file.path()}});
    let keyed = json!({"service_account_key": key_file(&world.key, KEYED)});
    let impersonate = |base: &Value| json!({"impersonate": {"service_account": CUSTOMER, "base": base}});
    for (auth, caller) in [
        (json!({"token": "ya29.static"}), WORKLOAD),
        (keyed.clone(), KEYED),
        (workload(), WORKLOAD),
        (from_file, WORKLOAD),
        (impersonate(&keyed), CUSTOMER),
        (impersonate(&workload()), CUSTOMER),
    ] {
        let journal = &world.server.fake.switches().journal;
        journal.clear();
        let provider = world.server.connect_with(json!({"auth": auth})).await.unwrap();
        assert_eq!(journal.all(), [], "nothing is reached before it is needed");
        let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
        let dek = Secret::random(32);
        let wrapped = provider.wrap_key(&cx(), &primary(&key), &dek, &context()).await.unwrap();
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
        let requests = journal.all();
        let of_kms = requests.iter().filter(|request| request.path.contains(RING));
        assert!(of_kms.clone().count() >= 3);
        assert!(
            of_kms.clone().all(|request| request.caller.as_deref() == Some(caller)),
            "{caller}: {requests:?}"
        );
        // One exchange for all calls.
        assert!(journal.count("POST", "/v1/token") <= 1 && journal.count("POST", ":generateAccessToken") <= 1);
    }
}

pub async fn a_dropped_token_is_replaced_in_mid_flight() {
    let world = world().await;
    let provider = world.server.connect_with(json!({"auth": workload()})).await.unwrap();
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let (kek, dek) = (primary(&key), Secret::random(32));
    let journal = &world.server.fake.switches().journal;
    world.server.fake.end_tokens();
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert_eq!(journal.count("POST", "/v1/token"), 2);

    // The customer revokes the permission to impersonate and grants it again.
    let base = json!({"service_account_key": key_file(&world.key, KEYED)});
    let auth = json!({"impersonate": {"service_account": CUSTOMER, "base": base}});
    let impersonating = world.server.connect_with(json!({"auth": auth})).await.unwrap();
    assert_eq!(impersonating.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    let mut revoked = world.access.clone();
    revoked.accounts.get_mut(CUSTOMER).unwrap().impersonators.clear();
    world.server.fake.set_access(Some(revoked));
    let error = impersonating.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    assert!(error.advice.unwrap().contains("serviceAccountTokenCreator"), "{:?}", error.advice);
    world.server.fake.set_access(Some(world.access));
    // The refusal is remembered for a while, but not by a check.
    let check = cx().checking();
    assert_eq!(impersonating.unwrap_key(&check, &wrapped, &context()).await.unwrap(), dek);

    // The token has expired by Google's clock, but not by the gateway's.
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    let before = journal.count("POST", "/v1/token");
    world.server.fake.switches().clock.advance(Duration::from_secs(3700));
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    assert!(journal.count("POST", "/v1/token") > before);
}

/// The gateway's clock, by which it signs tokens with a service account's key.
pub async fn a_clock_ten_minutes_fast_is_named() {
    let world = world().await;
    let auth = json!({"service_account_key": key_file(&world.key, KEYED)});
    let provider = world.server.connect_with(json!({"auth": auth})).await.unwrap();
    let clock = &world.server.fake.switches().clock;
    clock.set_back(Duration::from_secs(600));
    let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    assert!(error.advice.unwrap().contains("clock"), "{:?}", error.advice);
    let problem = provider.probe(&cx().checking(), &[]).await.unwrap().problem.unwrap();
    assert!(problem.advice.unwrap().contains("clock"), "{problem}");
    clock.advance(Duration::from_secs(600));
    provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
}

/// As Kubernetes' projected tokens, which live for minutes.
pub async fn a_token_file_is_read_at_each_login() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let auth = json!({"workload_identity": {"audience": AUDIENCE, "token_file": file}});
    let provider = world.server.connect_with(json!({"auth": auth})).await.unwrap();
    let created = async || provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await;
    let error = created().await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("file"),
        "{error}"
    );
    std::fs::write(&file, "e30.e30.sig\n").unwrap();
    created().await.unwrap();
    let mut next = world.access.clone();
    let pool = next.pools.get_mut(AUDIENCE).unwrap();
    pool.subjects = [("e30.e30.next".to_owned(), WORKLOAD.to_owned())].into();
    world.server.fake.set_access(Some(next));
    world.server.fake.end_tokens();
    std::fs::write(&file, "e30.e30.next\n").unwrap();
    created().await.unwrap();
}

pub async fn credentials_that_are_refused_say_so() {
    let world = world().await;
    let stranger = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let unknown = json!({"workload_identity": {"audience": AUDIENCE, "subject_token": "e30.e30.other"}});
    let missing = json!({"workload_identity": {"audience": AUDIENCE, "token_file": "/no/such/file"}});
    for (auth, kind, says) in [
        (json!({"token": "ya29.unknown"}), ErrorKind::ProviderDenied, "new secrets"),
        (
            json!({"service_account_key": key_file(&stranger, KEYED)}),
            ErrorKind::ProviderDenied,
            "new secrets",
        ),
        (unknown, ErrorKind::ProviderDenied, "pool's provider"),
        (missing, ErrorKind::Misconfigured, "token file"),
        (
            json!({"impersonate": {"service_account": KEYED, "base": workload()}}),
            ErrorKind::ProviderDenied,
            "serviceAccountTokenCreator",
        ),
    ] {
        let provider = world.server.connect_with(json!({"auth": auth})).await.unwrap();
        let error = provider.probe(&cx(), &[]).await.unwrap().problem.unwrap();
        assert_eq!(error.kind, kind, "{says}: {error}");
        assert!(
            error.advice.is_some_and(|advice| advice.contains(says)),
            "{says}: {:?}",
            error.advice
        );
        assert!(!error.to_string().contains("ya29") && !error.to_string().contains("e30"), "{error}");
    }
}
