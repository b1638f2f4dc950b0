//! The calls of one Transit engine: wrap, unwrap, and read a key.

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::kit::{lengths, probe};
use claviger_provider::{Algorithm, BoundContext, Error, ErrorKind, KeySpec, OpContext, ProviderKeyRef, ProviderKind, Secret, Wrapped};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::client::{ApiResponse, Request};
use crate::codes::{NO_UPSERT, REPLACED};
use crate::errors::{CallError, binds_no_context, denied, fault};
use crate::key_type::{KeyType, Symmetric};
use crate::keys::{Ciphertext, Decrypt, Decrypted, Encrypt, Encrypted, Key, version};
use crate::names::{Engine, KeyName};
use crate::session::Session;

/// The most keys without a context that are remembered. An unwrap with a further one costs one more
/// call.
const MAX_REMEMBERED: usize = 10_000;

/// A Transit engine, called with one credential.
pub(crate) struct Transit {
    pub(crate) session: Session,
    pub(crate) engine: Engine,
    symmetric: Symmetric,
    /// Keys that bind no context. A ciphertext does not show its key's type, and the server refuses
    /// a context for a key that binds none.
    unbound: RwLock<HashSet<KeyName>>,
    /// Held during a rotation. If several rotations run at once, OpenBao 2.4 may refuse some of
    /// them, and still use their versions, which exist in its memory only.
    pub(crate) rotating: tokio::sync::Mutex<()>,
}

impl Transit {
    pub(crate) fn new(session: Session, engine: Engine, symmetric: Symmetric) -> Self {
        Self {
            session,
            engine,
            symmetric,
            unbound: RwLock::default(),
            rotating: tokio::sync::Mutex::default(),
        }
    }

    /// The type of keys of this specification.
    pub(crate) const fn type_of(&self, spec: KeySpec) -> KeyType {
        KeyType::of(spec, self.symmetric)
    }

