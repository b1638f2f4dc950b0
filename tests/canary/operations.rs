//! Every operation and every error that a secret can pass through.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::{Answer, Client, Started};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::forms::{Canaries, Sort};

/// Items in each batch.
const ITEMS: usize = 8;

/// Thirty-two bytes of the system's own randomness.
fn secret() -> Vec<u8> {
    claviger_provider::Secret::random(32).expose().to_vec()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A wrapped key, its plaintext as base64 and its context.
pub struct Blob {
    /// The text.
    pub wrapped: String,
    plaintext: String,
    context: Value,
}

impl Blob {
    /// What unwrap takes.
    pub fn body(&self) -> Value {
        json!({"wrapped": self.wrapped, "context": self.context})
    }
}

/// A caller who remembers every secret.
pub struct Caller<'a> {
    client: Client,
    canaries: &'a mut Canaries,
    address: SocketAddr,
    token: String,
}

impl<'a> Caller<'a> {
    /// A caller of this tenant.
    pub fn new(started: &Started, client: Client, canaries: &'a mut Canaries) -> Self {
        Self {
            client,
            canaries,
            address: started.address(),
            token: started.token().to_owned(),
        }
    }

    async fn key(&self, name: &str) {
        let made = self.client.post("/v1/keys", &json!({"name": name, "connection": "embedded"})).await;
        made.expect_status(201);
    }

    /// A plaintext that nobody else has, as base64.
    fn plaintext(&mut self) -> String {
        let secret = secret();
        self.canaries.add(Sort::Wrapped, &secret);
        STANDARD.encode(secret)
    }

    /// A context whose value is a canary too: it stands in no log and no record.
    fn context(&mut self) -> Value {
        let value = hex::encode(secret());
        self.canaries.add(Sort::Context, value.as_bytes());
        json!({"row": value})
    }

    fn returned(&mut self, plaintext: &Value) -> String {
        let plaintext = text(plaintext);
        let bytes = STANDARD.decode(&plaintext).expect("base64");
        self.canaries.add(Sort::DataKey, &bytes);
        plaintext
    }

    /// Wraps a canary.
    pub async fn wrap(&mut self, key: &str) -> Blob {
        let (plaintext, context) = (self.plaintext(), self.context());
        let body = json!({"plaintext": plaintext, "context": context});
        let made = self.client.post(&format!("/v1/keys/{key}/wrap"), &body).await.expect_status(200);
        Blob {
            wrapped: text(&made["wrapped"]),
            plaintext,
            context,
        }
    }

    /// Has a data key made.
    pub async fn data_key(&mut self, key: &str) -> Blob {
        let context = self.context();
        let made = self
            .client
            .post(&format!("/v1/keys/{key}/data-keys"), &json!({"context": context}))
            .await;
        let made = made.expect_status(200);
        let plaintext = self.returned(&made["plaintext"]);
        Blob {
            wrapped: text(&made["wrapped"]),
            plaintext,
            context,
        }
    }

    /// Opens a wrapped key.
    pub async fn opens(&self, blob: &Blob) {
        let opened = self.client.post("/v1/unwrap", &blob.body()).await.expect_status(200);
        assert_eq!(opened["plaintext"], blob.plaintext);
    }

    /// Everything that works.
    pub async fn operations(&mut self) -> Vec<Blob> {
        for name in ["orders", "others"] {
            self.key(name).await;
        }
        let mut blobs = Vec::new();
        for _ in 0..3 {
            blobs.push(self.wrap("orders").await);
            blobs.push(self.data_key("orders").await);
        }
        self.client.post_empty("/v1/keys/orders/rotate").await.expect_status(200);
        for blob in &blobs {
            // From the provider, then from the cache.
            self.opens(blob).await;
            self.opens(blob).await;
            self.client.post("/v1/inspect", &blob.body()).await.expect_status(200);
            let mut body = blob.body();
            self.client.post("/v1/keys/orders/unwrap", &body).await.expect_status(200);
            self.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
            body["to"] = json!("others");
            let moved = self.client.post("/v1/keys/orders/rewrap", &body).await.expect_status(200);
            let moved = json!({"wrapped": moved["wrapped"], "context": blob.context});
            let opened = self.client.post("/v1/unwrap", &moved).await.expect_status(200);
            assert_eq!(opened["plaintext"], blob.plaintext);
        }
        blobs.extend(self.batches().await);
        blobs
    }

