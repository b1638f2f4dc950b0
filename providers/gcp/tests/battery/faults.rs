//! The fault battery: the fake of Google behind a proxy.

use std::sync::Arc;

use claviger_provider::{Call, KeySpec};
use claviger_test_support::fault_battery::{Case, MakeSubject, Subject, cases};
use claviger_test_support::proxy::{FaultProxy, Setup};
use futures::FutureExt;
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::runtime;
use crate::server::Server;

pub fn trials() -> Vec<Trial> {
    let trial = |case: Case| {
        Trial::test(format!("faults::{}", case.name), move || {
            let make: MakeSubject = Arc::new(|| subject().boxed());
            runtime().block_on(case.run(&make)).map_err(Failed::from)
        })
    };
    cases().into_iter().map(trial).collect()
}

async fn subject() -> Subject {
    let server = Arc::new(Server::start().await);
    let proxy = Setup::before(&server.fake.url());
    let connect = move |proxy: &FaultProxy| {
        let (server, url) = (Arc::clone(&server), proxy.url());
        let connected = async move {
            let connected = server.connect_at(&url, json!({"auth": {"token": "ya29.token"}})).await;
            Arc::new(connected.unwrap()) as Arc<dyn Call>
        };
        connected.boxed()
    };
    Subject {
        spec: KeySpec::Aes256,
        proxy,
        connect: Arc::new(connect),
    }
}
