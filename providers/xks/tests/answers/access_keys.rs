//! Two access keys, of which one signs, and which are replaced one after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use claviger_fake::{Act, Fault};
use claviger_fake_xks::AccessKey;
use claviger_provider::{ConnectionParts, ErrorKind, Factory, LoginReport, LoginState, Provider, Secret, SecretFiles, SettingsOrigin};
use claviger_provider_xks::XksProvider;
use claviger_testkit::connection::{login_report, parts};
use serde_json::{Value, json};

use crate::bench::factory;
use crate::fixture::{Fixture, context, cx, dek, kek};

fn both(fixture: &Fixture) -> Value {
    let mut settings = fixture.bench.settings();
    let second = AccessKey::second();
    settings["auth"]["sigv4"]["second"] = json!({"access_key_id": second.id, "secret_access_key": second.secret});
    settings
}

fn connect(settings: &Value, files: Option<Arc<dyn SecretFiles>>) -> (XksProvider, LoginReport) {
    let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
    let login = login_report();
    let parts = ConnectionParts {
        login: login.clone(),
        files,
        ..parts(&parsed.public, parsed.secrets)
    };
    (factory().provider(parts).unwrap(), login)
}

fn accept(fixture: &Fixture, keys: &[AccessKey]) {
    fixture.bench.fake.access().change(|settings| settings.access_keys = keys.to_vec());
}

/// The ids of the access keys that signed the requests since the last look; `None` for one that was refused.
fn signers(fixture: &Fixture) -> Vec<Option<String>> {
    let journal = &fixture.bench.fake.switches().journal;
    let requests = journal.all().into_iter().filter(|request| !request.path.ends_with("/health"));
    let signers = requests.map(|request| request.caller).collect();
    journal.clear();
    signers
}

fn state(login: &LoginReport) -> LoginState {
    login.status().unwrap().state
}

async fn wrap(provider: &XksProvider) -> Result<(), ErrorKind> {
    let wrapped = provider.wrap_key(&cx(), &kek(), &dek(), &context()).await;
    wrapped.map(drop).map_err(|error| error.kind)
}

#[tokio::test]
async fn the_other_access_key_takes_over_in_the_same_call() {
    let fixture = Fixture::new().await;
    let (provider, login) = connect(&both(&fixture), None);
    let [first, second] = [AccessKey::first(), AccessKey::second()];
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!((signers(&fixture), state(&login)), (vec![Some(first.id.clone())], LoginState::Ok));
    // The proxy's owner takes the first one back.
    accept(&fixture, std::slice::from_ref(&second));
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(
        (signers(&fixture), state(&login)),
        (vec![None, Some(second.id.clone())], LoginState::Ok)
    );
    // It stays, also when both are accepted again.
    accept(&fixture, &[first.clone(), second.clone()]);
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(signers(&fixture), [Some(second.id.clone())]);
    // And back: the owner takes the second one back.
    accept(&fixture, std::slice::from_ref(&first));
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(signers(&fixture), [None, Some(first.id)]);
}

/// Each request takes three quarters of the budget.
#[tokio::test]
async fn both_access_keys_have_one_budget() {
    let fixture = Fixture::new().await;
    let mut settings = both(&fixture);
    settings["budget_ms"] = json!(2000);
    let (provider, _) = connect(&settings, None);
    accept(&fixture, &[AccessKey::second()]);
    let slow = Fault::always("/encrypt", Act::Delay { milliseconds: 1500 });
    fixture.bench.fake.switches().faults.set(vec![slow]);
    assert_eq!(wrap(&provider).await, Err(ErrorKind::UpstreamTimeout));
}

