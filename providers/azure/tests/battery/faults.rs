//! The fault battery: the fake of Azure behind a proxy that speaks TLS and HTTP/2, as Key Vault does.

use std::sync::Arc;
use std::time::Duration;

use claviger_fake::Tls;
use claviger_provider::{BoundContext, Call, KeySpec, OpContext, Provider, Secret, SettingsOrigin, TenantId};
use claviger_provider_azure::Installation;
use claviger_test_support::fault_battery::{Case, MakeSubject, Subject, cases, tls_cases};
use claviger_test_support::proxy::{FaultProxy, Setup};
use claviger_testkit::connection::new_key;
use futures::FutureExt;
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::bench::{Bench, Place, client_secret};

pub fn trials() -> Vec<Trial> {
    let trial = |case: Case| {
        Trial::test(format!("faults::{}", case.name), move || {
            let make: MakeSubject = Arc::new(|| subject().boxed());
            runtime()?.block_on(case.run(&make)).map_err(Failed::from)
        })
    };
    let mut trials: Vec<Trial> = cases().into_iter().chain(tls_cases()).map(trial).collect();
    trials.push(Trial::test("faults::a_token_that_ended_by_azures_clock_is_replaced", || {
        runtime()?.block_on(a_token_that_ended_by_azures_clock_is_replaced());
        Ok(())
    }));
    trials
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

async fn subject() -> Subject {
    let bench = Arc::new(Bench::start().await);
    let proxy = Setup::before(&bench.fake.url())
        .trusting(bench.fake.ca_pem())
        .over_tls(Tls::new(&["::1"]).unwrap());
    let connect = move |proxy: &FaultProxy| {
        let bench = Arc::clone(&bench);
        let installation = Installation {
            vaults: vec![proxy.url()],
            managed_hsms: Vec::new(),
            authority: Some(proxy.url()),
            ..Installation::default()
        };
        let settings = json!({"vault": proxy.url(), "ca": proxy.ca_pem(), "auth": client_secret()});
        let provider: Arc<dyn Call> = Arc::new(bench.connect_as(&installation, &settings, SettingsOrigin::Tenant));
        async { provider }.boxed()
    };
    Subject {
        spec: KeySpec::Rsa3072,
        proxy,
        connect: Arc::new(connect),
    }
}

/// The token has expired by Azure's clock, but not by the gateway's.
pub async fn a_token_that_ended_by_azures_clock_is_replaced() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    let cx = OpContext::for_system("test", TenantId::random(), Duration::from_secs(60));
    let context = BoundContext::new(Default::default(), Vec::new());
    let request = new_key(KeySpec::Rsa3072, None);
    let key = provider.create_key(&cx, &request).await.unwrap();
    let kek = key.kek(request.key_id).unwrap();
    let wrapped = provider.wrap_key(&cx, &kek, &Secret::random(32), &context).await.unwrap();
    let logins = || bench.fake.switches().journal.count("POST", "/oauth2/v2.0/token");
    provider.unwrap_key(&cx, &wrapped, &context).await.unwrap();
    assert_eq!(logins(), 1);
    bench.fake.switches().clock.advance(Duration::from_secs(3600 + 600));
    for _ in 0..2 {
        provider.unwrap_key(&cx, &wrapped, &context).await.unwrap();
    }
    assert_eq!(logins(), 2);
}