    async fn batches(&mut self) -> Vec<Blob> {
        let context = self.context();
        let plaintexts: Vec<String> = (0..ITEMS).map(|_| self.plaintext()).collect();
        let wrap: Vec<Value> = plaintexts
            .iter()
            .map(|plaintext| json!({"key": "orders", "plaintext": plaintext, "context": context}))
            .collect();
        let wrapped = self.client.post("/v1/batch/wrap", &json!({"items": wrap})).await.expect_status(200);
        let made = vec![json!({"key": "orders", "context": context}); ITEMS];
        let made = self
            .client
            .post("/v1/batch/data-keys", &json!({"items": made}))
            .await
            .expect_status(200);
        let mut blobs = Vec::new();
        for (item, plaintext) in wrapped["items"].as_array().expect("items").iter().zip(plaintexts) {
            blobs.push(Blob {
                wrapped: text(&item["wrapped"]),
                plaintext,
                context: context.clone(),
            });
        }
        for item in made["items"].as_array().expect("items") {
            let plaintext = self.returned(&item["plaintext"]);
            blobs.push(Blob {
                wrapped: text(&item["wrapped"]),
                plaintext,
                context: context.clone(),
            });
        }
        let items: Vec<Value> = blobs.iter().map(Blob::body).collect();
        let opened = self
            .client
            .post("/v1/batch/unwrap", &json!({"items": items}))
            .await
            .expect_status(200);
        for (item, blob) in opened["items"].as_array().expect("items").iter().zip(&blobs) {
            assert_eq!(item["plaintext"], blob.plaintext);
        }
        let items: Vec<Value> = blobs
            .iter()
            .map(|blob| json!({"key": "orders", "wrapped": blob.wrapped, "context": blob.context, "to": "others"}))
            .collect();
        let moved = self
            .client
            .post("/v1/batch/rewrap", &json!({"items": items}))
            .await
            .expect_status(200);
        assert!(
            moved["items"].as_array().expect("items").iter().all(|item| item["changed"] == true),
            "{moved}"
        );
        blobs
    }

