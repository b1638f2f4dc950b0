//! A gateway with a key at Transit, and what the key's owner does to it there.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::{Answer, Tune};
use serde_json::{Value, json};

use crate::openbao::{Server, unique};
use crate::world::{CONNECTION, World};

/// Settings of a key whose plaintext can be backed up.
pub const BACKED_UP: [&str; 2] = ["exportable=true", "allow_plaintext_backup=true"];
/// How long a condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway with the key `orders` on a key of the server.
pub struct Scene {
    pub world: World,
    /// The path of the server's key.
    pub path: String,
    pub name: String,
}

impl Scene {
    /// With so many versions, of which the gateway knows each; `more` are settings of the server's key.
    pub async fn new(versions: u32, more: &[&str]) -> Self {
        Self::named(unique("theirs"), versions, more, &Server::Dev.token()).await
    }

    /// As [`Scene::new`], with a name and the token of the connection.
    pub async fn named(name: String, versions: u32, more: &[&str], token: &str) -> Self {
        let path = format!("transit/keys/{name}");
        Server::Dev.bao(&[&["write", "-f", &path][..], more].concat(), "");
        for _ in 1..versions {
            Server::Dev.bao(&["write", "-f", &format!("{path}/rotate")], "");
        }
        let world = World::new(Tune::default()).await;
        world.connect("vault", &Server::Dev.settings(&json!({"token": token}))).await;
        world.key("orders", json!({"provider_key": name})).await;
        Self { world, path, name }
    }

    pub async fn data_key(&self) -> Answer {
        self.world.client.post("/v1/keys/orders/data-keys", &json!({})).await
    }

    pub async fn rotate(&self) -> Answer {
        self.world.client.post("/v1/keys/orders/rotate", &json!({})).await
    }

    pub async fn unwrap(&self, made: &Value) -> Answer {
        self.world.client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await
    }

    pub async fn check(&self) -> Value {
        let path = format!("/v1/connections/{CONNECTION}/check");
        self.world.client.post_empty(&path).await.expect_status(200)
    }

    /// State at the provider, and warnings, of each version.
    pub async fn shown(&self) -> Vec<(String, Value)> {
        let versions = self.world.client.list("/v1/keys/orders/versions").await;
        let shown = |version: &Value| (version["provider_state"].as_str().unwrap().to_owned(), version["warnings"].clone());
        versions.iter().map(shown).collect()
    }

    /// Warnings about what became of each version.
    pub async fn doubts(&self) -> Vec<Option<String>> {
        let shown = self.shown().await;
        let doubt = |warning: &&Value| ["missing", "replaced", "unproven"].iter().any(|word| *warning == word);
        let of = |warnings: &Value| Some(warnings.as_array()?.iter().find(doubt)?.as_str()?.to_owned());
        shown.iter().map(|(_, warnings)| of(warnings)).collect()
    }

    pub fn backup(&self) -> String {
        let backup = Server::Dev.bao(&["read", "-field=backup", &format!("transit/backup/{}", self.name)], "");
        backup.trim().to_owned()
    }

    /// Puts a backup in the place of the server's key.
    pub fn restore(&self, backup: &str) {
        self.delete();
        Server::Dev.bao(
            &["write", &format!("transit/restore/{}", self.name), &format!("backup={backup}")],
            "",
        );
    }

    pub fn at_server(&self) -> Value {
        let read = Server::Dev.bao(&["read", "-format=json", &self.path], "");
        serde_json::from_str::<Value>(&read).unwrap()["data"].clone()
    }

    pub fn delete(&self) {
        Server::Dev.bao(&["write", &format!("{}/config", self.path), "deletion_allowed=true"], "");
        Server::Dev.bao(&["delete", &self.path], "");
    }

    /// Deletes the server's key and makes one of another type under its name.
    pub fn make_another(&self, kind: &str) {
        self.delete();
        Server::Dev.bao(&["write", "-f", &self.path, kind], "");
    }

    /// Deletes the server's key and makes another one under its name, in another second than the old one was made.
    pub fn make_again(&self) {
        let before = self.at_server()["keys"].clone();
        let begin = Instant::now();
        loop {
            self.delete();
            Server::Dev.bao(&["write", "-f", &self.path], "");
            if self.at_server()["keys"]["1"] != before["1"] {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the server's clock stands still");
        }
    }
}

/// The backup with another creation of one of its versions, in Unix seconds.
pub fn dated(backup: &str, version: u32, seconds: &Value) -> String {
    let mut backup: Value = serde_json::from_slice(&STANDARD.decode(backup).unwrap()).unwrap();
    backup["policy"]["keys"][version.to_string()]["creation_time"] = seconds.clone();
    STANDARD.encode(backup.to_string())
}
