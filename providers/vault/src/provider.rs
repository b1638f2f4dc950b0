//! The provider on one Transit engine.

use async_trait::async_trait;
use claviger_provider::kit::lengths::{self, MAX_DATA_KEY};
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, How, Kek, KeyCapabilities, KeyDescription, KeyRequest, KeySpec, OpContext, Probe,
    Provider, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::probe::probe;
use crate::transit::Transit;

/// The most bytes of one wrap under a key of a specification. The server sets no limit under a
/// symmetric key.
const fn max_plaintext(spec: KeySpec) -> usize {
    lengths::max_plaintext(spec, MAX_DATA_KEY)
}

/// The supported operations of keys of one specification.
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
        // Both types of symmetric keys, aes256-gcm96 and chacha20-poly1305.
        random_nonce_bound: matches!(spec, KeySpec::Aes256),
        chooses_version: true,
    }
}

/// What every connection of this provider can do.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        keys: KeySpec::ALL.into_iter().map(of).collect(),
        create_key: true,
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// The Transit keys of one connection.
pub struct VaultProvider(pub(crate) Transit);

#[async_trait]
impl Provider for VaultProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        lengths::check_plaintext(ProviderKind::Vault, dek, max_plaintext(kek.spec))?;
        self.0.wrap(cx, &kek.key, self.0.type_of(kek.spec), dek, context).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        self.0.unwrap(cx, wrapped, context).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        let kind = self.0.type_of(request.spec);
        match &request.adopt {
            Some(name) => self.0.adopt(cx, name, request.taken, kind).await,
            None => self.0.create(cx, request, kind).await,
        }
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        self.0.find_made(cx, request, self.0.type_of(request.spec)).await
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.rotate(cx, &self.0.name(&kek.key)?, self.0.type_of(kek.spec)).await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.described(cx, &self.0.name(&kek.key)?, self.0.type_of(kek.spec)).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe(&self.0, cx, keks).await)
    }
}
