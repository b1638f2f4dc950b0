//! A provider in this process that behaves like a remote key-management service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::xaes::XaesKey;
use claviger_provider::{
    Algorithm, BoundContext, CallResult, CallSink, Capabilities, Concerns, ContextBinding, Error, ErrorKind, Exposure, Generated, How, Kek,
    KeyCapabilities, KeyDescription, KeyRequest, KeySpec, KeyState, OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, Retry,
    Rewrapped, RightReport, Rotation, Secret, VersionDescription, Wrapped,
};

use crate::server::{FakeKey, random_key};
use crate::{FakeConfig, FakeServer, Fault, Faults};

/// How the ids of the keys begin that the fake makes.
const MADE: &str = "fake/";

/// One connection to a [`FakeServer`].
pub struct FakeProvider {
    server: Arc<FakeServer>,
    config: FakeConfig,
}

/// Counts a call as in flight until it is dropped.
struct InFlight<'a>(&'a Faults);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl FakeProvider {
    /// A connection to this server.
    pub fn new(server: Arc<FakeServer>, config: FakeConfig) -> Self {
        Self { server, config }
    }

    fn error(&self, kind: ErrorKind, context: &str) -> Error {
        Error::new(kind, context).provider(self.config.kind)
    }

    /// The declared capabilities of keys of a specification.
    ///
    /// # Errors
    /// `Unsupported` where none are declared.
    fn can(&self, spec: KeySpec) -> Result<&KeyCapabilities, Error> {
        let declared = self.config.capabilities.of(spec);
        declared.ok_or_else(|| self.error(ErrorKind::Unsupported, "not declared"))
    }

    /// Whether ciphertexts do not name a version.
    fn unnamed(&self) -> bool {
        let rotation = self.config.capabilities.of(KeySpec::Aes256).and_then(|keys| keys.rotation);
        rotation == Some(Rotation::InPlaceUnnamed)
    }

    /// Fails with `Unsupported` unless `declared`.
    fn declared(&self, declared: bool) -> Result<(), Error> {
        if declared {
            Ok(())
        } else {
            Err(self.error(ErrorKind::Unsupported, "not declared"))
        }
    }

    /// Runs one call, traces it, and returns its result with its request id.
    async fn serve_with_id<T>(
        &self,
        cx: &OpContext,
        op: &'static str,
        act: impl FnOnce(Option<Fault>) -> Result<T, Error> + Send,
    ) -> Result<(T, String), Error> {
        let faults = self.server.faults();
        let attempt = CallSink::from(cx).begin(op);
        let changes = ["create_key", "rotate", "set_state", "schedule_deletion", "import"].contains(&op);
        let attempt = if changes { attempt.changing() } else { attempt };
        let (fault, request_id) = faults.arrive(op);
        let _in_flight = InFlight(faults);
        let result = self.respond(op, fault, act).await;
        attempt.finish(Some(&request_id), CallResult::of(&result, |error| CallResult::Error(error.kind)));
        Ok((result?, request_id))
    }

    /// As [`FakeProvider::serve_with_id`], for operations that do not return the request id.
    async fn serve<T>(
        &self,
        cx: &OpContext,
        op: &'static str,
        act: impl FnOnce(Option<Fault>) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        self.serve_with_id(cx, op, act).await.map(|(done, _)| done)
    }

    /// Runs one call through the planned fault; `act` is the service's work.
    async fn respond<T>(
        &self,
        op: &'static str,
        fault: Option<Fault>,
        act: impl FnOnce(Option<Fault>) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let Some(struck) = fault else {
            return act(None);
        };
        match struck {
            Fault::Denied => Err(self.error(ErrorKind::ProviderDenied, op).upstream_code("permission denied")),
            Fault::Throttled { retry_after_ms } => {
                let retry = retry_after_ms.map_or(Retry::Backoff, |ms| Retry::After(Duration::from_millis(ms)));
                Err(self.error(ErrorKind::RateLimited, op).retry(retry))
            }
            Fault::Unavailable => Err(self.error(ErrorKind::UpstreamUnavailable, op).retry(Retry::Backoff)),
            Fault::Unreachable => Err(self
                .error(ErrorKind::UpstreamUnavailable, op)
                .retry(Retry::Backoff)
                .concerns(Concerns::Connection)),
            Fault::Hang => std::future::pending().await,
            Fault::Reset => {
                act(None)?;
                Err(self.error(ErrorKind::UpstreamUnavailable, "connection reset").retry(Retry::Backoff))
            }
            Fault::Garbage => Err(self.error(ErrorKind::UpstreamProtocol, op)),
            Fault::Slow => {
                self.server.faults().wait_at_gate().await;
                act(None)
            }
            Fault::KeyMissing => Err(self.error(ErrorKind::KeyNotFound, op)),
            Fault::KeyDisabled => Err(self.error(ErrorKind::KeyState, op)),
            Fault::Panic => {
                let _result = act(None);
                #[allow(clippy::panic, reason = "the fault is to panic")]
                {
                    panic!("the fake panics because a fault says so");
                }
            }
            Fault::WrongBytes | Fault::WrongLength | Fault::Later | Fault::OnlySaysSo => act(fault),
        }
    }

