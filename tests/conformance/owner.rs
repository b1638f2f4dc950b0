//! The owner of the keys at a key service, who changes them there without asking the gateway.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use claviger_fake_xks::Keys;
use claviger_provider::oaep::OaepPublic;
use claviger_provider::{KeySpec, Secret};
use claviger_testkit::control::Request;
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::entries::{Entry, Start, aws, google, openbao};
use crate::xks;

/// Of an XKS proxy's API.
const NO_RECOVERY: &str = "the API recovers no key";

/// The owner at the service of an entry.
pub enum Owner {
    /// OpenBao's administrator.
    Vault(Service),
    /// The owner of an AWS account.
    Aws(Service),
    /// The owner of a vault of Azure.
    Azure(Service),
    /// The owner of a key ring of Google's.
    Google(Service),
    /// The owner of the keys behind an XKS proxy.
    Xks(Arc<Keys>),
}

/// A service's address, its owner's credential, and a client that trusts it.
pub struct Service {
    address: String,
    token: String,
    client: Client,
}

impl Service {
    fn new(address: String, token: String, ca: Option<&str>) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let authorities = ca.map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a certificate"));
        let client = Client::builder().no_proxy().tls_certs_only(authorities).build();
        Self {
            address,
            token,
            client: client.expect("a client"),
        }
    }

    /// A call that must succeed, with these headers.
    async fn call(&self, method: Method, url: &str, headers: &[(&str, &str)], body: Value) -> Value {
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let response = request.send().await.expect("a response");
        let status = response.status();
        let text = response.text().await.expect("a text");
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn vault(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/v1/{path}", self.address);
        self.call(method, &url, &[("x-vault-token", &self.token)], body).await
    }

    /// A call of the account's owner. The stand-ins check no signature.
    async fn aws(&self, operation: &str, body: Value) -> Value {
        let target = format!("TrentService.{operation}");
        let scope = "Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-central-1/kms/aws4_request";
        let signed = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
        let headers = [
            ("x-amz-target", target.as_str()),
            ("authorization", signed.as_str()),
            ("content-type", "application/x-amz-json-1.1"),
        ];
        self.call(Method::POST, &self.address, &headers, body).await
    }

    async fn azure(&self, method: Method, url: &str, body: Value) -> Value {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.call(method, &format!("{url}?api-version=7.4"), &headers, body).await
    }

    async fn google(&self, method: Method, path: &str, body: Value) -> Value {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.call(method, &format!("{}/v1/{path}", self.address), &headers, body).await
    }

    /// The names of a Google key's versions.
    async fn versions(&self, key: &str) -> Vec<String> {
        let listed = self.google(Method::GET, &format!("{key}/cryptoKeyVersions"), Value::Null).await;
        let versions = listed["cryptoKeyVersions"].as_array().expect("a list").iter();
        versions.map(|version| text(&version["name"])).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The URL of a deleted key of Azure's.
fn deleted(key: &str) -> String {
    key.replacen("/keys/", "/deletedkeys/", 1)
}

impl Owner {
    /// The owner at this entry's service.
    pub fn of(entry: &Entry) -> Self {
        let settings = (entry.settings)();
        let address = |name: &str| settings[name].as_str().unwrap_or_default().to_owned();
        let anyone = || "the-owner".to_owned();
        match entry.start {
            Start::Aws(server) => Self::Aws(Service::new(aws(server).unwrap_or_default(), String::new(), None)),
            Start::Azure => Self::Azure(Service::new(address("vault"), anyone(), settings["ca"].as_str())),
            Start::Google => Self::Google(Service::new(google(), anyone(), None)),
            Start::Xks => Self::Xks(Arc::clone(&xks::fake().keys)),
            Start::Serve | Start::Token(_) | Start::Fake(_) => {
                let ca = settings["ca"].as_str();
                let token = openbao(if ca.is_some() { "TLS_TOKEN" } else { "TOKEN" });
                Self::Vault(Service::new(address("address"), token.expect("the root token"), ca))
            }
        }
    }

    /// Deletes a key so that it can be recovered.
    pub async fn soft_delete(&self, key: &str) {
        match self {
            Self::Vault(service) => drop(
                service
                    .vault(Method::DELETE, &format!("{}/soft-delete", path(key)), Value::Null)
                    .await,
            ),
            Self::Aws(service) => {
                let body = json!({"KeyId": id_of(key), "PendingWindowInDays": 7});
                service.aws("ScheduleKeyDeletion", body).await;
            }
            Self::Azure(service) => drop(service.azure(Method::DELETE, key, Value::Null).await),
            Self::Google(service) => {
                for version in service.versions(key).await {
                    service.google(Method::POST, &format!("{version}:destroy"), json!({})).await;
                }
            }
            Self::Xks(_) => panic!("{NO_RECOVERY}"),
        }
    }

    /// The service's call that recovers a key which was deleted softly.
    pub fn recovery(&self) -> &'static str {
        match self {
            Self::Vault(_) => "soft-delete-restore",
            Self::Aws(_) => "aws kms cancel-key-deletion",
            Self::Azure(_) => "az keyvault key recover",
            Self::Google(_) => "gcloud kms keys versions restore",
            Self::Xks(_) => panic!("{NO_RECOVERY}"),
        }
    }

    /// Recovers a key that was deleted softly, and enables it where that takes a call of its own.
    pub async fn recover(&self, key: &str) {
        match self {
            Self::Vault(service) => drop(
                service
                    .vault(Method::POST, &format!("{}/soft-delete-restore", path(key)), json!({}))
                    .await,
            ),
            Self::Aws(service) => {
                for operation in ["CancelKeyDeletion", "EnableKey"] {
                    service.aws(operation, json!({"KeyId": id_of(key)})).await;
                }
            }
            Self::Azure(service) => drop(service.azure(Method::POST, &format!("{}/recover", deleted(key)), json!({})).await),
            Self::Google(service) => {
                for version in service.versions(key).await {
                    service.google(Method::POST, &format!("{version}:restore"), json!({})).await;
                    let enabled = json!({"state": "ENABLED"});
                    service.google(Method::PATCH, &format!("{version}?updateMask=state"), enabled).await;
                }
            }
            Self::Xks(_) => panic!("{NO_RECOVERY}"),
        }
    }

    /// Disables a key as a whole, or enables it again.
    pub async fn switch(&self, key: &str, enabled: bool) {
        match self {
            Self::Aws(service) => {
                let operation = if enabled { "EnableKey" } else { "DisableKey" };
                service.aws(operation, json!({"KeyId": id_of(key)})).await;
            }
            Self::Xks(keys) => keys.change(key, |key| key.enabled = enabled),
            Self::Vault(_) | Self::Azure(_) | Self::Google(_) => panic!("the service disables versions alone"),
        }
    }

    /// Deletes a key for good.
    pub async fn delete(&self, key: &str) {
        match self {
            Self::Vault(service) => {
                let deletable = json!({"deletion_allowed": true});
                service.vault(Method::POST, &format!("{}/config", path(key)), deletable).await;
                service.vault(Method::DELETE, &path(key), Value::Null).await;
            }
            Self::Azure(service) => {
                service.azure(Method::DELETE, key, Value::Null).await;
                service.azure(Method::DELETE, &deleted(key), Value::Null).await;
            }
            Self::Xks(keys) => keys.remove(key),
            Self::Aws(_) | Self::Google(_) => panic!("no key of this service ends at once"),
        }
    }

    /// Makes a key of another type under the name of one that was deleted.
    pub async fn replace(&self, key: &str, spec: &str) {
        match self {
            Self::Vault(service) => {
                let other = if spec == "aes-256" { "rsa-3072" } else { "aes256-gcm96" };
                service.vault(Method::POST, &path(key), json!({"type": other})).await;
            }
            Self::Azure(service) => {
                let kind = if key.starts_with("https://localhost") { "EC-HSM" } else { "EC" };
                let other = json!({"kty": kind, "crv": "P-256"});
                service.azure(Method::POST, &format!("{key}/create"), other).await;
            }
            Self::Xks(keys) => {
                keys.make(key);
                keys.change(key, |key| key.spec = "RSA_3072".to_owned());
            }
            Self::Aws(_) | Self::Google(_) => panic!("no name of this service is given twice"),
        }
    }

    /// Makes a key of the same type under the name of one, which it deletes.
    pub async fn make_again(&self, key: &str, spec: &str) {
        match self {
            Self::Vault(service) => {
                let kind = if spec == "aes-256" { "aes256-gcm96" } else { spec };
                let made = async || service.vault(Method::GET, &path(key), Value::Null).await["data"]["keys"]["1"].clone();
                let time = |made: Value| {
                    made.get("creation_time")
                        .map_or(made.to_string(), |at| at.to_string()[..20].to_owned())
                };
                let before = time(made().await);
                // A key of the same second cannot be told apart.
                while time(made().await) == before {
                    self.delete(key).await;
                    service.vault(Method::POST, &path(key), json!({"type": kind})).await;
                }
            }
            Self::Azure(service) => {
                self.delete(key).await;
                let hsm = key.starts_with("https://localhost");
                let same = match (spec, hsm) {
                    ("aes-256", _) => json!({"kty": "oct-HSM", "key_size": 256}),
                    (_, true) => json!({"kty": "RSA-HSM", "key_size": 3072}),
                    (_, false) => json!({"kty": "RSA", "key_size": 3072}),
                };
                service.azure(Method::POST, &format!("{key}/create"), same).await;
            }
            Self::Xks(keys) => {
                keys.remove(key);
                keys.make(key);
            }
            Self::Aws(_) | Self::Google(_) => panic!("no name of this service is given twice"),
        }
    }

    /// A new key that an alias names; returns the alias.
    pub async fn aliased(&self, name: &str) -> String {
        let (service, alias) = (self.account(), format!("alias/{name}"));
        let key = Self::new_key(service).await;
        service.aws("CreateAlias", json!({"AliasName": alias, "TargetKeyId": key})).await;
        alias
    }

    /// Moves an alias to another new key.
    pub async fn move_alias(&self, alias: &str) {
        let service = self.account();
        let key = Self::new_key(service).await;
        service.aws("UpdateAlias", json!({"AliasName": alias, "TargetKeyId": key})).await;
    }

    fn account(&self) -> &Service {
        match self {
            Self::Aws(service) => service,
            Self::Vault(_) | Self::Azure(_) | Self::Google(_) | Self::Xks(_) => panic!("the service has no aliases"),
        }
    }

    /// A new key of 256 bits without material, which its owner imports.
    pub async fn new_key_for_import(&self) -> String {
        let made = self.account().aws("CreateKey", json!({"Origin": "EXTERNAL"})).await;
        text(&made["KeyMetadata"]["Arn"])
    }

    /// Imports the material of such a key: the same at each time, as AWS demands.
    pub async fn import_material(&self, key: &str) {
        let (service, id) = (self.account(), id_of(key));
        let wanted = json!({"KeyId": id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_4096"});
        let parameters = service.aws("GetParametersForImport", wanted).await;
        let public = BASE64.decode(text(&parameters["PublicKey"])).expect("Base64");
        let public = OaepPublic::from_spki(&public, KeySpec::Rsa4096).expect("a public key");
        let material = public.wrap(&Secret::copy_from(&[7; 32])).expect("a ciphertext");
        let body = json!({
            "KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": BASE64.encode(material),
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
        });
        service.aws("ImportKeyMaterial", body).await;
    }

    /// Removes what was imported.
    pub async fn remove_material(&self, key: &str) {
        self.account().aws("DeleteImportedKeyMaterial", json!({"KeyId": id_of(key)})).await;
    }

    async fn new_key(service: &Service) -> String {
        let made = service.aws("CreateKey", json!({"KeyUsage": "ENCRYPT_DECRYPT"})).await;
        text(&made["KeyMetadata"]["KeyId"])
    }

    /// Makes or replaces a policy that grants everything on the paths of Transit, or nothing.
    pub async fn set_policy(&self, name: &str, granted: bool) {
        let capability = if granted {
            "[\"create\", \"read\", \"update\"]"
        } else {
            "[\"deny\"]"
        };
        let own = "path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }";
        let policy = format!("path \"transit/*\" {{ capabilities = {capability} }}\n{own}");
        let path = format!("sys/policies/acl/{name}");
        self.server().vault(Method::POST, &path, json!({"policy": policy})).await;
    }

    /// A token with this policy alone.
    pub async fn token_of(&self, policy: &str) -> String {
        let body = json!({"policies": [policy], "no_default_policy": true, "no_parent": true});
        let made = self.server().vault(Method::POST, "auth/token/create", body).await;
        text(&made["auth"]["client_token"])
    }

    fn server(&self) -> &Service {
        match self {
            Self::Vault(service) => service,
            Self::Aws(_) | Self::Azure(_) | Self::Google(_) | Self::Xks(_) => panic!("the service has no such policies"),
        }
    }
}

/// Rotates a key at its service. Returns once the new version wraps.
pub async fn rotate(bench: &Bench, key: &Value) {
    let id = text(&key["provider_key"]);
    // The fake has no owner with a credential.
    if matches!(bench.entry.start, Start::Fake(_)) {
        return bench.at_provider(&Request::RotateKey { id }).await;
    }
    match Owner::of(bench.entry) {
        Owner::Vault(service) => drop(service.vault(Method::POST, &format!("{}/rotate", path(&id)), json!({})).await),
        Owner::Azure(service) => drop(service.azure(Method::POST, &format!("{id}/rotate"), json!({})).await),
        Owner::Google(service) => {
            let made = service.google(Method::POST, &format!("{id}/cryptoKeyVersions"), json!({})).await;
            let name = text(&made["name"]);
            while service.google(Method::GET, &name, Value::Null).await["state"] == "PENDING_GENERATION" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if bench.entry.spec == "aes-256" {
                let primary = json!({"cryptoKeyVersionId": name.rsplit('/').next()});
                service.google(Method::POST, &format!("{id}:updatePrimaryVersion"), primary).await;
            }
        }
        Owner::Aws(_) | Owner::Xks(_) => panic!("the service names no versions"),
    }
}

/// Disables the first version of two at its service, or enables it again.
pub async fn switch_first(bench: &Bench, key: &Value, enabled: bool) {
    let id = text(&key["provider_key"]);
    if matches!(bench.entry.start, Start::Fake(_)) {
        let version = 1;
        return bench.at_provider(&Request::ChangeVersion { id, version, enabled }).await;
    }
    match Owner::of(bench.entry) {
        Owner::Vault(service) => {
            let least = json!({"min_decryption_version": if enabled { 1 } else { 2 }});
            service.vault(Method::POST, &format!("{}/config", path(&id)), least).await;
        }
        Owner::Azure(service) => {
            let versions = bench.client.list("/v1/keys/orders/versions").await;
            let url = format!("{id}/{}", text(&versions[0]["provider_version"]));
            let attributes = json!({"attributes": {"enabled": enabled}});
            service.azure(Method::PATCH, &url, attributes).await;
        }
        Owner::Google(service) => {
            let version = format!("{id}/cryptoKeyVersions/1?updateMask=state");
            let state = if enabled { "ENABLED" } else { "DISABLED" };
            service.google(Method::PATCH, &version, json!({"state": state})).await;
        }
        Owner::Aws(_) | Owner::Xks(_) => panic!("the service names no versions"),
    }
}

/// The path of a key of the engine that the tests use.
fn path(key: &str) -> String {
    key.replacen("transit/", "transit/keys/", 1)
}

/// The id in a key's ARN: moto takes no ARN everywhere.
fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