    /// The path below the engine's mount.
    pub(crate) fn path<'a>(&'a self, below: &[&'a str]) -> Vec<&'a str> {
        self.engine.mount.segments().chain(below.iter().copied()).collect()
    }

    /// The key of a provider key id. A key of another engine is none of this connection's.
    pub(crate) fn name(&self, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        self.engine
            .key(&key.id)
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another engine"))
    }

    /// The key of a name; `None` where there is none.
    pub(crate) async fn read(&self, cx: &OpContext, name: &KeyName) -> Result<Option<Key>, Error> {
        let operation = "transit/keys";
        let path = self.path(&["keys", name.as_str()]);
        let result = self.session.call::<Key>(cx, Request::get(operation, &path)).await;
        match result.and_then(ApiResponse::data).map_err(|error| error.into_error(operation)) {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.kind == ErrorKind::KeyNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Self::read`].
    ///
    /// # Errors
    /// `KeyNotFound` where there is no such key; the call's own.
    pub(crate) async fn existing(&self, cx: &OpContext, name: &KeyName) -> Result<Key, Error> {
        let key = self.read(cx, name).await?;
        key.ok_or_else(|| fault(ErrorKind::KeyNotFound, "transit/keys"))
    }

    /// Wraps a data key under the version that `key` names, or the newest one.
    pub(crate) async fn wrap(
        &self,
        cx: &OpContext,
        key: &ProviderKeyRef,
        kind: KeyType,
        dek: &Secret,
        context: &BoundContext,
    ) -> Result<Wrapped, Error> {
        let operation = "transit/encrypt";
        let name = self.name(key)?;
        let wanted = match key.version.as_str() {
            "" => None,
            text => Some(version(text).ok_or_else(no_version)?),
        };
        if !kind.binds_context() {
            self.remember_unbound(&name);
        }
        let plaintext = Zeroizing::new(STANDARD.encode(dek.expose()));
        let associated_data = kind.binds_context().then(|| STANDARD.encode(context.bytes()));
        let body = Encrypt {
            plaintext: &plaintext,
            associated_data: associated_data.as_deref(),
            key_version: wanted,
            key_type: NO_UPSERT,
        };
        let path = self.path(&["encrypt", name.as_str()]);
        let request = Request::post(operation, &path, &body).map_err(|error| error.into_error(operation))?;
        let response: ApiResponse<Encrypted> = match self.session.call(cx, request).await {
            Ok(response) => response,
            Err(error) => return Err(self.refused(cx, error, &name, operation).await),
        };
        let upstream_request_id = response.request_id();
        let ciphertext = response.data().map_err(|error| error.into_error(operation))?.ciphertext;
        let parsed = Ciphertext::parse(&ciphertext);
        // The server wraps with whatever key has the name now; of what type that is, its answer does not say.
        if let (Some(parsed), Some(length)) = (&parsed, kind.ciphertext_length())
            && parsed.length != length
        {
            return Err(fault(ErrorKind::KeyState, operation).advice(REPLACED));
        }
        match parsed.map(|parsed| parsed.version) {
            Some(used) if wanted.is_none_or(|wanted| wanted == used) => Ok(Wrapped {
                key: ProviderKeyRef {
                    id: self.engine.id(&name),
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

    /// Unwraps a data key.
    pub(crate) async fn unwrap(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let operation = "transit/decrypt";
        let rejected = |why| fault(ErrorKind::CiphertextRejected, why);
        if wrapped.algorithm != Algorithm::ProviderOpaque {
            return Err(rejected("an algorithm that no key of this provider has"));
        }
        let name = self.name(&wrapped.key)?;
        let claimed = version(&wrapped.key.version).ok_or_else(no_version)?;
        let text = std::str::from_utf8(&wrapped.ciphertext).ok();
        let (text, used) = text
            .and_then(|text| Some((text, Ciphertext::parse(text)?.version)))
            .ok_or_else(|| rejected("not a ciphertext of Transit"))?;
        if used != claimed {
            // The server decides by the ciphertext; the version in the envelope must be right too.
            let key = self.existing(cx, &name).await?;
            return Err(match key.knows(claimed) {
                true => rejected("a ciphertext of another version"),
                false => no_version(),
            });
        }
        let bound = !self.unbound.read().contains(&name);
        let response = match self.decrypt(cx, &name, text, bound.then_some(context)).await {
            Err(error) if binds_no_context(&error) => {
                self.remember_unbound(&name);
                self.decrypt(cx, &name, text, None).await
            }
            result => result,
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => return Err(self.refused(cx, error, &name, operation).await),
        };
        let encoded = Zeroizing::new(response.data().map_err(|error| error.into_error(operation))?.plaintext);
        let decoded = STANDARD.decode(encoded.as_bytes());
        let decoded = decoded.map_err(|_| CallError::MalformedResponse("plaintext"));
        decoded.and_then(lengths::unwrapped).map_err(|error| error.into_error(operation))
    }

    /// Wraps and unwraps random bytes with the key of a provider key id. Names no version, as wraps of data keys name
    /// none: all but the newest may be excluded.
    pub(crate) async fn canary(&self, cx: &OpContext, id: &str, kind: KeyType) -> Result<(), Error> {
        // The empty map: no context of the gateway's is empty.
        let context = BoundContext::new(BTreeMap::new(), vec![0xa0]);
        let whole = ProviderKeyRef {
            id: id.to_owned(),
            version: String::new(),
        };
        probe::canary(ProviderKind::Vault, async |canary| {
            let wrapped = self.wrap(cx, &whole, kind, canary, &context).await?;
            self.unwrap(cx, &wrapped, &context).await
        })
        .await
    }

    /// One decryption, with the context where the key binds one.
    async fn decrypt(
        &self,
        cx: &OpContext,
        name: &KeyName,
        ciphertext: &str,
        context: Option<&BoundContext>,
    ) -> Result<ApiResponse<Decrypted>, CallError> {
        let associated_data = context.map(|context| STANDARD.encode(context.bytes()));
        let body = Decrypt {
            ciphertext,
            associated_data: associated_data.as_deref(),
        };
        let path = self.path(&["decrypt", name.as_str()]);
        self.session.call(cx, Request::post("transit/decrypt", &path, &body)?).await
    }

    /// What a refused call with a key means. For a policy without the right to create keys the
    /// server responds 403 where the key does not exist.
    async fn refused(&self, cx: &OpContext, error: CallError, name: &KeyName, operation: &'static str) -> Error {
        let missing = denied(&error) && matches!(self.read(cx, name).await, Ok(None));
        if missing {
            fault(ErrorKind::KeyNotFound, operation)
        } else {
            error.into_error(operation)
        }
    }

    /// Forgets that a key binds no context.
    pub(crate) fn forget_unbound(&self, name: &KeyName) {
        if self.unbound.read().contains(name) {
            self.unbound.write().remove(name);
        }
    }

    /// Remembers a key that binds no context.
    fn remember_unbound(&self, name: &KeyName) {
        if !self.unbound.read().contains(name) {
            let mut unbound = self.unbound.write();
            if unbound.len() < MAX_REMEMBERED {
                unbound.insert(name.clone());
            }
        }
    }
}

fn no_version() -> Error {
    fault(ErrorKind::KeyNotFound, "no such version")
}
