//! What a session does without a call while its tenant is suspended.

use std::time::Duration;

use tokio::time::sleep;

use super::{Bench, FakeResponse, MINUTE, secret_file};

const SECOND: Duration = Duration::from_secs(1);
/// How often one attempt asks a server that is away.
const PER_ATTEMPT: u32 = 3;

impl Bench {
    fn suspend(&self, suspended: bool) {
        self.shares.note_suspended(self.tenant, suspended);
    }
}

/// A server that says how long a credential lives does not decide how often it is called for a suspended tenant.
#[tokio::test(start_paused = true)]
async fn what_nothing_could_replace_is_renewed_at_the_gateways_own_pace() {
    let bench = Bench::with(true, None);
    *bench.source().life.lock() = (40 * SECOND, 10 * SECOND);
    bench.number().await.unwrap();
    sleep(MINUTE).await;
    bench.suspend(true);
    sleep(MINUTE).await;
    let before = bench.source().logins();
    sleep(10 * MINUTE).await;
    let renewed = bench.source().logins() - before;
    assert!((19..=20).contains(&renewed), "{renewed}");
    let last = bench.source().logins();
    assert_eq!(bench.number().await.unwrap(), last, "it lives");
    bench.suspend(false);
    sleep(30 * SECOND).await;
    let before = bench.source().logins();
    sleep(MINUTE).await;
    assert!(bench.source().logins() - before >= 5, "after the resume at the server's pace");

    // Nor does it by renewals that fail, of which there would be more and more towards the end.
    let failing = Bench::with(true, None);
    failing.number().await.unwrap();
    failing.suspend(true);
    sleep(6 * MINUTE).await;
    failing.source().answers(FakeResponse::Away);
    sleep(6 * MINUTE).await;
    let asked = failing.source().logins() - 1;
    assert!((1..=PER_ATTEMPT * 6).contains(&asked), "{asked}");

    let short = Bench::with(true, None);
    *short.source().life.lock() = (2 * SECOND, SECOND);
    short.number().await.unwrap();
    short.suspend(true);
    sleep(10 * MINUTE).await;
    assert_eq!(short.source().logins(), 1, "one that is shorter than the pace ends");
    short.suspend(false);
    short.number().await.unwrap();
    let before = short.source().logins();
    sleep(10 * SECOND).await;
    assert!(short.source().logins() - before >= 5, "the next one lives");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_file_waits_for_the_resume() {
    let path = secret_file("first");
    let bench = Bench::with(false, Some(path.clone()));
    bench.number().await.unwrap();
    bench.suspend(true);
    std::fs::write(&path, "another").unwrap();
    sleep(MINUTE).await;
    assert_eq!(bench.source().logins(), 1);
    bench.suspend(false);
    while bench.source().logins() == 1 {
        sleep(SECOND).await;
    }
    std::fs::remove_file(&path).unwrap();
}
