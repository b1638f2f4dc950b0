//! The provider on one vault, as one identity.

use async_trait::async_trait;
use claviger_provider::kit::lengths::check_plaintext;
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, ErrorKind, How, Kek, KeyCapabilities, KeyDescription, KeyRequest, KeySpec,
    OpContext, Probe, Provider, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::client::Client;
use crate::cloud::Service;
use crate::errors::fault;
use crate::probe;
use crate::wrap_algorithm::{AesAlgorithm, key_wrap_accepts, max_plaintext};

/// The capabilities of a connection to a service.
pub(crate) fn capabilities(service: Service, aes: AesAlgorithm) -> Capabilities {
    let of = |spec| KeyCapabilities {
        spec,
        wrap: How::InsideProvider,
        // Azure generates no data keys.
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: match (spec, aes) {
            (KeySpec::Aes256, AesAlgorithm::Gcm) => ContextBinding::AssociatedData,
            (KeySpec::Aes256, AesAlgorithm::KeyWrap) | (KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => ContextBinding::CommitmentOnly,
        },
        rotation: Some(Rotation::InPlace),
        max_plaintext: max_plaintext(spec),
        random_nonce_bound: matches!((spec, aes), (KeySpec::Aes256, AesAlgorithm::Gcm)),
        chooses_version: true,
    };
    Capabilities {
        keys: KeySpec::ALL.into_iter().filter(|spec| service.has(*spec)).map(of).collect(),
        create_key: true,
        set_state: true,
        schedule_deletion: false,
        import: false,
    }
}

/// The keys of one connection's vault.
pub struct AzureProvider(pub(crate) Client);

#[async_trait]
impl Provider for AzureProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Azure
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.0.vault.service, self.0.aes)
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        check_plaintext(ProviderKind::Azure, dek, max_plaintext(kek.spec))?;
        match (kek.spec, self.0.aes) {
            (KeySpec::Aes256, AesAlgorithm::KeyWrap) if !key_wrap_accepts(dek.len()) => {
                return Err(fault(ErrorKind::InvalidInput, "a length that AES key wrap does not accept")
                    .advice("AES key wrap accepts keys of 16, 24, 32 and so on bytes."));
            }
            (_, _) => {}
        }
        let name = self.0.name(&kek.key)?;
        let version = Client::version(&kek.key)?;
        self.0.wrap(cx, &name, version.as_ref(), kek.spec, dek, context).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        self.0.unwrap(cx, wrapped, context).await
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
        self.0.rotated(cx, &self.0.name(&kek.key)?).await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.described(cx, &self.0.name(&kek.key)?, kek.spec).await
    }

    async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.0.set_enabled(cx, &self.0.name(&kek.key)?, enabled).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe::probe(&self.0, cx, keks).await)
    }
}
