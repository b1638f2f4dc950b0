//! The proxy is checked while the connection is in use, and the connection to it stays open.

use std::sync::Arc;
use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_fake_xks::{Key, Transport};
use claviger_provider::{
    BackgroundCalls, ConnectionId, ConnectionParts, ErrorKind, Factory, HealthReport, HealthState, Provider, ProviderCall, ProviderKind,
    SettingsOrigin, TenantId,
};
use claviger_provider_xks::XksProvider;
use claviger_testkit::connection::parts;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::bench::factory;
use crate::fixture::{Fixture, KEY, TENANT, context, cx, dek, kek};

/// The calls that served nobody's request.
#[derive(Default)]
struct Seen(Mutex<Vec<&'static str>>);

impl BackgroundCalls for Seen {
    fn called(&self, _: TenantId, _: ConnectionId, call: ProviderCall) {
        self.0.lock().push(call.operation);
    }
}

struct Monitored {
    fixture: Fixture,
    provider: XksProvider,
    report: HealthReport,
    seen: Arc<Seen>,
}

impl Monitored {
    async fn new(transport: Transport, canary_key: Option<&str>) -> Self {
        let fixture = Fixture::over(transport).await;
        let mut settings = fixture.bench.settings();
        if let Some(key) = canary_key {
            settings["canary_key"] = json!(key);
        }
        let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        let (report, seen) = (
            HealthReport::new(TENANT, ConnectionId::random(), ProviderKind::Xks),
            Arc::new(Seen::default()),
        );
        let parts = ConnectionParts {
            health: report.clone(),
            background: Some(Arc::clone(&seen) as Arc<dyn BackgroundCalls>),
            ..parts(&parsed.public, parsed.secrets)
        };
        Self {
            provider: factory().provider(parts).unwrap(),
            fixture,
            report,
            seen,
        }
    }

    async fn wrap(&self) {
        self.provider.wrap_key(&cx(), &kek(), &dek(), &context()).await.unwrap();
    }

    /// Waits for a check that finds this.
    async fn until(&self, state: HealthState) {
        while self.report.status().is_none_or(|status| status.state != state) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The operations of the requests that named no logical key or one that nobody has.
    fn checks(&self) -> Vec<Value> {
        let requests = self.fixture.bench.fake.switches().journal.all();
        let metadata = requests.into_iter().map(|request| request.body["requestMetadata"].clone());
        let checks = metadata.filter(|metadata| metadata["kmsRequestId"].as_str().unwrap().starts_with("health-"));
        checks.map(|metadata| metadata["kmsOperation"].clone()).collect()
    }
}

/// Idle connections are closed after 15 s, and a silent one is checked each 10 s.
#[tokio::test]
async fn a_connection_in_use_stays_open_over_http_1_and_2() {
    let both = [Transport::Plain, Transport::Tls].map(|transport| async move {
        let monitored = Monitored::new(transport, None).await;
        monitored.wrap().await;
        // Until the second check ended. A further call could find the connection with a check that goes on.
        while monitored.report.status().is_none_or(|status| status.checked == status.since) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(monitored.fixture.bench.fake.connections(), 1, "{transport:?}");
        assert_eq!(monitored.checks(), ["KmsHealthCheck", "KmsHealthCheck"]);
        assert_eq!(*monitored.seen.0.lock(), ["health"], "the second success is no news");
    });
    futures::future::join_all(both).await;
}

#[tokio::test]
async fn a_connection_that_never_worked_is_not_checked() {
    let (never, works) = (
        Monitored::new(Transport::Plain, None).await,
        Monitored::new(Transport::Plain, None).await,
    );
    never.fixture.bench.fake.keys().remove(KEY);
    let (cx, dek) = (cx(), dek());
    never.provider.wrap_key(&cx, &kek(), &dek, &context()).await.unwrap_err();
    works.wrap().await;
    // One that began before would be checked before the other is for the second time.
    while works.checks().len() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(never.checks().len(), 0);
}

#[tokio::test]
async fn key_managers_that_do_not_work_are_reported() {
    let monitored = Monitored::new(Transport::Plain, None).await;
    assert_eq!(monitored.report.status(), None);
    monitored.wrap().await;
    let fleet = |states: &[&str]| {
        let states = states.iter().map(ToString::to_string).collect();
        monitored.fixture.bench.fake.access().change(|settings| settings.fleet = states);
    };
    fleet(&["ACTIVE", "DEGRADED"]);
    monitored.until(HealthState::Degraded).await;
    assert!(monitored.report.status().unwrap().advice.is_some());
    fleet(&["UNAVAILABLE"]);
    monitored.until(HealthState::Failing).await;
    let status = monitored.report.status().unwrap();
    assert_eq!((status.kind, status.advice.is_some()), (Some(ErrorKind::UpstreamUnavailable), true));
}

/// A proxy that is well, before a key manager that denies the call.
#[tokio::test]
async fn a_key_of_its_own_shows_whether_the_key_manager_works() {
    let monitored = Monitored::new(Transport::Plain, Some("canary")).await;
    let keys = monitored.fixture.bench.fake.keys();
    keys.put("canary", Key::new(&["ENCRYPT", "DECRYPT"]));
    monitored.wrap().await;
    monitored.until(HealthState::Ok).await;
    assert_eq!(monitored.checks(), ["KmsHealthCheck", "Encrypt", "Decrypt"]);
    let none = "00".repeat(16);
    let [sent] = &monitored.fixture.bodies("/keys/canary/encrypt")[..] else {
        panic!("one encryption")
    };
    assert!(
        sent["requestMetadata"]["kmsKeyArn"]
            .as_str()
            .unwrap()
            .ends_with(&format!(":key/{none}"))
    );
    assert_eq!(*monitored.seen.0.lock(), ["health", "keys/encrypt", "keys/decrypt"]);

    // It says nothing of other keys that this one is refused.
    let other = Monitored::new(Transport::Plain, Some("absent")).await;
    other.wrap().await;
    other.until(HealthState::Degraded).await;
    let status = other.report.status().unwrap();
    assert!(status.kind.is_none() && status.advice.unwrap().contains("canary_key"), "{status:?}");
}

#[tokio::test]
async fn a_key_manager_that_does_not_serve_its_own_key_fails() {
    let monitored = Monitored::new(Transport::Plain, Some("canary")).await;
    monitored.fixture.bench.fake.keys().make("canary");
    monitored.wrap().await;
    let broken = Fault::always("/keys/canary/decrypt", Act::Unavailable);
    monitored.fixture.bench.fake.switches().faults.set(vec![broken]);
    monitored.until(HealthState::Failing).await;
    assert_eq!(monitored.report.status().unwrap().kind, Some(ErrorKind::UpstreamTimeout));
}
