//! A severed connection sends nothing: neither calls nor logins, though its token has ended.

use claviger_fake::Act;
use claviger_provider::{Error, ErrorKind, Kek, KeySpec, Provider, Secret, SettingsOrigin, SeverSwitch};
use claviger_provider_azure::AzureProvider;
use serde_json::json;

use crate::bench::{Bench, Place, client_secret};
use crate::fixture::{context, cx, fault, made};

const TOKEN: &str = "oauth2/v2.0/token";

/// A connection whose tokens end at once, and a key of it.
async fn connected(bench: &Bench) -> (AzureProvider, Kek, SeverSwitch) {
    let patch = json!({"expires_in": 0, "ext_expires_in": 0});
    fault(bench, TOKEN, Act::Change { patch });
    let settings = bench.settings(Place::Hsm, client_secret());
    let switch = SeverSwitch::default();
    let provider = Bench::connect_severable(&bench.installation(), &settings, SettingsOrigin::Tenant, None, switch.clone());
    let kek = made(&provider, KeySpec::Aes256).await;
    (provider, kek, switch)
}

async fn wrap(provider: &AzureProvider, kek: &Kek) -> Result<(), Error> {
    provider.wrap_key(&cx(), kek, &Secret::random(32), &context()).await.map(drop)
}

fn requests(bench: &Bench) -> usize {
    bench.fake.switches().journal.all().len()
}

#[tokio::test]
async fn no_token_is_fetched_and_nothing_called() {
    let bench = Bench::start().await;
    let (provider, kek, switch) = connected(&bench).await;
    let issued = bench.fake.access().issued();
    wrap(&provider, &kek).await.unwrap();
    assert!(
        bench.fake.access().issued() > issued,
        "each call fetches a token, since the last one has ended"
    );
    let before = requests(&bench);
    switch.sever();
    for _ in 0..3 {
        assert_eq!(wrap(&provider, &kek).await.unwrap_err().kind, ErrorKind::Severed);
    }
    assert_eq!(requests(&bench), before);
}

#[tokio::test]
async fn a_login_under_way_leads_to_no_call() {
    let bench = Bench::start().await;
    let (provider, kek, switch) = connected(&bench).await;
    fault(&bench, TOKEN, Act::Delay { milliseconds: 1000 });
    bench.fake.switches().journal.clear();
    let cut = async {
        while requests(&bench) == 0 {
            tokio::task::yield_now().await;
        }
        switch.sever();
        switch.stopped().await;
    };
    let (result, ()) = tokio::join!(wrap(&provider, &kek), cut);
    assert_eq!(result.unwrap_err().kind, ErrorKind::Severed);
    assert_eq!(requests(&bench), 1);
}
