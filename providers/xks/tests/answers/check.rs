//! The check of a connection.

use claviger_fake::{Act, Fault};
use claviger_fake_xks::{AccessKey, Denial, Key};
use claviger_provider::{ErrorKind, Finding, Kek, Probe, Provider};
use serde_json::{Value, json};

use crate::bench::connect;
use crate::fixture::{Fixture, KEY, cx, kek};

async fn check(fixture: &Fixture, keks: &[Kek]) -> Probe {
    fixture.provider.probe(&cx().checking(), keks).await.unwrap()
}

fn findings(probe: &Probe) -> Vec<(&str, Finding)> {
    probe.rights.iter().map(|right| (right.operation, right.finding)).collect()
}

fn problem(probe: &Probe) -> Option<ErrorKind> {
    probe.problem.as_ref().map(|problem| problem.kind)
}

#[tokio::test]
async fn each_right_is_tried_by_itself() {
    let fixture = Fixture::new().await;
    let probe = check(&fixture, &[kek()]).await;
    assert_eq!(problem(&probe), None);
    assert_eq!(probe.detail, "XKS proxy: Claviger, fake for tests, Claviger");
    let granted = |operation| (operation, Finding::Granted);
    assert_eq!(findings(&probe), [granted("health"), granted("describe"), granted("canary")]);
    let policy: Value = serde_json::from_str(&probe.policy.unwrap()).unwrap();
    assert_eq!(policy["externalKeyId"], json!([KEY]));
    assert_eq!(findings(&check(&fixture, &[]).await), [granted("health")]);
}

#[tokio::test]
async fn what_the_owner_denies_is_named() {
    let fixture = Fixture::new().await;
    for (operation, expected) in [
        ("DescribeKey", [Finding::Denied, Finding::Granted]),
        ("Decrypt", [Finding::Granted, Finding::Denied]),
    ] {
        let denial = Denial {
            member: "kmsOperation".to_owned(),
            value: operation.to_owned(),
        };
        fixture.bench.fake.access().change(|settings| settings.denials = vec![denial]);
        let probe = check(&fixture, &[kek()]).await;
        assert_eq!(problem(&probe), None, "{operation}");
        let found: Vec<Finding> = probe.rights.iter().skip(1).map(|right| right.finding).collect();
        assert_eq!(found, expected, "{operation}");
        let denied = probe.rights.iter().find(|right| right.finding == Finding::Denied).unwrap();
        assert!(denied.advice.is_some() && denied.how.contains(KEY), "{denied:?}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_told_with_what_to_do() {
    let fixture = Fixture::new().await;
    let keys = fixture.bench.fake.keys();
    keys.put(KEY, Key::new(&["ENCRYPT"]));
    let probe = check(&fixture, &[kek()]).await;
    assert_eq!(problem(&probe), None);
    let told = probe.rights.iter().filter_map(|right| right.advice.as_deref()).collect::<Vec<_>>();
    assert!(told.iter().all(|advice| advice.contains("DECRYPT")) && told.len() >= 2, "{told:?}");
    keys.make(KEY);
    keys.change(KEY, |key| key.enabled = false);
    let probe = check(&fixture, &[kek()]).await;
    assert!(
        probe
            .rights
            .iter()
            .any(|right| right.advice.as_deref().is_some_and(|advice| advice.contains("disabled")))
    );
    assert_eq!(problem(&probe), None);
    keys.remove(KEY);
    let probe = check(&fixture, &[kek()]).await;
    assert!(findings(&probe).contains(&("canary", Finding::Failed)));
}

#[tokio::test]
async fn the_key_managers_behind_the_proxy_are_looked_at() {
    let fixture = Fixture::new().await;
    for (fleet, finding, expected) in [
        (&["ACTIVE", "ACTIVE"][..], Finding::Granted, None),
        (&["ACTIVE", "DEGRADED"], Finding::Failed, None),
        (&["ACTIVE", "UNAVAILABLE"], Finding::Failed, None),
        (
            &["UNAVAILABLE", "UNAVAILABLE"],
            Finding::Failed,
            Some(ErrorKind::UpstreamUnavailable),
        ),
        (&[], Finding::Failed, Some(ErrorKind::UpstreamUnavailable)),
    ] {
        let fleet: Vec<String> = fleet.iter().map(ToString::to_string).collect();
        fixture.bench.fake.access().change(|settings| settings.fleet = fleet.clone());
        let probe = check(&fixture, &[]).await;
        assert_eq!((probe.rights[0].finding, problem(&probe)), (finding, expected), "{fleet:?}");
    }
}

#[tokio::test]
async fn a_connection_that_does_not_work_has_a_problem_with_what_to_do() {
    let fixture = Fixture::new().await;
    fixture
        .bench
        .fake
        .access()
        .change(|settings| settings.access_keys = vec![AccessKey::second()]);
    let probe = check(&fixture, &[kek()]).await;
    assert_eq!(problem(&probe), Some(ErrorKind::ProviderDenied));
    fixture
        .bench
        .fake
        .access()
        .change(|settings| settings.access_keys = vec![AccessKey::first()]);
    fixture.bench.fake.switches().clock.advance(std::time::Duration::from_secs(600));
    let probe = check(&fixture, &[kek()]).await;
    assert_eq!(problem(&probe), Some(ErrorKind::Misconfigured));
    assert!(probe.problem.unwrap().advice.unwrap().contains("clock"));

    let fixture = Fixture::new().await;
    let mut settings = fixture.bench.settings();
    settings["address"] = json!(fixture.bench.fake.url().replace("/prefix", "/other"));
    let probe = connect(&settings).probe(&cx(), &[kek()]).await.unwrap();
    assert_eq!(problem(&probe), Some(ErrorKind::Misconfigured));
    assert!(probe.problem.unwrap().advice.unwrap().contains("/kms/xks/v1"));
}

#[tokio::test]
async fn a_check_of_many_keys_is_no_burst() {
    let fixture = Fixture::new().await;
    let switches = fixture.bench.fake.switches();
    switches.faults.set(vec![Fault::always("", Act::Delay { milliseconds: 200 })]);
    let keks = vec![kek(); 16];
    let mut probe = std::pin::pin!(check(&fixture, &keks));
    let mut most = 0;
    let probe = loop {
        tokio::select! {
            probe = &mut probe => break probe,
            () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {
                let under_way = switches.journal.all().iter().filter(|request| request.status.is_none()).count();
                most = most.max(under_way);
            }
        }
    };
    assert_eq!(findings(&probe).len(), 2 + keks.len());
    // Two calls for each of four keys, and the proxy's health.
    assert!((1..=9).contains(&most), "{most}");
}

#[tokio::test]
async fn one_call_that_hangs_takes_nothing_from_the_others() {
    let fixture = Fixture::new().await;
    let mut settings = fixture.bench.settings();
    settings["budget_ms"] = json!(1000);
    let fixture = Fixture {
        provider: connect(&settings),
        ..fixture
    };
    fixture
        .bench
        .fake
        .switches()
        .faults
        .set(vec![Fault::always("/metadata", Act::Hang)]);
    let probe = check(&fixture, &[kek()]).await;
    assert_eq!(problem(&probe), None);
    let expected = [
        ("health", Finding::Granted),
        ("describe", Finding::Failed),
        ("canary", Finding::Granted),
    ];
    assert_eq!(findings(&probe), expected);
}
