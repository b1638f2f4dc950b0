//! The provider on one Transit engine.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::{
    Algorithm, BoundContext, Capabilities, ContextBinding, Error, ErrorKind, How, Kek, KeyCapabilities, KeyDescription, KeyRequest,
    KeySpec, OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, Rotation, Secret, Wrapped,
};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::api::{Reply, Request};
use crate::errors::{CallError, NO_UPSERT, fault};
use crate::kind::{KeyType, Symmetric};
use crate::names::{KeyName, Place};
use crate::session::{Ignored, Session};
use crate::transit::{Ciphertext, Create, Decrypt, Decrypted, Encrypt, Encrypted, Key, version};

/// The most bytes of one wrap: what the REST API takes.
const MAX_PLAINTEXT: usize = 4096;
/// How many keys are remembered as ones that bind no context. Beyond it, an unwrap with
/// another such key costs a call more.
const MAX_REMEMBERED: usize = 10_000;

/// What can be done with keys of one specification.
const fn of(spec: KeySpec) -> KeyCapabilities {
    KeyCapabilities {
        spec,
        wrap: How::InsideProvider,
        // The server's own `datakey` and `rewrap` ignore associated data.
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: match spec {
            KeySpec::Aes256 => ContextBinding::AssociatedData,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => ContextBinding::CommitmentOnly,
        },
        rotation: Some(Rotation::InPlace),
        max_plaintext: max_plaintext(spec),
    }
}

/// RSAES-OAEP takes the modulus less twice the digest and two bytes (RFC 8017, 7.1.1).
const fn max_plaintext(spec: KeySpec) -> usize {
    match spec {
        KeySpec::Aes256 => MAX_PLAINTEXT,
        KeySpec::Rsa3072 => 3072 / 8 - 2 * 32 - 2,
        KeySpec::Rsa4096 => 4096 / 8 - 2 * 32 - 2,
    }
}

/// What every connection of this family can do.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        keys: KeySpec::ALL.into_iter().map(of).collect(),
        create_key: true,
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// Transit keys of one connection.
pub struct VaultProvider {
    pub(crate) session: Arc<Session>,
    pub(crate) place: Place,
    symmetric: Symmetric,
    /// Keys that bind no context. A blob does not tell its key's type, and the server refuses
    /// a context where none is bound.
    unbound: RwLock<HashSet<KeyName>>,
    /// Held by the rotation under way: of several at once OpenBao 2.4 may refuse some and yet
    /// go on with their versions in memory, unstored.
    rotating: tokio::sync::Mutex<()>,
}

impl VaultProvider {
    pub(crate) fn new(session: Arc<Session>, place: Place, symmetric: Symmetric) -> Self {
        Self {
            session,
            place,
            symmetric,
            unbound: RwLock::default(),
            rotating: tokio::sync::Mutex::default(),
        }
    }

    /// The type of keys of this specification.
    pub(crate) const fn type_of(&self, spec: KeySpec) -> KeyType {
        KeyType::of(spec, self.symmetric)
    }

    /// Notes a key that binds no context.
    fn remember(&self, name: &KeyName) {
        if !self.unbound.read().contains(name) {
            let mut unbound = self.unbound.write();
            if unbound.len() < MAX_REMEMBERED {
                unbound.insert(name.clone());
            }
        }
    }

