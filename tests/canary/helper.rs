//! The memory of the helper process that calls a PKCS#11 module: between calls it holds no data key, no context and
//! no PIN, although the module is a vendor's.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use claviger_test_support::Gateway;
use claviger_test_support::faulty::Switch;
use claviger_test_support::softhsm::{Declared, PIN, SOFTHSM, VARIABLES, helpers};
use serde_json::json;

use crate::forms::{Canaries, Sort};
use crate::kept::silent;
use crate::memory::{SETTLED, callers, hits, is_clean, print, settled};
use crate::operations::Caller;

/// Data keys wrapped, made and opened.
const CALLS: usize = 8;

/// Whether there is no SoftHSM.
pub fn is_absent() -> bool {
    VARIABLES.iter().any(|name| std::env::var_os(name).is_none())
}

/// With a fault of the module's, at which it refuses each data key that it was to open, after it wrote it to the helper's
/// memory.
pub async fn search(fault: Option<&str>) {
    let folder = tempfile::tempdir().expect("a folder");
    let switch = fault.map(|_| Switch::in_folder(folder.path()));
    let connection = Declared {
        switch: switch.as_ref(),
        ..Declared::named("hsm")
    };
    let tune = SOFTHSM.declared_as(folder.path(), &["acme"], &[connection], PIN);
    let gateway = Gateway::new(&crate::measured());
    let started = gateway.serve(&tune);
    let client = started.tenant("acme");
    let key = json!({"name": "orders", "connection": "hsm"});
    client.post("/v1/keys", &key).await.expect_status(201);
    let mut canaries = Canaries::default();
    {
        let mut caller = Caller::new(&started, client.clone(), &mut canaries);
        let mut blobs = Vec::new();
        for _ in 0..CALLS {
            blobs.extend([caller.wrap("orders").await, caller.data_key("orders").await]);
        }
        if let (Some(switch), Some(fault)) = (&switch, fault) {
            switch.have(fault);
            for blob in &blobs {
                // With the circuit that opens, too, some of them were opened by the module.
                client.post("/v1/unwrap", &blob.body()).await.expect_status(503);
            }
            assert!(switch.noted("decryptions") >= 5, "the module was not asked");
        } else {
            for blob in &blobs {
                caller.opens(blob).await;
            }
        }
    }
    drop(client);
    let [helper] = helpers(started.pid())[..] else {
        panic!("one helper")
    };
    // The gateway keeps the PIN for the next login, as the credentials of other connections.
    let without_pin = canaries.search();
    canaries.add(Sort::Pin, PIN.as_bytes());
    let search = canaries.search();
    let after = settled(helper, &search, is_clean);
    print("the helper between calls", &after);
    let names: BTreeSet<&str> = after.keys().map(String::as_str).collect();
    assert!(
        names.contains("[heap]") || names.contains("[anonymous]"),
        "its memory was not read: {names:?}"
    );
    assert_eq!(hits(&after), (0, 0), "in the helper's memory");
    // Nor the gateway that called it, once who called the gateway is gone.
    let until = Instant::now() + SETTLED;
    while callers(&started) > 0 {
        assert!(Instant::now() < until, "connections stay open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let regions = settled(started.pid(), &without_pin, is_clean);
    print("the gateway beside the helper", &regions);
    assert_eq!(hits(&regions), (0, 0), "in the gateway's memory");
    assert!(started.terminate());
    let data = gateway.data();
    silent(data.parent().expect("the gateway's folder"), &search);
}