    /// The versions of a key, and the id it was created with.
    ///
    /// # Errors
    /// `KeyNotFound` or `KeyState` for a key that cannot be used.
    fn usable(&self, id: &str) -> Result<(Vec<Arc<XaesKey>>, String), Error> {
        self.found(id)?;
        let keys = self.server.keys.lock();
        let key = keys.get(id).ok_or_else(|| self.error(ErrorKind::KeyNotFound, "no such key"))?;
        if key.broken {
            let error = self.error(ErrorKind::UpstreamUnavailable, "the key is broken");
            return Err(error.retry(Retry::Backoff).upstream_code("500"));
        }
        match key.state {
            KeyState::Enabled => Ok((key.versions.clone(), key.origin.clone())),
            KeyState::DecryptOnly
            | KeyState::Disabled
            | KeyState::PendingImport
            | KeyState::PendingDeletion
            | KeyState::Failed
            | KeyState::Unknown => Err(self.error(ErrorKind::KeyState, "the key is not enabled")),
            KeyState::Destroyed => Err(self.error(ErrorKind::KeyNotFound, "the key is gone")),
        }
    }

    /// Fails with `KeyNotFound` for a new key that this call does not find yet.
    fn found(&self, id: &str) -> Result<(), Error> {
        match self.server.hides(id) {
            true => Err(self.error(ErrorKind::KeyNotFound, "no such key yet")),
            false => Ok(()),
        }
    }

    /// The associated data for a context, by the declared binding.
    fn bound(&self, context: &BoundContext) -> Result<Vec<u8>, Error> {
        match self.can(KeySpec::Aes256)?.context {
            ContextBinding::AssociatedData => Ok(context.bytes().to_vec()),
            ContextBinding::Pairs => {
                serde_json::to_vec(&context.pairs()).map_err(|error| self.error(ErrorKind::Internal, "context").source(error))
            }
            ContextBinding::CommitmentOnly => Ok(Vec::new()),
        }
    }

    fn wrap(&self, Kek { key, spec, .. }: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        if dek.is_empty() {
            return Err(self.error(ErrorKind::InvalidInput, "an empty key"));
        }
        if dek.len() > self.can(*spec)?.max_plaintext {
            return Err(self.error(ErrorKind::TooLarge, "too many bytes"));
        }
        let (versions, _) = self.usable(&key.id)?;
        let used = if key.version.is_empty() {
            versions.len().to_string()
        } else {
            key.version.clone()
        };
        let version = if self.unnamed() { String::new() } else { used.clone() };
        let ciphertext = self
            .version(&key.id, &versions, &used)?
            .seal(&self.bound(context)?, dek.expose())
            .map_err(|error| self.error(ErrorKind::Internal, "seal").source(error))?;
        Ok(Wrapped {
            key: ProviderKeyRef {
                id: key.id.clone(),
                version,
            },
            algorithm: Algorithm::ProviderOpaque,
            ciphertext,
            key_material: None,
            upstream_request_id: None,
        })
    }

