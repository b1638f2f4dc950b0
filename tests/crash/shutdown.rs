//! SIGTERM: `/readyz` reports it first, accepted requests are finished, and the log is closed cleanly.

use claviger_test_support::{Answer, Gateway, Tune, records};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::verify::Record;

/// The items of the requests in progress at the signal.
const ITEMS: usize = 400;
const REQUESTS: usize = 4;

/// The signal comes as soon as the gateway says that it serves.
pub fn at_once() {
    let gateway = Gateway::new(crate::BINARY);
    for _ in 0..20 {
        assert!(gateway.serve(&Tune::default()).terminate(), "an end in order");
    }
    let mut record = Record::default();
    record.read_on(&gateway.data());
    assert_eq!(record.unclean, 0);
}

pub async fn graceful() {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&Tune::default().set("CLAVIGER_SERVER__DRAIN_DELAY", "1s"));
    let client = started.with_tenant("acme").await;
    client
        .post("/v1/keys", &json!({"name": "orders", "connection": "embedded"}))
        .await
        .expect_status(201);
    assert_eq!(started.operator().get("/readyz").await.expect_status(200)["ready"], true);

    let items = vec![json!({"key": "orders"}); ITEMS];
    let requests: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let client = client.clone();
            let body = json!({"items": items});
            tokio::spawn(async move { client.post("/v1/batch/data-keys", &body).await })
        })
        .collect();
    // They are in progress once the gateway counts them.
    let operator = started.operator();
    while in_flight(&operator.get("/metrics").await) < REQUESTS as f64 {
        assert!(!requests[0].is_finished(), "the requests ended before the signal");
        tokio::task::yield_now().await;
    }
    started.signal(Signal::TERM);
    // Not ready, but still serving: a load balancer sees it before connections are refused.
    let part = loop {
        let ready = operator.get("/readyz").await;
        if ready.status == 503 {
            assert_eq!(ready.body["ready"], false);
            break ready.body["parts"].as_array().expect("parts")[0].clone();
        }
        assert_eq!(ready.status, 200, "{}", ready.text);
    };
    assert_eq!((&part["name"], &part["state"]), (&json!("listener"), &json!("draining")));
    client.get("/v1/keys/orders").await.expect_status(200);

    for request in requests {
        let answer = request.await.expect("an answer").expect_status(200);
        let items = answer["items"].as_array().expect("items");
        assert_eq!(items.len(), ITEMS);
        assert!(items.iter().all(|item| item["wrapped"].is_string()), "an item failed: {answer}");
    }
    let address = started.address();
    assert!(started.wait(), "an exit with success");
    let late = operator.try_send(operator.request(Method::GET, "/healthz")).await;
    assert!(late.is_none(), "something still listens on {address}");

    let started = gateway.serve(&Tune::default());
    assert!(started.terminate());
    let mut record = Record::default();
    record.read_on(&gateway.data());
    record.assert_nothing_open();
    assert_eq!(record.unclean, 0, "an end in order needs no restarted record");
    let made = records(&gateway.data());
    let made = made.iter().filter(|record| record["operation"] == "GenerateDataKey").count();
    assert_eq!(made, ITEMS * REQUESTS, "each item has its record");
}

fn in_flight(metrics: &Answer) -> f64 {
    let lines = metrics.text.lines();
    let gauge = lines.filter_map(|line| line.strip_prefix("claviger_http_requests_in_flight "));
    gauge.filter_map(|value| value.trim().parse::<f64>().ok()).sum()
}
