//! The key manager is checked while the connection is in use, and the connection to it stays open.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger_provider::{
    BackgroundCalls, ConnectionId, ConnectionParts, ErrorKind, HealthReport, HealthState, Provider, ProviderCall, ProviderKind, Purpose,
    Secret, TenantId,
};
use claviger_provider_kmip::KmipProvider;
use claviger_testkit::connection::TENANT;
use serde_json::{Value, json};

use crate::responses::{DECRYPT, ENCRYPT, KEY, QUERY};
use crate::server::{Fault, Server, context, cx, kek};

/// The calls that served nobody's request.
#[derive(Default)]
struct Seen(Mutex<Vec<&'static str>>);

impl BackgroundCalls for Seen {
    fn called(&self, _: TenantId, _: ConnectionId, call: ProviderCall) {
        self.0.lock().unwrap().push(call.operation);
    }
}

struct Monitored {
    server: Server,
    provider: KmipProvider,
    report: HealthReport,
    seen: Arc<Seen>,
}

impl Monitored {
    async fn new(settings: &Value) -> Self {
        let server = Server::start().await;
        let report = HealthReport::new(TENANT, ConnectionId::random(), ProviderKind::Kmip);
        let seen = Arc::new(Seen::default());
        let provider = server.connect_parts(settings, |parts| ConnectionParts {
            health: report.clone(),
            background: Some(Arc::clone(&seen) as Arc<dyn BackgroundCalls>),
            ..parts
        });
        Self {
            server,
            provider,
            report,
            seen,
        }
    }

    async fn wrap(&self) {
        let wrapped = self.provider.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await;
        wrapped.unwrap();
    }

    /// Waits for a check that finds this.
    async fn until(&self, state: HealthState) {
        while self.report.status().is_none_or(|status| status.state != state) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Idle connections are closed after 15 s, and a silent one is checked each 10 s.
#[tokio::test]
async fn a_connection_in_use_stays_open() {
    let monitored = Monitored::new(&json!({})).await;
    assert_eq!(monitored.report.status(), None);
    monitored.wrap().await;
    // Each is reported once it is over, and so has given its connection back.
    let mut checked = None;
    for _ in 0..2 {
        while monitored.report.status().map(|status| status.checked) == checked {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        checked = monitored.report.status().map(|status| status.checked);
    }
    monitored.wrap().await;
    assert_eq!(monitored.server.opened(), 1);
    assert_eq!(monitored.report.status().unwrap().state, HealthState::Ok);
    assert_eq!(
        *monitored.seen.0.lock().unwrap(),
        ["Discover Versions", "Query"],
        "the second success is no news"
    );
}

#[tokio::test]
async fn what_a_check_finds_is_reported() {
    let working = async {
        // A server that lets the client ask nothing about itself responds all the same, and with a key of its owner's
        // it shows that it works.
        let monitored = Monitored::new(&json!({"canary_key": KEY})).await;
        monitored.server.plan(QUERY, Fault::Refuse(0x0C), 1);
        monitored.wrap().await;
        monitored.until(HealthState::Ok).await;
        let (encrypted, decrypted) = (monitored.server.connections_of(ENCRYPT), monitored.server.connections_of(DECRYPT));
        assert_eq!((encrypted.len(), decrypted.len()), (2, 1));
        assert_eq!(
            *monitored.seen.0.lock().unwrap(),
            ["Discover Versions", "Query", "Encrypt", "Decrypt"]
        );
    };
    // It says nothing of other keys that this one is refused.
    let refused = async {
        let monitored = Monitored::new(&json!({"canary_key": "absent"})).await;
        monitored.wrap().await;
        monitored.until(HealthState::Degraded).await;
        assert!(monitored.report.status().unwrap().advice.unwrap().contains("canary_key"));
    };
    let out_of_order = async {
        let monitored = Monitored::new(&json!({})).await;
        monitored.server.plan(QUERY, Fault::Refuse(0x2A), usize::MAX);
        monitored.wrap().await;
        monitored.until(HealthState::Failing).await;
        assert_eq!(monitored.report.status().unwrap().kind, Some(ErrorKind::UpstreamUnavailable));
    };
    tokio::join!(working, refused, out_of_order);
}

#[tokio::test]
async fn each_request_says_for_whom_and_for_what_it_is_made() {
    let server = Server::start().await;
    let provider = server.connect(&json!({"correlation": true}));
    let (cx, dek, context) = (cx().serving(Some(Purpose::Wrap)), Secret::random(32), context());
    provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    let expected = format!("request=test tenant={} principal=system operation=Wrap", cx.tenant);
    let justified = cx.justified_by(Some("ticket 4711 operation=Unwrap".to_owned()));
    provider.wrap_key(&justified, &kek(), &dek, &context).await.unwrap();
    let with_reason = format!("{expected} justification=ticket 4711 operation=Unwrap");
    // Discover Versions, which belongs to no call, has none.
    assert_eq!(server.correlations(), [expected, with_reason]);
}
