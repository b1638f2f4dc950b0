//! The fault battery: the fake behind a proxy that speaks plain HTTP, and one that speaks TLS and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_fake::Tls;
use claviger_fake_xks::{Keys, Transport};
use claviger_provider::{Call, Capabilities, Error, KeyRequest, KeySpec, Op, OpContext, Output, ProviderKind};
use claviger_test_support::fault_battery::{Case, MakeSubject, Subject, cases, tls_cases};
use claviger_test_support::proxy::{FaultProxy, Setup};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::bench::{Bench, connect};
use crate::runtime;

/// The budget of a call: two that time out end before the health check of the connection, which would use a socket.
const BUDGET_MS: u64 = 3000;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, encrypted: bool, case: Case| {
        Trial::test(format!("{name}::faults::{}", case.name), move || {
            let make: MakeSubject = Arc::new(move || Box::pin(subject(encrypted)));
            runtime()?.block_on(case.run(&make)).map_err(Failed::from)
        })
    };
    let plain = cases().into_iter().map(|case| trial("plain", false, case));
    let encrypted = cases().into_iter().chain(tls_cases()).map(|case| trial("tls", true, case));
    plain.chain(encrypted).collect()
}

async fn subject(encrypted: bool) -> Subject {
    let transport = if encrypted { Transport::Tls } else { Transport::Plain };
    let bench = Arc::new(Bench::start(transport, "/prefix").await);
    let upstream = bench.fake.url().replace("/prefix", "");
    let proxy = Setup::before(&upstream);
    let proxy = match bench.fake.tls() {
        Some(tls) => proxy.trusting(tls.ca_pem()).over_tls(Tls::new(&["::1"]).unwrap()),
        None => proxy,
    };
    let connect = move |proxy: &FaultProxy| {
        let mut settings = bench.settings_at(&format!("{}/prefix", proxy.url()), proxy.ca_pem().as_deref());
        settings["budget_ms"] = json!(BUDGET_MS);
        let provider: Arc<dyn Call> = Arc::new(WithOwner {
            keys: Arc::clone(bench.fake.keys()),
            inner: Arc::new(connect(&settings)),
            _fake: Arc::clone(&bench),
        });
        let connected: futures::future::BoxFuture<'static, Arc<dyn Call>> = Box::pin(async { provider });
        connected
    };
    Subject {
        spec: KeySpec::Aes256,
        proxy,
        connect: Arc::new(connect),
    }
}

/// The provider together with the owner of the keys: to create a key, the owner makes one and the gateway adopts it.
struct WithOwner {
    keys: Arc<Keys>,
    inner: Arc<dyn Call>,
    _fake: Arc<Bench>,
}

#[async_trait]
impl Call for WithOwner {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            create_key: true,
            ..self.inner.capabilities()
        }
    }

    fn budget(&self) -> Option<Duration> {
        self.inner.budget()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let Op::CreateKey { request } = op else {
            return self.inner.call(cx, op).await;
        };
        let request = KeyRequest {
            adopt: Some(self.keys.make_another()),
            ..request.clone()
        };
        self.inner.call(cx, Op::CreateKey { request: &request }).await
    }
}