    fn version<'a>(&self, id: &str, versions: &'a [Arc<XaesKey>], version: &str) -> Result<&'a XaesKey, Error> {
        let number = version.parse::<usize>().ok();
        let disabled = |number| self.server.keys.lock().get(id).is_some_and(|key| key.disabled.contains(&number));
        if number.is_some_and(disabled) {
            return Err(self.error(ErrorKind::KeyState, "the version is disabled"));
        }
        let at = number.and_then(|number| number.checked_sub(1));
        at.and_then(|at| versions.get(at))
            .map(Arc::as_ref)
            .ok_or_else(|| self.error(ErrorKind::KeyNotFound, "no such version"))
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let (versions, _) = self.usable(&wrapped.key.id)?;
        if wrapped.algorithm != Algorithm::ProviderOpaque {
            return Err(self.error(ErrorKind::CiphertextRejected, "another algorithm"));
        }
        let bound = self.bound(context)?;
        let rejected = || self.error(ErrorKind::CiphertextRejected, "does not open");
        let open = |version: &XaesKey| version.open(&bound, &wrapped.ciphertext).ok();
        if self.unnamed() {
            return versions.iter().find_map(|version| open(version)).ok_or_else(rejected);
        }
        open(self.version(&wrapped.key.id, &versions, &wrapped.key.version)?).ok_or_else(rejected)
    }

    fn description(&self, id: &str) -> Result<KeyDescription, Error> {
        let keys = self.server.keys.lock();
        let key = keys.get(id).ok_or_else(|| self.error(ErrorKind::KeyNotFound, "no such key"))?;
        let versions: Vec<_> = (1..=key.versions.len())
            .map(|version| VersionDescription {
                key: ProviderKeyRef {
                    id: id.to_owned(),
                    version: if self.unnamed() { String::new() } else { version.to_string() },
                },
                state: if key.disabled.contains(&version) {
                    KeyState::Disabled
                } else {
                    key.state
                },
                created: Some(key.created),
                exposure: Some(key.exposure_of(version)),
            })
            .collect();
        Ok(KeyDescription {
            id: id.to_owned(),
            spec: KeySpec::Aes256,
            state: key.state,
            primary: versions.len().saturating_sub(1),
            versions,
        })
    }

    /// The key that a caller names to adopt: by its id, or by what follows `fake/` in it.
    fn adopted(&self, name: &str) -> Result<KeyDescription, Error> {
        match self.description(name) {
            Err(error) if error.kind == ErrorKind::KeyNotFound => self.description(&format!("{MADE}{name}")),
            described => described,
        }
    }

    fn rotated(&self, id: &str, rotation: Rotation) -> Result<KeyDescription, Error> {
        let (_, origin) = self.usable(id)?;
        let id = {
            let mut keys = self.server.keys.lock();
            match rotation {
                Rotation::InPlace | Rotation::InPlaceUnnamed => {
                    if let Some(key) = keys.get_mut(id) {
                        key.versions.push(random_key());
                    }
                    id.to_owned()
                }
                Rotation::NewKey => {
                    let generation = keys.values().filter(|key| key.origin == origin).count() + 1;
                    let id = format!("{origin}.{generation}");
                    keys.insert(id.clone(), FakeKey::new(&origin));
                    id
                }
            }
        };
        self.description(&id)
    }

    fn switch(&self, id: &str, state: KeyState) -> Result<(), Error> {
        if self.server.change_state(id, state) {
            Ok(())
        } else {
            Err(self.error(ErrorKind::KeyNotFound, "no such key"))
        }
    }
}

/// The wrapped key with the request id of the call that made it.
fn named(wrapped: Wrapped, request_id: String) -> Wrapped {
    Wrapped {
        upstream_request_id: Some(request_id),
        ..wrapped
    }
}

fn name_of_made_key(request: &KeyRequest) -> String {
    format!("{MADE}{}", request.made_as)
}

/// Other bytes of the same length.
fn other_bytes(secret: &Secret) -> Secret {
    Secret::new(secret.expose().iter().map(|byte| !byte).collect())
}

/// The secret without its last byte.
fn shortened(secret: &Secret) -> Secret {
    Secret::copy_from(secret.expose().split_last().map_or(&[], |(_, rest)| rest))
}

#[async_trait]
impl Provider for FakeProvider {
    fn kind(&self) -> ProviderKind {
        self.config.kind
    }

    fn capabilities(&self) -> Capabilities {
        self.config.capabilities.clone()
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        self.declared(self.can(kek.spec)?.wrap != How::No)?;
        let served = self.serve_with_id(cx, "wrap_key", |_| self.wrap(kek, dek, context)).await;
        served.map(|(wrapped, id)| named(wrapped, id))
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        self.declared(self.can(KeySpec::Aes256)?.wrap != How::No)?;
        let act = |fault| {
            let dek = self.unwrap(wrapped, context)?;
            Ok(if fault == Some(Fault::WrongBytes) {
                other_bytes(&dek)
            } else if fault == Some(Fault::WrongLength) {
                shortened(&dek)
            } else {
                dek
            })
        };
        self.serve(cx, "unwrap_key", act).await
    }

    async fn generate_data_key(&self, cx: &OpContext, kek: &Kek, bytes: usize, context: &BoundContext) -> Result<Generated, Error> {
        self.declared(self.can(kek.spec)?.generate_data_key == How::InsideProvider)?;
        let act = |fault| {
            let plaintext = Secret::random(bytes);
            let wrapped = self.wrap(kek, &plaintext, context)?;
            let plaintext = if fault == Some(Fault::WrongLength) {
                shortened(&plaintext)
            } else {
                plaintext
            };
            Ok(Generated { plaintext, wrapped })
        };
        let (Generated { plaintext, wrapped }, id) = self.serve_with_id(cx, "generate_data_key", act).await?;
        Ok(Generated {
            plaintext,
            wrapped: named(wrapped, id),
        })
    }