#[tokio::test]
async fn sixty_four_callers_survive_a_switch() {
    let fixture = Fixture::new().await;
    let (provider, _) = connect(&both(&fixture), None);
    let provider = Arc::new(provider);
    wrap(&provider).await.unwrap();
    accept(&fixture, &[AccessKey::second()]);
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { wrap(&provider).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn that_no_access_key_is_accepted_is_told_and_not_repeated_for_each_call() {
    let fixture = Fixture::new().await;
    let (provider, login) = connect(&both(&fixture), None);
    accept(&fixture, &[]);
    assert_eq!(wrap(&provider).await, Err(ErrorKind::ProviderDenied));
    assert_eq!((signers(&fixture).len(), state(&login)), (2, LoginState::Refused));
    for _ in 0..3 {
        assert_eq!(wrap(&provider).await, Err(ErrorKind::ProviderDenied));
        assert_eq!((signers(&fixture).len(), state(&login)), (1, LoginState::Refused));
    }
    accept(&fixture, &[AccessKey::second()]);
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(state(&login), LoginState::Ok);
}

#[tokio::test]
async fn one_access_key_alone_is_tried_with_each_call() {
    let fixture = Fixture::new().await;
    let (provider, login) = connect(&fixture.bench.settings(), None);
    assert_eq!(login.status().map(|status| status.state), Some(LoginState::None));
    accept(&fixture, &[AccessKey::second()]);
    assert_eq!(wrap(&provider).await, Err(ErrorKind::ProviderDenied));
    assert_eq!((signers(&fixture), state(&login)), (vec![None], LoginState::Refused));
    accept(&fixture, &[AccessKey::first()]);
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(state(&login), LoginState::Ok);
}

/// A clock that is wrong is no reason to take the other access key, or to call one refused.
#[tokio::test]
async fn a_wrong_clock_switches_nothing() {
    let fixture = Fixture::new().await;
    let (provider, login) = connect(&both(&fixture), None);
    wrap(&provider).await.unwrap();
    signers(&fixture);
    fixture.bench.fake.switches().clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(wrap(&provider).await, Err(ErrorKind::Misconfigured));
    assert_eq!((signers(&fixture), state(&login)), (vec![None, None], LoginState::Ok));
}

/// Something in between sends dates of its own.
#[tokio::test]
async fn a_wrong_date_does_not_keep_the_other_access_key_from_taking_over() {
    let fixture = Fixture::new().await;
    accept(&fixture, &[AccessKey::first(), AccessKey::second()]);
    let (provider, _) = connect(&both(&fixture), None);
    wrap(&provider).await.unwrap();
    signers(&fixture);
    let refused = Act::Respond {
        status: 401,
        headers: BTreeMap::from([("date".to_owned(), "Tue, 14 Nov 2023 22:13:20 GMT".to_owned())]),
        body: json!({"errorName": "AuthenticationFailedException"}).to_string(),
    };
    fixture.bench.fake.switches().faults.set(vec![Fault::once("/encrypt", refused)]);
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(wrap(&provider).await, Ok(()));
    let second = Some(AccessKey::second().id);
    // Refused, tried with the other one, repeated with it, and the next call.
    assert_eq!(signers(&fixture), [None, second.clone(), second.clone(), second]);
}

/// The operator's files with the secrets.
struct Files(PathBuf);

impl SecretFiles for Files {
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    fn read(&self) -> Result<Vec<(String, Secret)>, String> {
        let content = std::fs::read(&self.0).map_err(|error| error.to_string())?;
        Ok(vec![("access_key".to_owned(), Secret::new(content))])
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_used() {
    let fixture = Fixture::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-key");
    let write = |key: &AccessKey| {
        // In one step, as whoever mounts secrets does it.
        let new = folder.path().join("new");
        std::fs::write(&new, format!("{}\n{}", key.id, key.secret)).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    write(&AccessKey::first());
    let (provider, login) = connect(&fixture.bench.settings(), Some(Arc::new(Files(path.clone()))));
    wrap(&provider).await.unwrap();
    accept(&fixture, &[AccessKey::second()]);
    write(&AccessKey::second());
    // The file is looked at once a second.
    while wrap(&provider).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(state(&login), LoginState::Ok);
}

#[tokio::test]
async fn a_file_that_is_missing_is_told_until_it_exists() {
    let fixture = Fixture::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-key");
    let (provider, login) = connect(&fixture.bench.settings(), Some(Arc::new(Files(path.clone()))));
    for _ in 0..2 {
        assert_eq!(wrap(&provider).await, Err(ErrorKind::Misconfigured));
    }
    assert_eq!((signers(&fixture).len(), state(&login)), (0, LoginState::Failing));
    let key = AccessKey::first();
    std::fs::write(&path, format!("{}\n{}", key.id, key.secret)).unwrap();
    assert_eq!(wrap(&provider).await, Ok(()));
    assert_eq!(state(&login), LoginState::Ok);
}