    /// The path below the engine's mount.
    pub(crate) fn path<'a>(&'a self, below: &[&'a str]) -> Vec<&'a str> {
        self.place.mount.segments().chain(below.iter().copied()).collect()
    }

    /// The key, `None` where there is none of that name.
    async fn read(&self, name: &KeyName, operation: &'static str) -> Result<Option<Key>, Error> {
        let path = self.path(&["keys", name.as_str()]);
        let result = self.session.call::<Key>(Request::get(&path)).await.and_then(Reply::data);
        match result.map_err(|failed| failed.into_error(operation)) {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.kind == ErrorKind::KeyNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn existing(&self, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        self.read(name, operation)
            .await?
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, operation))
    }

    async fn described(&self, name: &KeyName, kind: KeyType, operation: &'static str) -> Result<KeyDescription, Error> {
        let key = self.existing(name, operation).await?;
        key.usable(kind)?;
        key.describe(&self.place, name, kind)
    }

    /// One decryption, with the context where the key binds one.
    async fn decrypt(&self, name: &KeyName, ciphertext: &str, context: Option<&BoundContext>) -> Result<Reply<Decrypted>, CallError> {
        let associated_data = context.map(|context| STANDARD.encode(context.bytes()));
        let body = Decrypt {
            ciphertext,
            associated_data: associated_data.as_deref(),
        };
        let path = self.path(&["decrypt", name.as_str()]);
        self.session.call(Request::post(&path, &body)?).await
    }

    /// The key that a provider key id names: another engine's is no key of ours.
    pub(crate) fn name(&self, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        self.place
            .key(&key.id)
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another place"))
    }

    /// What a refused call with a key means. A policy without the right to make keys has
    /// the server answer 403 where the key is missing.
    async fn refused(&self, failed: CallError, name: &KeyName, operation: &'static str) -> Error {
        let missing = failed.denied() && matches!(self.read(name, operation).await, Ok(None));
        if missing {
            fault(ErrorKind::KeyNotFound, operation)
        } else {
            failed.into_error(operation)
        }
    }

    async fn adopt(&self, name: &str, kind: KeyType) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        let name = KeyName::parse(name).or_else(|| self.place.key(name)).ok_or_else(|| {
            fault(ErrorKind::InvalidInput, operation)
                .advice("provider_key is the Transit key's name alone, or namespace/mount/name of this connection's own engine.")
        })?;
        let key = self.read(&name, operation).await?.ok_or_else(|| {
            fault(ErrorKind::KeyNotFound, operation).advice("There is no key of that name in the connection's Transit engine.")
        })?;
        key.usable(kind)?;
        key.describe(&self.place, &name, kind)
    }
}

