//! The fault battery: OpenBao behind a proxy, plain and over TLS with HTTP/2.

use std::sync::Arc;

use claviger_fake::Tls;
use claviger_provider::{Call, KeySpec};
use claviger_test_support::fault_battery::{MakeSubject, Subject, cases, tls_cases};
use claviger_test_support::proxy::{FaultProxy, Setup};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::run;
use crate::server::Server;

pub fn trials(name: &str, server: &Arc<Server>) -> Vec<Trial> {
    let trial = |case: claviger_test_support::fault_battery::Case| {
        let server = Arc::clone(server);
        Trial::test(format!("{name}::faults::{}", case.name), move || {
            let make: MakeSubject = Arc::new(move || {
                let subject = subject(&server);
                Box::pin(async { subject })
            });
            run(async move { case.run(&make).await.map_err(Failed::from) })
        })
    };
    let of_tls = if server.is_encrypted() { tls_cases() } else { Vec::new() };
    cases().into_iter().chain(of_tls).map(trial).collect()
}

fn subject(server: &Arc<Server>) -> Subject {
    let proxy = Setup::before(&server.address);
    let proxy = match server.is_encrypted() {
        true => proxy.trusting(&server.file("ca.pem")).over_tls(Tls::new(&["::1"]).unwrap()),
        false => proxy,
    };
    let server = Arc::clone(server);
    let connect = move |proxy: &FaultProxy| {
        let settings = json!({"address": proxy.url(), "ca": proxy.ca_pem(), "auth": {"token": server.token}});
        let provider: Arc<dyn Call> = Arc::new(server.connect_with(settings));
        let connected: futures::future::BoxFuture<'static, Arc<dyn Call>> = Box::pin(async { provider });
        connected
    };
    Subject {
        spec: KeySpec::Aes256,
        proxy,
        connect: Arc::new(connect),
    }
}
