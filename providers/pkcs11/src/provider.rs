//! The provider on one token.

use async_trait::async_trait;
use claviger_provider::kit::lengths::{MAX_DATA_KEY, check_plaintext, max_plaintext};
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, How, Kek, KeyCapabilities, KeyDescription, KeyRequest, KeySpec, OpContext, Probe,
    Provider, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::client::Client;
use crate::probe;

/// The capabilities of all connections. Which mechanisms a token offers shows when a key is made or adopted.
pub fn capabilities() -> Capabilities {
    let of = |spec| KeyCapabilities {
        spec,
        wrap: How::InsideProvider,
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: match spec {
            KeySpec::Aes256 => ContextBinding::AssociatedData,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => ContextBinding::CommitmentOnly,
        },
        // A token's keys have no versions.
        rotation: Some(Rotation::NewKey),
        max_plaintext: max_plaintext(spec, MAX_DATA_KEY),
        random_nonce_bound: spec == KeySpec::Aes256,
        chooses_version: false,
    };
    Capabilities {
        keys: KeySpec::ALL.into_iter().map(of).collect(),
        create_key: true,
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// The keys of one connection's token.
pub struct Pkcs11Provider(pub(crate) Client);

#[async_trait]
impl Provider for Pkcs11Provider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        check_plaintext(ProviderKind::Pkcs11, dek, max_plaintext(kek.spec, MAX_DATA_KEY))?;
        let name = self.0.name(cx, &kek.key).await?;
        self.0.wrap(cx, &name, kek.spec, dek, context).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let name = self.0.name(cx, &wrapped.key).await?;
        self.0.unwrap(cx, &name, wrapped, context).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => self.0.adopt(cx, name).await,
            None => self.0.create(cx, request).await,
        }
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        self.0.find_made(cx, request).await
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.replacement(cx, kek).await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.described(cx, kek).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe::probe(&self.0, cx, keks).await)
    }
}
