//! MinIO KES: keys in files, cached in memory as by default, the audit log off as by default,
//! and the caller known by its certificate, which a policy lets decrypt with one key.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use claviger_test_support::free_address;
use serde_json::{Value, json};

use super::{PLAINTEXT, Process, base64, headers};
use crate::certs::Certs;
use crate::drive::{Ask, Target, once};

/// KES at work.
pub struct Kes {
    _process: Process,
    pub target: Target,
}

impl Kes {
    /// Starts it, makes a key and encrypts under it.
    pub async fn start(binary: &Path, folder: &Path, certs: &Certs, context: &[u8]) -> Self {
        let identity = Command::new(binary).args(["identity", "of"]).arg(&certs.client).output();
        let identity = String::from_utf8(identity.expect("kes runs").stdout).expect("text");
        let identity = identity.split_whitespace().last().expect("an identity").to_owned();
        assert_eq!(identity.len(), 64, "an identity is a SHA-256 as hex digits");

        let (address, log, config) = (free_address(), folder.join("kes.log"), folder.join("kes.yaml"));
        let (key, certificate, keys) = (certs.server_key.display(), certs.server.display(), folder.join("kes-keys"));
        std::fs::create_dir(&keys).expect("a folder");
        let text = format!(
            "version: v1\naddress: {address}\nadmin:\n  identity: disabled\ntls:\n  key: {key}\n  cert: {certificate}\n\
             policy:\n  load:\n    allow:\n    - /v1/key/create/load\n    - /v1/key/encrypt/load\n    - /v1/key/decrypt/load\n    \
             identities:\n    - {identity}\nkeystore:\n  fs:\n    path: {}\n",
            keys.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut process = Process::start(Command::new(binary).args(["server", "--config"]).arg(&config), &log);
        let admin = certs.admin();
        let create = format!("https://{address}/v1/key/create/load");
        process
            .ready(&log, async || {
                admin.post(&create).send().await.is_ok_and(|answer| answer.status().is_success())
            })
            .await;
        let body = json!({"plaintext": base64(&PLAINTEXT), "context": base64(context)});
        let encrypt = format!("https://{address}/v1/key/encrypt/load");
        let answer = admin.post(encrypt).json(&body).send().await.expect("an answer").error_for_status();
        let answer: Value = answer.expect("encrypted").json().await.expect("JSON");
        let body = json!({"ciphertext": answer["ciphertext"], "context": base64(context)});
        let mut target = Target {
            address,
            pid: process.pid(),
            tls: certs.client_config(),
            asks: Arc::new([]),
        };
        let mut ask = Ask {
            uri: "/v1/key/decrypt/load".parse().expect("a path"),
            headers: headers(None),
            body: body.to_string().into(),
            answer: None,
        };
        let answer = tokio::task::block_in_place(|| once(&target, &ask));
        let opened: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(opened["plaintext"], base64(&PLAINTEXT));
        ask.answer = Some(answer);
        target.asks = Arc::new([ask]);
        Self { _process: process, target }
    }
}
