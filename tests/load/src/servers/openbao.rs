//! OpenBao: Transit over TLS, storage in memory, a file audit device, and a token whose policy
//! permits what the caller does and nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use claviger_test_support::free_address;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{PLAINTEXT, Process, base64, headers};
use crate::certs::Certs;
use crate::drive::{Ask, Target, once};

/// OpenBao at work.
pub struct OpenBao {
    process: Process,
    address: SocketAddr,
    admin: Client,
    token: String,
    certs: Arc<Certs>,
}

impl OpenBao {
    /// Starts it, unseals it and mounts a Transit engine.
    pub async fn start(binary: &Path, folder: &Path, certs: &Arc<Certs>) -> Self {
        let (address, log, config) = (free_address(), folder.join("openbao.log"), folder.join("openbao.hcl"));
        let (certificate, key) = (certs.server.display(), certs.server_key.display());
        let text = format!(
            "storage \"inmem\" {{}}\napi_addr = \"https://{address}\"\nlog_level = \"error\"\n\
             listener \"tcp\" {{\n  address = \"{address}\"\n  tls_cert_file = \"{certificate}\"\n  tls_key_file = \"{key}\"\n}}\n\
             audit \"file\" \"file\" {{\n  options {{\n    file_path = \"{}\"\n  }}\n}}\n",
            folder.join("openbao-audit.log").display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new(binary);
        command.arg("server").arg("-config").arg(&config).env("HOME", folder);
        let mut process = Process::start(&mut command, &log);
        let admin = certs.admin();
        let status = format!("https://{address}/v1/sys/init");
        process
            .ready(&log, async || {
                admin.get(&status).send().await.is_ok_and(|answer| answer.status().is_success())
            })
            .await;
        let mut bao = Self {
            process,
            address,
            admin,
            token: String::new(),
            certs: Arc::clone(certs),
        };
        let made = bao.call("sys/init", &json!({"secret_shares": 1, "secret_threshold": 1})).await;
        bao.call("sys/unseal", &json!({"key": made["keys"][0]})).await;
        made["root_token"].as_str().expect("a token").clone_into(&mut bao.token);
        let mounts = format!("https://{address}/v1/sys/mounts");
        let ready = async || {
            let asked = bao.admin.get(&mounts).header("x-vault-token", &bao.token).send().await;
            asked.is_ok_and(|answer| answer.status().is_success())
        };
        while !ready().await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        bao.call("sys/mounts/transit", &json!({"type": "transit"})).await;
        bao
    }

    /// Its address as connections name it.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Decrypts of one ciphertext under a key of this name.
    pub async fn decrypts(&self, key: &str, context: &[u8]) -> Target {
        self.call(&format!("transit/keys/{key}"), &json!({"type": "aes256-gcm96"})).await;
        let body = json!({"plaintext": base64(&PLAINTEXT), "associated_data": base64(context)});
        let answer = self.call(&format!("transit/encrypt/{key}"), &body).await;
        let body = json!({"ciphertext": answer["data"]["ciphertext"], "associated_data": base64(context)});
        let token = self
            .token(key, &format!("path \"transit/decrypt/{key}\" {{ capabilities = [\"update\"] }}"))
            .await;
        let ask = Ask {
            uri: format!("/v1/transit/decrypt/{key}").parse().expect("a path"),
            headers: headers(Some(("x-vault-token", token))),
            body: body.to_string().into(),
            // The answer names the request, so no two are alike.
            answer: None,
        };
        let target = Target {
            address: self.address,
            pid: self.process.pid(),
            tls: self.certs.client_config(),
            asks: Arc::new([ask]),
        };
        let answer = tokio::task::block_in_place(|| once(&target, &target.asks[0]));
        let opened: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(opened["data"]["plaintext"], base64(&PLAINTEXT));
        target
    }

    /// A token with a policy of this text and no other.
    pub async fn token(&self, name: &str, policy: &str) -> String {
        self.call(&format!("sys/policies/acl/{name}"), &json!({"policy": policy})).await;
        let body = json!({"policies": [name], "no_default_policy": true, "no_parent": true, "ttl": "24h"});
        let made = self.call("auth/token/create", &body).await;
        made["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    async fn call(&self, path: &str, body: &Value) -> Value {
        let request = self
            .admin
            .request(Method::PUT, format!("https://{}/v1/{path}", self.address))
            .json(body);
        let answer = request.header("x-vault-token", &self.token).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}
