//! The fault battery: moto and LocalStack behind a proxy.

use std::sync::Arc;

use claviger_provider::{Call, KeySpec};
use claviger_test_support::fault_battery::{Case, MakeSubject, Subject};
use claviger_test_support::proxy::{FaultProxy, Setup};
use futures::FutureExt;

use crate::server::{REGION, Server, access_key};

pub async fn run(server: Server, case: Case) {
    let make: MakeSubject = Arc::new(move || std::future::ready(subject(server)).boxed());
    if let Err(failure) = case.run(&make).await {
        panic!("{failure}");
    }
}

fn subject(server: Server) -> Subject {
    let connect = move |proxy: &FaultProxy| {
        let url = proxy.url();
        let connected = async move { Arc::new(server.connect_at(url, access_key(), REGION).await) as Arc<dyn Call> };
        connected.boxed()
    };
    Subject {
        spec: KeySpec::Aes256,
        proxy: Setup::before(&server.address().unwrap()),
        connect: Arc::new(connect),
    }
}