    /// Everything that fails. No answer repeats what was sent.
    pub async fn errors(&mut self, blobs: &[Blob]) {
        let secret = self.plaintext();
        let wrap = "/v1/keys/orders/wrap";
        let mut answers = Vec::new();
        for body in [
            format!(r#"{{"plaintext": "{secret}", "bogus": 1}}"#),
            format!(r#"{{"plaintext": "{secret}", "plaintext": "{secret}"}}"#),
            format!(r#"{{"plaintext": "{secret}"#),
            format!(r#"{{"plaintext": "{}"}}"#, secret.trim_end_matches('=')),
            format!(r#"{{"plaintext": {{"{secret}": 1}}}}"#),
            format!(r#"{{"{secret}": 1}}"#),
            format!(r#"{{"plaintext": "AAAA", "context": {{"claviger:x": "{secret}"}}}}"#),
            format!(r#"{{"plaintext": "AAAA", "context": {{"{secret}": 1}}}}"#),
            format!(r#"{{"plaintext": "{secret}", "scope": "{secret}"}}"#),
            format!(r#""{secret}""#),
            format!(r#"{{"plaintext": "{secret}"}} {secret}"#),
            format!(r#"{{"plaintext": "{}{secret}"}}"#, "AAAA".repeat(1366)),
            format!(r#"{{"plaintext": "{}{secret}"}}"#, "AAAA".repeat(20_000)),
        ] {
            answers.push(self.client.post_raw(wrap, body).await);
        }
        let good = json!({"plaintext": secret});
        answers.push(self.client.post("/v1/keys/no-such-key/wrap", &good).await);
        answers.push(self.client.post("/v1/keys/orders/data-keys", &json!({"bytes": secret})).await);
        answers.push(
            self.client
                .post(&format!("{wrap}?plaintext={}", secret.replace('+', "%2b")), &good)
                .await,
        );
        let as_text = self
            .client
            .request(Method::POST, wrap)
            .header("content-type", "text/plain")
            .body(good.to_string());
        answers.push(self.client.send(as_text).await);
        let late = self.client.request(Method::POST, wrap).header("claviger-timeout", "0s").json(&good);
        answers.push(self.client.send(late).await);
        let token = self.client.with_token("clv_0000000000000_x");
        answers.push(token.post(wrap, &good).await);
        answers.push(self.client.post("/v1/unwrap", &json!({"wrapped": secret})).await);
        for answer in answers {
            self.silent(&answer, &secret);
        }
        self.blobs_that_do_not_open(blobs).await;
        self.cut_short(wrap, &good.to_string()).await;
    }

    fn silent(&self, answer: &Answer, secret: &str) {
        assert!((400..500).contains(&answer.status) || answer.status == 501, "{}", answer.text);
        assert!(
            !answer.text.contains(secret.trim_end_matches('=')),
            "the answer repeats it: {}",
            answer.text
        );
    }

    /// Wrong contexts, damaged blobs, a disabled key, a severed connection.
    async fn blobs_that_do_not_open(&mut self, blobs: &[Blob]) {
        for blob in blobs {
            let wrong = json!({"wrapped": blob.wrapped, "context": {"row": "another"}});
            let answer = self.client.post("/v1/unwrap", &wrong).await;
            self.silent(&answer, &blob.plaintext);
            let mut damaged = blob.wrapped.clone();
            let place = damaged.len() - 9;
            let other = if &damaged[place..=place] == "A" { "B" } else { "A" };
            damaged.replace_range(place..=place, other);
            let answer = self
                .client
                .post("/v1/unwrap", &json!({"wrapped": damaged, "context": blob.context}))
                .await;
            self.silent(&answer, &blob.plaintext);
        }
        let blob = &blobs[0];
        for (cut, code, undo) in [
            ("/v1/keys/orders/disable", "key_disabled", "/v1/keys/orders/enable"),
            (
                "/v1/connections/embedded/sever",
                "connection_severed",
                "/v1/connections/embedded/restore",
            ),
        ] {
            self.client.post_empty(cut).await.expect_status(200);
            self.client.post("/v1/unwrap", &blob.body()).await.expect_problem(409, code);
            let secret = self.plaintext();
            let refused = self.client.post("/v1/keys/orders/wrap", &json!({"plaintext": secret})).await;
            refused.expect_problem(409, code);
            self.client.post_empty(undo).await.expect_status(200);
        }
    }

    /// A body that breaks off with the secret in it.
    async fn cut_short(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nclaviger-tenant: acme\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            self.token,
            body.len() + 10
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(body.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("closed");
    }

    /// Tokens: their texts stand in one answer only.
    pub async fn tokens(&mut self) {
        self.client
            .post("/v1/principals", &json!({"name": "worker"}))
            .await
            .expect_status(201);
        for once in ["first", "second"] {
            let path = "/v1/principals/worker/tokens";
            let request = self.client.request(Method::POST, path).header("idempotency-key", once);
            let issued = self
                .client
                .send(request.json(&json!({"operations": ["ReadKey"]})))
                .await
                .expect_status(201);
            let token = text(&issued["token"]);
            // clv_, the id, _, the 43 characters of the secret, a checksum.
            let secret = token.rsplit('_').next().expect("a secret");
            self.canaries.add(Sort::Token, &secret.as_bytes()[..43]);
            self.client.with_token(&token).get("/v1/keys").await.expect_status(200);
            let again = self.client.request(Method::POST, path).header("idempotency-key", once);
            let again = self.client.send(again.json(&json!({"operations": ["ReadKey"]}))).await;
            assert!(!again.text.contains(&token), "a token is shown twice");
            let broken = self.client.with_token(&token[..token.len() - 1]).get("/v1/keys").await;
            broken.expect_problem(401, "unauthenticated");
            let id = text(&issued["id"]);
            self.client.delete(&format!("{path}/{id}")).await.expect_status(204);
            let revoked = self.client.with_token(&token).get("/v1/keys").await;
            revoked.expect_problem(401, "unauthenticated");
        }
    }
}