#[async_trait]
impl Provider for VaultProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn wrap_key(&self, _cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let operation = "encrypt";
        if dek.is_empty() {
            return Err(fault(ErrorKind::InvalidInput, "an empty key"));
        }
        if dek.len() > max_plaintext(kek.spec) {
            return Err(fault(ErrorKind::TooLarge, "over the most bytes of one wrap"));
        }
        let name = self.name(&kek.key)?;
        let wanted = match kek.key.version.as_str() {
            "" => None,
            text => Some(version(text).ok_or_else(|| fault(ErrorKind::KeyNotFound, "no such version"))?),
        };
        let kind = self.type_of(kek.spec);
        if !kind.binds_context() {
            self.remember(&name);
        }
        let plaintext = Zeroizing::new(STANDARD.encode(dek.expose()));
        let associated_data = kind.binds_context().then(|| STANDARD.encode(context.bytes()));
        let body = Encrypt {
            plaintext: &plaintext,
            associated_data: associated_data.as_deref(),
            key_version: wanted.unwrap_or(0),
            key_type: NO_UPSERT,
        };
        let path = self.path(&["encrypt", name.as_str()]);
        let request = Request::post(&path, &body).map_err(|failed| failed.into_error(operation))?;
        let reply: Reply<Encrypted> = match self.session.call(request).await {
            Ok(reply) => reply,
            Err(failed) => return Err(self.refused(failed, &name, operation).await),
        };
        let upstream_request_id = reply.id();
        let ciphertext = reply.data().map_err(|failed| failed.into_error(operation))?.ciphertext;
        let used = Ciphertext::parse(&ciphertext).map(|parsed| parsed.version);
        match used {
            Some(used) if wanted.is_none_or(|wanted| wanted == used) => Ok(Wrapped {
                key: ProviderKeyRef {
                    id: self.place.id(&name),
                    version: used.to_string(),
                },
                algorithm: Algorithm::ProviderOpaque,
                ciphertext: ciphertext.into_bytes(),
                key_material: None,
                upstream_request_id,
            }),
            Some(_) | None => Err(CallError::MalformedResponse("ciphertext").into_error(operation)),
        }
    }

    async fn unwrap_key(&self, _cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let operation = "decrypt";
        let rejected = |why| fault(ErrorKind::CiphertextRejected, why);
        if wrapped.algorithm != Algorithm::ProviderOpaque {
            return Err(rejected("an algorithm that no key of this provider has"));
        }
        let name = self.name(&wrapped.key)?;
        let claimed = version(&wrapped.key.version).ok_or_else(|| fault(ErrorKind::KeyNotFound, "no such version"))?;
        let text = std::str::from_utf8(&wrapped.ciphertext).ok();
        let (text, used) = text
            .and_then(|text| Some((text, Ciphertext::parse(text)?.version)))
            .ok_or_else(|| rejected("no ciphertext of Transit"))?;
        if used != claimed {
            // The server would go by the ciphertext; the name in the envelope is to hold too.
            let key = self.existing(&name, operation).await?;
            return Err(match key.knows(claimed) {
                true => rejected("a ciphertext of another version"),
                false => fault(ErrorKind::KeyNotFound, "no such version"),
            });
        }
        let bound = !self.unbound.read().contains(&name);
        let reply = match self.decrypt(&name, text, bound.then_some(context)).await {
            Err(failed) if failed.binds_nothing() => {
                self.remember(&name);
                self.decrypt(&name, text, None).await
            }
            other => other,
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(failed) => return Err(self.refused(failed, &name, operation).await),
        };
        let encoded = Zeroizing::new(reply.data().map_err(|failed| failed.into_error(operation))?.plaintext);
        let decoded = STANDARD.decode(encoded.as_bytes()).map(Secret::new);
        match decoded {
            Ok(dek) if (1..=MAX_PLAINTEXT).contains(&dek.len()) => Ok(dek),
            Ok(_) | Err(_) => Err(CallError::MalformedResponse("plaintext").into_error(operation)),
        }
    }

    async fn create_key(&self, _cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        let operation = "create a key";
        let kind = self.type_of(request.spec);
        if let Some(name) = &request.adopt {
            return self.adopt(name, kind).await;
        }
        let name = KeyName::made(request.key_id);
        // The server answers a second creation with success.
        if self.read(&name, operation).await?.is_some() {
            return Err(fault(ErrorKind::Conflict, operation));
        }
        let body = Create {
            key_type: kind.as_str(),
            derived: false,
            exportable: false,
            allow_plaintext_backup: false,
        };
        let path = self.path(&["keys", name.as_str()]);
        let post = Request::post(&path, &body).map_err(|failed| failed.into_error(operation))?;
        let reply: Reply<Ignored> = self.session.call(post).await.map_err(|failed| failed.into_error(operation))?;
        // Another was faster between the two calls.
        if reply
            .warnings
            .is_some_and(|warnings| warnings.iter().any(|warning| warning.ends_with("already existed")))
        {
            return Err(fault(ErrorKind::Conflict, operation));
        }
        self.described(&name, kind, operation).await
    }

    async fn rotate(&self, _cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let operation = "rotate";
        let name = self.name(&kek.key)?;
        let _alone = self.rotating.lock().await;
        self.existing(&name, operation).await?.rotatable()?;
        let path = self.path(&["keys", name.as_str(), "rotate"]);
        let request = Request::post(&path, &serde_json::json!({})).map_err(|failed| failed.into_error(operation))?;
        let _: Reply<Ignored> = self.session.call(request).await.map_err(|failed| failed.into_error(operation))?;
        self.described(&name, self.type_of(kek.spec), operation).await
    }

    async fn describe(&self, _cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.described(&self.name(&kek.key)?, self.type_of(kek.spec), "describe").await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        crate::probe::probe(self, cx, keks).await
    }
}
