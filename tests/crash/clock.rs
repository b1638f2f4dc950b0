//! A clock that was set back: tokens that had expired by the log's time stay expired.

use claviger_test_support::{Gateway, Tune, records};
use libtest_mimic::Trial;
use serde_json::json;

use crate::lifted::append;
use crate::run;

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("clock::a_token_that_expired_by_the_log_s_time_stays_expired", || {
        run(set_back())
    })]
}

async fn set_back() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default());
    started.operator().get("/v1/tenants").await.expect_status(200);
    started.kill();
    // A record of the time before the clock was set back, when the administrator's token had expired.
    let all = records(&gateway.data());
    let read = all
        .into_iter()
        .rev()
        .find(|record| record["kind"] == "outcome" && record["change"].is_null());
    let mut read = read.expect("a record");
    read["time"] = json!("2099-01-01T00:00:00.000000Z");
    append(&gateway, read);

    for _ in 0..2 {
        let started = gateway.serve(&Tune::default());
        started.operator().get("/v1/tenants").await.expect_status(401);
        assert!(started.output().contains("--accept-clock"), "{}", started.output());
        started.kill();
    }
    let accepting = Tune {
        arguments: vec!["--accept-clock".to_owned()],
        ..Tune::default()
    };
    for tune in [accepting, Tune::default()] {
        let started = gateway.serve(&tune);
        started.operator().get("/v1/tenants").await.expect_status(200);
        started.kill();
    }
}
