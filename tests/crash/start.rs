//! The conditions of a start, and its messages when one is not met.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use claviger_test_support::{Gateway, Tune};
use libtest_mimic::Trial;

use crate::run;

pub fn trials() -> Vec<Trial> {
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            run(async move { test() })?;
            Ok(())
        })
    };
    vec![
        trial("start::a_missing_root_key_is_named", || {
            let gateway = Gateway::new(crate::BINARY);
            fs::remove_file(gateway.root_key()).expect("removed");
            says(&gateway, &["root key file", "root.key does not exist", "kept elsewhere"]);
            assert!(!gateway.root_key().exists(), "serve makes no root key");
        }),
        trial("start::a_root_key_that_others_can_read_is_refused", || {
            let gateway = Gateway::new(crate::BINARY);
            for mode in [0o640, 0o604, 0o644, 0o700] {
                fs::set_permissions(gateway.root_key(), fs::Permissions::from_mode(mode)).expect("the mode");
                says(&gateway, &["root key file", &format!("mode {mode:04o}"), "chmod 600"]);
            }
        }),
        trial("start::another_root_key_does_not_open_the_store", || {
            let (gateway, other) = (Gateway::new(crate::BINARY), Gateway::new(crate::BINARY));
            fs::copy(other.root_key(), gateway.root_key()).expect("copied");
            says(&gateway, &["this root key does not open this store"]);
        }),
        trial("start::a_malformed_root_key_is_not_shown", || {
            let gateway = Gateway::new(crate::BINARY);
            let key = fs::read_to_string(gateway.root_key()).expect("the key");
            let secret = key.trim().strip_prefix("clvroot1:").expect("its form");
            fs::write(gateway.root_key(), format!("clvroot1:{}!", &secret[..42])).expect("written");
            let said = says(&gateway, &["not of the form", "clvroot1:"]);
            assert!(!said.contains(&secret[..42]), "the key is told");
        }),
        trial("start::a_folder_without_a_gateway_asks_for_init", || {
            let gateway = Gateway::new(crate::BINARY);
            fs::remove_dir_all(gateway.data()).expect("removed");
            fs::create_dir(gateway.data()).expect("made");
            says(&gateway, &["claviger init"]);
        }),
        trial("start::a_folder_in_use_is_refused", || {
            let gateway = Gateway::new(crate::BINARY);
            let started = gateway.serve(&Tune::default());
            says(&gateway, &["another claviger process uses the data folder"]);
            assert!(started.terminate());
        }),
        trial("start::a_kill_file_of_another_installation_is_refused", || {
            let (gateway, other) = (Gateway::new(crate::BINARY), Gateway::new(crate::BINARY));
            fs::copy(other.data().join("cuts.kill"), gateway.data().join("cuts.kill")).expect("copied");
            says(&gateway, &["kill file", "another installation"]);
        }),
        trial("start::a_start_that_fails_leaves_a_clean_log", || {
            let gateway = Gateway::new(crate::BINARY);
            let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = taken.local_addr().expect("its address").to_string();
            let tune = Tune::default().set("CLAVIGER_SERVER__LISTEN", &address);
            let said = gateway.try_serve(&tune).err().expect("the port is taken");
            assert!(said.contains(&address), "{said}");
            assert!(gateway.serve(&Tune::default()).terminate());
            let all = claviger_test_support::records(&gateway.data());
            let restarted = all.iter().filter(|record| record["kind"] == "restarted").count();
            assert_eq!(restarted, 0, "nothing was interrupted");
        }),
    ]
}

/// Starts the gateway, which must fail with all of these texts and without a panic.
fn says(gateway: &Gateway, parts: &[&str]) -> String {
    let said = gateway.try_serve(&Tune::default()).err().expect("it must not start");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not said:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    said
}