    async fn rewrap_key(&self, cx: &OpContext, wrapped: &Wrapped, to: &Kek, context: &BoundContext) -> Result<Rewrapped, Error> {
        self.declared(self.can(to.spec)?.rewrap == How::InsideProvider)?;
        let act = |_| {
            let dek = self.unwrap(wrapped, context)?;
            let wrapped = self.wrap(to, &dek, context)?;
            Ok(Rewrapped { wrapped })
        };
        let (Rewrapped { wrapped }, id) = self.serve_with_id(cx, "rewrap_key", act).await?;
        Ok(Rewrapped {
            wrapped: named(wrapped, id),
        })
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        self.can(request.spec)?;
        let act = |_| match &request.adopt {
            Some(name) => match self.adopted(name) {
                Ok(_) if request.taken => Err(self.error(ErrorKind::ProviderDenied, "adopt a key")),
                adopted => adopted,
            },
            None => {
                self.declared(self.config.capabilities.create_key)?;
                let id = name_of_made_key(request);
                {
                    let mut keys = self.server.keys.lock();
                    match (keys.contains_key(&id), request.repeated) {
                        (true, true) => {}
                        (true, false) => return Err(self.error(ErrorKind::Conflict, "the key exists")),
                        (false, _) => drop(keys.insert(id.clone(), self.server.new_key(&id))),
                    }
                }
                self.description(&id)
            }
        };
        self.serve(cx, "create_key", act).await
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        self.declared(self.config.capabilities.create_key)?;
        let name = name_of_made_key(request);
        let act = |_| match self.found(&name).and_then(|()| self.description(&name)) {
            Err(error) if error.kind == ErrorKind::KeyNotFound => Ok(None),
            described => described.map(Some),
        };
        self.serve(cx, "find_made", act).await
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let Some(rotation) = self.can(kek.spec)?.rotation else {
            return Err(self.error(ErrorKind::Unsupported, "not declared"));
        };
        self.serve(cx, "rotate", |fault| {
            let before = self.description(&kek.key.id);
            let after = self.rotated(&kek.key.id, rotation)?;
            if fault == Some(Fault::Later) { before } else { Ok(after) }
        })
        .await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.serve(cx, "describe", |_| {
            self.found(&kek.key.id).and_then(|()| self.description(&kek.key.id))
        })
        .await
    }

    async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.declared(self.config.capabilities.set_state)?;
        let state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
        let act = |fault| match fault {
            Some(Fault::OnlySaysSo) => Ok(()),
            _ => self.switch(&kek.key.id, state),
        };
        self.serve(cx, "set_state", act).await
    }

    async fn schedule_deletion(&self, cx: &OpContext, kek: &Kek, _days: u16) -> Result<(), Error> {
        self.declared(self.config.capabilities.schedule_deletion)?;
        self.serve(cx, "schedule_deletion", |_| self.switch(&kek.key.id, KeyState::PendingDeletion))
            .await
    }

    /// Adds the material as the next version of the key.
    async fn import(&self, cx: &OpContext, kek: &Kek, material: &Secret) -> Result<KeyDescription, Error> {
        self.declared(self.config.capabilities.import)?;
        let act = |_| {
            let material = XaesKey::new(material).map_err(|_| self.error(ErrorKind::InvalidInput, "not an AES-256 key"))?;
            {
                let mut keys = self.server.keys.lock();
                let held = keys
                    .get_mut(&kek.key.id)
                    .ok_or_else(|| self.error(ErrorKind::KeyNotFound, "no such key"))?;
                held.versions.push(Arc::new(material));
            }
            self.description(&kek.key.id)
        };
        self.serve(cx, "import", act).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        let tried = |kek: &Kek| {
            let result = self.usable(&kek.key.id).map(drop).map_err(Arc::new);
            let keys = self.server.keys.lock();
            // The oldest version's: where any is exposed, that is.
            let exposure = keys.get(&kek.key.id).map_or(Exposure::NONE, |key| key.exposure_of(1));
            drop(keys);
            RightReport::exposed(kek, exposure)
                .into_iter()
                .chain([RightReport::canary(kek, result)])
        };
        self.serve(cx, "probe", |_| {
            Ok(Probe {
                detail: "fake".into(),
                problem: None,
                rights: keks.iter().flat_map(tried).collect(),
                policy: None,
            })
        })
        .await
    }
}
