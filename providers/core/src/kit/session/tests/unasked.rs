//! Renewals that no call asks for.

use std::time::Duration;

use tokio::time::sleep;

use super::{Bench, FakeResponse, MINUTE};
use crate::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_nothing_could_replace_is_renewed_without_a_call() {
    let bench = Bench::with(true, None);
    bench.number().await.unwrap();
    sleep(60 * MINUTE).await;
    let renewed = bench.source().logins();
    assert!((7..=10).contains(&renewed), "{renewed}");
    let unused = Bench::new();
    unused.number().await.unwrap();
    sleep(60 * MINUTE).await;
    assert_eq!(unused.source().logins(), 1);
}

/// A server that says how long a credential lives does not decide how often it is asked, once nobody uses it.
#[tokio::test(start_paused = true)]
async fn what_is_unused_is_renewed_at_the_gateways_own_pace() {
    let bench = Bench::with(true, None);
    *bench.source().life.lock() = (2 * SECOND, SECOND);
    for _ in 0..60 {
        bench.number().await.unwrap();
        sleep(2 * SECOND).await;
    }
    let used = bench.source().logins();
    assert!(used >= 60, "in use it is renewed before each end: {used}");
    sleep(60 * SECOND).await;
    let before = bench.source().logins();
    sleep(60 * MINUTE).await;
    assert!(bench.source().logins() <= before + 1, "and ends where that is too seldom");
    bench.number().await.unwrap();

    let longer = Bench::with(true, None);
    *longer.source().life.lock() = (40 * SECOND, 10 * SECOND);
    longer.number().await.unwrap();
    sleep(2 * MINUTE).await;
    let before = longer.source().logins();
    sleep(10 * MINUTE).await;
    let renewed = longer.source().logins() - before;
    assert!((19..=20).contains(&renewed), "{renewed}");
    let last = longer.source().logins();
    assert_eq!(longer.number().await.unwrap(), last, "it lives");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_tenants_credential_is_renewed_after_the_resume() {
    let bench = Bench::with(true, None);
    bench.number().await.unwrap();
    bench.shares.suspend(bench.tenant, true);
    sleep(9 * MINUTE).await;
    assert_eq!(bench.number().await.unwrap(), 1, "a platform operator's call renews nothing either");
    bench.let_tasks_wait().await;
    assert_eq!(bench.source().logins(), 1);
    bench.shares.suspend(bench.tenant, false);
    sleep(5 * SECOND).await;
    assert_eq!((bench.source().logins(), bench.number().await.unwrap()), (2, 2));
    // One under way ends with the suspension, and another begins after it.
    bench.source().answers(FakeResponse::Hang);
    sleep(8 * MINUTE).await;
    assert_eq!(bench.source().logins(), 3);
    bench.shares.suspend(bench.tenant, true);
    bench.source().answers(FakeResponse::Token);
    sleep(MINUTE).await;
    assert_eq!(bench.source().logins(), 3);
    bench.shares.suspend(bench.tenant, false);
    sleep(5 * SECOND).await;
    assert_eq!((bench.source().logins(), bench.number().await.unwrap()), (4, 4));
    // A login that such a call needs is made, and one that began before ends.
    let later = Bench::new();
    let held = later.source().gate.acquire().await.unwrap();
    let suspend = async {
        later.let_tasks_wait().await;
        later.shares.suspend(later.tenant, true);
    };
    let (ended, ()) = tokio::join!(later.kind(), suspend);
    assert_eq!(ended, ErrorKind::Severed);
    drop(held);
    assert_eq!(later.number().await.unwrap(), 2);
}
